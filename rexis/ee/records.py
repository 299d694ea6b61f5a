"""What the data owner does with a key: encrypt records, decrypt outputs, derive record salts."""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from rexis.ee.keys import EEKey, Padding, TensorKey
from rexis.ee.stream import SecretStream, fresh_seed
from rexis.protocol.digests import Digest
from rexis.protocol.errors import KeyFileError, TensorError

_SALT_DOMAIN = b"rexis.salt.v1\0"
_SALT_BYTES = 32
_WHOLE = 1 << 24  # float32 holds every whole number up to here
_BLOCK = 1 << 14  # records at a time: intermediate arrays stay small


@overload
def encrypt_records(key: EEKey, records: NDArray[Any], *, seed: bytes | None = None) -> NDArray[np.float32]: ...


@overload
def encrypt_records(
    key: EEKey, records: Mapping[str, NDArray[Any]], *, seed: bytes | None = None
) -> dict[str, NDArray[Any]]: ...


def encrypt_records(
    key: EEKey, records: NDArray[Any] | Mapping[str, NDArray[Any]], *, seed: bytes | None = None
) -> NDArray[np.float32] | dict[str, NDArray[Any]]:
    """Apply the input keys to every record.

    Parameters
    ----------
    records
        For a model with one input: ``float32`` or ``float64`` ``[n, …]``, standardised as the plain model expects them;
        or token ids. For several inputs: such an array for each by its name, all of one length; token ids, counts and
        masks may also be integers or booleans.
    seed
        32 secret bytes that decoy features are drawn from, by default fresh from the operating system. Give one to
        repeat an encryption, and never one for two sets of records.

    Returns
    -------
    encrypted
        ``float32 [n, …]``, of the shape that the model takes: the records' own, or longer by the decoy features; of a
        mapping, a mapping in the order of the model's inputs, with the element types that the model takes. Without
        decoys equal records give equal rows; with them each row has noise of its own.

    Raises
    ------
    TensorError
        Wrong names, lengths, shape or dtype, values that are not finite (before or after), that an integer or boolean
        input cannot hold, or token ids outside the vocabulary.
    KeyFileError
        A key that only decrypts; an array for a model with several inputs.
    """
    noise = SecretStream(fresh_seed() if seed is None else seed, "decoys")
    if not isinstance(records, Mapping):
        return encrypt_values(key.input, records, noise=noise)
    return {
        name: encrypt_values(key.inputs[name], values, name, noise=noise).astype(key.inputs[name].element)
        for name, values in records_by_input(key, records).items()
    }


def encrypt_values(
    key: TensorKey, values: NDArray[Any], what: str = "records", *, noise: SecretStream
) -> NDArray[np.float32]:
    """Apply the key of one input to its part of every record. See :func:`encrypt_records`.

    Parameters
    ----------
    what
        The input's name for messages.
    noise
        What decoy features are drawn from.
    """
    checked = _held(_checked(_numbers(values, key), key, what), key, what)
    parts = [
        _encrypted(key, _padded(checked[start : start + _BLOCK], key.decoys, noise), what)
        for start in range(0, len(checked), _BLOCK)
    ]
    return np.concatenate(parts) if parts else np.empty((0, *key.shape), dtype=np.float32)


def decrypt_outputs(key: EEKey, outputs: NDArray[Any]) -> NDArray[np.float32]:
    """Undo the output key: encrypted outputs ``[n, …]`` → plain outputs ``float32 [n, …]``.

    Raises
    ------
    TensorError
        Wrong shape or dtype, or values that are not finite.
    KeyFileError
        A key that only encrypts.
    """
    if key.output is None:
        raise KeyFileError("this key only encrypts records", hint="outputs are decrypted with the result reader's key")
    return _rounded(key.output.invert(_checked(outputs, key.output, "outputs")), "outputs")


def record_salts(key: EEKey, records_digest: Digest, count: int, *, start: int = 0) -> NDArray[np.uint8]:
    """Salts of a dataset's Merkle leaves, one per record.

    ``salt_i = HMAC-SHA256(data_secret, "rexis.salt.v1\\0" ‖ records_digest ‖ u64be(i))``: unpredictable without the
    key, the same each time, and different for every dataset and record.

    Parameters
    ----------
    records_digest
        Digest of the encrypted records' tensor.
    count
        Number of records.
    start
        Index of the first.

    Returns
    -------
    salts
        ``uint8 [count, 32]``.

    Raises
    ------
    TensorError
        `count` is negative.
    KeyFileError
        A key that only decrypts.
    """
    if key.data_secret is None:
        raise KeyFileError("this key only decrypts outputs", hint="salts come from the data owner's key")
    if count < 0:
        raise TensorError("the number of records cannot be negative", field="count")
    keyed = hmac.new(key.data_secret, _SALT_DOMAIN + records_digest, "sha256")
    salts = bytearray()
    for index in range(start, start + count):
        state = keyed.copy()
        state.update(index.to_bytes(8, "big"))
        salts += state.digest()
    return np.frombuffer(bytes(salts), dtype=np.uint8).reshape(count, _SALT_BYTES)


