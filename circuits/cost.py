"""What a circuit will cost, from its settings alone, before any key is made.

ezkl lays a model out in advice columns (three operands for each inner column, folded into further blocks where 2^k rows
do not suffice) and looks values up in tables (range checks, nonlinear functions), each cut into pieces that fit one
column. From these counts follow the number of columns that the proving key stores, and the *extension*: the quotient
polynomial is computed on a domain that is larger by the degree of the constraints, 4 times at least, 8 or 16 times if a
table has several pieces or there are four inner columns or more. Nearly all time and memory goes there, so that a
table that just does not fit one column can double the cost of a proof.

The rule for the extension agrees with the size of the proving key of all circuits that it was tried on (ADR 7). The
coefficients are least squares of relative errors over the random circuits of ``python -m bench.circuit_cost``; they are
no bounds, tables that are filled while proving (lookups by index, sorting) are not in them, and seconds are those of
the machine that they were fitted on (bench/README.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from circuits.settings import CircuitSettings

_FIELD_BYTES = 32
RESERVED_ROWS = 8  # of each column, for blinding
MAX_BLOCKS = 40  # more make no circuit cheaper
_OPERANDS = 3  # of an operation: two factors and a result
_FEWEST_DEGREES = 5
_MAX_LOGROWS, _MAX_INNER = 22, 4


@dataclass(frozen=True)
class Columns:
    """How a circuit is laid out.

    Attributes
    ----------
    logrows
        Every column has ``2^logrows`` rows.
    inner, blocks
        Parallel columns of an operand, and how often all of them are repeated because rows ran out.
    range_pieces
        Columns of each range check's table.
    lookups, lookup_pieces
        Nonlinear functions, and columns of each one's table.
    """

    logrows: int
    inner: int
    blocks: int
    range_pieces: tuple[int, ...]
    lookups: int
    lookup_pieces: int

    @property
    def advice(self) -> int:
        """Advice columns."""
        return _OPERANDS * self.inner * self.blocks

    @property
    def tables(self) -> int:
        """Columns of all tables: a function's has arguments and values."""
        return sum(self.range_pieces) + 2 * self.lookups * self.lookup_pieces

    @property
    def looked_up(self) -> int:
        """Pairs of a column and a table's piece that its values are looked up in."""
        return (sum(self.range_pieces) + self.lookups * self.lookup_pieces) * self.inner * self.blocks

    @property
    def extension(self) -> int:
        """How many times larger than a column the domain is that the quotient is computed on."""
        pieces = [each for each in self.range_pieces if each > 1]
        pieces += [self.lookup_pieces] if self.lookups else []
        degree = max([_FEWEST_DEGREES, self.inner + 2, *(each + 4 for each in pieces)])
        return 1 << math.ceil(math.log2(degree - 1))


@dataclass(frozen=True)
class Estimate:
    """What set-up and a proof will take.

    Attributes
    ----------
    rows
        That the model needs in one block of columns without an end.
    key_bytes
        Size of the proving key.
    setup_bytes, peak_bytes
        Peak resident memory of set-up, and of a prover.
    cpu_seconds
        Processor time of a warm proof, witness and check included.
    proof_bytes
        Size of a proof.
    """

    columns: Columns
    rows: int
    key_bytes: int
    setup_bytes: int
    peak_bytes: int
    cpu_seconds: float
    proof_bytes: int

    @property
    def needed_bytes(self) -> int:
        """Memory for set-up and proofs."""
        return max(self.setup_bytes, self.peak_bytes)


def columns_of(settings: CircuitSettings) -> Columns:
    """The layout that settings ask for."""
    profile = settings.profile
    return laid_out(
        rows=settings.rows,
        logrows=profile.logrows,
        inner=profile.inner_columns,
        ranges=[high - low + 1 for low, high in settings.ranges],
        lookups=settings.lookups,
        lookup_range=profile.lookup_high - profile.lookup_low + 1,
    )


