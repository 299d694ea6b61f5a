"""Leases: the time-bounded right of one worker to one task. They live in SQL, so a restart loses none."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import cast

from sqlalchemy import ColumnElement, CursorResult, and_, func
from sqlmodel import Session, col, select, update

from coordinator.catalogue import vka_words
from coordinator.standing import Rules, placeable
from coordinator.store import Store
from coordinator.tables import CommitmentRow, FaultRow, JobRow, LeaseRow, Outcome, PieceRow, TaskRow
from coordinator.times import Clock, rfc3339
from coordinator.workers import Workers
from rexis.api import JobState, Lease, LeaseExtended, Progress, Stage, TaskState
from rexis.protocol.digests import Digest
from rexis.protocol.errors import EvidenceError, LeaseError
from rexis.protocol.evidence import MAX_SEGMENTS
from rexis.protocol.parsing import Address, enum_name, parse_hex
from rexis.protocol.policy import Tier
from rexis.protocol.statement import JobRequest
from rexis.protocol.typed_data import Domain

# A task that made the same worker vanish, or that it gave back, so often is likely what makes it do so.
_FAULT_AT = {Outcome.EXPIRED: 3, Outcome.RETURNED: 10}
_FAULTS = {
    Outcome.EXPIRED: ("lease-expired", "{} leases of this task expired without a sign of life"),
    Outcome.RETURNED: ("given-back", "{} leases of this task were given back"),
}


_STAGES = list(Stage)


@dataclass(frozen=True)
class Terms:
    """What a lease is good for.

    Attributes
    ----------
    lease_ms
        How long a lease lasts after the worker's last sign of life.
    stalled_ms
        After so long without progress, heartbeats keep it no longer.
    most_ms
        How long it lasts in all.
    at_a_time
        Open leases of one worker.
    heartbeat_seconds
        How often the worker is asked for a sign of life.
    """

    lease_ms: int
    stalled_ms: int
    most_ms: int
    at_a_time: int
    heartbeat_seconds: int


class Leases:
    """Who works on what."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        workers: Workers,
        domain: Domain,
        rules: Rules,
        terms: Terms,
    ) -> None:
        self._store, self._clock, self._workers, self._domain = store, clock, workers, domain
        self._rules, self._terms = rules, terms

    def grant(self, worker: Address) -> Lease | None:
        """The oldest task that the worker may do, leased to it; None if there is none.

        Raises
        ------
        ForbiddenError
            The caller is not registered as a worker.
        """
        self.expire()
        with self._store.writing() as session:
            row = self._workers.seen(session, worker)
            held = select(func.count()).select_from(LeaseRow).where(col(LeaseRow.worker) == worker)
            if session.exec(held.where(col(LeaseRow.outcome) == Outcome.OPEN)).one() >= self._terms.at_a_time:
                return None
            fits = placeable(session, row, self._clock(), self._rules)
            task = session.exec(
                select(TaskRow)
                .where(col(TaskRow.state) == TaskState.PENDING, fits)
                .order_by(col(TaskRow.submitted_at), col(TaskRow.job_id), col(TaskRow.start))
                .limit(1)
            ).first()
            if task is None:
                return None
            now = self._clock()
            lease = LeaseRow(
                lease_id=secrets.token_hex(16),
                task_id=task.task_id,
                worker=worker,
                nonce=str(Digest(secrets.token_bytes(32))),
                granted_at=now,
                progressed_at=now,
                expires_at=now + self._terms.lease_ms,
            )
            claimed = session.exec(
                update(TaskRow)
                .where(col(TaskRow.task_id) == task.task_id, col(TaskRow.state) == TaskState.PENDING)
                .values(state=TaskState.LEASED, lease_id=lease.lease_id)
            )
            if cast("CursorResult[object]", claimed).rowcount != 1:
                return None  # another coordinator process was faster
            session.add(lease)
            job = session.get_one(JobRow, task.job_id)
            if job.state == JobState.QUEUED:
                job.state = JobState.RUNNING
            return self._document(session, lease, task, job)

    def heartbeat(self, lease_id: str, worker: Address, progress: Progress) -> LeaseExtended:
        """Note how far a lease is, and keep it: as long as it gets somewhere, and not for ever.

        While the chain has not drawn the challenge of a commitment, it is not the worker's turn.
        """
        self.expire()
        with self._store.writing() as session:
            self._workers.seen(session, worker)
            lease = require_open(session, lease_id, worker)
            task, now = session.get_one(TaskRow, lease.task_id), self._clock()
            before = Progress.from_json(lease.progress.encode()) if lease.progress else None
            committed = session.get(CommitmentRow, lease_id)
            waits = committed is not None and committed.challenge_block_hash is None
            most = _steps(session, lease_id, task, progress.stage)
            if waits or before is None or place(progress, most) > place(before, most):
                lease.progressed_at = now
                lease.progress = progress.to_json().decode()
            if now - lease.progressed_at < self._terms.stalled_ms:
                lease.expires_at = min(now + self._terms.lease_ms, lease.granted_at + self._terms.most_ms)
            return LeaseExtended(expires_at=rfc3339(lease.expires_at))

    def keep(self, lease_id: str) -> None:
        """Keep a lease while its evidence is checked: that may take longer than a lease."""
        with self._store.writing() as session:
            session.exec(
                update(LeaseRow)
                .where(col(LeaseRow.lease_id) == lease_id, col(LeaseRow.outcome) == Outcome.OPEN)
                .values(expires_at=self._clock() + self._terms.lease_ms)
            )

    def give_up(self, lease_id: str, worker: Address, code: str, detail: str) -> None:
        """The worker cannot do the task: another one shall."""
        self._leave(lease_id, worker, Outcome.GAVE_UP, (code, detail))

    def give_back(self, lease_id: str, worker: Address) -> None:
        """The worker stops. No fault is recorded, unless it has committed to a statement."""
        self._leave(lease_id, worker, Outcome.RETURNED)

    def refuse(self, lease_id: str, worker: Address, detail: str) -> None:
        """The worker's evidence does not hold."""
        with self._store.writing() as session:
            lease = require_open(session, lease_id, worker)
            self._end(session, lease, Outcome.REFUSED, (EvidenceError.code, detail))

    def expire(self) -> int:
        """Put the tasks of overdue leases back; returns how many there were."""
        now = self._clock()
        with self._store.reading() as session:
            if session.exec(select(LeaseRow.lease_id).where(_overdue(now)).limit(1)).first() is None:
                return 0
        with self._store.writing() as session:
            leases = session.exec(select(LeaseRow).where(_overdue(now))).all()
            for lease in leases:
                self._end(session, lease, Outcome.EXPIRED)
        return len(leases)

    def _leave(self, lease_id: str, worker: Address, outcome: Outcome, fault: tuple[str, str] | None = None) -> None:
        self.expire()
        with self._store.writing() as session:
            lease = session.get(LeaseRow, lease_id)
            if lease is not None and lease.worker == worker and lease.outcome == outcome:
                return  # said twice
            self._end(session, require_open(session, lease_id, worker), outcome, fault)

    def _end(self, session: Session, lease: LeaseRow, outcome: Outcome, fault: tuple[str, str] | None = None) -> None:
        """End a lease without accepted evidence; where that is a fault, record it with its code and detail.

        After a commitment every such end is one: the commitment cost an attempt, which nobody gets back.
        """
        close(session, lease, outcome)
        session.flush()
        committed = session.get(CommitmentRow, lease.lease_id) is not None
        if fault is None and committed:
            fault = "commitment-dropped", f"the lease ended ({outcome}) after a commitment, without evidence"
        if fault is None and outcome in _FAULT_AT:
            same = (col(LeaseRow.task_id) == lease.task_id, col(LeaseRow.worker) == lease.worker)
            alike = select(func.count()).select_from(LeaseRow).where(*same, col(LeaseRow.outcome) == outcome)
            if (count := session.exec(alike).one()) >= _FAULT_AT[outcome]:
                code, text = _FAULTS[outcome]
                fault = code, text.format(count)
        if fault is None:
            return
        code, detail = fault
        session.add(
            FaultRow(
                task_id=lease.task_id,
                worker=lease.worker,
                at=self._clock(),
                outcome=outcome,
                code=code,
                detail=detail[:2000],
                committed=committed,
            )
        )
        session.flush()
        self._give_the_task_up(session, lease.task_id)

    def _give_the_task_up(self, session: Session, task_id: str) -> None:
        """Fail the job of a task that as many workers have failed as may."""
        of_task = (
            select(FaultRow)
            .where(col(FaultRow.task_id) == task_id, col(FaultRow.helping).is_(False))
            .order_by(col(FaultRow.id))
        )
        found = session.exec(of_task).all()
        if len(found) < self._rules.max_faults:
            return
        task, last = session.get_one(TaskRow, task_id), found[-1]
        reason = f"{records(task)}: {len(found)} workers failed, the last with {last.code}: {last.detail[:300]}"
        fail_job(session, session.get_one(JobRow, task.job_id), reason)

    def _document(self, session: Session, lease: LeaseRow, task: TaskRow, job: JobRow) -> Lease:
        request = JobRequest.from_json(job.request.encode())
        proved = request.circuit.visibility != 0
        return Lease(
            lease_id=lease.lease_id,
            nonce=Digest.parse(lease.nonce),
            expires_at=rfc3339(lease.expires_at),
            heartbeat_seconds=self._terms.heartbeat_seconds,
            domain=self._domain,
            request=request,
            request_signature=parse_hex(job.signature),
            start=task.start,
            count=task.count,
            vka=vka_words(session, request.model_digest, request.key_epoch) if proved else [],
        )