def records_by_input(key: EEKey, records: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Records by name, in the order of the model's inputs.

    Raises
    ------
    TensorError
        An input is missing or unknown, or they have different numbers of records.
    KeyFileError
        A key that only decrypts.
    """
    if not key.inputs:
        raise KeyFileError("this key only decrypts outputs", hint="records are encrypted with the data owner's key")
    expected = f"the model's inputs are {', '.join(key.inputs)}"
    for name in key.inputs:
        if name not in records:
            raise TensorError(f"there are no records for input {name!r}", field=name, hint=expected)
    for name in records:
        if name not in key.inputs:
            raise TensorError(f"the model has no input {name!r}", field=name, hint=expected)
    counts = {name: records[name].shape[0] if records[name].ndim else 0 for name in key.inputs}
    first = next(iter(counts))
    for name, count in counts.items():
        if count != counts[first]:
            raise TensorError(f"{count} records for input {name!r}, {counts[first]} for {first!r}", field=name)
    return {name: records[name] for name in key.inputs}


def _numbers(values: NDArray[Any], key: TensorKey) -> NDArray[Any]:
    """Integers and booleans as numbers, where the input takes such."""
    discrete = key.tokens is not None or key.element != "float32"
    return values.astype(np.float64) if discrete and values.dtype.kind in "iub" else values


def _checked(values: NDArray[Any], key: TensorKey, what: str) -> NDArray[Any]:
    if values.dtype not in (np.float32, np.float64):
        raise TensorError(f"dtype {values.dtype} cannot be used", field=what, hint="convert to float32")
    if values.ndim < 1 or values.shape[1:] != key.plain_shape:
        raise TensorError(
            f"shape {list(values.shape)} does not fit the key",
            field=what,
            hint=f"expected [n, {', '.join(str(size) for size in key.plain_shape)}]",
        )
    finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    if not bool(finite.all()):
        row = int(np.argmin(finite))
        raise TensorError(f"row {row} holds NaN or infinity", field=what, hint="remove or impute such values")
    return values


def _held(values: NDArray[Any], key: TensorKey, what: str) -> NDArray[Any]:
    """Refuse what the input cannot hold: other than token ids, whole numbers, or 0 and 1."""
    if key.tokens is None and key.element == "float32":
        return values
    if key.tokens is not None:
        lowest, highest, wanted = 0, key.tokens - 1, f"a token outside 0 … {key.tokens - 1}"
    elif key.element == "bool":
        lowest, highest, wanted = 0, 1, "something else than 0 and 1"
    else:
        lowest, highest, wanted = -_WHOLE, _WHOLE, f"something else than whole numbers within ±{_WHOLE}"
    good = (values >= lowest) & (values <= highest) & (values == np.floor(values))
    if not bool(good.all()):
        row = int(np.argmin(good.all(axis=tuple(range(1, good.ndim)))))
        raise TensorError(f"row {row} holds {wanted}", field=what)
    return values


def _padded(records: NDArray[Any], decoys: Padding | None, noise: SecretStream) -> NDArray[Any]:
    """Records with their decoys: standard normal, as standardised features are on the whole."""
    if decoys is None:
        return records
    shape = [decoys.count if place == decoys.axis else size for place, size in enumerate(records.shape)]
    drawn = noise.normal(math.prod(shape)).reshape(shape).astype(records.dtype)
    return np.concatenate((records, drawn), axis=decoys.axis)


def _encrypted(key: TensorKey, records: NDArray[Any], what: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # of values that float32 cannot hold
        fast = key.apply_fast(records.astype(np.float32, copy=False))
    if fast is not None and bool(np.isfinite(fast).all()):
        return fast
    return _rounded(key.apply(records), what)  # which says what does not fit


def _rounded(values: NDArray[np.float64], what: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    if not bool(np.isfinite(rounded).all()):
        raise TensorError("values do not fit float32", field=what, hint="standardise the records first")
    return rounded
