"""What a training minimises, in torch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from rexis.protocol.training_kinds import LossKind


def loss_function(kind: LossKind) -> Callable[[Tensor, Tensor], Tensor]:
    """``loss(outputs, targets)``, the mean over all elements (of cross-entropy: over all class numbers)."""
    if kind == LossKind.CROSS_ENTROPY:
        return lambda outputs, targets: functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())
    if kind == LossKind.BINARY:
        return functional.binary_cross_entropy_with_logits
    return functional.mse_loss
