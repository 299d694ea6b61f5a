"""The groups that keys of axes come from.

A key acts on an axis of a tensor as an invertible matrix `K`. Which group `K` may come from depends on the operators
that touch the axis: `K` must commute with all of them. Each group is a set of :class:`Power`; what several operators
allow together is the intersection of their sets, so that the lattice of groups is the lattice of these sets:

========================================  ==========================================
powers                                    group
========================================  ==========================================
permute, sign, scale, mix                 invertible, condition number at most 4
permute, sign, mix                        orthogonal
permute, mix (with or without scale)      orthogonal, fixing the all-ones vector
permute, scale, sign                      permutation × scale of either sign
permute, scale                            permutation × positive scale
permute, sign                             signed permutation
permute                                   permutation
scale, sign / scale / sign                diagonal
plane, mix, sign, scale                   rotation × scale of a plane (an axis of 2)
plane, mix, sign                          rotation of a plane
plane, sign, scale / sign / scale         one scale (one sign) for both coordinates
(none)                                    trivial: the axis is in the clear
========================================  ==========================================

A plane is an axis of length 2 that some operator turns, as a rotary embedding does: its key has to commute with
rotations, so that its powers act on both coordinates alike (complex numbers).

All arithmetic is float64. Keys are immutable, and their text form shows the group and the size, never a value.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from enum import Flag
from functools import cached_property
from typing import ClassVar, Self

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


class Power(Flag):
    """What a key of an axis may do."""

    PERMUTE = 1
    SIGN = 2
    SCALE = 4
    MIX = 8
    # Not a power: the axis is a plane, and the others act on it as one complex number acts on another.
    PLANE = 16


NONE = Power(0)
FREE = Power.PERMUTE | Power.SIGN | Power.SCALE | Power.MIX
ISOMETRY = Power.PERMUTE | Power.SIGN | Power.MIX
# Maps that keep sums along the axis, and broadcast constants: orthogonal matrices that fix the all-ones vector.
AVERAGING = Power.PERMUTE | Power.MIX
MONOMIAL = Power.PERMUTE | Power.SIGN | Power.SCALE
POSITIVE = Power.PERMUTE | Power.SCALE
CONFORMAL = Power.PLANE | Power.MIX | Power.SIGN | Power.SCALE


def on_plane(powers: Power) -> Power:
    """What is left of `powers` on a plane: exchanging coordinates is no rotation, and none fixes the ones vector."""
    left = powers & (Power.SIGN | Power.SCALE)
    if Power.MIX | Power.SIGN in powers:
        left |= Power.MIX
    return left | Power.PLANE if left != NONE else NONE


def draw_offset(stream: SecretStream, size: int) -> Floats:
    """An offset for an axis of `size`, uniform in ±:data:`MAX_OFFSET`."""
    return stream.uniform(-MAX_OFFSET, MAX_OFFSET, size)


def group_name(powers: Power, size: int) -> str:
    """The group that an axis of `size` gets from `powers`, in words."""
    if Power.PLANE in powers:
        scaled = " × scale" if Power.SCALE in powers else ""
        if Power.MIX in powers:
            return f"rotation{scaled}"
        return "one sign" if not scaled else "one scale" if Power.SIGN in powers else "one positive scale"
    if Power.MIX in powers and size > 1:
        if powers == FREE:
            return "invertible"
        return "orthogonal" if powers == ISOMETRY else "orthogonal fixing ones"
    parts = []
    if Power.PERMUTE in powers and size > 1:
        parts.append("permutation")
    if Power.SCALE in powers:
        parts.append("scale" if Power.SIGN in powers else "positive scale")
    elif Power.SIGN in powers:
        parts.append("sign")
    return " × ".join(parts) or "trivial"


class AxisKey(ABC):
    """One element of a group, acting on rows of length `size`. Made by :func:`draw` or read from a key file."""

    kind: ClassVar[str]

    def __init__(self, size: int) -> None:
        self.size = size

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size})"

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

    @abstractmethod
    def linear(self, rows: Floats) -> Floats:
        """``K x`` for every row x of ``[…, size]``."""

    @abstractmethod
    def inverse(self, rows: Floats) -> Floats:
        """``K⁻¹ x`` for every row x of ``[…, size]``."""

    @abstractmethod
    def dual(self, rows: Floats) -> Floats:
        """``K⁻ᵀ w`` for every row w of ``[…, size]``, so that ``(K⁻ᵀ w)·(K x) = w·x``."""

    @abstractmethod
    def inverse_dual(self, rows: Floats) -> Floats:
        """``Kᵀ w``: undoes :meth:`dual`."""

    @abstractmethod
    def order(self, rows: Floats) -> Floats:
        """The permutation alone. A parameter of an elementwise operator moves with its element and is not scaled."""

    @abstractmethod
    def inverse_order(self, rows: Floats) -> Floats:
        """Undoes :meth:`order`."""

    @property
    @abstractmethod
    def condition(self) -> float:
        """Condition number of `K`."""


class DenseKey(AxisKey):
    """A dense matrix with a condition number of at most :data:`MAX_CONDITION`."""

    kind = "dense"

    def __init__(self, matrix: Floats) -> None:
        super().__init__(len(matrix))
        self.matrix = _frozen(matrix, (self.size, self.size), "matrix")

    @classmethod
    def from_arrays(cls, size: int, arrays: dict[str, Floats]) -> Self:
        _expect(arrays, "matrix")
        found = cls(_shaped(arrays["matrix"], (size, size), "matrix"))
        if not found.condition <= MAX_CONDITION + _ROUNDING:
            raise EncryptionError(f"the matrix of a dense key has a condition number above {MAX_CONDITION:g}")
        return found

    def arrays(self) -> dict[str, Floats]:
        return {"matrix": self.matrix.ravel()}

    @cached_property
    def _inverse_matrix(self) -> Floats:
        return np.linalg.inv(self.matrix).astype(np.float64)

    @property
    def condition(self) -> float:
        return float(np.linalg.cond(self.matrix))

    def linear(self, rows: Floats) -> Floats:
        return rows @ self.matrix.T

    def inverse(self, rows: Floats) -> Floats:
        return rows @ self._inverse_matrix.T

    def dual(self, rows: Floats) -> Floats:
        return rows @ self._inverse_matrix

    def inverse_dual(self, rows: Floats) -> Floats:
        return rows @ self.matrix

    def order(self, rows: Floats) -> Floats:
        raise EncryptionError("a dense key has no order")

    inverse_order = order


class MonomialKey(AxisKey):
    """``x'[i] = factor[i] · x[permutation[i]]``, one factor of either sign for each element.

    Parameters
    ----------
    permutation
        ``int64 [size]``.
    factor
        ``float64 [size]``, absolute values within :data:`SCALE_RANGE`.
    """

    kind = "monomial"

    def __init__(self, permutation: NDArray[np.int64], factor: Floats) -> None:
        super().__init__(len(permutation))
        if not np.array_equal(np.sort(permutation), np.arange(self.size)):
            raise EncryptionError("a monomial key holds something that is not a permutation")
        self.permutation = permutation.copy()
        self.permutation.flags.writeable = False
        self.factor = _frozen(factor, (self.size,), "factor")
        low, high = SCALE_RANGE
        size = np.abs(self.factor)
        if not bool(((size >= low - _ROUNDING) & (size <= high + _ROUNDING)).all()):
            raise EncryptionError(f"a monomial key has a factor outside ±{low:g} to ±{high:g}")

    @classmethod
    def from_arrays(cls, size: int, arrays: dict[str, Floats]) -> Self:
        _expect(arrays, "permutation", "factor")
        order = _shaped(arrays["permutation"], (size,), "permutation")
        if not bool(((order >= 0) & (order < size) & (order == np.floor(order))).all()):
            raise EncryptionError("a monomial key holds something that is not a permutation")
        return cls(order.astype(np.int64), arrays["factor"])

    def arrays(self) -> dict[str, Floats]:
        return {"permutation": self.permutation.astype(np.float64), "factor": self.factor}

    @property
    def condition(self) -> float:
        size = np.abs(self.factor)
        return float(size.max() / size.min())

    def linear(self, rows: Floats) -> Floats:
        return rows[..., self.permutation] * self.factor

    def inverse(self, rows: Floats) -> Floats:
        return self.inverse_order(rows / self.factor)

    def dual(self, rows: Floats) -> Floats:
        return rows[..., self.permutation] / self.factor

    def inverse_dual(self, rows: Floats) -> Floats:
        return self.inverse_order(rows * self.factor)

    def order(self, rows: Floats) -> Floats:
        return rows[..., self.permutation]

    def inverse_order(self, rows: Floats) -> Floats:
        plain = np.empty_like(rows)
        plain[..., self.permutation] = rows
        return plain


KINDS: dict[str, type[AxisKey]] = {kind.kind: kind for kind in (DenseKey, MonomialKey)}


def draw(powers: Power, stream: SecretStream, size: int) -> AxisKey:
    """A fresh key from the group of `powers`, uniform where the group is compact.

    Invertible keys are ``U diag(s) Vᵀ`` with independent Haar-random U and V, and log-uniform s between condition
    number 2 and 4. Their mean squared row norm is 1, so that standardised records stay near unit variance
    (fixed-point circuits have a fixed step). On a plane: uniform angles, log-uniform scales.
    """
    if Power.PLANE in powers:
        return _draw_on_plane(powers, stream)
    if Power.MIX in powers and size > 1:
        if powers == FREE:
            return DenseKey(_invertible(stream, size))
        return DenseKey(haar(stream, size) if powers == ISOMETRY else _fixing_ones(stream, size))
    permuted = Power.PERMUTE in powers and size > 1
    factor = log_uniform(stream, size) if Power.SCALE in powers else np.ones(size)
    if Power.SIGN in powers:
        factor = factor * np.where(stream.uniform(0.0, 1.0, size) < 0.5, -1.0, 1.0)
    return MonomialKey(stream.permutation(size) if permuted else np.arange(size), factor)


def key_space(powers: Power, size: int) -> tuple[float, int]:
    """How many keys there are: bits of the discrete part, and real parameters of the continuous one.

    ``log2(size!)`` bits for a permutation and a bit for each sign; ``size`` parameters for scales, ``n(n-1)/2`` for
    orthogonal matrices (``(n-1)(n-2)/2`` if they fix a vector), ``n²`` for invertible ones. On a plane an angle and
    a scale, or a bit for its one sign.
    """
    if Power.PLANE in powers:
        turned, signed = Power.MIX in powers, Power.SIGN in powers
        return float(signed and not turned), int(turned) + int(Power.SCALE in powers)
    if Power.MIX in powers and size > 1:
        if powers == FREE:
            return 0.0, size * size
        free = size if powers == ISOMETRY else size - 1
        return 0.0, free * (free - 1) // 2
    bits = math.lgamma(size + 1) / math.log(2) if Power.PERMUTE in powers else 0.0
    return bits + (size if Power.SIGN in powers else 0), size if Power.SCALE in powers else 0


def haar(stream: SecretStream, size: int) -> Floats:
    """A Haar-random orthogonal matrix: QR of a normal matrix, signs fixed (Mezzadri 2007, §5)."""
    q, r = np.linalg.qr(stream.normal(size * size).reshape(size, size))
    fixed: Floats = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return fixed


def log_uniform(stream: SecretStream, size: int) -> Floats:
    """Scales, log-uniform in :data:`SCALE_RANGE`."""
    low, high = np.log(SCALE_RANGE)
    return np.exp(stream.uniform(low, high, size))


def _draw_on_plane(powers: Power, stream: SecretStream) -> AxisKey:
    scale = log_uniform(stream, 1)[0] if Power.SCALE in powers else 1.0
    angle = stream.uniform(0.0, 2 * np.pi, 1)[0]
    if Power.MIX in powers:
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        return DenseKey(np.array([[cos, -sin], [sin, cos]]))
    signed = Power.SIGN in powers and angle < np.pi
    return MonomialKey(np.arange(2), np.full(2, -scale if signed else scale))


def _invertible(stream: SecretStream, size: int) -> Floats:
    condition = stream.uniform(_MIN_CONDITION, MAX_CONDITION, 1)[0]
    spread = stream.uniform(0.0, 1.0, size)
    spread = (spread - spread.min()) / (spread.max() - spread.min())
    values = np.exp(np.log(condition) * spread)
    values /= np.sqrt(np.mean(values**2))
    matrix: Floats = (haar(stream, size) * values) @ haar(stream, size)
    return matrix


def _fixing_ones(stream: SecretStream, size: int) -> Floats:
    """Haar-random among the orthogonal matrices with ``K 1 = 1``: a rotation of the complement of the ones vector.

    The Householder reflection H that swaps e₁ and 1/√n carries the one subspace into the other.
    """
    v = np.full(size, 1 / np.sqrt(size))
    v[0] -= 1.0
    v /= np.linalg.norm(v)
    inner = np.eye(size)
    inner[1:, 1:] = haar(stream, size - 1)
    left = inner - 2.0 * np.outer(v, v @ inner)
    matrix: Floats = left - 2.0 * np.outer(left @ v, v)
    return matrix


def _frozen(values: Floats, shape: tuple[int, ...], name: str) -> Floats:
    checked = _shaped(values, shape, name).copy()
    checked.flags.writeable = False
    return checked


def _shaped(values: Floats, shape: tuple[int, ...], name: str) -> Floats:
    if values.size != math.prod(shape) or not bool(np.isfinite(values).all()):
        raise EncryptionError(f"the {name} of an axis key has the wrong length or is not finite")
    return np.asarray(values, dtype=np.float64).reshape(shape)


def _expect(arrays: dict[str, Floats], *names: str) -> None:
    if set(arrays) != set(names):
        raise EncryptionError(f"an axis key needs exactly {', '.join(names)}")
