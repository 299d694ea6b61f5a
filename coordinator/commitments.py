"""Commitments of tier ``sampled``: a statement is fixed on chain before anybody knows which records it must prove."""

from __future__ import annotations

from collections.abc import Callable

from sqlmodel import Session, col, func, or_, select

from coordinator.chain import Ledger
from coordinator.leases import Leases, close, fail_job, records, request_of, require_open
from coordinator.outbox import Outbox
from coordinator.standing import attempts
from coordinator.store import Store
from coordinator.tables import (
    TASK_TRIED,
    CommitmentRow,
    JobRow,
    LeaseRow,
    Outcome,
    Purpose,
    TaskRow,
    TransactionRow,
    TransactionStatus,
)
from coordinator.times import Clock
from coordinator.transcripts import plan_of, transcript_of
from rexis.api import CommitmentSubmission
from rexis.protocol.certificate import Commitment
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, EvidenceError, UnavailableError
from rexis.protocol.evidence import Evidence, Measured
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Tier
from rexis.protocol.statement import JobRequest, Statement
from rexis.protocol.training import TrainingRequest
from rexis.protocol.transcript import transcript_tree
from rexis.protocol.typed_data import Domain
from verifier.evidence import TaskContext, check_statement


class Commitments:
    """From a worker's signed statement to the block hash that draws its challenge.

    Parameters
    ----------
    confirmations
        Blocks that must follow the challenge's block before its hash is used.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        chain: Callable[[], Ledger],
        outbox: Outbox,
        leases: Leases,
        domain: Domain,
        confirmations: int,
    ) -> None:
        self._store, self._clock, self._chain, self._outbox = store, clock, chain, outbox
        self._leases, self._domain, self._confirmations = leases, domain, confirmations

    def submit(self, lease_id: str, worker: Address, submission: CommitmentSubmission) -> None:
        """Check a statement and record the intent to commit it. Repeating it changes nothing.

        Raises
        ------
        LeaseError
            The lease is lost.
        EvidenceError, SignatureError
            The statement is not the one that the request implies, or not the worker's.
        ConflictError
            Another statement was committed in this lease, or the tier has no challenge.
        """
        self._leases.expire()
        with self._store.writing() as session:
            lease = require_open(session, lease_id, worker)
            request, task = job_of(session, lease)
            if request.policy.tier != Tier.SAMPLED:
                raise ConflictError("only tier sampled commits before it proves", hint="hand the evidence in")
            context = TaskContext(
                domain=self._domain,
                request=request,
                start=task.start,
                count=task.count,
                worker=worker,
                nonce=Digest.parse(lease.nonce),
                block_hash=None,
                material=None,
                srs=None,
            )
            digest = str(check_statement(_bare(submission), context))
            if isinstance(request, TrainingRequest):
                _require_transcript(session, request, task, submission.statement)
            known = session.get(CommitmentRow, lease_id)
            if known is None:
                session.add(CommitmentRow(lease_id=lease_id, task_id=task.task_id, statement_digest=digest))
            elif known.statement_digest != digest:
                raise ConflictError(
                    f"this lease committed to statement {known.statement_digest}, now {digest} came",
                    field="statement",
                    hint="give the lease up and take the task anew",
                )

    def challenge(self, lease_id: str, worker: Address) -> Commitment | None:
        """Where the commitment stands and which block draws its challenge; None as long as that is not known.

        Raises
        ------
        LeaseError
            The lease is lost.
        ConflictError
            Nothing was committed.
        """
        self._leases.expire()
        with self._store.reading() as session:
            require_open(session, lease_id, worker)
            row = session.get(CommitmentRow, lease_id)
        if row is None:
            raise ConflictError("nothing was committed in this lease", hint="POST the statement to …/commitment first")
        return self.settled(row)

    def settled(self, row: CommitmentRow) -> Commitment | None:
        """A commitment with its challenge block's hash, which is kept once it is known. None until it is final."""
        if row.challenge_block_hash is None:
            with self._store.reading() as session:
                row = session.get_one(CommitmentRow, row.lease_id)
                final = row.transaction is None or _status(session, row) == TransactionStatus.FINAL
            if row.block is None or not final:
                return None
            try:
                drawn = self._chain().block_hash(row.block + 1, confirmations=self._confirmations)
            except UnavailableError:
                return None
            with self._store.writing() as session:
                row = session.get_one(CommitmentRow, row.lease_id)
                row.challenge_block_hash = row.challenge_block_hash or str(drawn)
                session.add(row)
        if row.block is None or row.attempt is None:
            return None
        return Commitment(
            attempt=row.attempt,
            block_number=row.block,
            challenge_block_hash=Digest.parse(row.challenge_block_hash),
            transaction=Digest.parse(row.tx_hash),
        )

    def pending(self) -> list[str]:
        """Leases whose statement no transaction is there for, as many as may be sent now."""
        room = self._outbox.room()
        with self._store.reading() as session:
            unsent = (col(CommitmentRow.block).is_(None), col(CommitmentRow.transaction).is_(None))
            open_leases = (
                select(CommitmentRow.lease_id)
                .join(LeaseRow, col(LeaseRow.lease_id) == col(CommitmentRow.lease_id))
                .where(*unsent, col(LeaseRow.outcome) == Outcome.OPEN)
            )
            return list(session.exec(open_leases.limit(room)))

    def send(self, lease_id: str) -> bool:
        """Hand one statement to the outbox, unless the event log has it; whether anything changed.

        Raises
        ------
        UnavailableError, ChainError
            The chain cannot be reached, or refuses: call again later.
        """
        chain = self._chain()
        with self._store.reading() as session:
            row = session.get_one(CommitmentRow, lease_id)
        task_id, digest = Digest.parse(row.task_id), Digest.parse(row.statement_digest)
        if row.since_block is not None:
            self._outbox.require_complete()
            found = chain.find_commitment(task_id, digest, row.since_block)
            if found is not None:
                self._outbox.adopt(Purpose.COMMIT, lease_id, found[1], _note(lease_id, row.since_block))
                return True
        if not self._exhausted(chain, row):
            head = chain.block_number()
            self._outbox.post(Purpose.COMMIT, lease_id, chain.committing(task_id, digest), _note(lease_id, head))
        return True

    def follow(self) -> bool:
        """Bring each commitment to where its transaction is; whether one moved.

        Raises
        ------
        UnavailableError
            The chain cannot be reached: call again later.
        """
        self._outbox.advance()
        status, block = col(TransactionRow.status), col(CommitmentRow.block)
        moved = or_(
            status.in_((TransactionStatus.LOST, TransactionStatus.FAILED)),
            (status == TransactionStatus.OPEN) & block.is_not(None),
            status.in_((TransactionStatus.MINED, TransactionStatus.FINAL))
            & col(TransactionRow.reverted).is_(False)
            & (block.is_(None) | (block != col(TransactionRow.block))),
        )
        joined = select(CommitmentRow, TransactionRow).join(
            TransactionRow, col(TransactionRow.id) == col(CommitmentRow.transaction)
        )
        with self._store.reading() as session:
            found = session.exec(joined.where(moved)).all()
        for row, transaction in found:
            if transaction.status in (TransactionStatus.LOST, TransactionStatus.FAILED):
                self._place(row.lease_id, transaction=None)
            elif transaction.status == TransactionStatus.OPEN:
                self._place(row.lease_id)
            else:
                made = self._chain().committed_in(Digest.parse(transaction.tx_hash))
                place = {"attempt": made.attempt, "block": made.block, "tx_hash": transaction.tx_hash}
                self._place(row.lease_id, **place)
        return bool(found)

    def _place(self, lease_id: str, **place: object) -> None:
        """Note where a commitment is. If its challenge was drawn elsewhere before, an open lease cannot go on."""
        with self._store.writing() as session:
            row = session.get_one(CommitmentRow, lease_id)
            if row.challenge_block_hash is not None and row.block is not None:
                lease = session.get_one(LeaseRow, lease_id)
                if lease.outcome == Outcome.OPEN:
                    reason = "the chain dropped the block of its commitment after the challenge was drawn"
                    close(session, lease, Outcome.CANCELLED, reason=reason, at=self._clock())
            for name, value in {"attempt": None, "block": None, "tx_hash": None, **place}.items():
                setattr(row, name, value)
            session.add(row)

    def _exhausted(self, chain: Ledger, row: CommitmentRow) -> bool:
        """Fail the job whose task has used up its attempts; they are counted on chain.

        Raises
        ------
        UnavailableError
            Earlier attempts wait to be mined, which may be the last ones.
        """
        with self._store.reading() as session:
            task = session.get_one(TaskRow, row.task_id)
            waiting = (
                select(func.count())
                .select_from(CommitmentRow)
                .join(TransactionRow, col(TransactionRow.id) == col(CommitmentRow.transaction))
            )
            waiting = waiting.where(
                col(CommitmentRow.task_id) == row.task_id, col(TransactionRow.status) == TransactionStatus.OPEN
            )
            open_attempts = session.exec(waiting).one()
        made = chain.attempts(chain.address, Digest.parse(row.task_id))
        if made < task.max_attempts:
            if made + open_attempts >= task.max_attempts:
                raise UnavailableError("earlier commitments to the task wait to be mined")
            return False
        with self._store.writing() as session:
            fail_job(
                session,
                session.get_one(JobRow, task.job_id),
                f"{records(task)}: {made} commitments were made, each by another worker, and none led to accepted "
                f"evidence; the policy allows {task.max_attempts}",
                at=self._clock(),
            )
        return True

    def spent(self) -> list[str]:
        """Tasks that wait with no attempt left, as far as it is known here."""
        with self._store.reading() as session:
            made = attempts(col(TaskRow.task_id))
            return list(session.exec(select(TaskRow.task_id).where(TASK_TRIED, made >= col(TaskRow.max_attempts))))

    def settle(self, task_id: str) -> bool:
        """Learn which commitments of a spent task the chain has; fail its job if none is left.

        Returns whether anything changed.

        Raises
        ------
        UnavailableError, ChainError
            The chain cannot be reached: call again later.
        """
        changed = self.follow()
        self._outbox.require_complete()
        chain = self._chain()
        with self._store.reading() as session:
            rows = session.exec(select(CommitmentRow).where(col(CommitmentRow.task_id) == task_id)).all()
        for row in rows:
            if row.since_block is None or row.block is not None or row.transaction is not None:
                continue
            found = chain.find_commitment(Digest.parse(task_id), Digest.parse(row.statement_digest), row.since_block)
            if found is not None:
                self._outbox.adopt(Purpose.COMMIT, row.lease_id, found[1], _note(row.lease_id, row.since_block))
                continue
            with self._store.writing() as session:  # it was never mined, and never will be
                session.get_one(CommitmentRow, row.lease_id).since_block = None
            changed = True
        return (bool(rows) and self._exhausted(chain, rows[0])) or changed


