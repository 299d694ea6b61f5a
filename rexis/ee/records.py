"""What the data owner does with a key: encrypt records, decrypt outputs, derive record salts."""

from __future__ import annotations

import hmac
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.ee.keys import EEKey, Padding, TensorKey
from rexis.ee.stream import SecretStream, fresh_seed
from rexis.protocol.digests import Digest
from rexis.protocol.errors import KeyFileError, TensorError

_SALT_DOMAIN = b"rexis.salt.v1\0"
_SALT_BYTES = 32
_BLOCK = 1 << 14  # records at a time: intermediate arrays stay small


def encrypt_records(key: EEKey, records: NDArray[Any], *, seed: bytes | None = None) -> NDArray[np.float32]:
    """Apply the input key to every record.

    Parameters
    ----------
    records
        ``float32`` or ``float64`` ``[n, …]``, standardised as the plain model expects them; or token ids.
    seed
        32 secret bytes that decoy features are drawn from, by default fresh from the operating system. Give one to
        repeat an encryption, and never one for two sets of records.

    Returns
    -------
    encrypted
        ``float32 [n, …]``, of the shape that the model takes: the records' own, or longer by the decoy features.
        Without decoys equal records give equal rows; with them each row has noise of its own.

    Raises
    ------
    TensorError
        Wrong shape or dtype, values that are not finite (before or after), token ids outside the vocabulary.
    KeyFileError
        A key that only decrypts.
    """
    if key.input is None:
        raise KeyFileError("this key only decrypts outputs", hint="records are encrypted with the data owner's key")
    checked = _tokens(_checked(records, key.input, "records"), key.input)
    noise = SecretStream(fresh_seed() if seed is None else seed, "decoys")
    parts = [
        _encrypted(key.input, _padded(checked[start : start + _BLOCK], key.input.decoys, noise))
        for start in range(0, len(checked), _BLOCK)
    ]
    return np.concatenate(parts) if parts else np.empty((0, *key.input.shape), dtype=np.float32)


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


def record_salts(key: EEKey, records_digest: Digest, count: int) -> NDArray[np.uint8]:
    """Salts of a dataset's Merkle leaves, one per record.

    ``salt_i = HMAC-SHA256(data_secret, "rexis.salt.v1\\0" ‖ records_digest ‖ u64be(i))``: unpredictable without the
    key, the same each time, and different for every dataset and record.

    Parameters
    ----------
    records_digest
        Digest of the encrypted records' tensor.
    count
        Number of records.

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
    for index in range(count):
        state = keyed.copy()
        state.update(index.to_bytes(8, "big"))
        salts += state.digest()
    return np.frombuffer(bytes(salts), dtype=np.uint8).reshape(count, _SALT_BYTES)


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


def _tokens(records: NDArray[Any], key: TensorKey) -> NDArray[Any]:
    if key.tokens is not None:
        good = (records >= 0) & (records < key.tokens) & (records == np.floor(records))
        if not bool(good.all()):
            row = int(np.argmin(good.all(axis=tuple(range(1, good.ndim)))))
            raise TensorError(f"row {row} holds a token outside 0 … {key.tokens - 1}", field="records")
    return records


def _padded(records: NDArray[Any], decoys: Padding | None, noise: SecretStream) -> NDArray[Any]:
    """Records with their decoys: standard normal, as standardised features are on the whole."""
    if decoys is None:
        return records
    shape = [decoys.count if place == decoys.axis else size for place, size in enumerate(records.shape)]
    drawn = noise.normal(math.prod(shape)).reshape(shape).astype(records.dtype)
    return np.concatenate((records, drawn), axis=decoys.axis)


def _encrypted(key: TensorKey, records: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # of values that float32 cannot hold
        fast = key.apply_fast(records.astype(np.float32, copy=False))
    if fast is not None and bool(np.isfinite(fast).all()):
        return fast
    return _rounded(key.apply(records), "records")  # which says what does not fit


def _rounded(values: NDArray[np.float64], what: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    if not bool(np.isfinite(rounded).all()):
        raise TensorError("values do not fit float32", field=what, hint="standardise the records first")
    return rounded
