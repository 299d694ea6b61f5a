"""The groups that axis keys come from.

An *axis key* acts on one axis of a tensor: ``x' = K x + offset``, with `K` from a group. Which group an axis may use
depends on the operators that touch it: `K` must commute with all of them. A dense matrix commutes with linear maps
only; ReLU leaves permutations with positive scales.

All arithmetic is float64. Keys are immutable, and their text form shows the group and the size, never a value.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from rexis.ee.stream import Floats, SecretStream
from rexis.protocol.errors import EncryptionError

# Condition number of every dense key: how far distances, and rounding errors on the way back, can be stretched.
MAX_CONDITION = 4.0
_MIN_CONDITION = 2.0  # a matrix near an orthogonal one would keep all distances between records
MAX_OFFSET = 1.0  # in standard deviations of a standardised feature
SCALE_RANGE = (0.5, 2.0)  # of permutation × scale keys: keeps hidden values within fixed-point range
_ROUNDING = 1e-9


def draw_offset(stream: SecretStream, size: int) -> Floats:
    """An offset for an axis of `size`, uniform in ±:data:`MAX_OFFSET`."""
    return stream.uniform(-MAX_OFFSET, MAX_OFFSET, size)


class AxisKey(ABC):
    """One element of a group, acting on an axis of length `size`, and an offset ``float64 [size]``."""

    group: ClassVar[str]

    def __init__(self, size: int, offset: Floats | None) -> None:
        self.size = size
        self.offset = _frozen(np.zeros(size) if offset is None else offset, (size,), "offset")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size})"

    @classmethod
    @abstractmethod
    def draw(cls, stream: SecretStream, size: int) -> Self:
        """A fresh element without offset."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, size: int, arrays: dict[str, Floats]) -> Self:
        """The key that :meth:`arrays` describes.

        Raises
        ------
        EncryptionError
            An array is missing, unknown, of the wrong length, not finite, or outside the group.
        """

    @abstractmethod
    def arrays(self) -> dict[str, Floats]:
        """Everything that makes this key, as flat float64 arrays by name. Secret."""

    def moved(self, offset: Floats) -> Self:
        """The same group element with another offset."""
        twin = copy.copy(self)
        twin.offset = _frozen(offset, (self.size,), "offset")
        return twin

    @abstractmethod
    def _linear(self, rows: Floats) -> Floats:
        """``K x`` for every row x of ``[…, size]``."""

    @abstractmethod
    def _inverse(self, rows: Floats) -> Floats:
        """``K⁻¹ x`` for every row x of ``[…, size]``."""

    @abstractmethod
    def _dual(self, rows: Floats) -> Floats:
        """``K⁻ᵀ w`` for every row w of ``[…, size]``, so that ``w'·(K x) = w·x``."""

    def apply(self, values: NDArray[Any]) -> Floats:
        """Encrypt ``[…, size]`` along its last axis."""
        return self._linear(np.asarray(values, dtype=np.float64)) + self.offset

    def invert(self, values: NDArray[Any]) -> Floats:
        """Decrypt ``[…, size]`` along its last axis."""
        return self._inverse(np.asarray(values, dtype=np.float64) - self.offset)

    def fold_outgoing(self, constant: Floats, axis: int) -> Floats:
        """Make a constant *produce* values under this key (offset apart): `K` acts on `axis`."""
        return np.moveaxis(self._linear(np.moveaxis(constant, axis, -1)), -1, axis)

    def fold_incoming(self, constant: Floats, axis: int) -> Floats:
        """Make a constant *consume* values under this key (offset apart): `K⁻¹` is contracted into `axis`."""
        return np.moveaxis(self._dual(np.moveaxis(constant, axis, -1)), -1, axis)

    @property
    def has_offset(self) -> bool:
        """Whether the offset is more than zero somewhere."""
        return bool(self.offset.any())