def _note(lease_id: str, since_block: int) -> Callable[[Session, TransactionRow], None]:
    """What is written of a commitment together with its transaction."""

    def note(session: Session, transaction: TransactionRow) -> None:
        row = session.get_one(CommitmentRow, lease_id)
        row.since_block, row.transaction = since_block, transaction.id
        session.add(row)

    return note


def _status(session: Session, row: CommitmentRow) -> str:
    return session.get_one(TransactionRow, row.transaction).status


def job_of(session: Session, lease: LeaseRow) -> tuple[JobRequest, TaskRow]:
    """The request and the task that a lease is about."""
    task = session.get_one(TaskRow, lease.task_id)
    return request_of(session.get_one(JobRow, task.job_id)), task


def _require_transcript(session: Session, request: TrainingRequest, task: TaskRow, statement: Statement) -> None:
    """A training is committed to once all of it is here: what the challenge draws must have been fixed before."""
    plan, found = plan_of(session, task.job_id), transcript_of(session, task.task_id)
    if plan is None or len(found) != plan.segments + 1:
        raise ConflictError(f"{len(found)} checkpoints are there, not all", hint="hand the others in first")
    root = transcript_tree([signed.checkpoint for signed in found]).root
    if statement.output_root != root:
        raise EvidenceError(
            f"is {statement.output_root}, the checkpoints that are there have root {root}",
            field="statement.outputRoot",
        )


def _bare(submission: CommitmentSubmission) -> Evidence:
    """A statement and signature as evidence without proof, which is how the verifier reads them."""
    nothing = Measured(max_abs_error_e9=0, rms_error_e9=0, compute_ms=0, prove_ms=0, provider="none")
    return Evidence(
        statement=submission.statement,
        signature=submission.signature,
        outputs_digest=submission.statement.output_root,
        openings=[],
        proofs=[],
        measured=nothing,
    )
