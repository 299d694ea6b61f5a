"""The EE key of one encrypted model, and the parts of it that different people need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.ee.groups import DenseKey
from rexis.ee.layout import ORDER, SELF, Axis, Keyring, Layout
from rexis.ee.stream import Floats
from rexis.protocol.digests import Digest
from rexis.protocol.errors import KeyFileError

DATA_SECRET_BYTES = 32


class KeyPart(StrEnum):
    """How much of a key a file holds."""

    FULL = "full"
    # Encrypts records and derives their salts. For the data owner.
    ENCRYPT = "encrypt"
    # Decrypts outputs. For the reader of results.
    DECRYPT = "decrypt"
    # Encrypts records with their labels and derives salts; decrypts outputs. For the data owner of a training.
    LABEL = "label"


@dataclass(frozen=True)
class Padding:
    """Decoy features that every record gets: how many, and along which axis of a batch of records."""

    axis: int
    count: int


@dataclass(frozen=True, eq=False)
class TensorKey:
    """How one input's records, or the outputs, of a model are encrypted.

    ``encrypted = K (plain − shift) + offset``, or for token ids a permutation of the vocabulary and of their places.

    Attributes
    ----------
    shape
        Of one record, without the batch axis; with its decoys.
    layout
        Of a batch of records.
    keyring
        The keys that the layout names, and no others.
    offset, shift
        Broadcastable to a batch of records; None for 0.
    vocabulary
        The axis whose key permutes token ids; None for numbers.
    decoys
        Features at the end of an axis that each record gets before it is encrypted, of fresh noise; None without.
    element
        Element type of the encrypted model's input or output: ``float32``, ``int64``, ``int32`` or ``bool``.
    """

    shape: tuple[int, ...]
    layout: Layout
    keyring: Keyring = field(repr=False)
    offset: Floats | None = field(default=None, repr=False)
    shift: Floats | None = field(default=None, repr=False)
    vocabulary: Axis | None = None
    element: str = "float32"
    decoys: Padding | None = None

    @property
    def plain_shape(self) -> tuple[int, ...]:
        """Of one record without its decoys."""
        if self.decoys is None:
            return self.shape
        place, count = self.decoys.axis - 1, self.decoys.count
        return (*self.shape[:place], self.shape[place] - count, *self.shape[place + 1 :])

    def apply_fast(self, values: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Encrypt ``[n, …]`` in float32, where one dense key acts on whole records; None where it does not.

        One matrix product over all records, at the speed of BLAS and memory.
        """
        matrix = self._single_matrix
        if matrix is None or self.shift is not None:
            return None
        with np.errstate(all="ignore"):  # what does not fit float32 is found in the result
            made = values.reshape(len(values), -1) @ matrix
        if self.offset is not None:
            full = np.broadcast_to(self.offset, (1, *self.shape)).reshape(1, -1)
            made += full.astype(np.float32)
        return made.reshape(values.shape)

    @cached_property
    def _single_matrix(self) -> NDArray[np.float32] | None:
        leaves = [factor for axis in self.layout[1:] for factor in axis]
        if self.vocabulary is not None or not leaves:
            return None
        for element in self.keyring.elements:
            key = element.keys[0]
            mine = tuple(factor.variable for factor in leaves) == element.members
            if mine and not element.index and isinstance(key, DenseKey) and leaves[0].action != ORDER:
                turned = key.linear if leaves[0].action == SELF else key.dual
                return np.ascontiguousarray(turned(np.eye(key.size)), dtype=np.float32)
        return None

    def apply(self, values: NDArray[Any]) -> Floats:
        """Encrypt ``[n, …]``."""
        plain = np.asarray(values, dtype=np.float64)
        if self.vocabulary is not None:
            plain = self._looked_up(plain, invert=False)
        if self.shift is not None:
            plain = plain - self.shift
        made = self.keyring.apply(plain, self.layout)
        return made if self.offset is None else made + self.offset

    def invert(self, values: NDArray[Any]) -> Floats:
        """Decrypt ``[n, …]``."""
        made = np.asarray(values, dtype=np.float64)
        if self.offset is not None:
            made = made - self.offset
        plain = self.keyring.apply(made, self.layout, invert=True)
        if self.shift is not None:
            plain = plain + self.shift
        return self._looked_up(plain, invert=True) if self.vocabulary is not None else plain

    @property
    def tokens(self) -> int | None:
        """Size of the vocabulary; None for numbers."""
        return None if self.vocabulary is None else self.keyring.size(self.vocabulary)

    def _looked_up(self, values: Floats, *, invert: bool) -> Floats:
        assert self.vocabulary is not None and self.tokens is not None  # noqa: S101
        # The encrypted table's row i is the plain one's row order[i].
        order = self.keyring.apply(np.arange(self.tokens, dtype=np.float64), (self.vocabulary,)).astype(np.int64)
        table = order if invert else np.argsort(order)
        return table[values.astype(np.int64)].astype(np.float64)