class AffineKey(AxisKey):
    """``x' = A x + b`` with a dense invertible `A` that is not orthogonal and has condition number 2 to 4.

    The mean squared row norm of `A` is 1, so that standardised records stay near unit variance (fixed-point circuits
    have a fixed step). For size 1, `A` is a signed scale.

    Parameters
    ----------
    matrix
        `A`, ``float64 [size, size]``.
    offset
        `b`, ``float64 [size]``.
    """

    group = "affine"

    def __init__(self, matrix: Floats, offset: Floats | None = None) -> None:
        size = len(matrix)
        super().__init__(size, offset)
        self.matrix = _frozen(matrix, (size, size), "matrix")
        if not np.linalg.cond(self.matrix) <= MAX_CONDITION + _ROUNDING:
            raise EncryptionError(f"the matrix of an affine key has a condition number above {MAX_CONDITION:g}")
        self._inverse_matrix = np.linalg.inv(self.matrix)

    @classmethod
    def draw(cls, stream: SecretStream, size: int) -> Self:
        """``U diag(s) Vᵀ`` with independent Haar-random U and V, and log-uniform s."""
        if size == 1:
            sign = 1.0 if stream.uniform(0.0, 1.0, 1)[0] < 0.5 else -1.0
            return cls(sign * _log_uniform(stream, 1).reshape(1, 1))
        condition = stream.uniform(_MIN_CONDITION, MAX_CONDITION, 1)[0]
        spread = stream.uniform(0.0, 1.0, size)
        spread = (spread - spread.min()) / (spread.max() - spread.min())
        values = np.exp(np.log(condition) * spread)
        values /= np.sqrt(np.mean(values**2))
        return cls((_haar(stream, size) * values) @ _haar(stream, size))

    @classmethod
    def from_arrays(cls, size: int, arrays: dict[str, Floats]) -> Self:
        _expect(arrays, "matrix", "offset")
        return cls(_shaped(arrays["matrix"], (size, size), "matrix"), arrays["offset"])

    def arrays(self) -> dict[str, Floats]:
        return {"matrix": self.matrix.ravel(), "offset": self.offset}

    def _linear(self, rows: Floats) -> Floats:
        return rows @ self.matrix.T

    def _inverse(self, rows: Floats) -> Floats:
        return rows @ self._inverse_matrix.T

    def _dual(self, rows: Floats) -> Floats:
        return rows @ self._inverse_matrix


class PermutationScaleKey(AxisKey):
    """``x'[i] = scale[i] · x[permutation[i]] (+ offset[i])`` with positive scales: what commutes with ReLU.

    Parameters
    ----------
    permutation
        ``int64 [size]``.
    scale
        ``float64 [size]``, within :data:`SCALE_RANGE`.
    offset
        ``float64 [size]``; zero on every axis that a ReLU touches.
    """

    group = "permutation-scale"

    def __init__(self, permutation: NDArray[np.int64], scale: Floats, offset: Floats | None = None) -> None:
        size = len(permutation)
        super().__init__(size, offset)
        if not np.array_equal(np.sort(permutation), np.arange(size)):
            raise EncryptionError("a permutation-scale key holds something that is not a permutation")
        self.permutation = permutation.copy()
        self.permutation.flags.writeable = False
        self.scale = _frozen(scale, (size,), "scale")
        low, high = SCALE_RANGE
        if not bool(((self.scale >= low - _ROUNDING) & (self.scale <= high + _ROUNDING)).all()):
            raise EncryptionError(f"a permutation-scale key has a scale outside {low:g} to {high:g}")

    @classmethod
    def draw(cls, stream: SecretStream, size: int) -> Self:
        """A uniform permutation and log-uniform scales."""
        return cls(stream.permutation(size), _log_uniform(stream, size))

    @classmethod
    def from_arrays(cls, size: int, arrays: dict[str, Floats]) -> Self:
        _expect(arrays, "permutation", "scale", "offset")
        order = _shaped(arrays["permutation"], (size,), "permutation")
        if not bool(((order >= 0) & (order < size) & (order == np.floor(order))).all()):
            raise EncryptionError("a permutation-scale key holds something that is not a permutation")
        return cls(order.astype(np.int64), arrays["scale"], arrays["offset"])

    def arrays(self) -> dict[str, Floats]:
        order = self.permutation.astype(np.float64)
        return {"permutation": order, "scale": self.scale, "offset": self.offset}

    def _linear(self, rows: Floats) -> Floats:
        return rows[..., self.permutation] * self.scale

    def _inverse(self, rows: Floats) -> Floats:
        plain = np.empty_like(rows)
        plain[..., self.permutation] = rows / self.scale
        return plain

    def _dual(self, rows: Floats) -> Floats:
        return rows[..., self.permutation] / self.scale


Group = type[AxisKey]
# Strongest first: an axis gets the first group that commutes with every operator on it.
GROUPS: tuple[Group, ...] = (AffineKey, PermutationScaleKey)
GROUP_BY_NAME: dict[str, Group] = {group.group: group for group in GROUPS}


def _haar(stream: SecretStream, size: int) -> Floats:
    """A Haar-random orthogonal matrix: QR of a normal matrix, signs fixed (Mezzadri 2007, §5)."""
    q, r = np.linalg.qr(stream.normal(size * size).reshape(size, size))
    fixed: Floats = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return fixed


def _log_uniform(stream: SecretStream, size: int) -> Floats:
    low, high = np.log(SCALE_RANGE)
    return np.exp(stream.uniform(low, high, size))


def _frozen(values: Floats, shape: tuple[int, ...], name: str) -> Floats:
    checked = _shaped(values, shape, name).copy()
    checked.flags.writeable = False
    return checked


def _shaped(values: Floats, shape: tuple[int, ...], name: str) -> Floats:
    if values.size != int(np.prod(shape)) or not bool(np.isfinite(values).all()):
        raise EncryptionError(f"the {name} of an axis key has the wrong length or is not finite")
    return np.asarray(values, dtype=np.float64).reshape(shape)


def _expect(arrays: dict[str, Floats], *names: str) -> None:
    if set(arrays) != set(names):
        raise EncryptionError(f"an axis key needs exactly {', '.join(names)}")
