"""What the data owner does with a key: encrypt records, decrypt outputs, derive record salts."""

from __future__ import annotations

import hmac
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.ee.groups import AxisKey
from rexis.ee.keys import EEKey
from rexis.protocol.digests import Digest
from rexis.protocol.errors import TensorError

_SALT_DOMAIN = b"rexis.salt.v1\0"
_SALT_BYTES = 32


def encrypt_records(key: EEKey, records: NDArray[Any]) -> NDArray[np.float32]:
    """Apply the input key to every record.

    Parameters
    ----------
    records
        ``float32`` or ``float64`` ``[n, d]``, standardised as the plain model expects them.

    Returns
    -------
    encrypted
        ``float32 [n, d]``. Deterministic: equal records give equal rows.

    Raises
    ------
    TensorError
        Wrong rank, width or dtype, or values that are not finite (before or after).
    """
    return _rounded(key.input.apply(_checked(records, key.input, "records")), "records")


def decrypt_outputs(key: EEKey, outputs: NDArray[Any]) -> NDArray[np.float32]:
    """Undo the output key: encrypted outputs ``[n, m]`` → plain outputs ``float32 [n, m]``.

    Raises
    ------
    TensorError
        Wrong rank, width or dtype, or values that are not finite.
    """
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
    """
    if count < 0:
        raise TensorError("the number of records cannot be negative", field="count")
    keyed = hmac.new(key.data_secret, _SALT_DOMAIN + records_digest, "sha256")
    salts = bytearray()
    for index in range(count):
        state = keyed.copy()
        state.update(index.to_bytes(8, "big"))
        salts += state.digest()
    return np.frombuffer(bytes(salts), dtype=np.uint8).reshape(count, _SALT_BYTES)


def _checked(values: NDArray[Any], key: AxisKey, what: str) -> NDArray[Any]:
    if values.dtype not in (np.float32, np.float64):
        raise TensorError(f"dtype {values.dtype} cannot be used", field=what, hint="convert to float32")
    if values.ndim != 2 or values.shape[1] != key.size:
        raise TensorError(
            f"shape {list(values.shape)} does not fit the key",
            field=what,
            hint=f"expected [n, {key.size}]",
        )
    finite = np.isfinite(values).all(axis=1)
    if not bool(finite.all()):
        row = int(np.argmin(finite))
        raise TensorError(f"row {row} holds NaN or infinity", field=what, hint="remove or impute such values")
    return values


def _rounded(values: NDArray[np.float64], what: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    if not bool(np.isfinite(rounded).all()):
        raise TensorError("values do not fit float32", field=what, hint="standardise the records first")
    return rounded
