"""Records as Merkle leaves: encodings, quantisation, salts, openings.

A leaf commits one record's values with a salt, so that a guess about low-entropy data cannot be checked with the tree.
Its layout is in ``docs/protocol.md`` §3; Solidity rebuilds fixed-point leaves from a proof's public instances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Annotated, Any, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import FailFast, Field

from rexis.protocol.circuit import Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import MalformedError, TensorError
from rexis.protocol.field import SCALAR_FIELD
from rexis.protocol.merkle import MAX_PATH, MerkleRange, MerkleTree, check_inclusion, merkle_root
from rexis.protocol.parsing import DigestField, HexBytes, Strict, UInt64
from rexis.protocol.policy import Tier
from rexis.protocol.rows import MappedRows, Rows, blocks

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Salts = NDArray[np.uint8]
Hashes = NDArray[np.uint8]
"""Poseidon hashes of salted records, ``[n, 32]``: field elements, big-endian."""

_RECORD_DOMAIN = b"rexis.record.v1\0"
_OUTPUT_SALT_DOMAIN = b"rexis.output-salt.v1\0"
_HASH_SALT_DOMAIN = b"rexis.hash-salt.v1\0"
HASH_BYTES = 32
SALT_BYTES = 32
# Integers beyond 2^52 would have lost precision in binary64, where the rounding is done.
_MAX_QUANTISED = 2.0**52
_MAX_SCALE = 32
# Values of one record.
MAX_VALUES = 1 << 20


class Side(IntEnum):
    """Which tree a leaf belongs to."""

    INPUT = 0
    OUTPUT = 1


class Encoding(IntEnum):
    """How a leaf's values are written."""

    FLOAT32 = 0
    FIXED = 1
    HASH = 2


# Kind and type of a payload's values, and bytes of one. A hash is one value, which numpy has no type for.
_WRITTEN = {Encoding.FLOAT32: ("f", "<f4", 4), Encoding.FIXED: ("i", ">i8", 8), Encoding.HASH: ("u", "u1", HASH_BYTES)}