def require_open(session: Session, lease_id: str, worker: Address) -> LeaseRow:
    """An open lease of this worker.

    Raises
    ------
    LeaseError
        It has ended, was never there, or is another worker's.
    """
    lease = session.get(LeaseRow, lease_id)
    if lease is None:
        raise LeaseError("no such lease", hint="ask for another one")
    if lease.worker != worker:
        raise LeaseError("the lease belongs to another worker")
    if lease.outcome != Outcome.OPEN:
        raise LeaseError(f"the lease has ended ({Outcome(lease.outcome)})", hint="ask for another one")
    return lease


def close(session: Session, lease: LeaseRow, outcome: Outcome) -> None:
    """End a lease. Unless its evidence was accepted, its task waits for a worker again."""
    lease.outcome = outcome
    session.add(lease)
    task = session.get_one(TaskRow, lease.task_id)
    if outcome != Outcome.ACCEPTED and task.lease_id == lease.lease_id and task.state == TaskState.LEASED:
        task.state, task.lease_id = TaskState.PENDING, None
        session.add(task)


def place(progress: Progress, most: int) -> tuple[int, int]:
    """Where progress stands; more records or proofs than there are do not count: a lease has only so many steps."""
    return _STAGES.index(progress.stage), min(progress.done, most)


def _steps(session: Session, lease_id: str, task: TaskRow, stage: Stage) -> int:
    """How many steps of progress a stage can have: segments whose keys are made, proofs, otherwise records."""
    if stage == Stage.SETUP and task.tier != enum_name(Tier.COMMIT):
        return MAX_SEGMENTS
    pieces = select(func.count()).select_from(PieceRow).where(col(PieceRow.lease_id) == lease_id)
    return task.count * max(1, session.exec(pieces).one())


def records(task: TaskRow) -> str:
    """How reasons call a task."""
    return f"records {task.start} … {task.start + task.count - 1}"


def fail_job(session: Session, job: JobRow, reason: str) -> None:
    """A job that cannot be finished: its tasks fail, its leases end. One that has ended stays as it is."""
    if job.state in (JobState.CERTIFIED, JobState.FAILED):
        return
    job.state, job.reason = JobState.FAILED, reason
    session.add(job)
    for task in session.exec(select(TaskRow).where(col(TaskRow.job_id) == job.job_id)):
        if task.state == TaskState.LEASED and task.lease_id is not None:
            close(session, session.get_one(LeaseRow, task.lease_id), Outcome.CANCELLED)
        if task.state in (TaskState.PENDING, TaskState.LEASED):
            task.state = TaskState.FAILED
        session.add(task)


def _overdue(now: int) -> ColumnElement[bool]:
    return and_(col(LeaseRow.outcome) == Outcome.OPEN, col(LeaseRow.expires_at) <= now)
