"""On-chain certification: the Certifier contract checks the proofs of jobs whose policy asks for it.

It takes a transaction a record, so it has a loop of its own and goes a few records at a time from job to job: neither
anchors nor other jobs wait for it.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlmodel import Session, col, exists, func, select, update

from contracts.node import RevertError
from contracts.onchain import AnchorProof
from coordinator.blobs import Blobs
from coordinator.catalogue import vka_words
from coordinator.chain import Ledger
from coordinator.leases import fail_job
from coordinator.outbox import Outbox
from coordinator.places import Places
from coordinator.store import Store
from coordinator.tables import CertifiedRow, JobRow, Purpose, TaskRow, TransactionRow, TransactionStatus
from coordinator.times import Clock
from rexis.api import JobState, TaskState
from rexis.protocol.certificate import Anchor
from rexis.protocol.digests import Digest
from rexis.protocol.evidence import MAX_EVIDENCE_BYTES, Evidence, RecordProof
from rexis.protocol.parsing import parse_hex
from rexis.protocol.records import Opening
from rexis.protocol.training import read_request

_RECORDS_A_TURN = 4
_LEFT_TO_OTHERS = 8  # places in the outbox that anchors and commitments find free
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

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        chain: Callable[[], Ledger],
        outbox: Outbox,
        confirmations: int,
    ) -> None:
        self._store, self._blobs, self._clock = store, blobs, clock
        self._chain, self._outbox, self._confirmations = chain, outbox, confirmations
        self._places = Places()

    def due(self) -> list[str]:
        """Jobs whose tasks are all anchored and that have records for the Certifier, oldest first."""
        open_task = exists().where(col(TaskRow.job_id) == col(JobRow.job_id), col(TaskRow.state) != TaskState.ANCHORED)
        ready = (col(JobRow.state) == JobState.ANCHORING, col(JobRow.certifying).is_(True), ~open_task)
        with self._store.looking() as session:
            return list(session.exec(select(JobRow.job_id).where(*ready).order_by(col(JobRow.submitted_at))))

    def advance(self, job_id: str) -> bool:
        """Certify a few records of a job; note when it has no more. Fail the job where the chain decided against it.

        Returns whether anything changed.

        Raises
        ------
        UnavailableError, ChainError
            The chain cannot be reached, or refuses for now: call again later.
        """
        self._outbox.advance()
        task = self._next(job_id)
        if task is None:
            with self._store.writing() as session:
                session.exec(update(JobRow).where(col(JobRow.job_id) == job_id).values(certifying=False))
            return True
        try:
            return self._certify(task)
        except RevertError as error:
            if error.name not in _DECIDED:
                raise
            with self._store.writing() as session:
                fail_job(session, session.get_one(JobRow, job_id), error.message, at=self._clock())
            return True

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

    def _certify(self, task: TaskRow) -> bool:
        """Post the next few records of a task; note those that are certified for good. Whether there were any."""
        chain = self._chain()
        evidence = Evidence.from_json(
            self._blobs.read(Digest.parse(task.evidence_digest), "evidence"), max_bytes=MAX_EVIDENCE_BYTES
        )
        with self._store.reading() as session:
            request = read_request(session.get_one(JobRow, task.job_id).request.encode())
            anchor = self._places.of(session, task.task_id)
            vka = vka_words(session, request.model_digest, request.key_epoch)
        if not self._vka_registered(chain, request.circuit.vka_digest, vka):
            return False
        taken, changed = 0, False
        for opening, proof in zip(evidence.openings, evidence.proofs, strict=True):
            row, transaction = self._row(task, opening.index)
            if row is not None and row.tx_hash is not None:
                continue
            if taken >= _RECORDS_A_TURN or self._outbox.room() < _LEFT_TO_OTHERS:
                break
            taken += 1
            changed |= self._record(chain, task, evidence, anchor, opening, proof, vka, transaction)
        return changed

    def _vka_registered(self, chain: Ledger, digest: Digest, vka: list[Digest]) -> bool:
        """Whether ezkl's verifier knows the circuit's VKA. If not, it is told."""
        if chain.is_vka_registered(digest):
            return True
        self._outbox.post(
            Purpose.REGISTER_VKA, str(digest), chain.registering_vka(vka), lambda session, transaction: None
        )
        self._outbox.advance()
        return chain.is_vka_registered(digest)

    def _row(self, task: TaskRow, index: int) -> tuple[CertifiedRow | None, TransactionRow | None]:
        with self._store.reading() as session:
            row = session.get(CertifiedRow, (task.task_id, index))
            found = row.transaction if row is not None else None
            return row, session.get(TransactionRow, found) if found is not None else None

    def _record(
        self,
        chain: Ledger,
        task: TaskRow,
        evidence: Evidence,
        anchor: Anchor,
        opening: Opening,
        proof: RecordProof,
        vka: list[Digest],
        transaction: TransactionRow | None,
    ) -> bool:
        """Take a record one step further, if there is one to take now.

        Anybody may certify: a transaction of an earlier run, or a copy of ours, may be first. That is as good.
        """
        digest, offset = Digest.parse(task.statement_digest), opening.index - task.start
        match transaction.status if transaction is not None else None:
            case TransactionStatus.OPEN | TransactionStatus.MINED:
                return False
            case TransactionStatus.FINAL if transaction is not None:
                return self._done(task, opening.index, transaction.tx_hash)
        if chain.is_record_certified(digest, offset):
            found = chain.find_certified(digest, opening.index, anchor.block_number, self._confirmations)
            return found is not None and self._done(task, opening.index, str(found))
        if transaction is not None and transaction.status == TransactionStatus.FAILED:
            self._require_no_decision(chain, transaction)

        def note(session: Session, transaction: TransactionRow) -> None:
            session.merge(CertifiedRow(task_id=task.task_id, record_index=opening.index, transaction=transaction.id))

        place = AnchorProof(anchor.anchor_id, anchor.leaf_index, anchor.path)
        (data,) = proof.proofs  # of one segment: jobs with more are not taken for the chain
        call = chain.certifying(evidence.statement, evidence.signature, place, opening, data, vka)
        try:
            self._outbox.post(Purpose.CERTIFY, f"{task.task_id} {opening.index}", call, note)
        except RevertError:
            if not chain.is_record_certified(digest, offset):
                raise
            return self._record(chain, task, evidence, anchor, opening, proof, vka, None)
        self._outbox.advance()
        _, transaction = self._row(task, opening.index)
        if transaction is not None and transaction.status == TransactionStatus.FINAL:
            self._done(task, opening.index, transaction.tx_hash)
        return True

    def _require_no_decision(self, chain: Ledger, transaction: TransactionRow) -> None:
        """Raise what the Certifier said when it refused a transaction that had looked good, if it is final."""
        if transaction.raw is None or transaction.block is None:
            return
        error = chain.why_reverted(parse_hex(transaction.raw), transaction.block)
        if error.name in _DECIDED:
            raise error

    def _done(self, task: TaskRow, index: int, tx_hash: str | None) -> bool:
        with self._store.writing() as session:
            row = session.get(CertifiedRow, (task.task_id, index)) or CertifiedRow(
                task_id=task.task_id, record_index=index
            )
            row.tx_hash = tx_hash
            session.add(row)
        return True