class LeafFormat(Strict):
    """Encoding and scale of one side's leaves.

    Attributes
    ----------
    scale
        Fixed-point scale: value = integer · 2^-scale. Of a hash: that of the record under it. 0 for float32.
    """

    side: Side
    encoding: Encoding
    scale: Annotated[int, Field(ge=0, le=_MAX_SCALE)]

    def payload(self, values: Floats | Integers | Hashes) -> bytes:
        """The raw bytes of one record's values, flattened in C order; of a hash, its bytes."""
        kind, dtype, _ = _WRITTEN[self.encoding]
        if values.dtype.kind != kind:
            raise TensorError(f"{self.encoding.name.lower()} leaves cannot hold {values.dtype.name}")
        return np.ascontiguousarray(values, dtype=dtype).tobytes()

    def values(self, payload: bytes) -> NDArray[Any]:
        """The values back from a payload; refuses NaN, infinity and partial values. A hash is one Python integer."""
        _, dtype, width = _WRITTEN[self.encoding]
        if len(payload) % width or not payload or len(payload) > width * MAX_VALUES:
            raise MalformedError(f"a payload of {len(payload)} bytes does not hold {width}-byte values")
        if self.encoding == Encoding.HASH:
            element = int.from_bytes(payload, "big")
            if len(payload) != HASH_BYTES or element >= SCALAR_FIELD:
                raise MalformedError("a payload is not one hash, a number below the field's order")
            return np.array([element], dtype=object)
        found = np.frombuffer(payload, dtype=dtype)
        if self.encoding == Encoding.FLOAT32:
            if not bool(np.isfinite(found).all()):
                raise TensorError("record holds NaN or infinity")
            return found.astype(np.float32)
        return found.astype(np.int64)

    def leaf(self, salt: bytes, payload: bytes) -> bytes:
        """Leaf data of one record."""
        width = _WRITTEN[self.encoding][2]
        return b"".join(
            (
                _RECORD_DOMAIN,
                bytes((self.side, self.encoding, self.scale)),
                salt,
                (len(payload) // width).to_bytes(4, "big"),
                payload,
            )
        )

    def leaves(self, values: Rows, salts: Rows) -> Iterator[bytes]:
        """Leaf data of all rows of `values` ``[n, …]`` with `salts` ``[n, 32]``."""
        if len(values) != len(salts):
            raise TensorError(f"{len(values)} records but {len(salts)} salts")
        for start, block in blocks(values):
            rows = block.reshape(len(block), -1)
            beside = salts[start : start + len(rows)]
            for row, salt in zip(rows, beside, strict=True):
                yield self.leaf(salt.tobytes(), self.payload(row))

    def tree(self, values: Rows, salts: Rows) -> MerkleTree:
        """The tree over all rows."""
        return MerkleTree(self.leaves(values, salts))


_BOUNDARY = LeafFormat(side=Side.OUTPUT, encoding=Encoding.FIXED, scale=0)


def input_format(tier: Tier, circuit: Circuit) -> LeafFormat:
    """Format of the input tree's leaves."""
    if circuit.visibility == Visibility.HASHED:
        return LeafFormat(side=Side.INPUT, encoding=Encoding.HASH, scale=circuit.input_scale)
    return _format(Side.INPUT, circuit, circuit.input_scale)


def output_format(tier: Tier, circuit: Circuit) -> LeafFormat:
    """Format of the output tree's leaves."""
    return _format(Side.OUTPUT, circuit, circuit.output_scale)


def _format(side: Side, circuit: Circuit, scale: int) -> LeafFormat:
    if circuit.visibility == Visibility.NONE:
        return LeafFormat(side=side, encoding=Encoding.FLOAT32, scale=0)
    return LeafFormat(side=side, encoding=Encoding.FIXED, scale=scale)


def quantise(values: Floats, scale: int) -> Integers:
    """Fixed point as ezkl does it: round half away from zero of ``x · 2^scale``, computed in binary64.

    Raises
    ------
    TensorError
        A value is NaN, infinite, or beyond 2⁵² after scaling.
    """
    scaled = values.astype(np.float64) * 2.0**scale
    if not bool(np.isfinite(scaled).all()) or bool((np.abs(scaled) > _MAX_QUANTISED).any()):
        raise TensorError("value is not finite or too large for fixed point", hint=f"scale is {scale}")
    return np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int64)


def dequantise(values: Integers, scale: int) -> Floats:
    """``integer · 2^-scale`` as float32."""
    return (values.astype(np.float64) * 2.0**-scale).astype(np.float32)


def distance(values: Floats, integers: Integers, scale: int) -> int:
    """How far floats lie from fixed point, in units of ``2^-scale``, rounded up: the least tolerance that holds.

    Exact, as Solidity's ``Floats.isNear`` is: ``x · 2^scale`` loses nothing in binary64.

    Raises
    ------
    TensorError
        A value is NaN or infinite, or there are not as many as integers.
    """
    flat, fixed = values.astype(np.float64).reshape(-1), integers.reshape(-1)
    if len(flat) != len(fixed) or not bool(np.isfinite(flat).all()):
        raise TensorError("values are not finite, or not as many as the circuit's outputs")
    pairs = zip((flat * 2.0**scale).tolist(), fixed.tolist(), strict=True)
    return max((max(math.ceil(x) - y, y - math.floor(x)) for x, y in pairs), default=0)


def output_salt(salt: bytes) -> bytes:
    """The salt of an output leaf, from that of its input leaf."""
    return sha256(_OUTPUT_SALT_DOMAIN, salt)


def output_salts(salts: Salts) -> Salts:
    """:func:`output_salt` of every row, ``[n, 32]``."""
    derived = b"".join(output_salt(salt.tobytes()) for salt in salts)
    return np.frombuffer(derived, dtype=np.uint8).reshape(-1, SALT_BYTES)


