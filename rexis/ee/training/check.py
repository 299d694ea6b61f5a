"""Shows, before anything is sent to a worker, that a module's loss and gradients commute with its keys."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rexis.ee.training.exporting import tensors_of
from rexis.ee.training.losses import Loss
from rexis.protocol.errors import EncryptionError

if TYPE_CHECKING:
    from rexis.ee.training.encrypted import EncryptedTraining

_TOLERANCE = 1e-8  # float64, against the norm of the whole gradient
_NOISE = 1e-13  # of a gradient that is 0 on paper
_SEED = 0


def require_commuting(training: EncryptedTraining, module: nn.Module, example: Tensor) -> tuple[str, ...]:
    """One forward and one backward pass in float64 and training mode, in the clear and under the keys.

    The plan proves the exported graph, which is that of evaluation. This also covers what the graph does not show:
    dropout, batch statistics, and code that treats some rows apart (``padding_idx``).

    Returns
    -------
    idle
        Trainable parameters whose gradient is rounding errors and nothing else.

    Raises
    ------
    EncryptionError
        The loss, a gradient or an updated buffer is not what the keys make of the plain one.
    """
    plain = copy.deepcopy(module).double().train()
    encrypted = training.encrypt_module(plain)
    inputs = example.double() if example.is_floating_point() else example
    state = torch.random.get_rng_state()
    targets = _targets(training.loss, plain, inputs)
    torch.random.set_rng_state(state)
    here = _pass(plain, training.loss, inputs, targets)
    torch.random.set_rng_state(state)
    there = _pass(encrypted, training.loss, training.encrypt_inputs(inputs), training.encrypt_targets(targets))
    torch.random.set_rng_state(state)
    if abs(here - there) > _TOLERANCE * max(abs(here), 1.0):
        raise EncryptionError(
            f"the loss under the keys is {there:.6g}, in the clear {here:.6g}: the module does more in training than "
            "its exported graph shows",
            field="loss",
            hint="remove dropout and other randomness",
        )
    gradients = _gradients(plain)
    _compare(training, "gradient", gradients, _gradients(encrypted))
    _compare(training, "buffer", dict(plain.named_buffers()), dict(encrypted.named_buffers()))
    total = _norm(gradients)
    return tuple(name for name, each in gradients.items() if 0.0 < float(each.norm()) < _NOISE * total)


def _targets(loss: Loss, module: nn.Module, inputs: Tensor) -> Tensor:
    """Some targets, for outputs of the module's shape."""
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        outputs = copy.deepcopy(module)(inputs)
    if loss == Loss.CROSS_ENTROPY:
        return torch.randint(0, outputs.shape[-1], outputs.shape[:-1], generator=generator)
    return torch.rand(outputs.shape, generator=generator, dtype=outputs.dtype)


def _pass(module: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor) -> float:
    value = loss.function(module(inputs), targets)
    value.backward()
    return float(value.detach())


def _gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: each.grad for name, each in tensors_of(module).items() if each.grad is not None}


def _norm(state: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(each.double().square().sum()) for each in state.values()))


def _compare(training: EncryptedTraining, what: str, plain: dict[str, Tensor], encrypted: dict[str, Tensor]) -> None:
    total = _norm(plain)
    for name, found in training.decrypt_state(encrypted).items():
        error = float((found.double() - plain[name].double()).norm())
        if not error <= _TOLERANCE * max(total, 1e-12):
            raise EncryptionError(
                f"the {what} of {name!r} under the keys is not what the keys make of the plain one",
                field=name,
                hint="remove dropout, and code that treats some rows or features apart (padding_idx, spectral norms)",
            )
