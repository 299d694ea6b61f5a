"""The two blobs that travel: datasets (records and salts) and task outputs, as safetensors.

Rung ``zk-onsite`` has datasets of its own (:mod:`rexis.protocol.onsite`).

Safetensors is a plain header and raw little-endian data: nothing in it runs. The reader admits exactly the
tensors it knows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from rexis.protocol.circuit import Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import MalformedError, TensorError
from rexis.protocol.merkle import MerkleRange
from rexis.protocol.parsing import load_json
from rexis.protocol.policy import Tier
from rexis.protocol.records import SALT_BYTES, Floats, Integers, Salts, encode_inputs, input_format
from rexis.protocol.rows import Read, Rows, StoredRows, blocks, values_of_a_row

_ALIGNMENT = 8
_MAX_HEADER = 1 << 20
# The element types that blobs of ours have, by their safetensors names.
_TYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}

_Outputs = TypeVar("_Outputs", bound=Rows)


@dataclass(frozen=True)
class Dataset:
    """Encrypted records with their salts.

    Attributes
    ----------
    records
        float32 ``[n, …]``, finite, n ≥ 1. Of :meth:`of_rows` only slices can be had, which are read.
    salts
        uint8 ``[n, 32]``.
    """

    records: Floats
    salts: Salts

    def __post_init__(self) -> None:
        check_records(self.records)
        if self.salts.dtype != np.uint8 or self.salts.shape != (len(self.records), SALT_BYTES):
            raise TensorError(
                f"salts are {self.salts.dtype.name} {list(self.salts.shape)}, expected uint8 [{len(self.records)}, 32]",
                field="salts",
            )

    def __len__(self) -> int:
        return len(self.records)

    @property
    def committed(self) -> Floats:
        """What the input tree commits to."""
        return self.records

    @property
    def leaf_salts(self) -> Salts:
        """Salts of its leaves."""
        return self.salts

    def misfit(self, circuit: Circuit) -> str | None:
        """Why these records cannot go into a circuit; None if they can."""
        length = values_of_a_row(self.records)
        if circuit.visibility == Visibility.HASHED:
            return "the dataset holds records, the circuit takes hashes of them"
        if length != circuit.input_length:
            return f"a record has {length} values, the circuit takes {circuit.input_length}"
        return None

    def to_bytes(self) -> bytes:
        """The blob; its SHA-256 is the dataset digest."""
        return save_tensors(records=self.records[:], salts=self.salts[:])

    @classmethod
    def from_bytes(cls, blob: bytes) -> Dataset:
        """Parse a blob; raises :class:`TensorError` with the tensor at fault."""
        tensors = load_tensors(blob, [{"records", "salts"}], "dataset")
        return cls(tensors["records"], tensors["salts"])

    @classmethod
    def of_rows(cls, records: Rows, salts: Rows) -> Dataset:
        """A dataset whose records stay where they are; all of them are looked at once, some at a time."""
        return cls(cast(Floats, records), cast(Salts, salts))

    @property
    def digest(self) -> Digest:
        """SHA-256 of :meth:`to_bytes`."""
        return sha256(self.to_bytes())


@dataclass(frozen=True)
class Shard:
    """The records of one task, with what shows their place in the dataset's tree: all that its worker needs.

    Attributes
    ----------
    records, salts
        As a :class:`Dataset`'s, of the task's records only.
    start, size
        Index of the first one in the dataset, and how many the dataset has.
    around
        Nodes of the dataset's tree in the tier's encoding: :meth:`~rexis.protocol.merkle.MerkleTree.around`.
    """

    records: Floats
    salts: Salts
    start: int
    size: int
    around: list[Digest]

    def to_bytes(self) -> bytes:
        """As a blob. The place is the task's, and not in it."""
        nodes = np.frombuffer(b"".join(self.around), dtype=np.uint8).reshape(-1, SALT_BYTES)
        return save_tensors(records=self.records, salts=self.salts, nodes=nodes)

    @classmethod
    def from_bytes(cls, blob: bytes, *, start: int, count: int, size: int) -> Shard:
        """Parse a blob; raises :class:`TensorError` with the tensor at fault."""
        tensors = load_tensors(blob, [{"records", "salts", "nodes"}], "shard")
        data = Dataset(tensors["records"], tensors["salts"])
        nodes = tensors["nodes"]
        if len(data) != count:
            raise TensorError(f"holds {len(data)} records, the task has {count}", field="records")
        if nodes.dtype != np.uint8 or nodes.ndim != 2 or nodes.shape[1] != SALT_BYTES:
            raise TensorError(
                f"nodes are {nodes.dtype.name} {list(nodes.shape)}, expected uint8 [n, 32]", field="nodes"
            )
        return cls(data.records, data.salts, start, size, [Digest(node.tobytes()) for node in nodes])

    def misfit(self, circuit: Circuit) -> str | None:
        """See :meth:`Dataset.misfit`."""
        return Dataset(self.records, self.salts).misfit(circuit)

    def root(self, tier: Tier, circuit: Circuit) -> Digest:
        """The root of the dataset's tree that these records and nodes lead to; :class:`MerkleError` if to none."""
        values = encode_inputs(tier, circuit, self.records)
        leaves = input_format(tier, circuit).leaves(values, self.salts)
        return MerkleRange(self.size, self.start, leaves, self.around).root


