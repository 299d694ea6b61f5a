"""On-chain certification: the Certifier contract checks the proofs of jobs whose policy asks for it.

It takes a transaction a record, so it has a loop of its own and goes a few records at a time from job to job: neither
anchors nor other jobs wait for it.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlmodel import col, exists, func, select, update

from contracts.node import RevertError
from contracts.onchain import AnchorProof
from coordinator.blobs import Blobs
from coordinator.catalogue import vka_words
from coordinator.chain import Ledger
from coordinator.leases import fail_job
from coordinator.places import anchor_of
from coordinator.store import Store
from coordinator.tables import CertifiedRow, JobRow, TaskRow
from rexis.api import JobState, TaskState
from rexis.protocol.certificate import Anchor
from rexis.protocol.digests import Digest
from rexis.protocol.errors import UnavailableError
from rexis.protocol.evidence import MAX_EVIDENCE_BYTES, Evidence, RecordProof
from rexis.protocol.records import Opening
from rexis.protocol.statement import JobRequest

_RECORDS_A_TURN = 4
# What the Certifier says once and for all: sent again, the record is refused again. Anything else may pass: a
# reorganised anchor, a VKA that is not registered yet, a node that gives no reason.
_DECIDED = frozenset(
    {
        "BadRecordRange",
        "CircuitNotRegistered",
        "InputNotInTree",
        "InstanceOutOfRange",
        "ModelNotActive",
        "OutputNotInTree",
        "ProofRejected",
        "RecordOutOfRange",
        "UnsupportedKind",
        "UnsupportedTier",
        "UnsupportedVersion",
        "UnsupportedVisibility",
        "WrongInstanceCount",
        "WrongSigner",
        "WrongTaskId",
        "WrongVka",
    }
)


class Certifying:
    """Sends each record's proof to the Certifier, once; every step can be taken again."""

    def __init__(self, store: Store, blobs: Blobs, chain: Callable[[], Ledger]) -> None:
        self._store, self._blobs, self._chain = store, blobs, chain

    def due(self) -> list[str]:
        """Jobs whose tasks are all anchored and that have records for the Certifier, oldest first."""
        open_task = exists().where(col(TaskRow.job_id) == col(JobRow.job_id), col(TaskRow.state) != TaskState.ANCHORED)
        ready = (col(JobRow.state) == JobState.ANCHORING, col(JobRow.certifying).is_(True), ~open_task)
        with self._store.reading() as session:
            return list(session.exec(select(JobRow.job_id).where(*ready).order_by(col(JobRow.submitted_at))))

    def advance(self, job_id: str) -> None:
        """Certify a few records of a job; note when it has no more. Fail the job where the chain decided against it.

        Raises
        ------
        UnavailableError, ChainError
            The chain cannot be reached, or refuses for now: call again later.
        """
        task = self._next(job_id)
        if task is None:
            with self._store.writing() as session:
                session.exec(update(JobRow).where(col(JobRow.job_id) == job_id).values(certifying=False))
            return
        try:
            self._certify(task)
        except RevertError as error:
            if error.name not in _DECIDED:
                raise
            with self._store.writing() as session:
                fail_job(session, session.get_one(JobRow, job_id), error.message)

    def _next(self, job_id: str) -> TaskRow | None:
        """The first task with a record that is not certified."""
        done = (
            select(func.count())
            .select_from(CertifiedRow)
            .where(col(CertifiedRow.task_id) == col(TaskRow.task_id), col(CertifiedRow.tx_hash).is_not(None))
            .scalar_subquery()
        )
        with self._store.reading() as session:
            wanted = select(TaskRow).where(col(TaskRow.job_id) == job_id, done < col(TaskRow.count))
            return session.exec(wanted.order_by(col(TaskRow.start)).limit(1)).first()

    def _certify(self, task: TaskRow) -> None:
        chain = self._chain()
        evidence = Evidence.from_json(
            self._blobs.read(Digest.parse(task.evidence_digest), "evidence"), max_bytes=MAX_EVIDENCE_BYTES
        )
        with self._store.reading() as session:
            request = JobRequest.from_json(session.get_one(JobRow, task.job_id).request.encode())
            anchor = anchor_of(session, task.task_id)
            vka = vka_words(session, request.model_digest, request.key_epoch)
            rows = session.exec(select(CertifiedRow).where(col(CertifiedRow.task_id) == task.task_id))
            begun = {row.record_index: row.tx_hash for row in rows}
        if not chain.is_vka_registered(request.circuit.vka_digest):
            chain.require_settled()  # an earlier run may have sent it
            chain.register_vka(vka)
        left = [
            (opening, proof)
            for opening, proof in zip(evidence.openings, evidence.proofs, strict=True)
            if begun.get(opening.index) is None
        ]
        for opening, proof in left[:_RECORDS_A_TURN]:
            found = self._record(chain, task, evidence, anchor, opening, proof, vka, resumed=opening.index in begun)
            with self._store.writing() as session:
                session.merge(CertifiedRow(task_id=task.task_id, record_index=opening.index, tx_hash=str(found)))

    def _record(
        self,
        chain: Ledger,
        task: TaskRow,
        evidence: Evidence,
        anchor: Anchor,
        opening: Opening,
        proof: RecordProof,
        vka: list[Digest],
        *,
        resumed: bool,
    ) -> Digest:
        """The transaction, whoever sent it, in which the Certifier accepted the record."""
        digest, offset = Digest.parse(task.statement_digest), opening.index - task.start
        if chain.is_record_certified(digest, offset):
            return _found(chain, digest, opening.index, anchor)
        if resumed:
            chain.require_settled()
        else:
            with self._store.writing() as session:
                session.add(CertifiedRow(task_id=task.task_id, record_index=opening.index))
        place = AnchorProof(anchor.anchor_id, anchor.leaf_index, anchor.path)
        try:
            (data,) = proof.proofs  # of one segment: jobs with more are not taken for the chain
            return chain.certify_record(evidence.statement, evidence.signature, place, opening, data, vka).hash
        except RevertError:
            # Anybody may certify: a transaction of an earlier run, or a copy of ours, was first. That is as good.
            if not chain.is_record_certified(digest, offset):
                raise
            return _found(chain, digest, opening.index, anchor)


def _found(chain: Ledger, digest: Digest, index: int, anchor: Anchor) -> Digest:
    found = chain.find_certified(digest, index, anchor.block_number)
    if found is None:
        raise UnavailableError("the node does not show the event of a certified record")
    return found
