"""Helping with another worker's task: one piece, from its document to its proofs. Nothing is taken on trust."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from circuits.chain import MAX_CHAIN_BYTES, ChainSettings
from circuits.proving import SegmentProof
from provers.cache import BlobCache, ProofCache
from provers.circuit import Circuits
from provers.dishonest import PieceFault
from provers.display import Display, log
from provers.keeper import Held, LeaseKeeper, Stop, StopRequested
from provers.onchain import ChainChecks
from provers.pieces import segment_proof
from provers.side_by_side import side_by_side
from provers.task import CircuitFiles, check_request
from rexis.api import Piece, PieceProofs, Stage
from rexis.client import RexisClient
from rexis.files import read_file
from rexis.protocol.digests import Digest, require_digest
from rexis.protocol.errors import ConflictError, EvidenceError, LeaseError, RexisError
from rexis.protocol.policy import Tier
from rexis.protocol.records import Integers
from rexis.protocol.tensors import unpack_values
from rexis.protocol.typed_data import Domain

# Records per call of the child: between two calls the worker can stop.
_WITNESS_BATCH = 32


class PieceProver(Protocol):
    """One segment of a circuit, ready to run and prove (:class:`circuits.proving.SegmentProver`)."""

    @property
    def at_once(self) -> int:
        """How many calls are worth making at a time, from as many threads."""
        ...

    def outputs(self, inputs: Integers) -> Integers:
        """Exactly what the segment gives, ``[n, output_length]``."""
        ...

    def prove(self, inputs: Integers) -> SegmentProof:
        """A proof for one record's inputs."""
        ...


class Helper:
    """Makes pieces, one at a time.

    Parameters
    ----------
    finish
        Finish a piece in spite of a stop.
    fault
        What a dishonest helper does to its proofs.
    """

    def __init__(
        self,
        client: RexisClient,
        circuits: Circuits,
        blobs: BlobCache,
        proofs: ProofCache,
        stop: Stop,
        display: Display,
        *,
        finish: bool,
        fault: PieceFault | None,
    ) -> None:
        self._client, self._circuits, self._blobs, self._proofs = client, circuits, blobs, proofs
        self._stop, self._display, self._finish, self._fault = stop, display, finish, fault

    def serve(self, piece: Piece, domain: Domain, chain: ChainChecks) -> bool:
        """Make one piece; whatever goes wrong with it ends the piece, not the worker.

        Returns
        -------
        bool
            False if it was left to others or its proofs were refused.
        """
        name = f"segment {piece.segment} of job {piece.request.job_id(piece.domain)}"
        log.info("helping with %s, %d records", name, piece.records)
        held = Held(
            f"segment {piece.segment}",
            piece.records,
            piece.heartbeat_seconds,
            lambda progress: self._client.piece_heartbeat(piece.piece_id, progress),
        )
        try:
            with LeaseKeeper(held, self._stop, finish=self._finish, display=self._display) as keeper:
                try:
                    self._do(piece, keeper, domain, chain)
                except (RexisError, OSError):
                    keeper.check()  # a piece that was interrupted fails in all kinds of ways: say why it ended
                    raise
        except StopRequested:
            self._leave(piece, "stopped", "the worker stops")
            log.info("left %s", name)
            return True
        except LeaseError as error:
            log.info("dropped %s: %s", name, error)
            return True
        except RexisError as error:
            log.error("failed %s: %s", name, error)
            self._leave(piece, error.code, str(error))
        except Exception as error:
            log.exception("failed %s", name)
            self._leave(piece, "internal", f"the worker failed: {type(error).__name__}")
        else:
            log.info("made %s", name)
            return True
        finally:
            self._blobs.done()
        return False

    def _do(self, piece: Piece, keeper: LeaseKeeper, domain: Domain, chain: ChainChecks) -> None:
        keeper.at(Stage.FETCH, 0, piece.records)
        check_request(piece, domain)
        if piece.request.policy.tier == Tier.COMMIT:
            raise ConflictError("nothing is proved in this tier", field="request.policy.tier")
        keeper.patiently(lambda: chain.require_model(piece.request))

        def get(digest: Digest) -> Path:
            return keeper.patiently(lambda: self._blobs.get(digest, keeper.check))

        circuit = piece.request.circuit
        files = CircuitFiles(get(piece.request.model_digest), get(circuit.settings_digest), get(circuit.srs_digest))
        vk, values = get(circuit.vk_digest), get(piece.values)
        keeper.at(Stage.SETUP, 0, piece.records)
        keeper.on_interrupt(self._circuits.kill)
        prover = self._circuits.open_segment(circuit, files, vk, piece.vka, piece.segment, keeper.check)
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
                prover.prove, self._proofs, piece.request.circuit, piece.segment, inputs[row], outputs[row]
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
