"""What a worker keeps so that it can answer for what it signed: on its own disk, since whoever it depends on could have
it lose its stake.

Of every statement that can be disputed: the task's records and outputs, and what its circuit is rebuilt from (hard
links to the cache, where that is possible; tier ``commit`` is answered without it). They go when the statement cannot
be challenged any more. Statement and first anchor stay, a few kilobytes: with these a challenge that comes too late is
dismissed. Of tier ``commit`` without a warranty only these are kept: a warranty may follow, and does not cover them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from provers.cache import make_private_folder
from rexis.api import Vka
from rexis.files import read_file, write_file
from rexis.protocol.anchored import AnchoredStatement
from rexis.protocol.circuit import Visibility
from rexis.protocol.digests import Digest
from rexis.protocol.errors import NotFoundError
from rexis.protocol.parsing import Address, HexBytes, Strict
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats, Integers, Opening, TaskTrees, quantise
from rexis.protocol.statement import Kind, Statement
from rexis.protocol.tensors import Shard, pack_outputs, unpack_outputs
from rexis.protocol.typed_data import Domain

_STATEMENT, _ANCHORED, _RECORDS, _OUTPUTS = "statement.json", "anchored.json", "records", "outputs"
_BLOBS = "blobs"
_MEASURED_EVERY_S = 30.0
_MAX_DOCUMENT, _MAX_TENSORS = 1 << 20, 4 << 30


class KeptStatement(Strict):
    """What was signed, and the words of the circuit's VKA."""

    domain: Domain
    statement: Statement
    signature: HexBytes
    vka: Vka

    @property
    def digest(self) -> Digest:
        """The statement's."""
        return self.domain.digest(self.statement)


@dataclass(frozen=True)
class OpenedRecord:
    """A record as an answer shows it, and its values: what goes into the circuit and should come out of it.

    Of tier ``commit`` they are float32.
    """

    opening: Opening
    inputs: Integers | Floats
    outputs: Integers | Floats


def is_disputable(statement: Statement) -> bool:
    """Whether the contract takes challenges of statements like this; of tier ``commit`` if there is a warranty."""
    return statement.kind == Kind.EVALUATION and statement.circuit.visibility != Visibility.HASHED