def check_records(records: NDArray[Any], field: str = "records") -> Floats:
    """Require float32 ``[n, …]``, n ≥ 1, at least one value a record, all finite."""
    if records.dtype != np.float32:
        raise TensorError(f"dtype is {records.dtype.name}, expected float32", field=field)
    if len(records.shape) < 2 or 0 in records.shape:
        raise TensorError(f"shape is {list(records.shape)}, expected [records, features…]", field=field)
    for start, block in blocks(records):
        finite = np.isfinite(block.reshape(len(block), -1)).all(axis=1)
        if not bool(finite.all()):
            raise TensorError(f"record {start + int(np.argmin(finite))} holds NaN or infinity", field=field)
    return records


def pack_outputs(outputs: Floats | Integers) -> bytes:
    """A task's outputs ``[count, …]`` as a blob; float32 (tier ``commit``) or int64 (fixed point)."""
    return save_tensors(outputs=outputs)


def unpack_outputs(blob: bytes, *, count: int, fixed: bool) -> Floats | Integers:
    """Outputs back from a blob, checked against the expected number of records and dtype."""
    return _checked_outputs(load_tensors(blob, [{"outputs"}], "outputs blob")["outputs"], count, fixed=fixed)


def open_outputs(read: Read, size: int, *, count: int, fixed: bool) -> StoredRows:
    """As :func:`unpack_outputs`, of a blob of `size` bytes whose outputs stay where they are."""
    outputs = open_tensors(read, size, [{"outputs"}], "outputs blob")["outputs"]
    _checked_outputs(outputs, count, fixed=fixed)
    return outputs


def _checked_outputs(outputs: _Outputs, count: int, *, fixed: bool) -> _Outputs:
    expected = np.int64 if fixed else np.float32
    if outputs.dtype != expected:
        raise TensorError(f"dtype is {outputs.dtype.name}, expected {np.dtype(expected).name}", field="outputs")
    if len(outputs.shape) < 2 or len(outputs) != count or 0 in outputs.shape:
        raise TensorError(f"shape is {list(outputs.shape)}, expected [{count}, …]", field="outputs")
    if not fixed and not all(bool(np.isfinite(block).all()) for _, block in blocks(outputs)):
        raise TensorError("outputs hold NaN or infinity", field="outputs")
    return outputs


def pack_values(values: Sequence[Integers]) -> bytes:
    """What goes into the segments of a circuit and comes out, for some records, as a blob.

    Parameters
    ----------
    values
        ``[records, width]`` each: the inputs of the first segment, the values on each boundary, the last's outputs.
    """
    return save_tensors(**{str(place): part for place, part in enumerate(values)})


