"""Encrypting an ONNX model so that an untrusted worker fine-tunes it as it would the plain one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np

from rexis.ee.compiler import EncryptedModel, Training, encrypt_trainable
from rexis.ee.container import Model, whole
from rexis.ee.exactness import Step, largest, names_of, powers_along, require_exact
from rexis.ee.finetune.description import TrainingDescription
from rexis.ee.finetune.targets import OUTPUT_POWERS, target_shape
from rexis.ee.finetune.trainable import Part, trainable
from rexis.ee.groups import Power
from rexis.ee.keys import EEKey
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import EncryptionError
from rexis.protocol.training_kinds import LossKind, OptimiserKind
from rexis.training.exporting import export_checkpoint, initial_weights

# Whatever else an optimiser of a kind does (momentum, decay, clipping by norm) commutes with as much.
_STEPS = {OptimiserKind.SGD: Step.SGD, OptimiserKind.ADAM: Step.ADAM, OptimiserKind.ADAMW: Step.ADAMW}


@dataclass(frozen=True, eq=False)
class TrainableModel:
    """A model that was encrypted for training.

    Attributes
    ----------
    plain
        The model before: with its adapters, if it has any. Training it in the clear gives the same weights.
    encrypted
        The encrypted model, its key and its plan.
    description
        What goes to others with it.
    """

    plain: bytes = field(repr=False)
    encrypted: EncryptedModel
    description: TrainingDescription

    def leaving_out(self, idle: Collection[str]) -> TrainableModel:
        """The same without idle parameters among those that train, if the optimiser would make them walk."""
        old = self.description
        if old.optimiser == OptimiserKind.SGD:
            return replace(self, description=old.model_copy(update={"idle": sorted(idle)}))
        names = [name for name in old.trainable if name not in idle]
        return replace(self, description=_described(self.encrypted, old.loss, old.optimiser, names, idle))


def encrypt_for_training(
    model: Model,
    *,
    optimiser: OptimiserKind,
    loss: LossKind,
    train: Collection[Part] = (Part.ALL,),
    frozen: Collection[str] = (),
    epoch: int = 1,
    seed: bytes | None = None,
    allow_clear: Collection[str] = (),
) -> TrainableModel:
    """Draw a key that training commutes with, and encrypt a model with it.

    Parameters
    ----------
    model
        Float32 ONNX with one input. For :attr:`Part.LORA` after
        :func:`~rexis.ee.finetune.adapters.add_adapters`.
    optimiser, loss
        What the key is restricted to, where trained constants and outputs meet it.
    train, frozen
        What trains: :func:`~rexis.ee.finetune.trainable.trainable`.
    epoch, seed, allow_clear
        As in :func:`rexis.ee.compiler.encrypt_model`.

    Raises
    ------
    MalformedError, EncryptionError
        As in :func:`rexis.ee.compiler.encrypt_model`; or there is nothing to train, or more than one input.
    """
    names = trainable(model, train, frozen)
    steps = (_STEPS[optimiser],)
    encrypted = encrypt_trainable(
        model,
        epoch=epoch,
        seed=seed,
        allow_clear=allow_clear,
        training=Training(frozenset(names), largest(steps), OUTPUT_POWERS[loss], str(loss)),
    )
    if len(encrypted.key.inputs) != 1:
        raise EncryptionError("only models with one input can be trained", field="model")
    description = _described(encrypted, loss, optimiser, names, ())
    require_exact(steps, _powers(encrypted.key, names))
    return TrainableModel(whole(model).SerializeToString(deterministic=True), encrypted, description)


def frozen_digest(model: bytes, names: Collection[str]) -> Digest:
    """SHA-256 of a model with zeros for some initialisers."""
    zeros = {name: np.zeros_like(value) for name, value in initial_weights(model, names).items()}
    return sha256(export_checkpoint(model, zeros))


def _described(
    encrypted: EncryptedModel, loss: LossKind, optimiser: OptimiserKind, names: list[str], idle: Collection[str]
) -> TrainingDescription:
    key = encrypted.key
    assert key.output is not None  # noqa: S101
    return TrainingDescription.from_object(
        {
            "format": "rexis-training-model-v1",
            "modelDigest": str(encrypted.digest),
            "keyEpoch": key.epoch,
            "frozenDigest": str(frozen_digest(encrypted.model, names)),
            "loss": str(loss),
            "optimiser": str(optimiser),
            "inputShape": list(key.input.plain_shape),
            "outputShape": list(key.output.shape),
            "targetShape": list(target_shape(loss, key.output.shape)),
            "trainable": names,
            "powers": [str(power) for power in names_of(_powers(key, names))],
            "idle": sorted(idle),
        }
    )


def _powers(key: EEKey, names: Collection[str]) -> Power:
    assert key.keyring is not None  # noqa: S101
    return powers_along(key.keyring, (axis for name in names for axis in key.layouts[name]))
