"""SHA-256 digests of bytes and tensors.

A :class:`Digest` is 32 bytes with one text form: 64 lower-case hex digits behind ``0x``, so that the same string
stands in JSON, in SQL, in a URL and on the chain.
"""

from __future__ import annotations

import hashlib
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from rexis.protocol.errors import DigestMismatchError, MalformedError, TensorError

_LETTERS = 2 + 64
_CHUNK = 1 << 20

TENSOR_DOMAIN = b"rexis.tensor.v1\0"
# dtype names as they stand in the preimage (NumPy names; all little-endian).
DTYPES: dict[str, str] = {
    "float32": "<f4",
    "float64": "<f8",
    "int64": "<i8",
    "int32": "<i4",
    "uint8": "|u1",
}


class Digest(bytes):
    """A 32-byte digest (SHA-256 unless its name says otherwise, as in ``vka digest``)."""

    __slots__ = ()

    def __new__(cls, value: bytes) -> Self:
        if len(value) != 32:
            raise MalformedError(f"a digest is 32 bytes, not {len(value)}")
        return super().__new__(cls, value)

    @classmethod
    def parse(cls, text: object, field: str | None = None) -> Self:
        """Read the canonical text form; anything else (upper case, no prefix, wrong length) is refused."""
        if isinstance(text, str) and len(text) == _LETTERS:
            try:
                found = bytes.fromhex(text[2:])
            except ValueError:
                found = b""
            if "0x" + found.hex() == text:  # `fromhex` also takes upper case and white space
                return bytes.__new__(cls, found)
        raise MalformedError("not a digest", field=field, hint="expected 0x and 64 lower-case hexadecimal digits")

    def __str__(self) -> str:
        return "0x" + self.hex()

    def __repr__(self) -> str:
        return f"Digest({self})"


ZERO_DIGEST = Digest(bytes(32))


def sha256(*parts: bytes | memoryview) -> Digest:
    """SHA-256 of the concatenated parts."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return Digest(state.digest())


def digest_stream(stream: IO[bytes]) -> Digest:
    """SHA-256 of a stream, read in chunks of 1 MiB."""
    state = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        state.update(chunk)
    return Digest(state.digest())


def require_digest(data: bytes, expected: Digest, what: str) -> bytes:
    """Return `data` if its SHA-256 is `expected`, else raise :class:`DigestMismatchError`."""
    found = sha256(data)
    if found != expected:
        raise DigestMismatchError(f"{what} has digest {found}, not the pinned {expected}")
    return data


def tensor_bytes(array: NDArray[Any]) -> bytes:
    """Canonical bytes of a tensor: domain, dtype name, rank, dimensions (u64 big-endian), raw little-endian data.

    Raises
    ------
    TensorError
        The dtype is not one of :data:`DTYPES`, or a float is NaN or infinite.
    """
    head, data = _tensor_parts(array)
    return head + data.tobytes()


def tensor_head(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """What stands before the data in :func:`tensor_bytes`."""
    if dtype.name not in DTYPES:
        raise TensorError(f"dtype {dtype.name} cannot be committed", hint=f"one of {', '.join(DTYPES)}")
    encoded = dtype.name.encode()
    head = TENSOR_DOMAIN + bytes([len(encoded)]) + encoded + bytes([len(shape)])
    return head + b"".join(int(dim).to_bytes(8, "big") for dim in shape)


def tensor_digest(array: NDArray[Any]) -> Digest:
    """SHA-256 of :func:`tensor_bytes`: raw bytes, dtype and shape are all pinned. Large data is not copied."""
    head, data = _tensor_parts(array)
    return sha256(head, data.reshape(-1).view(np.uint8).data)


def _tensor_parts(array: NDArray[Any]) -> tuple[bytes, NDArray[Any]]:
    head = tensor_head(array.dtype, array.shape)
    if array.dtype.kind == "f" and not bool(np.isfinite(array).all()):
        raise TensorError("tensor holds NaN or infinity")
    return head, np.ascontiguousarray(array, dtype=DTYPES[array.dtype.name])
