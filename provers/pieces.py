"""The proofs of a task, segment by segment, made together with other workers: the side of its *lead*.

The lead signs for all of them, so it checks what others made, and proves itself whatever is missing, wrong, or too long
in coming. Without helpers it does all of the work; with helpers that do nothing it is only a little later.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Sequence

import numpy as np

from circuits.proving import SegmentProof
from provers.cache import BlobCache, ProofCache
from provers.display import log
from provers.keeper import LeaseKeeper
from provers.side_by_side import side_by_side
from provers.task import Board, RecordProver, Task
from rexis.api import PieceOffer, PieceProofs, PieceState, PiecesView, PieceView, Stage
from rexis.client import RexisClient
from rexis.files import read_file
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import CircuitError, LeaseError, MalformedError, RexisError
from rexis.protocol.evidence import MAX_EVIDENCE_BYTES
from rexis.protocol.records import Integers
from rexis.protocol.tensors import pack_values

_POLL_S = 1.0
# How long the lead waits for news of helpers before it makes the pieces too that they hold: so many times what a piece
# of its own took at most. Helpers make keys first, which takes about as long as a few proofs.
_PATIENCE = 4.0
_LEAST_PATIENCE_S = 30.0
_FIRST_PATIENCE_S = 600.0


class TaskProofs:
    """All proofs of a task.

    Parameters
    ----------
    prover
        The task's circuit.
    values
        Each segment's inputs and the last one's outputs, ``[records, width]``.
    hashes
        What the first segment's proofs must have as public input, one a record; None if that is the record.
    """

    def __init__(
        self, task: Task, prover: RecordProver, values: Sequence[Integers], hashes: Sequence[int] | None = None
    ) -> None:
        self._task, self._prover, self._hashes = task, prover, hashes
        self._values = values
        self._links = list(itertools.pairwise(values))
        self._made: dict[int, list[bytes]] = {}
        self._slowest: float | None = None

    def all(self) -> list[list[bytes]]:
        """For each segment its proofs, one a record."""
        board = self._task.board
        if board is not None and len(self._links) > 1 and self._offered(board):
            self._together(board)
        for segment in range(len(self._links)):
            if segment not in self._made:
                self._prove(segment)
        self._tell(0)
        return [self._made[segment] for segment in range(len(self._links))]

    def _offered(self, board: Board) -> bool:
        try:
            board.offer(self._values)
        except LeaseError:
            raise
        except RexisError as error:
            log.warning("nobody can help with this task: %s", error)
            return False
        return True

    def _together(self, board: Board) -> None:
        waiting_since = time.monotonic()
        while len(self._made) < len(self._links):
            view = board.turn(sorted(self._made))
            collected = [piece for piece in view.pieces if self._collected(piece, board)]
            if len(self._made) == len(self._links):
                return
            if view.yours is not None:
                self._prove(view.yours)
            elif not collected:
                if time.monotonic() - waiting_since > self._patience():
                    held = next(piece.segment for piece in view.pieces if piece.segment not in self._made)
                    log.warning("segment %d is long in coming: proving it too", held)
                    self._prove(held)
                else:
                    board.wait(_POLL_S)
                continue  # patience that has run out comes back with what a helper has made
            waiting_since = time.monotonic()

    def _patience(self) -> float:
        return _FIRST_PATIENCE_S if self._slowest is None else max(_LEAST_PATIENCE_S, _PATIENCE * self._slowest)

    def _collected(self, piece: PieceView, board: Board) -> bool:
        """Take a helper's proofs, after checking them; prove anew what does not hold."""
        segment = piece.segment
        if piece.state != PieceState.DONE or piece.proofs is None or segment in self._made:
            return False
        try:
            proofs = board.proofs(piece.proofs)
            self._require(segment, proofs)
        except LeaseError:
            raise
        except RexisError as error:
            log.warning("%s's proofs of segment %d are of no use: %s", piece.worker, segment, error)
            self._prove(segment)
            return True
        for (inputs, outputs), proof in zip(self._rows(segment), proofs, strict=True):
            self._task.proofs.put(*_name(self._task.request.circuit, segment, inputs, outputs), proof)
        self._made[segment] = proofs
        log.info("segment %d of %d was proved by %s", segment + 1, len(self._links), piece.worker)
        self._tell(0)
        return True

    def _require(self, segment: int, proofs: Sequence[bytes]) -> None:
        inputs, outputs = self._links[segment]
        if len(proofs) != len(inputs):
            raise MalformedError(f"{len(proofs)} proofs for {len(inputs)} records")
        for reason in self._prover.check_segment(segment, proofs, inputs, outputs):
            if reason is not None:
                raise CircuitError(reason)

    def _prove(self, segment: int) -> None:
        begun, (inputs, outputs) = time.monotonic(), self._links[segment]

        def proof(row: int) -> bytes:
            prove = functools.partial(self._proof, segment, row)
            circuit = self._task.request.circuit
            return segment_proof(prove, self._task.proofs, circuit, segment, inputs[row], outputs[row])

        self._made[segment] = side_by_side(proof, range(len(inputs)), self._prover.at_once, self._tell)
        self._slowest = max(self._slowest or 0.0, time.monotonic() - begun)

    def _proof(self, segment: int, row: int, inputs: Integers) -> SegmentProof:
        made = self._prover.prove_segment(segment, inputs)
        if segment == 0 and self._hashes is not None and made.instances[0] != self._hashes[row]:
            raise CircuitError(f"the proof of record {row} of these has another hash than the dataset")
        return made

    def _rows(self, segment: int) -> list[tuple[Integers, Integers]]:
        inputs, outputs = self._links[segment]
        return list(zip(inputs, outputs, strict=True))

    def _tell(self, begun: int) -> None:
        """Tell the progress: what is made, and so many proofs of the segment that is being proved."""
        records = len(self._values[0])
        self._task.at(Stage.PROVE, len(self._made) * records + begun, len(self._links) * records)


