"""Commitments of tier ``sampled``: a statement is fixed on chain before anybody knows which records it must prove."""

from __future__ import annotations

from collections.abc import Callable

from sqlmodel import Session, col, select

from coordinator.chain import Ledger
from coordinator.leases import Leases, fail_job, records, require_open
from coordinator.standing import attempts
from coordinator.store import Store
from coordinator.tables import CommitmentRow, JobRow, LeaseRow, Outcome, TaskRow
from rexis.api import CommitmentSubmission, TaskState
from rexis.protocol.certificate import Commitment
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, UnavailableError
from rexis.protocol.evidence import Evidence, Measured
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Tier
from rexis.protocol.statement import JobRequest
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
        self, store: Store, chain: Callable[[], Ledger], leases: Leases, domain: Domain, confirmations: int
    ) -> None:
        self._store, self._chain, self._leases = store, chain, leases
        self._domain, self._confirmations = domain, confirmations

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
        """A commitment with its challenge block's hash, which is kept once it is known."""
        if row.block is None or row.attempt is None:
            return None
        if row.challenge_block_hash is None:
            try:
                drawn = self._chain().block_hash(row.block + 1, confirmations=self._confirmations)
            except UnavailableError:
                return None
            row.challenge_block_hash = str(drawn)
            with self._store.writing() as session:
                session.add(session.merge(row))
        return Commitment(
            attempt=row.attempt,
            block_number=row.block,
            challenge_block_hash=Digest.parse(row.challenge_block_hash),
            transaction=Digest.parse(row.tx_hash),
        )

    def pending(self) -> list[str]:
        """Leases whose statement is not on chain yet."""
        with self._store.reading() as session:
            open_leases = (
                select(CommitmentRow.lease_id)
                .join(LeaseRow, col(LeaseRow.lease_id) == col(CommitmentRow.lease_id))
                .where(col(CommitmentRow.block).is_(None), col(LeaseRow.outcome) == Outcome.OPEN)
            )
            return list(session.exec(open_leases))

    def send(self, lease_id: str) -> None:
        """Write one statement on chain, unless an earlier run did.

        Raises
        ------
        UnavailableError, ChainError
            The chain cannot be reached, or refuses: call again later.
        """
        chain = self._chain()
        with self._store.reading() as session:
            row = session.get_one(CommitmentRow, lease_id)
        task_id, digest = Digest.parse(row.task_id), Digest.parse(row.statement_digest)
        if row.since_block is None:
            row.since_block = chain.block_number()
            with self._store.writing() as session:
                session.add(session.merge(row))
            found = None
        else:
            found = chain.find_commitment(task_id, digest, row.since_block)
            if found is None:
                chain.require_settled()
        if found is None:
            if self._exhausted(chain, row):
                return
            committed, transaction = chain.commit(task_id, digest)
            found = committed, transaction.hash
        made, tx_hash = found
        row.attempt, row.block, row.tx_hash = made.attempt, made.block, str(tx_hash)
        with self._store.writing() as session:
            session.add(session.merge(row))

    def _exhausted(self, chain: Ledger, row: CommitmentRow) -> bool:
        """Fail the job whose task has used up its attempts; they are counted on chain."""
        with self._store.reading() as session:
            task = session.get_one(TaskRow, row.task_id)
        made = chain.attempts(chain.address, Digest.parse(row.task_id))
        if made < task.max_attempts:
            return False
        with self._store.writing() as session:
            fail_job(
                session,
                session.get_one(JobRow, task.job_id),
                f"{records(task)}: {made} commitments were made, each by another worker, and none led to accepted "
                f"evidence; the policy allows {task.max_attempts}",
            )
        return True

    def spent(self) -> list[str]:
        """Tasks that wait with no attempt left, as far as it is known here."""
        with self._store.reading() as session:
            made = attempts(col(TaskRow.task_id))
            waits = (col(TaskRow.state) == TaskState.PENDING, made >= col(TaskRow.max_attempts))
            return list(session.exec(select(TaskRow.task_id).where(*waits)))

    def settle(self, task_id: str) -> None:
        """Learn which commitments of a spent task the chain has; fail its job if none is left.

        Raises
        ------
        UnavailableError, ChainError
            The chain cannot be reached: call again later.
        """
        chain = self._chain()
        with self._store.reading() as session:
            rows = session.exec(select(CommitmentRow).where(col(CommitmentRow.task_id) == task_id)).all()
        for row in rows:
            if row.since_block is None or row.block is not None:
                continue
            found = chain.find_commitment(Digest.parse(task_id), Digest.parse(row.statement_digest), row.since_block)
            if found is None:
                chain.require_settled()
                row.since_block = None  # it was never sent
            else:
                row.attempt, row.block, row.tx_hash = found[0].attempt, found[0].block, str(found[1])
            with self._store.writing() as session:
                session.merge(row)
        if rows:
            self._exhausted(chain, rows[0])


def job_of(session: Session, lease: LeaseRow) -> tuple[JobRequest, TaskRow]:
    """The request and the task that a lease is about."""
    task = session.get_one(TaskRow, lease.task_id)
    job = session.get_one(JobRow, task.job_id)
    return JobRequest.from_json(job.request.encode()), task


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
