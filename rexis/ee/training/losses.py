"""What a loss asks of the keys of a model's outputs."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.ee.keys import TensorKey
from rexis.protocol.errors import TensorError

try:
    from torch import nn
except ImportError as error:
    from rexis.protocol.errors import UnavailableError

    raise UnavailableError("training under EE needs torch", hint="pip install 'rexis[models]'") from error


class Loss(StrEnum):
    """A loss over outputs ``[batch, …]``, mean or sum over the elements.

    Each has a head: an operator whose rule leaves the output just the keys that the loss is the same under.
    """

    # Over the last axis; targets are class numbers [batch, …]. Classes are permuted, and so are the targets.
    CROSS_ENTROPY = "cross entropy"
    # Distances to targets of the outputs' shape. Orthogonal keys keep them; targets are encrypted as outputs are.
    SQUARED = "squared error"
    # Logits against targets from 0 to 1, element by element. Elements are permuted.
    BINARY = "binary cross entropy"

    @property
    def head(self) -> Any:
        """The torch module whose operator restricts the output's keys."""
        heads = {Loss.CROSS_ENTROPY: lambda: nn.LogSoftmax(-1), Loss.SQUARED: nn.Identity, Loss.BINARY: nn.Sigmoid}
        return heads[self]()

    @property
    def function(self) -> Callable[[Any, Any], Any]:
        """The loss in torch, for plain or encrypted outputs and targets alike: ``loss(outputs, targets)``."""
        if self == Loss.CROSS_ENTROPY:
            return lambda outputs, targets: nn.functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())
        if self == Loss.BINARY:
            return nn.functional.binary_cross_entropy_with_logits  # type: ignore[no-any-return]
        return nn.functional.mse_loss  # type: ignore[no-any-return]

    def targets(self, key: TensorKey, plain: NDArray[Any]) -> NDArray[Any]:
        """Encrypt targets with the output's key.

        Raises
        ------
        TensorError
            The targets do not have the outputs' shape, or are no class numbers.
        """
        expected = key.shape[:-1] if self == Loss.CROSS_ENTROPY else key.shape
        if plain.shape[1:] != expected:
            raise TensorError(f"targets have shape {list(plain.shape)}, expected [n, {expected}]", field="targets")
        if self != Loss.CROSS_ENTROPY:
            return key.apply(plain)
        if plain.dtype.kind not in "iu" or bool(((plain < 0) | (plain >= key.shape[-1])).any()):
            raise TensorError(f"targets are not class numbers from 0 to {key.shape[-1] - 1}", field="targets")
        classes: NDArray[Any] = key.apply(np.eye(key.shape[-1])[plain]).argmax(axis=-1)
        return classes