@dataclass(frozen=True, eq=False)
class EEKey:
    """What is secret about one encrypted model.

    Attributes
    ----------
    key_id
        32 hexadecimal digits that name the key. Public, and tells nothing about the key.
    epoch
        Key epoch, 1 or more. Public: statements carry it.
    model_digest
        SHA-256 of the *encrypted* model's bytes. Public.
    part
        What of the following is here.
    inputs, output
        Keys of the records of each input by its name, and of outputs. A part that only decrypts has no inputs.
    keyring, layouts
        All keys, and where in the stored constants they act. Decrypts weights, for training. Full keys only.
    data_secret
        32 bytes that record salts come from (:func:`rexis.ee.records.record_salts`).
    """

    key_id: str
    epoch: int
    model_digest: Digest
    part: KeyPart
    inputs: Mapping[str, TensorKey] = field(repr=False)
    output: TensorKey | None = field(repr=False)
    keyring: Keyring | None = field(repr=False)
    layouts: dict[str, Layout] = field(repr=False)
    data_secret: bytes | None = field(repr=False)

    @property
    def input(self) -> TensorKey:
        """The key of the only input.

        Raises
        ------
        KeyFileError
            A key that only decrypts, or one of several inputs.
        """
        if not self.inputs:
            raise KeyFileError("this key only decrypts outputs", hint="records are encrypted with the data owner's key")
        if len(self.inputs) > 1:
            raise KeyFileError(
                f"the model has {len(self.inputs)} inputs: {', '.join(self.inputs)}",
                hint="give records for each by name, in a .npz file",
            )
        (found,) = self.inputs.values()
        return found

    def only(self, part: KeyPart) -> EEKey:
        """The part of a full key that one role needs.

        Raises
        ------
        KeyFileError
            This key is a part itself.
        """
        if part == self.part:
            return self
        if self.part != KeyPart.FULL:
            raise KeyFileError(
                f"the {self.part} part of a key has no {part} part", hint="the model owner has the full key"
            )
        bare = replace(self, part=part, keyring=None, layouts={})
        if part == KeyPart.LABEL:
            return bare
        if part == KeyPart.ENCRYPT:
            return replace(bare, output=None)
        return replace(bare, inputs={}, data_secret=None)

    def require(self, *, model_digest: Digest, epoch: int) -> None:
        """Check that this is the key of an encrypted model, before its outputs are decrypted to nonsense.

        Raises
        ------
        KeyFileError
            The key belongs to another model or another epoch.
        """
        if self.epoch != epoch:
            raise KeyFileError(
                f"the key is of epoch {self.epoch}, the job of epoch {epoch}",
                field="epoch",
                hint="use the key file of that epoch",
            )
        if self.model_digest != model_digest:
            raise KeyFileError(
                f"the key belongs to encrypted model {self.model_digest}, not {model_digest}",
                field="modelDigest",
                hint="use the key file that was written when that model was encrypted",
            )