def laid_out(*, rows: int, logrows: int, inner: int, ranges: Sequence[int], lookups: int, lookup_range: int) -> Columns:
    """The layout of a model that needs so many rows and tables of these sizes."""
    usable = max((1 << logrows) - RESERVED_ROWS, 1)

    def pieces(size: int) -> int:
        return -(-size // usable)

    return Columns(
        logrows, inner, pieces(rows), tuple(map(pieces, ranges)), lookups, pieces(lookup_range) if lookups else 0
    )


def estimate(columns: Columns, rows: int) -> Estimate:
    """What a circuit of this layout will take."""
    key = _key_bytes(columns, _predicted("stored", columns))
    return Estimate(
        columns=columns,
        rows=rows,
        key_bytes=round(key),
        setup_bytes=round(_predicted("setup", columns) * 2**20),
        peak_bytes=round(_predicted("peak", columns) * 2**20),
        cpu_seconds=_predicted("cpu", columns),
        proof_bytes=_FIELD_BYTES * round(_predicted("proof", columns)),
    )


def smaller(settings: CircuitSettings, memory: int) -> Estimate | None:
    """The layout of the same model and digits with the least processor time among those that fit; None if none does."""
    profile, found = settings.profile, []
    rows = settings.rows * profile.inner_columns
    for logrows in range(9, _MAX_LOGROWS):
        for inner in range(1, _MAX_INNER + 1):
            columns = laid_out(
                rows=-(-rows // inner),
                logrows=logrows,
                inner=inner,
                ranges=[high - low + 1 for low, high in settings.ranges],
                lookups=settings.lookups,
                lookup_range=profile.lookup_high - profile.lookup_low + 1,
            )
            if columns.blocks <= MAX_BLOCKS:
                found.append(estimate(columns, -(-rows // inner)))
    return min((e for e in found if e.needed_bytes <= memory), key=lambda e: e.cpu_seconds, default=None)


class Sizes(Protocol):
    """What the cost model predicts, as measured."""

    columns: Columns
    key_bytes: int
    setup_bytes: int
    peak_bytes: int
    cpu_seconds: float
    proof_bytes: int


def _checks(c: Columns) -> int:
    return sum(c.range_pieces)


def _stored_features(c: Columns) -> tuple[float, ...]:
    return c.advice, c.blocks, _checks(c), c.lookups, c.lookups * c.lookup_pieces, c.inner


def _proof_features(c: Columns) -> tuple[float, ...]:
    pairs = c.inner * c.blocks
    pieces = c.lookups * c.lookup_pieces
    return c.advice, c.blocks, _checks(c), c.lookups, pieces, _checks(c) * pairs, pieces * pairs


def _key_mib(c: Columns) -> float:
    return _key_bytes(c, _predicted("stored", c)) / 2**20


def _peak_features(c: Columns) -> tuple[float, ...]:
    column = _FIELD_BYTES * (1 << c.logrows) / 2**20
    return _key_mib(c), c.extension * column * c.advice, c.extension * column * c.tables, column * c.looked_up


def _cpu_features(c: Columns) -> tuple[float, ...]:
    cells = (1 << c.logrows) / 2**20
    stored = _predicted("stored", c)
    return c.extension * cells * stored, 4 * cells * (c.advice + c.tables), c.extension * cells * c.looked_up


def _key_bytes(c: Columns, stored: float) -> float:
    """Each stored polynomial in two forms and on the extended domain, and three that belong to every circuit."""
    return _FIELD_BYTES * (1 << c.logrows) * (stored * (2 + c.extension) + 3 * c.extension)


def _stored_columns(seen: Sizes) -> float:
    c = seen.columns
    return (seen.key_bytes / _FIELD_BYTES / (1 << c.logrows) - 3 * c.extension) / (2 + c.extension)


FEATURES: dict[str, tuple[Callable[[Columns], tuple[float, ...]], Callable[[Sizes], float]]] = {
    "stored": (_stored_features, _stored_columns),
    "setup": (lambda c: (_key_mib(c),), lambda seen: seen.setup_bytes / 2**20),
    "peak": (_peak_features, lambda seen: seen.peak_bytes / 2**20),
    "cpu": (_cpu_features, lambda seen: seen.cpu_seconds),
    "proof": (_proof_features, lambda seen: seen.proof_bytes / _FIELD_BYTES),
}
"""What each quantity is linear in, and how it follows from a measurement."""

COEFFICIENTS: dict[str, tuple[float, ...]] = {
    "stored": (5.29, 2.097, 1.327, -0.006, 2.125, 1.531, 0.1817),
    "setup": (40.39, 1.352),
    "peak": (34.48, 0.2135, 6.009, 3.287, 27.32),
    "cpu": (0.1808, 0.1521, 3.263, 2.628),
    "proof": (20.29, 7.83, 2.767, 1.873, 2.581, 4.207, 5.294, 4.959),
}
"""Constant first, then one for each feature. Fitted by ``python -m bench.circuit_cost``."""


def _predicted(name: str, columns: Columns) -> float:
    constant, *slopes = COEFFICIENTS[name]
    return constant + sum(a * b for a, b in zip(slopes, FEATURES[name][0](columns), strict=True))