def hash_salts(hashes: Hashes) -> Salts:
    """The salts of hashes' leaves, ``[n, 32]``.

    A hash needs none, since it is salted itself. The salts are for the outputs (:func:`output_salts`): who has not seen
    a record's hash cannot try outputs out on its leaf.
    """
    derived = b"".join(_hash_salt(row.tobytes()) for row in hashes)
    return np.frombuffer(derived, dtype=np.uint8).reshape(-1, SALT_BYTES)


def _hash_salt(hashed: bytes) -> Digest:
    return sha256(_HASH_SALT_DOMAIN, hashed)


class InputOpening(Strict):
    """One record of a dataset, opened: what its owner can show without knowing what became of it.

    Attributes
    ----------
    index
        Absolute index in the dataset.
    salt
        The input leaf's salt.
    input
        Payload bytes in the task's leaf format.
    input_path
        Audit path, from the leaf up.
    """

    index: UInt64
    salt: DigestField
    input: HexBytes
    input_path: Annotated[list[DigestField], Field(max_length=MAX_PATH), FailFast()]


class Opening(InputOpening):
    """One record of a task, opened: values and salt with their paths to the input and output roots.

    Where the circuit's inputs are hashed, the record is not in it: `input` is its hash.

    Attributes
    ----------
    output
        Payload bytes in the task's leaf format.
    output_path
        Audit path, from the leaf up.
    """

    output: HexBytes
    output_path: Annotated[list[DigestField], Field(max_length=MAX_PATH), FailFast()]


class TaskTrees:
    """The two trees of one task, for whoever holds the records: roots and openings.

    Parameters
    ----------
    tier, circuit
        Fix the leaf formats.
    records
        The whole dataset's encrypted records, float32 ``[n, …]``; or their hashes, where the circuit hashes its inputs.
        With `around`: the task's only.
    salts
        uint8 ``[n, 32]``.
    start
        First record of the task.
    outputs
        The task's outputs ``[count, …]``: float32 for tier ``commit``, else int64 in the circuit's output scale.
    size, around
        Records of the whole dataset, and the nodes of its tree that lead from the task's to the root.
    """

    def __init__(
        self,
        tier: Tier,
        circuit: Circuit,
        records: Floats | Hashes,
        salts: Salts,
        start: int,
        outputs: Floats | Integers,
        *,
        size: int = 0,
        around: Sequence[bytes] | None = None,
    ) -> None:
        self._in_format = input_format(tier, circuit)
        self._out_format = output_format(tier, circuit)
        self._start = start
        self._inputs = encode_inputs(tier, circuit, records)
        self._salts, self._outputs = salts, outputs
        leaves = self._in_format.leaves(self._inputs, salts)
        # Index in the dataset of the first record here.
        self._first = 0 if around is None else start
        self._in_tree = MerkleTree(leaves) if around is None else MerkleRange(size, start, leaves, around)
        mine = salts[start - self._first : start - self._first + len(outputs)]
        self._out_tree = self._out_format.tree(outputs, output_salts(mine))

    @property
    def input_root(self) -> Digest:
        """Root over the whole dataset."""
        return self._in_tree.root

    @property
    def output_root(self) -> Digest:
        """Root over the task's outputs."""
        return self._out_tree.root

    def open(self, index: int) -> Opening:
        """Open the record with absolute `index`."""
        row, local = index - self._first, index - self._start
        return Opening(
            index=index,
            salt=Digest(self._salts[row].tobytes()),
            input=self._in_format.payload(self._inputs[row].reshape(-1)),
            input_path=self._in_tree.path(index),
            output=self._out_format.payload(self._outputs[local].reshape(-1)),
            output_path=self._out_tree.path(local),
        )


def boundary_payload(values: Sequence[int]) -> bytes:
    """Values between two segments of a circuit, as :class:`~rexis.protocol.evidence.RecordProof` carries them."""
    return _BOUNDARY.payload(np.array(values, dtype=np.int64))


def boundary_values(payload: bytes) -> Integers:
    """The values back from a payload; inverse of :func:`boundary_payload`.

    Raises
    ------
    MalformedError
        It does not hold whole values, or too many.
    """
    return np.asarray(_BOUNDARY.values(payload), dtype=np.int64)


