"""Helping with another worker's task: one piece, from its document to its proofs. Nothing is taken on trust."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from circuits.chain import MAX_CHAIN_BYTES, ChainSettings
from provers.cache import BlobCache
from provers.dishonest import piece_fault
from provers.display import log
from provers.errand import Surroundings
from provers.keeper import Held, LeaseKeeper, StopRequested
from provers.onchain import ChainChecks
from provers.pieces import segment_proof
from provers.side_by_side import side_by_side
from provers.site import Desk, PieceProver
from provers.status import Ending
from provers.task import CircuitFiles, check_request
from rexis.api import Piece, PieceProofs, Stage
from rexis.files import read_file
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, require_digest
from rexis.protocol.errors import ConflictError, EvidenceError, LeaseError, RexisError
from rexis.protocol.records import Integers
from rexis.protocol.tensors import unpack_values
from rexis.protocol.typed_data import Domain

# Records per call of the child: between two calls the worker can stop.
_WITNESS_BATCH = 32


class Helper:
    """Makes pieces.

    Parameters
    ----------
    domain, chain
        What the worker pinned when it started.
    """

    def __init__(self, around: Surroundings, domain: Domain, chain: ChainChecks) -> None:
        self._around, self._client, self._domain, self._chain = around, around.client, domain, chain
        dishonest = around.options.dishonest
        self._fault = piece_fault(dishonest) if dishonest else None

    def serve(self, piece: Piece) -> Ending:
        """Make one piece; whatever goes wrong with it ends the piece, not the worker."""
        ending = self._serve(piece)
        self._around.board.ended(ending)
        return ending

    def _serve(self, piece: Piece) -> Ending:
        job_id = piece.request.job_id(piece.domain)
        name = f"segment {piece.segment} of job {job_id}"
        log.info("helping with %s, %d records", name, piece.records)
        held = Held(
            name,
            piece.records,
            piece.heartbeat_seconds,
            lambda progress: self._client.piece_heartbeat(piece.piece_id, progress),
        )
        around, blobs = self._around, self._around.blobs()
        around.board.begin(name, job_id, piece.request.policy.tier, piece.segment)
        try:
            with LeaseKeeper(held, around.stop, finish=around.options.finish, display=around.board) as keeper:
                try:
                    with around.site.desk(keeper.check) as desk:
                        keeper.on_interrupt(desk.kill)
                        self._do(piece, keeper, desk, blobs)
                except (RexisError, OSError):
                    keeper.check()  # a piece that was interrupted fails in all kinds of ways: say why it ended
                    raise
        except StopRequested:
            self._leave(piece, "stopped", "the worker stops")
            log.info("left %s", name)
            return Ending.GIVEN_BACK
        except LeaseError as error:
            log.info("dropped %s: %s", name, error)
            return Ending.LOST
        except RexisError as error:
            log.error("failed %s: %s", name, error)
            self._leave(piece, error.code, str(error))
        except Exception as error:
            log.exception("failed %s", name)
            self._leave(piece, "internal", f"the worker failed: {type(error).__name__}")
        else:
            log.info("made %s", name)
            return Ending.HELPED
        finally:
            blobs.done()
        return Ending.FAILED

    def _do(self, piece: Piece, keeper: LeaseKeeper, desk: Desk, blobs: BlobCache) -> None:
        keeper.at(Stage.FETCH, 0, piece.records)
        check_request(piece, self._domain)
        if piece.request.circuit == NO_CIRCUIT:
            raise ConflictError("nothing is proved without a circuit", field="request.circuit")
        keeper.patiently(lambda: self._chain.require_model(piece.request))

        def get(digest: Digest) -> Path:
            return keeper.patiently(lambda: blobs.get(digest, keeper.check))

        circuit = piece.request.circuit
        files = CircuitFiles(get(piece.request.model_digest), get(circuit.settings_digest), get(circuit.srs_digest))
        vk, values = get(circuit.vk_digest), get(piece.values)
        keeper.at(Stage.SETUP, 0, piece.records)
        prover = desk.open_segment(circuit, files, vk, piece.vka, piece.segment)
        inputs, outputs = _link(piece, files.settings, values)
        proofs = self._prove(piece, prover, inputs, outputs, keeper)
        keeper.at(Stage.UPLOAD, 0, piece.records)
        keeper.finish()
        document = PieceProofs(proofs=proofs if self._fault is None else self._fault(proofs))
        keeper.patiently(lambda: self._client.hand_piece_in(piece.piece_id, document))

    def _prove(
        self, piece: Piece, prover: PieceProver, inputs: Integers, outputs: Integers, keeper: LeaseKeeper
    ) -> list[bytes]:
        """Proofs for all records, once it is sure that all can be proved."""
        for start in range(0, piece.records, _WITNESS_BATCH):
            keeper.at(Stage.COMPUTE, start, piece.records)
            part = slice(start, start + _WITNESS_BATCH)
            if not np.array_equal(prover.outputs(inputs[part]), outputs[part]):
                raise EvidenceError("the segment gives other outputs than the task's lead says", field="values")

        def proof(row: int) -> bytes:
            return segment_proof(
                prover.prove, self._around.proofs, piece.request.circuit, piece.segment, inputs[row], outputs[row]
            )

        return side_by_side(
            proof,
            range(piece.records),
            prover.at_once,
            lambda row: keeper.at(Stage.PROVE, row, piece.records),
        )

    def _leave(self, piece: Piece, code: str, detail: str) -> None:
        """Tell the coordinator something that it would also find out by itself, when the piece's time runs out."""
        try:
            self._client.leave_piece(piece.piece_id, code, detail)
        except RexisError as error:
            log.warning("could not leave the piece: %s", error)


def _link(piece: Piece, settings: Path, values: Path) -> tuple[Integers, Integers]:
    """The segment's inputs and outputs, from files that were checked by digest."""
    circuit = piece.request.circuit
    chain = ChainSettings.parse(read_file(settings, "settings", max_bytes=MAX_CHAIN_BYTES))
    widths = [circuit.input_length, *chain.boundaries, circuit.output_length]
    blob = require_digest(values.read_bytes(), piece.values, "values")
    found = unpack_values(blob, count=piece.records, widths=widths)
    return found[piece.segment], found[piece.segment + 1]
