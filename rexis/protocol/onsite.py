"""Datasets of rung ``zk-onsite``: what the data owner keeps, and the hashes of it that travel.

A proof of this rung shows, in the place of the record, one Poseidon hash over its fixed-point values and
:data:`SALT_VALUES` salt values, which the circuit takes beside the record and its model does not read. So the hash
binds the record and, as long as the salts stay secret, hides it, however few values a record can have.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.protocol.circuit import Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import TensorError
from rexis.protocol.field import SCALAR_FIELD
from rexis.protocol.records import HASH_BYTES, Floats, Hashes, Integers, Salts, hash_salts, quantise
from rexis.protocol.rows import Read
from rexis.protocol.tensors import Dataset, check_records, load_tensors, open_tensors, save_tensors

SALT_VALUES = 10
"""Salt values of a record, of 16 bits each: 160 bits, so that 2^32 records at once still leave 128 to guess."""
SALT_LIMIT = 1 << 16
_SECRET_BYTES = 2 * SALT_VALUES
_MAX_SCALE = 32
# Names of the tensors of each kind of dataset.
_PLAIN, _PUBLIC = {"records", "salts"}, {"hashes", "scale"}
_PRIVATE = {"records", "secrets", "hashes", "scale"}
_KINDS = (_PLAIN, _PUBLIC, _PRIVATE)

HashRows = Callable[[Integers], Hashes]
"""Poseidon hashes ``[n, 32]`` of rows of integers (:func:`circuits.hashing.poseidon`)."""


@dataclass(frozen=True)
class HashedDataset:
    """Hashes of salted records: all that leaves the data owner's machine.

    Attributes
    ----------
    hashes
        uint8 ``[n, 32]``, big-endian field elements.
    scale
        Fixed-point scale of the records under them.
    """

    hashes: Hashes
    scale: int

    def __post_init__(self) -> None:
        if self.hashes.dtype != np.uint8 or self.hashes.ndim != 2 or self.hashes.shape[1:] != (HASH_BYTES,):
            raise TensorError(f"hashes are {self.hashes.dtype.name} {list(self.hashes.shape)}", field="hashes")
        if len(self.hashes) == 0:
            raise TensorError("there are no hashes", field="hashes")
        for index, row in enumerate(self.hashes):
            if int.from_bytes(row.tobytes(), "big") >= SCALAR_FIELD:
                raise TensorError(f"hash {index} is not below the field's order", field="hashes")
        if not 0 <= self.scale <= _MAX_SCALE:
            raise TensorError(f"scale {self.scale} is not between 0 and {_MAX_SCALE}", field="scale")

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def committed(self) -> Hashes:
        """What the input tree commits to."""
        return self.hashes

    @cached_property
    def leaf_salts(self) -> Salts:
        """Salts of its leaves, which follow from the hashes."""
        return hash_salts(self.hashes)

    def misfit(self, circuit: Circuit) -> str | None:
        """Why these records cannot go into a circuit; None if nothing speaks against it. Their length nobody sees."""
        if circuit.visibility != Visibility.HASHED:
            return "the dataset holds hashes, the circuit takes records"
        if self.scale != circuit.input_scale:
            return f"the records were hashed at scale {self.scale}, the circuit takes scale {circuit.input_scale}"
        return None

    def to_bytes(self) -> bytes:
        """The blob; its SHA-256 is the dataset digest."""
        return save_tensors(hashes=self.hashes, scale=np.array([self.scale], dtype=np.uint8))


@dataclass(frozen=True)
class PrivateDataset:
    """Records with the salts that hide them, for the data owner's machine only. Made by :meth:`of`.

    Attributes
    ----------
    records
        float32 ``[n, …]``, finite; encrypted if the model is.
    secrets
        uint8 ``[n, 20]``, uniform: who knows them can try records out on the hashes.
    public
        The hashes.
    """

    records: Floats
    secrets: Salts
    public: HashedDataset

    def __post_init__(self) -> None:
        check_records(self.records)
        for field, rows, shape in (
            ("secrets", self.secrets, (len(self.records), _SECRET_BYTES)),
            ("hashes", self.public.hashes, (len(self.records), HASH_BYTES)),
        ):
            if rows.dtype != np.uint8 or rows.shape != shape:
                raise TensorError(f"{field} are {rows.dtype.name} {list(rows.shape)}, not {list(shape)}", field=field)

    @classmethod
    def of(cls, records: Floats, scale: int, hash_rows: HashRows) -> PrivateDataset:
        """Salt records afresh and hash them for circuits whose inputs have this scale."""
        drawn = np.frombuffer(secrets.token_bytes(_SECRET_BYTES * len(records)), dtype=np.uint8)
        salts = drawn.reshape(len(records), _SECRET_BYTES)
        hashes = hash_rows(salted(quantise(check_records(records), scale), salts))
        return cls(records, salts, HashedDataset(hashes, scale))

    def __len__(self) -> int:
        return len(self.records)

    @property
    def committed(self) -> Hashes:
        """What the input tree commits to."""
        return self.public.committed

    @property
    def leaf_salts(self) -> Salts:
        """Salts of its leaves, which follow from the hashes."""
        return self.public.leaf_salts

    @cached_property
    def digest(self) -> Digest:
        """The dataset digest: that of the public part."""
        return sha256(self.public.to_bytes())

    def misfit(self, circuit: Circuit) -> str | None:
        """Why these records cannot go into a circuit; None if they can."""
        length = self.records[0].size
        if length != circuit.input_length:
            return f"a record has {length} values, the circuit takes {circuit.input_length}"
        return self.public.misfit(circuit)

    def to_bytes(self) -> bytes:
        """The file that stays with its owner."""
        public = self.public
        scale = np.array([public.scale], dtype=np.uint8)
        return save_tensors(records=self.records, secrets=self.secrets, hashes=public.hashes, scale=scale)


def salted(records: Integers, salts: Salts) -> Integers:
    """What goes into the circuit and under the hash: a record's values, then its salt values, ``[n, length + 10]``."""
    values = np.ascontiguousarray(salts).view(">u2").astype(np.int64)
    return np.concatenate([records.reshape(len(records), -1), values], axis=1)


