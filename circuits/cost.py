"""What a circuit will cost, from its settings alone, before any key is made.

ezkl lays a model out in advice columns (three operands for each inner column, folded into further blocks where 2^k rows
do not suffice) and looks values up in tables (range checks, nonlinear functions), each cut into pieces that fit one
column. From these counts follow the number of columns that the proving key stores, and the *extension*: the quotient
polynomial is computed on a domain that is larger by the degree of the constraints, 4 times at least, 8 or 16 times if a
table has several pieces, there are four inner columns or more, or values are looked up in a table that is filled while
proving (a lookup by index; sorting, and with it softmax and maxima). Nearly all time and memory goes there, so that a
table that just does not fit one column can double the cost of a proof.

The rules for degree, arguments and columns agree with keys and proofs of all circuits that they were tried on (ADR 7).
The coefficients are least squares of relative errors over the random circuits of ``python -m bench.circuit_cost``; they
are no bounds, and seconds are those of the machine that they were fitted on (bench/README.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from circuits.settings import CircuitSettings
from rexis.protocol.circuit import Visibility

_FIELD_BYTES = 32
RESERVED_ROWS = 8  # of each column, for blinding
MAX_BLOCKS = 40  # more make no circuit cheaper
MAX_VKA_BYTES = (1 << 16) - 1
"""A VKA addresses its own bytes with 16 bits. ezkl panics where that does not suffice: seen at 65 kB, not at 64."""
_VKA_MARGIN = 0.95  # of the prediction
_OPERANDS = 3  # of an operation: two factors and a result
_FILLED_COLUMNS = 3  # of a table that is filled while proving: which table, argument, value
_FEWEST_DEGREES = 5
_OTHERS = 2  # columns in the permutation: public values, constants
_FILLED_DEGREES = 6  # both sides are switched on by a selector, so that the table's has degree 2
_HASH_ADVICE, _HASH_FIXED, _HASH_DEGREE = 4, 7, 6  # of Poseidon: states, round constants and selectors, x^5 switched on
_MAX_LOGROWS, _MAX_INNER = 22, 4


@dataclass(frozen=True)
class Columns:
    """How a circuit is laid out.

    Attributes
    ----------
    logrows
        Every column has ``2^logrows`` rows.
    rows
        That the model needs in one block of columns without an end.
    inner, blocks
        Parallel columns of an operand, and how often all of them are repeated because rows ran out.
    range_pieces
        Columns of each range check's table.
    lookups, lookup_pieces
        Nonlinear functions, and columns of each one's table.
    filled
        Kinds of tables that are filled while proving (lookups by index, sorting). All of them share the same columns.
    instances
        Public values: inputs, then outputs.
    hashed
        Inputs are private, and only their Poseidon hash is public: columns of its own, and constraints of degree 6.
    """

    logrows: int
    rows: int
    inner: int
    blocks: int
    range_pieces: tuple[int, ...]
    lookups: int
    lookup_pieces: int
    filled: int = 0
    instances: int = 0
    hashed: bool = False

    @property
    def pairs(self) -> int:
        """Columns of one operand."""
        return self.inner * self.blocks

    @property
    def advice(self) -> int:
        """Advice columns."""
        return _OPERANDS * self.pairs + _FILLED_COLUMNS * (self.filled > 0) + _HASH_ADVICE * self.hashed

    @property
    def tables(self) -> int:
        """Columns of all tables that are known beforehand: each function's values, and the arguments of them all."""
        return sum(self.range_pieces) + (self.lookups + (self.lookups > 0)) * self.lookup_pieces

    @property
    def looked_up(self) -> int:
        """Pairs of a column and a table's piece that its values are looked up in."""
        pieces = sum(self.range_pieces) + self.lookups * self.lookup_pieces + self.filled
        return pieces * self.pairs

    @property
    def selectors(self) -> int:
        """Columns that say in which rows a column's values are looked up."""
        return (len(self.range_pieces) + self.lookups + self.filled) * self.pairs

    @property
    def fixed(self) -> int:
        """Columns that the proving key stores, but for those that say where an operation is done.

        A permutation's for each advice column and :data:`_OTHERS`, tables, selectors, constants, and a selector for
        each table that is filled.
        """
        own = self.advice + _OTHERS + self.tables + self.selectors + 1 + self.filled
        return own + _HASH_FIXED * self.hashed

    @property
    def degree(self) -> int:
        """Of the constraints. A lookup's is that of its table + 2, and that of what is looked up on top.

        What is looked up is a value, its selector, and a factor for each other piece of its table.
        """
        pieces = [*self.range_pieces, *([self.lookup_pieces] * (self.lookups > 0))]
        degree = max(_FEWEST_DEGREES, self.inner + 2, *(each + 4 for each in pieces))
        return max(degree, _FILLED_DEGREES * (self.filled > 0), _HASH_DEGREE * self.hashed)

    @property
    def extension(self) -> int:
        """How many times larger than a column the domain is that the quotient is computed on."""
        return 1 << (self.degree - 2).bit_length()

    @property
    def arguments(self) -> int:
        """Lookup arguments (mv-lookup, https://eprint.iacr.org/2022/1530); columns share one if the degree lets them.

        A filled table's own side has degree 2, the others' 1.
        """

        def needed(pieces: int, table: int) -> int:
            return pieces * -(-self.pairs // max(1, (self.degree - table - 2) // (pieces + 1)))

        known = sum(needed(each, 1) for each in self.range_pieces) + self.lookups * needed(self.lookup_pieces, 1)
        return known + self.filled * needed(1, 2)

    @property
    def products(self) -> int:
        """Grand products of the permutation argument: each covers as many columns as the degree has room for."""
        return -(-(self.advice + _OTHERS) // (self.degree - 2))


@dataclass(frozen=True)
class Estimate:
    """What set-up and a proof will take.

    Attributes
    ----------
    key_bytes
        Size of the proving key.
    setup_bytes, peak_bytes
        Peak resident memory of set-up, and of a prover.
    setup_seconds, witness_seconds, cpu_seconds
        Processor time of set-up, of a record's outputs without a proof, and of a warm proof with witness and check.
    proof_bytes
        Size of a proof.
    gas
        Of ``verifyProof`` of ezkl's reusable verifier in a transaction of its own.
    vk_bytes, vka_bytes
        Size of the verifying key, and of the artefact that the Solidity verifier takes.
    """

    columns: Columns
    key_bytes: int
    setup_bytes: int
    peak_bytes: int
    setup_seconds: float
    witness_seconds: float
    cpu_seconds: float
    proof_bytes: int
    gas: int
    vk_bytes: int
    vka_bytes: int

    @property
    def needed_bytes(self) -> int:
        """Memory for set-up and proofs."""
        return max(self.setup_bytes, self.peak_bytes)

    @property
    def has_vka(self) -> bool:
        """Whether ezkl can surely make a VKA of so many columns."""
        return self.vka_bytes < _VKA_MARGIN * MAX_VKA_BYTES


@dataclass(frozen=True)
class Total:
    """What one record takes in all the segments of a circuit, proved one after the other.

    Attributes
    ----------
    needed_bytes
        Memory of the largest.
    cpu_seconds, proof_bytes, gas, instances
        Of all of them together.
    """

    needed_bytes: int
    cpu_seconds: float
    proof_bytes: int
    gas: int
    instances: int


def total(estimates: Sequence[Estimate]) -> Total:
    """What one record takes in these segments."""
    return Total(
        needed_bytes=max(each.needed_bytes for each in estimates),
        cpu_seconds=sum(each.cpu_seconds for each in estimates),
        proof_bytes=sum(each.proof_bytes for each in estimates),
        gas=sum(each.gas for each in estimates),
        instances=sum(each.columns.instances for each in estimates),
    )


def columns_of(settings: CircuitSettings) -> Columns:
    """The layout that settings ask for."""
    profile = settings.profile
    return relaid(settings, profile.logrows, profile.inner_columns)


def relaid(settings: CircuitSettings, logrows: int, inner: int) -> Columns:
    """The layout of the same model and digits in so many rows and inner columns."""
    profile = settings.profile
    return laid_out(
        rows=-(-settings.rows * profile.inner_columns // inner),
        logrows=logrows,
        inner=inner,
        ranges=[high - low + 1 for low, high in settings.ranges],
        lookups=settings.lookups,
        lookup_range=profile.lookup_high - profile.lookup_low + 1,
        filled=len(settings.filled),
        instances=settings.public_inputs + settings.output_length,
        hashed=settings.visibility == Visibility.HASHED,
    )


def usable_rows(logrows: int) -> int:
    """Rows of a column that values can stand in. A table that is filled while proving must fit into them."""
    return max((1 << logrows) - RESERVED_ROWS, 1)


def laid_out(
    *,
    rows: int,
    logrows: int,
    inner: int,
    ranges: Sequence[int],
    lookups: int,
    lookup_range: int,
    filled: int = 0,
    instances: int = 0,
    hashed: bool = False,
) -> Columns:
    """The layout of a model that needs so many rows and tables of these sizes."""
    usable = usable_rows(logrows)

    def pieces(size: int) -> int:
        return -(-size // usable)

    return Columns(
        logrows=logrows,
        rows=rows,
        inner=inner,
        blocks=pieces(rows),
        range_pieces=tuple(map(pieces, ranges)),
        lookups=lookups,
        lookup_pieces=pieces(lookup_range) if lookups else 0,
        filled=filled,
        instances=instances,
        hashed=hashed,
    )


def estimate(columns: Columns) -> Estimate:
    """What a circuit of this layout will take."""
    key = _key_bytes(columns, _predicted("stored", columns))
    return Estimate(
        columns=columns,
        key_bytes=round(key),
        setup_bytes=round(_predicted("setup", columns) * 2**20),
        peak_bytes=round(_predicted("peak", columns) * 2**20),
        setup_seconds=_predicted("setupCpu", columns),
        witness_seconds=_predicted("witnessCpu", columns),
        cpu_seconds=_predicted("cpu", columns),
        proof_bytes=_FIELD_BYTES * round(_predicted("proof", columns)),
        gas=round(_predicted("gas", columns)),
        vk_bytes=round(_predicted("vk", columns)),
        vka_bytes=_FIELD_BYTES * round(_predicted("vka", columns)),
    )


def estimate_of(settings: CircuitSettings) -> Estimate:
    """What the circuit of these settings will take."""
    return estimate(columns_of(settings))


def smaller(settings: CircuitSettings, memory: int) -> Estimate | None:
    """The layout of the same model and digits with the least processor time among those that fit; None if none does."""
    found = []
    for logrows, inner in itertools.product(range(9, _MAX_LOGROWS), range(1, _MAX_INNER + 1)):
        columns = relaid(settings, logrows, inner)
        if columns.blocks <= MAX_BLOCKS and settings.unfolded_rows <= usable_rows(logrows):
            found.append(estimate(columns))
    fitting = (each for each in found if each.needed_bytes <= memory and each.has_vka)
    return min(fitting, key=lambda each: each.cpu_seconds, default=None)


class Sizes(Protocol):
    """What the cost model predicts, as measured."""

    columns: Columns
    key_bytes: int
    setup_bytes: int
    peak_bytes: int
    setup_seconds: float
    witness_seconds: float
    cpu_seconds: float
    proof_bytes: int
    gas: int
    vk_bytes: int
    vka_bytes: int


def _stored_features(c: Columns) -> tuple[float, ...]:
    return c.fixed, c.pairs / (c.degree - 1), c.blocks / (c.degree - 1)


def _proof_features(c: Columns) -> tuple[float, ...]:
    return c.advice, c.pairs, c.blocks, c.tables, c.selectors, c.arguments, c.products, c.degree


def _vka_features(c: Columns) -> tuple[float, ...]:
    """The artefact spells the constraints out: for each piece, a factor for each other one."""
    factors = sum(each**2 for each in c.range_pieces) + c.lookups * c.lookup_pieces**2
    return *_proof_features(c), c.looked_up, c.pairs * factors


def _gas_features(c: Columns) -> tuple[float, ...]:
    return *_vka_features(c), c.instances


def _vk_features(c: Columns) -> tuple[float, ...]:
    """Commitments, and a bit a row for each selector."""
    bitmap = (1 << c.logrows) / 8
    return c.fixed, bitmap * c.selectors, bitmap * c.pairs, bitmap * c.blocks


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
    "setupCpu": (lambda c: (_key_mib(c), (1 << c.logrows) / 2**20), lambda seen: seen.setup_seconds),
    "witnessCpu": (lambda c: (c.rows * c.inner / 2**20,), lambda seen: seen.witness_seconds),
    "cpu": (_cpu_features, lambda seen: seen.cpu_seconds),
    "proof": (_proof_features, lambda seen: seen.proof_bytes / _FIELD_BYTES),
    "gas": (_gas_features, lambda seen: seen.gas),
    "vk": (_vk_features, lambda seen: seen.vk_bytes),
    "vka": (_vka_features, lambda seen: seen.vka_bytes / _FIELD_BYTES),
}
"""What each quantity is linear in, and how it follows from a measurement."""

COEFFICIENTS: dict[str, tuple[float, ...]] = {
    "stored": (0.3325, 0.9999, 5.897, 5.526),
    "setup": (40.39, 1.352),
    "peak": (34.48, 0.2135, 6.009, 3.287, 27.32),
    "setupCpu": (0.3689, 0.03554, 30.94),
    "witnessCpu": (0.008, 0.7),
    "cpu": (0.2839, 0.2388, 5.123, 4.126),
    "proof": (6.707, 4.165, -0.6462, 2.022, 1.016, 0.9759, 7.025, 6.688, 1.852),
    "gas": (245800, 23010, 10650, 41750, 11560, 8735, 18220, 12010, 6644, 6484, 1249, 1636),
    "vk": (160.3, 67.17, 1.093, 2.805, 6.474),
    "vka": (69.34, 3.331, 7.204, 18.06, 3.857, 3.442, 0.6395, -2.537, 1.456, 2.192, 0.5595),
}
"""Constant first, then one for each feature. Fitted by ``python -m bench.circuit_cost``."""


def _predicted(name: str, columns: Columns) -> float:
    constant, *slopes = COEFFICIENTS[name]
    return constant + sum(a * b for a, b in zip(slopes, FEATURES[name][0](columns), strict=True))
