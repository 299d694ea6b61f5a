"""Dataset files larger than memory: written and read some records at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from rexis.files import reader, writing
from rexis.protocol.digests import Digest, tensor_head
from rexis.protocol.onsite import PrivateDataset, open_own_dataset
from rexis.protocol.records import SALT_BYTES, Floats, Salts
from rexis.protocol.tensors import Dataset, tensors_header

_SALTS_AT_ONCE = 1 << 16


class _Hashed:
    """A stream with the digest of what is written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._state = stream, hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._state.update(data)

    @property
    def digest(self) -> Digest:
        return Digest(self._state.digest())


def open_dataset_file(path: Path) -> Dataset | PrivateDataset:
    """A dataset file of the data owner's, whose records stay there; raises :class:`TensorError` if it is none."""
    return open_own_dataset(*reader(path, "dataset"))


def write_dataset(
    path: Path, count: int, records: Iterable[Floats], salts: Callable[[Digest, int, int], Salts]
) -> tuple[Digest, tuple[int, ...]]:
    """Write records as a dataset file; returns its digest and the records' shape.

    Parameters
    ----------
    count
        How many records there will be.
    records
        Blocks of them, finite, at least one.
    salts
        Gives the salts of some records, from the tensor digest of all the records, the index of the first, and how
        many.
    """
    blocks = iter(records)
    first = next(blocks)
    shape, dtype = (count, *first.shape[1:]), np.dtype(np.float32)
    tensor = hashlib.sha256(tensor_head(dtype, shape))
    header = tensors_header([("records", dtype, shape), ("salts", np.dtype(np.uint8), (count, SALT_BYTES))])
    with writing(path) as stream:
        hashed = _Hashed(stream)
        hashed.write(header)
        for data in _bytes_of(chain([first], blocks)):
            tensor.update(data)
            hashed.write(data)
        for start in range(0, count, _SALTS_AT_ONCE):
            some = salts(Digest(tensor.digest()), start, min(_SALTS_AT_ONCE, count - start))
            hashed.write(some.tobytes())
    return hashed.digest, shape


def _bytes_of(blocks: Iterable[NDArray[Any]]) -> Iterator[bytes]:
    for block in blocks:
        yield np.ascontiguousarray(block, dtype="<f4").tobytes()
