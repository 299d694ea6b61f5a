"""What a loss asks of the keys of a model's outputs."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

from rexis.ee.finetune.targets import encrypt_targets
from rexis.ee.keys import TensorKey
from rexis.protocol.training_kinds import LossKind

try:
    from torch import nn
except ImportError as error:
    from rexis.protocol.errors import UnavailableError

    raise UnavailableError("training under EE needs torch", hint="pip install 'rexis[models]'") from error

from rexis.training.losses import loss_function


class Loss(StrEnum):
    """A loss over outputs ``[batch, …]``, mean or sum over the elements.

    Each has a head: an operator whose rule leaves the output just the keys that the loss is the same under.
    """

    # Over the last axis; targets are class numbers [batch, …]. Classes are permuted, and so are the targets.
    CROSS_ENTROPY = LossKind.CROSS_ENTROPY
    # Distances to targets of the outputs' shape. Orthogonal keys keep them; targets are encrypted as outputs are.
    SQUARED = LossKind.SQUARED
    # Logits against targets from 0 to 1, element by element. Elements are permuted.
    BINARY = LossKind.BINARY

    @property
    def head(self) -> Any:
        """The torch module whose operator restricts the output's keys."""
        heads = {Loss.CROSS_ENTROPY: lambda: nn.LogSoftmax(-1), Loss.SQUARED: nn.Identity, Loss.BINARY: nn.Sigmoid}
        return heads[self]()

    @property
    def function(self) -> Callable[[Any, Any], Any]:
        """The loss in torch, for plain or encrypted outputs and targets alike: ``loss(outputs, targets)``."""
        return loss_function(LossKind[self.name])

    def targets(self, key: TensorKey, plain: NDArray[Any]) -> NDArray[Any]:
        """Encrypt targets with the output's key: :func:`rexis.ee.finetune.targets.encrypt_targets`."""
        return encrypt_targets(LossKind(self.value), key, plain)