def unpack_values(blob: bytes, *, count: int, widths: Sequence[int]) -> list[Integers]:
    """Inverse of :func:`pack_values`, checked against the number of records and the width of each tensor."""
    names = [str(place) for place in range(len(widths))]
    tensors = load_tensors(blob, [set(names)], "values blob")
    values = [tensors[name] for name in names]
    for place, (part, width) in enumerate(zip(values, widths, strict=True)):
        if part.dtype != np.int64 or part.shape != (count, width):
            raise TensorError(
                f"{part.dtype.name} {list(part.shape)}, expected int64 [{count}, {width}]", field=f"values.{place}"
            )
    return values


def save_tensors(**tensors: NDArray[Any]) -> bytes:
    """Named tensors as safetensors."""
    return bytes(save({name: np.asarray(array, order="C") for name, array in tensors.items()}))


def load_tensors(blob: bytes, kinds: Sequence[Collection[str]], what: str) -> dict[str, NDArray[Any]]:
    """Tensors by name, which must be those of one of the kinds."""
    try:
        tensors: dict[str, NDArray[Any]] = load(blob)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise TensorError(
            f"{what} is not safetensors: {error}", hint="is the file truncated, or of another kind?"
        ) from None
    _require_names(tensors, kinds, what)
    return tensors


def _require_names(tensors: Collection[str], kinds: Sequence[Collection[str]], what: str) -> None:
    if not any(set(tensors) == set(names) for names in kinds):
        expected = " or ".join(str(sorted(names)) for names in kinds)
        raise TensorError(f"{what} holds {sorted(tensors)}, expected exactly {expected}")


def open_tensors(read: Read, size: int, kinds: Sequence[Collection[str]], what: str) -> dict[str, StoredRows]:
    """As :func:`load_tensors`, of a blob of `size` bytes whose tensors stay where they are."""
    try:
        tensors = _placed(read, size)
    except (MalformedError, UnicodeDecodeError) as error:
        fault = error.message if isinstance(error, MalformedError) else "its header is not UTF-8"
        raise TensorError(
            f"{what} is not safetensors: {fault}", hint="is the file truncated, or of another kind?"
        ) from None
    _require_names(tensors, kinds, what)
    return tensors


def tensor_shapes(read: Read, size: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a blob of `size` bytes that :func:`load_tensors` reads; only its header is looked at."""
    head = int.from_bytes(read(0, _ALIGNMENT), "little")
    header = load_json(read(_ALIGNMENT, min(_ALIGNMENT + head, size)), max_bytes=_MAX_HEADER)
    assert isinstance(header, dict)  # noqa: S101
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


def tensors_header(tensors: Sequence[tuple[str, np.dtype[Any], tuple[int, ...]]]) -> bytes:
    """What stands before the data in a safetensors blob, for tensors whose data follow in this order.

    The bytes are those of :func:`save_tensors`, if the order is: wider elements first, then by name.
    """
    header, end = {}, 0
    for name, dtype, shape in tensors:
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {
            "dtype": _NAMES[dtype.newbyteorder("<").str],
            "shape": list(shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_ALIGNMENT, "little") + text


def _placed(read: Read, size: int) -> dict[str, StoredRows]:
    """Where each tensor lies. Together they fill the blob, and none overlaps another."""
    head = int.from_bytes(read(0, min(size, _ALIGNMENT)), "little")
    if size < _ALIGNMENT or head > min(_MAX_HEADER, size - _ALIGNMENT):
        raise MalformedError("its header does not fit into it")
    header = load_json(read(_ALIGNMENT, _ALIGNMENT + head), max_bytes=_MAX_HEADER)
    if not isinstance(header, dict):
        raise MalformedError("its header is no object")
    found, places = {}, []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape, (begin, end) = np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"]), entry["data_offsets"]
            whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
        except (KeyError, TypeError, ValueError):
            whole = False
        if not whole or not shape or end - begin != math.prod(shape) * dtype.itemsize:
            raise MalformedError(f"tensor {name!r} is not described as one")
        found[name] = StoredRows(read, _ALIGNMENT + head + begin, shape, dtype)
        places.append((begin, end))
    places.sort()
    ends = [0, *(end for _, end in places)]
    if [begin for begin, _ in places] != ends[:-1] or ends[-1] != size - _ALIGNMENT - head:
        raise MalformedError("its tensors do not fill it")
    return found