@overload
def encode_inputs(tier: Tier, circuit: Circuit, records: Floats | Hashes) -> Floats | Integers | Hashes: ...


@overload
def encode_inputs(tier: Tier, circuit: Circuit, records: Rows) -> Rows: ...


def encode_inputs(tier: Tier, circuit: Circuit, records: Rows) -> Rows:
    """Records as the tier commits them: unchanged for ``commit``, fixed point for the others; hashes as they are.

    Raises
    ------
    TensorError
        Hashes where the circuit takes records, or records where it takes hashes.
    """
    hashed = records.dtype == np.uint8
    if hashed != (circuit.visibility == Visibility.HASHED):
        held, taken = ("hashes", "records") if hashed else ("records", "hashes of them")
        raise TensorError(f"the dataset holds {held}, the circuit takes {taken}", field="records")
    if hashed or circuit.visibility == Visibility.NONE:
        return records
    scale = circuit.input_scale
    if isinstance(records, np.ndarray):
        return quantise(records.astype(np.float32), scale)
    return MappedRows(records, lambda rows: quantise(rows, scale), np.dtype(np.int64))


def input_root(tier: Tier, circuit: Circuit, records: Rows, salts: Rows) -> Digest:
    """Root of a dataset's input tree for one tier; of what is not in memory some records are read at a time."""
    leaves = input_format(tier, circuit).leaves(encode_inputs(tier, circuit, records), salts)
    return merkle_root(leaves)


def open_input(tier: Tier, circuit: Circuit, records: Rows, salts: Rows, index: int) -> InputOpening:
    """Open one record of a whole dataset ``[n, …]`` with salts ``[n, 32]``; all of it is read, some at a time.

    Raises
    ------
    MalformedError
        It has no such record.
    """
    if not 0 <= index < len(records):
        raise MalformedError(f"the dataset has records 0 … {len(records) - 1}, not {index}", field="record")
    form, values = input_format(tier, circuit), encode_inputs(tier, circuit, records)
    return InputOpening(
        index=index,
        salt=Digest(salts[index : index + 1].tobytes()),
        input=form.payload(values[index : index + 1].reshape(-1)),
        input_path=form.tree(values, salts).path(index),
    )


def check_opening(
    opening: Opening,
    *,
    tier: Tier,
    circuit: Circuit,
    input_root: Digest,
    input_size: int,
    output_root: Digest,
    start: int,
    count: int,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Check that an opening leads to both roots; returns its (input values, output values).

    Raises
    ------
    MerkleError, MalformedError, TensorError
        The index lies outside the task, a payload has the wrong length, a hash another salt than its own, or a path
        leads elsewhere.
    """
    if not start <= opening.index < start + count:
        raise MalformedError(f"record {opening.index} lies outside the task's {start} … {start + count - 1}")
    in_format, out_format = input_format(tier, circuit), output_format(tier, circuit)
    inputs, outputs = in_format.values(opening.input), out_format.values(opening.output)
    if tier != Tier.COMMIT:
        hashed = circuit.visibility == Visibility.HASHED
        _require_length(inputs, 1 if hashed else circuit.input_length, f"input of record {opening.index}")
        if hashed and opening.salt != _hash_salt(opening.input):
            raise MalformedError(f"the salt of record {opening.index} is not the one that its hash gives")
        _require_length(outputs, circuit.output_length, f"output of record {opening.index}")
    check_inclusion(
        input_root,
        input_size,
        opening.index,
        in_format.leaf(opening.salt, opening.input),
        opening.input_path,
        f"input of record {opening.index}",
    )
    check_inclusion(
        output_root,
        count,
        opening.index - start,
        out_format.leaf(output_salt(opening.salt), opening.output),
        opening.output_path,
        f"output of record {opening.index}",
    )
    return inputs, outputs


def _require_length(values: Sequence[Any] | NDArray[Any], expected: int, what: str) -> None:
    if len(values) != expected:
        raise MalformedError(f"{what} has {len(values)} values, the circuit has {expected}")
