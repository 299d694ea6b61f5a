"""Rows of a tensor that need not be in memory: an array, or something that reads slices of a file or a blob."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_BLOCK_BYTES = 8 << 20

Read = Callable[[int, int], bytes]
"""Reads bytes ``start … end-1`` of something."""


class Rows(Protocol):
    """What has rows: a :class:`numpy.ndarray` is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As an array's."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """As an array's."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, wanted: slice, /) -> Any:
        """Rows as an array."""
        ...


@dataclass(frozen=True)
class StoredRows:
    """Rows that lie one after the other, little-endian, in something that can be read in slices.

    Attributes
    ----------
    offset
        Where the first row begins.
    """

    read: Read
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: slice, /) -> NDArray[Any]:
        start, end, _ = wanted.indices(len(self))
        end = max(start, end)
        width = self.row_bytes
        data = self.read(self.offset + start * width, self.offset + end * width)
        return np.frombuffer(data, dtype=self.dtype).reshape(end - start, *self.shape[1:])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return prod(self.shape[1:]) * self.dtype.itemsize


@dataclass(frozen=True)
class MappedRows:
    """Rows that are computed from others, a slice at a time; of the same shape."""

    source: Rows
    change: Callable[[NDArray[Any]], NDArray[Any]]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the source."""
        return self.source.shape

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, wanted: slice, /) -> NDArray[Any]:
        return self.change(self.source[wanted])


def blocks(rows: Rows, *, block_bytes: int = _BLOCK_BYTES) -> Iterator[tuple[int, NDArray[Any]]]:
    """The rows in order, some at a time: index of the first, and an array of them."""
    step = max(1, block_bytes // max(1, prod(rows.shape[1:]) * rows.dtype.itemsize))
    for start in range(0, len(rows), step):
        yield start, np.asarray(rows[start : start + step])


def values_of_a_row(rows: Rows) -> int:
    """How many values a row has."""
    return prod(rows.shape[1:])
