"""What a loss asks of the keys of a model's outputs, and how records and targets become rows of a training dataset."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.ee.groups import ISOMETRY, Power
from rexis.ee.keys import EEKey, TensorKey
from rexis.ee.records import encrypt_records
from rexis.protocol.errors import KeyFileError, TensorError
from rexis.protocol.training_kinds import LossKind

OUTPUT_POWERS = {
    LossKind.CROSS_ENTROPY: Power.PERMUTE,  # classes are renamed, and the labels with them
    LossKind.SQUARED: ISOMETRY,  # distances are kept
    LossKind.BINARY: Power.PERMUTE,  # a sum over elements, in any order
}
"""Keys of the outputs that each loss is the same under, if the targets are encrypted alike."""

_WHOLE = 1 << 24  # float32 holds every class number below


def target_shape(loss: LossKind, output: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one record's target, from that of its output."""
    return output[:-1] if loss == LossKind.CROSS_ENTROPY else output


def encrypt_targets(loss: LossKind, key: TensorKey, plain: NDArray[Any]) -> NDArray[Any]:
    """Encrypt targets ``[n, …]`` with the output's key.

    Parameters
    ----------
    plain
        Class numbers ``[n, …]`` for cross-entropy, without the outputs' last axis; else values of the outputs' shape,
        for binary cross-entropy from 0 to 1.

    Returns
    -------
    encrypted
        Class numbers int64, or values float64.

    Raises
    ------
    TensorError
        The targets do not have the outputs' shape, or are not what the loss takes.
    """
    expected = target_shape(loss, key.shape)
    if plain.shape[1:] != expected:
        raise TensorError(f"targets have shape {list(plain.shape)}, expected [n, {expected}]", field="targets")
    if loss != LossKind.CROSS_ENTROPY:
        low, high = (0.0, 1.0) if loss == LossKind.BINARY else (-math.inf, math.inf)
        bad = ~(np.isfinite(plain) & (plain >= low) & (plain <= high))
        if bool(bad.any()):
            row = int(bad.reshape(len(plain), -1).any(axis=1).argmax())
            wanted = "a number from 0 to 1" if loss == LossKind.BINARY else "a finite number"
            raise TensorError(f"the target of record {row} is not {wanted}", field="targets")
        return key.apply(plain)
    classes = key.shape[-1]
    if plain.dtype.kind not in "iu" or bool(((plain < 0) | (plain >= classes)).any()):
        raise TensorError(f"targets are not class numbers from 0 to {classes - 1}", field="targets")
    found: NDArray[Any] = key.apply(np.eye(classes)[plain]).argmax(axis=-1)
    return found


def encrypt_rows(key: EEKey, loss: LossKind, records: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float32]:
    """Records with their targets as rows of a training dataset: the encrypted input, then the encrypted target.

    Parameters
    ----------
    records
        As for :func:`rexis.ee.records.encrypt_records`, of a model with one input.
    targets
        As for :func:`encrypt_targets`. Class numbers may also come as floats.

    Returns
    -------
    rows
        ``float32 [n, values of an input + values of a target]``.

    Raises
    ------
    TensorError
        The numbers of records and targets differ; or as in the functions named above.
    KeyFileError
        A part of the key that does not encrypt targets.
    """
    if key.output is None or not key.inputs:
        raise KeyFileError(
            f"the {key.part} part of a key cannot encrypt targets",
            hint="the data owner of a training gets the label part: rexis key export --part label",
        )
    require_targets(len(records), targets)
    hidden = encrypt_targets(loss, key.output, _classes(targets) if loss == LossKind.CROSS_ENTROPY else targets)
    inputs = encrypt_records(key, records)
    parts = [inputs.reshape(len(inputs), -1), hidden.reshape(len(hidden), -1).astype(np.float32)]
    rows = np.concatenate(parts, axis=1)
    if not bool(np.isfinite(rows).all()):
        raise TensorError("targets do not fit float32", field="targets", hint="standardise them first")
    return rows


def require_targets(records: int, targets: NDArray[Any]) -> None:
    """Refuse targets of another number of records; raises :class:`TensorError`."""
    if len(targets) != records:
        raise TensorError(f"{records} records, but {len(targets)} targets", field="targets")


def _classes(targets: NDArray[Any]) -> NDArray[Any]:
    """Class numbers as integers, where they came as floats."""
    if targets.dtype.kind != "f":
        return targets
    whole = np.isfinite(targets) & (targets == np.floor(targets)) & (np.abs(targets) < _WHOLE)
    if not bool(whole.all()):
        row = int((~whole).reshape(len(targets), -1).any(axis=1).argmax())
        raise TensorError(f"the target of record {row} is not a class number", field="targets")
    return targets.astype(np.int64)
