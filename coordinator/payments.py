"""Payments of jobs: whether they were paid in at the escrow, and each anchored task's claim until it is settled.

The chain decides, and pays each task once: what is written down here only says when to look again. Anybody can do the
same (`rexis escrow settle`), so that a worker's payment does not hang on this coordinator.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlmodel import Session, col, func, or_, select, update
from sqlmodel.sql.expression import SelectOfScalar

from contracts.accountability import Accountability
from contracts.challenging import place_of
from contracts.node import RevertError
from contracts.payments import Standing, Step, standing_of
from coordinator.chain import Ledger
from coordinator.outbox import Outbox
from coordinator.statements import Statements
from coordinator.store import Store
from coordinator.tables import JOB_OPEN, JobRow, PaymentRow, PaymentState, Purpose, TaskRow
from rexis.api import PaymentView, TaskState
from rexis.protocol.digests import Digest
from rexis.protocol.errors import NotFoundError, UnavailableError
from rexis.protocol.parsing import Address

_TASKS_A_TURN = 8
_LEFT_TO_OTHERS = 8  # places in the outbox that anchors and commitments find free
# Blocks until one looks again where somebody else has to do something first: answer, close, stake.
_AGAIN_BLOCKS = 20
# What the escrow says once and for all. Anything else may pass: too small a stake, a dispute that is open.
_DECIDED = frozenset(
    {
        "ModelNotActiveThen",
        "NotATask",
        "NotByCoordinator",
        "NotOfThisJob",
        "StatementFaulted",
        "TooLate",
        "WrongSigner",
    }
)
_ENDS = (PaymentState.PAID, PaymentState.LOST)


class Payments:
    """Looks after the payments of jobs that say that they are paid; every step can be taken again."""

    def __init__(
        self,
        store: Store,
        chain: Callable[[], Ledger],
        outbox: Outbox,
        statements: Statements,
        around: Accountability | None,
    ) -> None:
        self._store, self._chain, self._outbox = store, chain, outbox
        self._statements, self._around = statements, around
        self._seen = -1

    def unfunded(self) -> list[str]:
        """Jobs that wait for their payment, once a block."""
        if self._around is None:
            return []
        with self._store.looking() as session:
            waits = select(JobRow.job_id).where(
                col(JobRow.payer).is_not(None), col(JobRow.unfunded).is_(True), JOB_OPEN
            )
            found = list(session.exec(waits))
        if not found or (head := self._chain().block_number()) == self._seen:
            return []
        self._seen = head
        return found

    def look(self, job_id: str) -> bool:
        """Whether a job's payer has paid it in: then its tasks may be given out.

        Raises
        ------
        UnavailableError
            The chain cannot be reached; or what was paid in cannot be claimed any more.
        """
        chain = self._chain()
        with self._store.reading() as session:
            payer = session.get_one(JobRow, job_id).payer
        funding = chain.funding_of(Digest.parse(job_id), Address.parse(payer))
        if funding is None:
            return False
        if funding.deadline <= chain.block_number():
            raise UnavailableError(f"what was paid in could be claimed until block {funding.deadline} only")
        with self._store.writing() as session:
            session.exec(update(JobRow).where(col(JobRow.job_id) == job_id).values(unfunded=False))
        return True

    def due(self) -> list[str]:
        """Jobs with tasks whose payment may be taken a step further now."""
        if self._around is None:
            return []
        with self._store.looking() as session:
            first = func.min(func.coalesce(col(PaymentRow.look_at), 0))
            waits = _unpaid().with_only_columns(col(TaskRow.job_id), first).group_by(col(TaskRow.job_id))
            found = session.execute(waits).all()
        if not found:
            return []
        head = self._chain().block_number()
        return [job_id for job_id, look_at in found if look_at <= head]

    def advance(self, job_id: str) -> bool:
        """Take the payments of some tasks of a job a step further; whether anything changed.

        Raises
        ------
        UnavailableError, ChainError
            The chain cannot be reached, or refuses for now: call again later.
        """
        self._outbox.advance()
        head = self._chain().block_number()
        with self._store.reading() as session:
            job = session.get_one(JobRow, job_id)
            ready = or_(col(PaymentRow.look_at).is_(None), col(PaymentRow.look_at) <= head)
            wanted = _unpaid().where(col(TaskRow.job_id) == job_id, ready).order_by(col(TaskRow.start))
            tasks = session.exec(wanted.limit(_TASKS_A_TURN)).all()
        changed = False
        for task in tasks:
            if self._outbox.room() < _LEFT_TO_OTHERS:
                break
            changed |= self._task(job, task, head)
        return changed

    def _task(self, job: JobRow, task: TaskRow, head: int) -> bool:
        chain, payer = self._chain(), Address.parse(job.payer)
        job_id, digest = Digest.parse(job.job_id), Digest.parse(task.statement_digest)
        try:
            standing = standing_of(chain, payer, job_id, task.start, digest)
        except NotFoundError as error:  # its block was dropped
            raise UnavailableError(error.message) from None
        try:
            return self._step(task, payer, job_id, standing, head)
        except RevertError as error:
            decided = error.name in _DECIDED
            state = PaymentState.LOST if decided else PaymentState.UNDER_WAY
            return self._note(task, state, head + _AGAIN_BLOCKS, error.message)

    def _step(self, task: TaskRow, payer: Address, job_id: Digest, standing: Standing, head: int) -> bool:
        chain = self._chain()
        match standing.step:
            case Step.CLAIM:
                found = self._statements.read(Digest.parse(task.task_id))
                call = chain.claiming(payer, found.statement, found.signature, place_of(found))
                self._outbox.post(Purpose.CLAIM, task.task_id, call, lambda session, transaction: None)
            case Step.SETTLE:
                call = chain.settling(job_id, payer, standing.task)
                self._outbox.post(Purpose.SETTLE, task.task_id, call, lambda session, transaction: None)
            case Step.WAIT:
                until = standing.claim.challengeable_until
                return self._note(
                    task, PaymentState.UNDER_WAY, until if until > head else head + _AGAIN_BLOCKS, standing.reason
                )
            case Step.PAID | Step.LOST:
                if self._outbox.unsettled(Purpose.CLAIM, task.task_id) or self._outbox.unsettled(
                    Purpose.SETTLE, task.task_id
                ):
                    return False  # a block that the chain may still drop says so
                state = PaymentState.PAID if standing.step == Step.PAID else PaymentState.LOST
                return self._note(task, state, 0, standing.reason)
        self._outbox.advance()
        return True

    def _note(self, task: TaskRow, state: PaymentState, look_at: int, reason: str) -> bool:
        with self._store.writing() as session:
            session.merge(PaymentRow(task_id=task.task_id, state=state, look_at=look_at, reason=reason))
        return True


def payment_of(session: Session, job: JobRow, around: Accountability | None) -> PaymentView | None:
    """How the payment of a job stands; None if it has none."""
    if job.payer is None:
        return None
    mine = select(PaymentRow).join(TaskRow, col(TaskRow.task_id) == col(PaymentRow.task_id))
    counts = select(PaymentRow.state, func.count()).join(TaskRow, col(TaskRow.task_id) == col(PaymentRow.task_id))
    of_job = col(TaskRow.job_id) == job.job_id
    found = dict(session.exec(counts.where(of_job).group_by(col(PaymentRow.state))).all())
    waits = session.exec(mine.where(of_job, col(PaymentRow.state) == PaymentState.UNDER_WAY).limit(1)).first()
    return PaymentView(
        payer=Address.parse(job.payer),
        escrow=around.job_escrow if around is not None else None,
        funded=not job.unfunded,
        paid=found.get(PaymentState.PAID, 0),
        lost=found.get(PaymentState.LOST, 0),
        reason=waits.reason if waits is not None else None,
    )


def _unpaid() -> SelectOfScalar[TaskRow]:
    """Anchored tasks of paid jobs whose payment is not at its end, with what is known of it."""
    joined = select(TaskRow).join(JobRow, col(JobRow.job_id) == col(TaskRow.job_id))
    known = joined.join(PaymentRow, col(PaymentRow.task_id) == col(TaskRow.task_id), isouter=True)
    open_still = or_(col(PaymentRow.state).is_(None), col(PaymentRow.state).not_in(_ENDS))
    paid = (col(JobRow.payer).is_not(None), col(JobRow.unfunded).is_(False))
    return known.where(*paid, col(TaskRow.state) == TaskState.ANCHORED, open_still)
