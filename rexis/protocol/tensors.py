"""The two blobs that travel: datasets (records and salts) and task outputs, as safetensors.

Rung ``zk-onsite`` has datasets of its own (:mod:`rexis.protocol.onsite`).

Safetensors is a plain header and raw little-endian data: nothing in it runs. The reader admits exactly the
tensors it knows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from rexis.protocol.circuit import Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import TensorError
from rexis.protocol.records import SALT_BYTES, Floats, Integers, Salts


@dataclass(frozen=True)
class Dataset:
    """Encrypted records with their salts.

    Attributes
    ----------
    records
        float32 ``[n, …]``, finite, n ≥ 1.
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
        length = self.records[0].size
        if circuit.visibility == Visibility.HASHED:
            return "the dataset holds records, the circuit takes hashes of them"
        if length != circuit.input_length:
            return f"a record has {length} values, the circuit takes {circuit.input_length}"
        return None

    def to_bytes(self) -> bytes:
        """The blob; its SHA-256 is the dataset digest."""
        return save_tensors(records=self.records, salts=self.salts)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Dataset:
        """Parse a blob; raises :class:`TensorError` with the tensor at fault."""
        tensors = load_tensors(blob, [{"records", "salts"}], "dataset")
        return cls(tensors["records"], tensors["salts"])

    @property
    def digest(self) -> Digest:
        """SHA-256 of :meth:`to_bytes`."""
        return sha256(self.to_bytes())


def check_records(records: NDArray[Any], field: str = "records") -> Floats:
    """Require float32 ``[n, …]``, n ≥ 1, at least one value a record, all finite."""
    if records.dtype != np.float32:
        raise TensorError(f"dtype is {records.dtype.name}, expected float32", field=field)
    if records.ndim < 2 or 0 in records.shape:
        raise TensorError(f"shape is {list(records.shape)}, expected [records, features…]", field=field)
    finite = np.isfinite(records.reshape(len(records), -1)).all(axis=1)
    if not bool(finite.all()):
        raise TensorError(f"record {int(np.argmin(finite))} holds NaN or infinity", field=field)
    return records


def pack_outputs(outputs: Floats | Integers) -> bytes:
    """A task's outputs ``[count, …]`` as a blob; float32 (tier ``commit``) or int64 (fixed point)."""
    return save_tensors(outputs=outputs)


def unpack_outputs(blob: bytes, *, count: int, fixed: bool) -> Floats | Integers:
    """Outputs back from a blob, checked against the expected number of records and dtype."""
    outputs = load_tensors(blob, [{"outputs"}], "outputs blob")["outputs"]
    expected = np.int64 if fixed else np.float32
    if outputs.dtype != expected:
        raise TensorError(f"dtype is {outputs.dtype.name}, expected {np.dtype(expected).name}", field="outputs")
    if outputs.ndim < 2 or len(outputs) != count or 0 in outputs.shape:
        raise TensorError(f"shape is {list(outputs.shape)}, expected [{count}, …]", field="outputs")
    if not fixed and not bool(np.isfinite(outputs).all()):
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
    return bytes(save({name: np.ascontiguousarray(array) for name, array in tensors.items()}))


def load_tensors(blob: bytes, kinds: Sequence[Collection[str]], what: str) -> dict[str, NDArray[Any]]:
    """Tensors by name, which must be those of one of the kinds."""
    try:
        tensors: dict[str, NDArray[Any]] = load(blob)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise TensorError(
            f"{what} is not safetensors: {error}", hint="is the file truncated, or of another kind?"
        ) from None
    if not any(set(tensors) == set(names) for names in kinds):
        expected = " or ".join(str(sorted(names)) for names in kinds)
        raise TensorError(f"{what} holds {sorted(tensors)}, expected exactly {expected}")
    return tensors