class Kept:
    """One worker's statements, in a folder of its own.

    Parameters
    ----------
    folder
        Of the worker's caches; blobs are shared by the workers that share it.
    max_bytes
        Bound on what is kept. Nothing is thrown away for it: the worker takes no more tasks (:meth:`full`).
    """

    def __init__(self, folder: Path, worker: Address, *, max_bytes: int) -> None:
        self._folder = make_private_folder(make_private_folder(folder / "kept") / worker)
        self._blobs = make_private_folder(folder / "kept" / _BLOBS)
        self._max_bytes, self._lock = max_bytes, threading.Lock()
        self._measured = (-_MEASURED_EVERY_S, 0)

    @property
    def bytes(self) -> int:
        """What is kept, the blobs with it."""
        files = (*self._folder.rglob("*"), *self._blobs.iterdir())
        return sum(path.stat().st_size for path in files if path.is_file())

    def full(self) -> bool:
        """Whether no more should be kept; measured now and then."""
        now = time.monotonic()
        if now >= self._measured[0] + _MEASURED_EVERY_S:
            self._measured = (now, self.bytes)
        return self._measured[1] >= self._max_bytes

    def keep(
        self,
        kept: KeptStatement,
        shard: Shard | None,
        outputs: Integers | Floats,
        blobs: Sequence[tuple[Digest, Path]] = (),
    ) -> None:
        """Keep a statement before anybody gets it. After a crash it is kept as a whole, or not signed yet.

        Without a shard only the statement is kept.
        """
        place = self._folder / kept.digest.hex()
        with self._lock:
            if place.exists():
                return
            for digest, path in blobs:
                self._link(path, self._blobs / _name(digest))
            made = Path(tempfile.mkdtemp(dir=self._folder, prefix=".new-"))
            if shard is not None:
                write_file(made / _RECORDS, shard.to_bytes(), private=True)
                write_file(made / _OUTPUTS, pack_outputs(outputs), private=True)
            write_file(made / _STATEMENT, kept.to_json(), private=True)
            made.rename(place)

    def with_records(self) -> Iterator[Digest]:
        """Digests of the statements whose records can still be opened."""
        for place in sorted(self._folder.iterdir()):
            if not place.name.startswith(".") and (place / _RECORDS).is_file():
                yield Digest(bytes.fromhex(place.name))

    def not_anchored(self) -> Iterator[Digest]:
        """Digests of the statements whose place on chain is not known yet."""
        for place in sorted(self._folder.iterdir()):
            if not place.name.startswith(".") and not (place / _ANCHORED).is_file():
                yield Digest(bytes.fromhex(place.name))

    def statement(self, digest: Digest) -> KeptStatement:
        """A statement; :class:`NotFoundError` if it is not kept here."""
        return self._statement(self._folder / digest.hex())

    def anchored(self, digest: Digest) -> AnchoredStatement | None:
        """Where a statement stands on chain, once that is known: its first anchor."""
        path = self._folder / digest.hex() / _ANCHORED
        if not path.is_file():
            return None
        return AnchoredStatement.from_json(read_file(path, "anchored statement", max_bytes=_MAX_DOCUMENT))

    def note_anchor(self, found: AnchoredStatement) -> None:
        """Keep where a statement stands."""
        write_file(self._folder / found.digest.hex() / _ANCHORED, found.to_json(), private=True, overwrite=True)

    def blob(self, digest: Digest) -> Path:
        """A file that a circuit is rebuilt from."""
        return self._blobs / _name(digest)

    def open(self, digest: Digest, index: int) -> OpenedRecord:
        """Open a record of a statement.

        Raises
        ------
        NotFoundError
            It is not kept here, or its records have gone.
        """
        place, statement = self._folder / digest.hex(), self.statement(digest).statement
        start, count, circuit = statement.record_start, statement.record_count, statement.circuit
        if not (place / _RECORDS).is_file() or not start <= index < start + count:
            raise NotFoundError(f"record {index} of statement {digest} is not kept here")
        blob = read_file(place / _RECORDS, "kept records", max_bytes=_MAX_TENSORS)
        shard = Shard.from_bytes(blob, start=start, count=count, size=statement.input_size)
        packed = read_file(place / _OUTPUTS, "kept outputs", max_bytes=_MAX_TENSORS)
        fixed = statement.tier != Tier.COMMIT
        outputs = unpack_outputs(packed, count=count, fixed=fixed)
        trees = TaskTrees(
            statement.tier, circuit, shard.records, shard.salts, start, outputs, size=shard.size, around=shard.around
        )
        row = index - start
        inputs = shard.records[row : row + 1]
        given = quantise(inputs, circuit.input_scale) if fixed else inputs
        return OpenedRecord(trees.open(index), given.reshape(-1), outputs[row].reshape(-1))

    def forget_records(self, digest: Digest) -> None:
        """The statement cannot be challenged any more: statement and anchor stay."""
        place = self._folder / digest.hex()
        for name in (_RECORDS, _OUTPUTS):
            (place / name).unlink(missing_ok=True)

    def forget_unused_blobs(self) -> None:
        """Remove what no statement with records needs, of any worker that shares the folder."""
        with self._lock:
            needed = set()
            for worker in self._blobs.parent.iterdir():
                for place in worker.iterdir() if worker != self._blobs else ():
                    if (place / _RECORDS).is_file():
                        statement = self._statement(place).statement
                        circuit = statement.circuit
                        wanted = (statement.model_digest, circuit.settings_digest, circuit.srs_digest)
                        needed |= {_name(one) for one in wanted}
            for path in self._blobs.iterdir():
                if path.name not in needed:
                    path.unlink(missing_ok=True)

    def _statement(self, place: Path) -> KeptStatement:
        return KeptStatement.from_json(read_file(place / _STATEMENT, "kept statement", max_bytes=_MAX_DOCUMENT))

    def _link(self, path: Path, to: Path) -> None:
        if to.exists():
            return
        try:
            os.link(path, to)
        except OSError:  # another file system, or one without links
            part = to.with_suffix(".part")
            shutil.copyfile(path, part)
            part.replace(to)


def _name(digest: Digest) -> str:
    return f"sha256-{digest.hex()}"
