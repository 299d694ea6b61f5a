"""From the encrypted checkpoint that a training ended with to the plain trained model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rexis.ee.finetune.adapters import merge_adapters
from rexis.ee.finetune.description import TrainingDescription
from rexis.ee.finetune.encrypting import frozen_digest
from rexis.ee.graph import Graph
from rexis.ee.keys import EEKey, KeyPart
from rexis.protocol.digests import sha256
from rexis.protocol.errors import DigestMismatchError, EncryptionError, KeyFileError


def decrypt_model(checkpoint: bytes, key: EEKey, description: TrainingDescription, *, merge: bool = False) -> bytes:
    """Undo the encryption of every constant.

    Parameters
    ----------
    checkpoint
        Encrypted ONNX, as trained.
    key
        The full key of the base model.
    description
        Of the base model: :func:`~rexis.ee.finetune.encrypting.encrypt_for_training`.
    merge
        Add adapters to their weights and drop them, so that the graph is that of the plain model before
        :func:`~rexis.ee.finetune.adapters.add_adapters`.

    Returns
    -------
    model
        Plain ONNX.

    Raises
    ------
    KeyFileError
        A part of a key, or the key of another model.
    DigestMismatchError
        The checkpoint differs from the base model in more than what was trained.
    EncryptionError
        A weight that does not fit float32.
    """
    if key.part != KeyPart.FULL or key.keyring is None:
        raise KeyFileError(f"the {key.part} part of a key decrypts no weights", hint="use the model owner's full key")
    _require_trained_from(checkpoint, key, description)
    graph = Graph(checkpoint)
    for name, layout in key.layouts.items():
        value = key.keyring.apply(graph.raw(name), layout, invert=True)
        with np.errstate(over="ignore"):
            rounded = value.astype(np.float32)
        if not np.array_equal(np.isfinite(rounded), np.isfinite(value)):
            raise EncryptionError(f"constant {name!r} would overflow float32", field=name)
        graph.exchange(name, rounded)
    plain = graph.encoded(name="plain")
    return merge_adapters(plain) if merge else plain


def key_of_trained(checkpoint: bytes, key: EEKey, description: TrainingDescription) -> EEKey:
    """The key of a trained model: its base's, under the trained model's digest. Of any part.

    Raises
    ------
    KeyFileError, DigestMismatchError
        As in :func:`decrypt_model`.
    """
    _require_trained_from(checkpoint, key, description)
    return replace(key, model_digest=sha256(checkpoint))


def _require_trained_from(checkpoint: bytes, key: EEKey, description: TrainingDescription) -> None:
    key.require(model_digest=description.model_digest, epoch=description.key_epoch)
    if frozen_digest(checkpoint, description.trainable) != description.frozen_digest:
        raise DigestMismatchError(
            "the checkpoint differs from the base model in more than what was trained",
            field="checkpoint",
            hint="it belongs to another training, or somebody changed it",
        )