def read_dataset(blob: bytes) -> Dataset | HashedDataset:
    """A dataset that travels, of whichever kind; raises :class:`TensorError` with the tensor at fault."""
    found = _read(blob)
    if isinstance(found, PrivateDataset):
        raise _private()
    return found


def open_dataset(read: Read, size: int) -> Dataset | HashedDataset:
    """As :func:`read_dataset`, of a blob of `size` bytes whose records stay where they are. Hashes are read."""
    tensors = open_tensors(read, size, _KINDS, "dataset")
    if tensors.keys() == _PRIVATE:
        raise _private()
    if "records" in tensors:
        return Dataset.of_rows(tensors["records"], tensors["salts"])
    return _hashed({name: rows[:] for name, rows in tensors.items()})


def _private() -> TensorError:
    return TensorError("a private dataset never leaves its owner's machine: its hashes do", field="dataset")


def open_own_dataset(read: Read, size: int) -> Dataset | PrivateDataset:
    """As :func:`read_own_dataset`; records stay where they are, unless they are private."""
    tensors = open_tensors(read, size, _KINDS, "dataset")
    if tensors.keys() == _PLAIN:
        return Dataset.of_rows(tensors["records"], tensors["salts"])
    return read_own_dataset(read(0, size))


def read_own_dataset(blob: bytes) -> Dataset | PrivateDataset:
    """A dataset file of the data owner's, of whichever kind; raises :class:`TensorError` with the tensor at fault."""
    found = _read(blob)
    if isinstance(found, HashedDataset):
        raise TensorError("the file holds hashes only", field="dataset", hint="give the private file")
    return found


def _read(blob: bytes) -> Dataset | HashedDataset | PrivateDataset:
    tensors = load_tensors(blob, _KINDS, "dataset")
    if "scale" not in tensors:
        return Dataset(tensors["records"], tensors["salts"])
    hashed = _hashed(tensors)
    return hashed if tensors.keys() == _PUBLIC else PrivateDataset(tensors["records"], tensors["secrets"], hashed)


def _hashed(tensors: Mapping[str, NDArray[Any]]) -> HashedDataset:
    scale = tensors["scale"]
    if scale.dtype != np.uint8 or scale.shape != (1,):
        raise TensorError(f"scale is {scale.dtype.name} {list(scale.shape)}, not uint8 [1]", field="scale")
    return HashedDataset(tensors["hashes"], int(scale[0]))
