"""A torch module, encrypted so that an untrusted worker trains it as it would the plain one."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rexis.ee.compiler import encrypt_trainable
from rexis.ee.exactness import Step, largest, powers_along, require_exact
from rexis.ee.groups import Power
from rexis.ee.keys import EEKey, KeyPart, TensorKey
from rexis.ee.layout import Layout
from rexis.ee.stream import Floats
from rexis.ee.training.check import require_commuting
from rexis.ee.training.exporting import Exported, export, tensors_of
from rexis.ee.training.losses import Loss
from rexis.protocol.digests import sha256
from rexis.protocol.errors import EncryptionError, KeyFileError

State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class EncryptedTraining:
    """What the owner of a model and its data does: encrypt both for training, and decrypt what comes back.

    The worker's part is an ordinary torch loop: the module's own code with encrypted tensors
    (:func:`load_tensors`), encrypted inputs and targets, `loss.function`, and an optimiser that the keys allow.

    A *state* here holds parameters and floating-point buffers by name: all of them (:func:`tensors_of`, which has the
    buffers that a ``state_dict`` leaves out), or some. Integers in it pass unchanged.

    Attributes
    ----------
    key
        The EE key. Its model digest is that of `model`.
    model
        The encrypted initial model as ONNX, with the loss's head.
    layouts
        How each tensor of the module is encrypted, by name.
    unused
        Buffers that the outputs do not depend on. They are encrypted to zeros, and not decrypted.
    powers
        What the keys of the trainable parameters do, taken together.
    idle
        Trainable parameters that the loss does not depend on, though their gradient is not 0 but rounding errors: the
        bias of attention keys, or of a convolution before a batch normalisation. Adaptive optimisers divide by the
        gradient's size and so make a walk of those errors, another one in every run, under EE or not. The loss is the
        same, but these weights are comparable only if they are frozen.
    """

    key: EEKey
    loss: Loss
    model: bytes = field(repr=False)
    layouts: dict[str, Layout] = field(repr=False)
    unused: frozenset[str]
    powers: Power
    idle: tuple[str, ...] = ()

    @classmethod
    def compile(
        cls,
        module: nn.Module,
        example: Tensor,
        *,
        loss: Loss,
        steps: Iterable[Step],
        strongest: Power | None = None,
        epoch: int = 1,
        seed: bytes | None = None,
        allow_clear: Collection[str] = (),
    ) -> Self:
        """Draw keys that training commutes with, and show on `example` that it does.

        Parameters
        ----------
        module
            One input ``[batch, …]``, one output ``[batch, …]``, traceable by torch's exporter. Not changed.
        example
            Two records or more.
        loss
            What will be minimised.
        steps
            What the optimiser will do, clipping included (:func:`~rexis.ee.exactness.steps_of`).
        strongest
            Caps every variable's powers; by default the largest that `steps` are exact under.
        epoch, seed, allow_clear
            As in :func:`rexis.ee.compiler.encrypt_model`.

        Raises
        ------
        EncryptionError
            `steps` are not exact under `strongest`; or the module has something that does not commute with keys, such
            as an operator without rule, a folded weight, or dropout.
        """
        steps = tuple(steps)
        strongest = largest(steps) if strongest is None else strongest
        require_exact(steps, strongest)
        exported = export(module, example, loss)
        made = encrypt_trainable(
            exported.model, epoch=epoch, seed=seed, allow_clear=allow_clear, strongest=strongest, fixed=exported.fixed
        )
        training = cls._with_key(made.key, module, exported, loss)
        require_exact(steps, training.powers)
        return replace(training, idle=require_commuting(training, module, example))

    @classmethod
    def resume(cls, module: nn.Module, example: Tensor, *, loss: Loss, key: EEKey) -> Self:
        """The same from a saved full key.

        Raises
        ------
        KeyFileError
            A part of a key, or the key of another module.
        EncryptionError
            As in :meth:`compile`.
        """
        if key.part != KeyPart.FULL:
            raise KeyFileError(f"this key is for {key.part}ing only", hint="training needs the full key")
        exported = export(module, example, loss)
        if exported.shapes.keys() != key.layouts.keys():
            raise KeyFileError("the key belongs to another module", hint="give the module that it was drawn for")
        training = cls._with_key(key, module, exported, loss)
        return replace(training, idle=require_commuting(training, module, example))

    @classmethod
    def _with_key(cls, key: EEKey, module: nn.Module, exported: Exported, loss: Loss) -> Self:
        assert key.keyring is not None  # noqa: S101
        tensors = tensors_of(module)
        layouts = {
            name: place.layout(tuple(tensors[name].shape), key.layouts[place.constant], exported.shapes[place.constant])
            for name, place in exported.places.items()
        }
        trained = [name for name, _ in module.named_parameters() if tensors[name].requires_grad]
        powers = powers_along(key.keyring, (axis for name in trained for axis in layouts[name]))
        encrypted = {name: key.keyring.apply(as_floats(tensors[name]), layout) for name, layout in layouts.items()}
        model = exported.holding(encrypted)
        return cls(replace(key, model_digest=sha256(model)), loss, model, layouts, exported.unused, powers)

    def require(self, steps: Iterable[Step]) -> None:
        """Refuse an optimiser that these keys do not allow.

        Raises
        ------
        EncryptionError
            Training with `steps` would not be exact.
        """
        require_exact(steps, self.powers)

    def encrypt_state(self, state: State) -> dict[str, Tensor]:
        """Encrypt parameters and buffers; dtypes and devices stay. Arithmetic is float64."""
        return {name: self._turned(name, tensor, invert=False) for name, tensor in state.items()}

    def decrypt_state(self, state: State) -> dict[str, Tensor]:
        """Undo :meth:`encrypt_state`."""
        return {
            name: self._turned(name, tensor, invert=True) for name, tensor in state.items() if name not in self.unused
        }

    def encrypt_module(self, module: nn.Module) -> nn.Module:
        """A copy of a module, with its tensors encrypted."""
        found = copy.deepcopy(module)
        load_tensors(found, self.encrypt_state(tensors_of(module)))
        return found

    def encrypt_inputs(self, inputs: Tensor) -> Tensor:
        """Encrypt records ``[n, …]``, or token ids."""
        return as_tensor(self.key.input.apply(as_floats(inputs)), inputs)

    def encrypt_targets(self, targets: Tensor) -> Tensor:
        """Encrypt what the loss compares the outputs with.

        Raises
        ------
        TensorError
            The wrong shape, or not class numbers where the loss needs them.
        """
        return as_tensor(self.loss.targets(_output(self.key), targets.detach().cpu().numpy()), targets)

    def decrypt_outputs(self, outputs: Tensor) -> Tensor:
        """Decrypt what the encrypted module gives."""
        return as_tensor(_output(self.key).invert(as_floats(outputs)), outputs)

    def _turned(self, name: str, tensor: Tensor, *, invert: bool) -> Tensor:
        if not tensor.is_floating_point():
            return tensor.clone()
        if name in self.unused:
            return torch.zeros_like(tensor)
        if name not in self.layouts:
            raise EncryptionError(f"the module has no parameter or buffer {name!r}", field=name)
        assert self.key.keyring is not None  # noqa: S101
        return as_tensor(self.key.keyring.apply(as_floats(tensor), self.layouts[name], invert=invert), tensor)


def load_tensors(module: nn.Module, state: State) -> None:
    """Set parameters and buffers by name, also those that ``load_state_dict`` does not know."""
    tensors = tensors_of(module)
    with torch.no_grad():
        for name, value in state.items():
            tensors[name].copy_(value)


def as_floats(tensor: Tensor) -> Floats:
    """A tensor's values, float64."""
    found: Floats = tensor.detach().cpu().to(torch.float64).numpy()
    return found


def as_tensor(values: NDArray[Any], like: Tensor) -> Tensor:
    """A tensor of the dtype and on the device of another."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(dtype=like.dtype, device=like.device)


def _output(key: EEKey) -> TensorKey:
    if key.output is None:
        raise KeyFileError("this key only encrypts records")
    return key.output