def segment_proof(
    prove: Callable[[Integers], SegmentProof],
    cache: ProofCache,
    circuit: Circuit,
    segment: int,
    inputs: Integers,
    outputs: Integers,
) -> bytes:
    """A proof of one segment for one record, from the cache if it was made before.

    Raises
    ------
    CircuitError
        It is about other outputs.
    """
    name, instances = _name(circuit, segment, inputs, outputs)
    found = cache.get(name, instances)
    if found is not None:
        return found
    made = prove(inputs)
    if made.outputs != tuple(outputs.tolist()):
        raise CircuitError(f"segment {segment} was proved with other outputs than it had")
    cache.put(name, instances, made.data)
    return made.data


def _name(circuit: Circuit, segment: int, inputs: Integers, outputs: Integers) -> tuple[Digest, Integers]:
    """What a proof is kept under: a digest that stands for the segment's key, and the public instances."""
    return sha256(circuit.vk_digest, segment.to_bytes(4, "big")), np.concatenate([inputs, outputs])


class CoordinatorBoard:
    """See :class:`~provers.task.Board`."""

    def __init__(self, client: RexisClient, blobs: BlobCache, lease_id: str, keeper: LeaseKeeper) -> None:
        self._client, self._blobs, self._lease_id, self._keeper = client, blobs, lease_id, keeper

    def offer(self, values: Sequence[Integers]) -> None:
        """See :class:`~provers.task.Board`."""
        blob = pack_values(values)
        offer = PieceOffer(segments=len(values) - 1, values=sha256(blob))
        self._keeper.patiently(lambda: self._client.upload_blob(blob))
        self._keeper.patiently(lambda: self._client.offer_pieces(self._lease_id, offer))

    def turn(self, finished: Sequence[int]) -> PiecesView:
        """See :class:`~provers.task.Board`."""
        return self._keeper.patiently(lambda: self._client.pieces(self._lease_id, finished))

    def proofs(self, digest: Digest) -> list[bytes]:
        """See :class:`~provers.task.Board`."""
        path = self._keeper.patiently(lambda: self._blobs.get(digest, self._keeper.check))
        data = read_file(path, "proofs", max_bytes=MAX_EVIDENCE_BYTES)
        return PieceProofs.from_json(data, max_bytes=MAX_EVIDENCE_BYTES).proofs

    def wait(self, seconds: float) -> None:
        """See :class:`~provers.task.Board`."""
        self._keeper.wait(seconds)
