"""Leases: the time-bounded right of one worker to one task. They live in SQL, so a restart loses none."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlmodel import Session, col, func, select, update

from coordinator.catalogue import vka_words
from coordinator.placement import is_training
from coordinator.scheduling import Offer, is_any, offer_of, pick, tidy
from coordinator.standing import Rules, note_fault
from coordinator.states import Step, change, change_each, change_in_job, create_leases, events_at_once
from coordinator.store import Store
from coordinator.tables import (
    JOB_OPEN,
    LEASE_OPEN,
    CheckpointRow,
    CommitmentRow,
    EvidenceState,
    FaultRow,
    JobRow,
    LeaseRow,
    Outcome,
    PieceRow,
    TaskRow,
    TrainingRow,
)
from coordinator.times import Clock, rfc3339
from coordinator.transcripts import forget_from, plan_of, reached_at, resumed
from coordinator.workers import Asking, Workers
from rexis.api import JobState, Lease, LeaseExtended, Progress, Stage, TaskState
from rexis.protocol.digests import Digest
from rexis.protocol.errors import EvidenceError, LeaseError
from rexis.protocol.evidence import MAX_SEGMENTS
from rexis.protocol.parsing import Address, enum_name, parse_hex
from rexis.protocol.policy import Tier
from rexis.protocol.statement import JobRequest
from rexis.protocol.training import read_request
from rexis.protocol.typed_data import Domain

# A task that made the same worker vanish, or that it gave back, so often is likely what makes it do so.
_FAULT_AT = {Outcome.EXPIRED: 3, Outcome.RETURNED: 10}
_FAULTS = {
    Outcome.EXPIRED: ("lease-expired", "{} leases of this task expired without a sign of life"),
    Outcome.RETURNED: ("given-back", "{} leases of this task were given back"),
}
_ENDS = {
    Outcome.EXPIRED: "no sign of life or progress came in time",
    Outcome.RETURNED: "given back",
}
# After these a task waits before it is handed out again: what ended the lease may be the task's doing.
_BACKS_OFF = (Outcome.EXPIRED, Outcome.GAVE_UP)
# Overdue leases are looked for at most so often by each process; several are ended in one transaction.
_LOOK_MS = 1000
_ENDED_AT_ONCE = 100
_TIDY_MS = 60_000
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
        self._looked_at = self._tidied_at = 0
        # Workers that got something when they last asked: they are not asked to look first.
        self._served: set[Address] = set()

    def grant(self, worker: Address) -> Lease | None:
        """The next task that the worker may do, leased to it; None if there is none."""
        return next(iter(self.grant_many(worker, 1)), None)

    def grant_many(self, worker: Address, most: int, memory_bytes: int | None = None) -> list[Lease]:
        """The next tasks that the worker may do, leased to it in one transaction.

        Parameters
        ----------
        memory_bytes
            What the worker has left for each; None for all that it registered.

        Raises
        ------
        ForbiddenError
            The caller is not registered as a worker.
        """
        self.expire()
        if worker not in self._served and self._is_in_vain(worker, most, memory_bytes):
            return []
        with self._store.writing() as session, events_at_once(session):
            asks = self._workers.asking(session, worker)
            self._workers.note(asks.row)
            offer = self._offer(asks, most, memory_bytes)
            granted = [
                self._document(session, lease, task, job)
                for job, tasks in (pick(session, *offer) if offer is not None else ())
                for lease, task in zip(self._lease(session, worker, job, tasks), tasks, strict=True)
            ]
        (self._served.add if granted else self._served.discard)(worker)
        return granted

    def _is_in_vain(self, worker: Address, most: int, memory_bytes: int | None) -> bool:
        """Whether a worker would get nothing. Most that ask do, and need not wait for those that write."""
        with self._store.reading() as session:
            asks = self._workers.asking(session, worker)
            if not self._workers.was_seen(asks.row):
                return False
            found = self._offer(asks, most, memory_bytes)
            return found is None or not is_any(session, found[0])

    def _offer(self, asks: Asking, most: int, memory_bytes: int | None) -> tuple[Offer, int] | None:
        """What a worker can take and how many; None if that is nothing."""
        now, row = self._clock(), asks.row
        most = min(most, self._workers.bound(row, asks.record) - asks.leases)
        offer = offer_of(row, asks.record, memory_bytes, now, self._rules)
        return (offer, most) if most > 0 and row.barred_until <= now else None

    def _lease(self, session: Session, worker: Address, job: JobRow, tasks: Sequence[TaskRow]) -> list[LeaseRow]:
        now = self._clock()
        leases = [
            LeaseRow(
                lease_id=secrets.token_hex(16),
                task_id=task.task_id,
                worker=worker,
                nonce=str(Digest(secrets.token_bytes(32))),
                granted_at=now,
                progressed_at=now,
                expires_at=now + self._terms.lease_ms,
            )
            for task in tasks
        ]
        held = [{"lease_id": lease.lease_id} for lease in leases]
        change_each(session, tasks, Step(TaskState.LEASED, "leased", worker), at=now, also=held)
        create_leases(session, leases, tasks, reason="granted", at=now, actor=worker)
        if job.state == JobState.QUEUED:
            change(session, job, JobState.RUNNING, reason=f"{records(tasks[0])} are leased", at=now)
        return leases

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
                begun = lease.granted_at
                if is_training(task.tier):  # however long it takes: as long as checkpoints come
                    begun = max(begun, reached_at(session, task.task_id))
                lease.expires_at = min(now + self._terms.lease_ms, begun + self._terms.most_ms)
            return LeaseExtended(expires_at=rfc3339(lease.expires_at))

    def receive(self, lease_id: str, worker: Address) -> None:
        """Note that evidence has come, and keep the lease while it is checked."""
        now = self._clock()
        with self._store.writing() as session:
            lease = require_open(session, lease_id, worker)
            lease.expires_at = now + self._terms.lease_ms
            if lease.evidence is None:
                change(session, lease, EvidenceState.RECEIVED, reason="handed in", at=now, actor=worker)

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

    def refuse_training(self, lease_id: str, worker: Address, detail: str, wrong: int | None) -> None:
        """A training's evidence does not hold. Checkpoint `wrong`, if it is one, and those after it are taken back.

        Who signed that checkpoint answers for it: that may be a worker from whom this one took the task over.
        """
        with self._store.writing() as session:
            lease = require_open(session, lease_id, worker)
            task, row = session.get_one(TaskRow, lease.task_id), None
            if wrong is not None:
                row = session.get(CheckpointRow, (task.task_id, wrong))
                forget_from(session, task.task_id, wrong)
            if row is None or row.worker == worker:
                self._end(session, lease, Outcome.REFUSED, (EvidenceError.code, detail))
                return
            now, reason = self._clock(), f"checkpoint {wrong} of worker {row.worker} is wrong"
            change(session, lease, EvidenceState.REFUSED, reason=detail, at=now)
            close(session, lease, Outcome.CANCELLED, reason=reason, at=now)
            self._blame(session, task, row.worker, (EvidenceError.code, detail))

    def expire(self) -> int:
        """Put the tasks of overdue leases back, and fail jobs past their deadline; returns how many there were."""
        now = self._clock()
        if now < self._looked_at + _LOOK_MS:
            return 0
        self._looked_at = now
        ended = 0
        while self._is_overdue(now):
            with self._store.writing() as session:
                overdue = select(LeaseRow).where(LEASE_OPEN, col(LeaseRow.expires_at) <= now)
                leases = session.exec(overdue.order_by(col(LeaseRow.expires_at)).limit(_ENDED_AT_ONCE)).all()
                for lease in leases:
                    session.refresh(lease)  # its job may have failed with one before
                    if lease.outcome == Outcome.OPEN:
                        self._end(session, lease, Outcome.EXPIRED)
                late = session.exec(select(JobRow).where(JOB_OPEN, col(JobRow.deadline) <= now)).all()
                for job in late:
                    fail_job(session, job, f"its deadline, {rfc3339(job.deadline or 0)}, has passed", at=now)
                ended += len(leases) + len(late)
        return ended

    def tidy_turns(self) -> None:
        """Now and then, forget turns of requesters who have nothing to do."""
        now = self._clock()
        if now < self._tidied_at + _TIDY_MS:
            return
        self._tidied_at = now
        with self._store.writing() as session:
            tidy(session)

    def _is_overdue(self, now: int) -> bool:
        with self._store.reading() as session:
            lease = select(LeaseRow.lease_id).where(LEASE_OPEN, col(LeaseRow.expires_at) <= now).limit(1)
            job = select(JobRow.job_id).where(JOB_OPEN, col(JobRow.deadline) <= now).limit(1)
            return session.exec(lease).first() is not None or session.exec(job).first() is not None

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
        now, task = self._clock(), session.get_one(TaskRow, lease.task_id)
        reason = f"{fault[0]}: {fault[1]}" if fault else _ENDS[outcome]
        if outcome == Outcome.REFUSED:
            change(session, lease, EvidenceState.REFUSED, reason=reason, at=now)
        actor = None if outcome == Outcome.EXPIRED else lease.worker
        change(session, lease, outcome, reason=reason, at=now, actor=actor)
        committed = session.get(CommitmentRow, lease.lease_id) is not None
        fault = fault or self._fault(session, lease, outcome, committed=committed)
        self._put_back(session, task, outcome, reason, tried=fault is not None)
        if fault is None:
            return
        self._blame(session, task, lease.worker, fault, outcome, committed=committed)

    def _blame(
        self,
        session: Session,
        task: TaskRow,
        worker: str,
        fault: tuple[str, str],
        outcome: Outcome = Outcome.REFUSED,
        *,
        committed: bool = False,
    ) -> None:
        """Record a fault, and what follows from it for the worker and the task."""
        (code, detail), now = fault, self._clock()
        session.add(
            FaultRow(
                task_id=task.task_id,
                worker=worker,
                at=now,
                outcome=outcome,
                code=code,
                detail=detail[:2000],
                committed=committed,
            )
        )
        note_fault(session, worker, task.tier, outcome, now, self._rules, committed=committed)
        session.flush()
        self._give_the_task_up(session, task)

    def _fault(self, session: Session, lease: LeaseRow, outcome: Outcome, *, committed: bool) -> tuple[str, str] | None:
        """What is wrong with how a lease ended where its worker does not say so itself."""
        if committed:
            return "commitment-dropped", f"the lease ended ({outcome}) after a commitment, without evidence"
        if outcome not in _FAULT_AT:
            return None
        same = (col(LeaseRow.task_id) == lease.task_id, col(LeaseRow.worker) == lease.worker)
        alike = select(func.count()).select_from(LeaseRow).where(*same, col(LeaseRow.outcome) == outcome)
        if (count := session.exec(alike).one()) < _FAULT_AT[outcome]:
            return None
        code, text = _FAULTS[outcome]
        return code, text.format(count)

    def _put_back(self, session: Session, task: TaskRow, outcome: Outcome, reason: str, *, tried: bool) -> None:
        """Have a task wait again: at once, after a while, or until its requester says so."""
        now, since = self._clock(), session.get_one(JobRow, task.job_id).retried_at
        failed: dict[str, list[str]] = defaultdict(list)
        if outcome in _BACKS_OFF:
            before = select(LeaseRow.outcome, LeaseRow.worker).where(
                col(LeaseRow.task_id) == task.task_id,
                col(LeaseRow.outcome).in_(_BACKS_OFF),
                col(LeaseRow.granted_at) >= since,
            )
            for kind, worker in session.exec(before):
                failed[kind].append(worker)
        vanished = len(set(failed[Outcome.EXPIRED]))
        if outcome == Outcome.EXPIRED and vanished >= self._rules.max_vanished:
            reason = f"{vanished} different workers vanished with it"
            change(session, task, TaskState.QUARANTINED, reason=reason, at=now, lease_id=None)
            return
        failures = sum(map(len, failed.values()))
        ready_at = now + self._rules.back_off(failures) if failures or tried else 0
        change(session, task, TaskState.PENDING, reason=reason, at=now, lease_id=None, ready_at=ready_at)

    def _give_the_task_up(self, session: Session, task: TaskRow) -> None:
        """Fail the job of a task that as many workers have failed as may."""
        of_task = (
            select(FaultRow)
            .where(
                col(FaultRow.task_id) == task.task_id,
                col(FaultRow.helping).is_(False),
                col(FaultRow.forgiven).is_(False),
            )
            .order_by(col(FaultRow.id))
        )
        found = session.exec(of_task).all()
        if len(found) < self._rules.max_faults:
            return
        last = found[-1]
        reason = f"{records(task)}: {len(found)} workers failed, the last with {last.code}: {last.detail[:300]}"
        fail_job(session, session.get_one(JobRow, task.job_id), reason, at=self._clock())

    def _document(self, session: Session, lease: LeaseRow, task: TaskRow, job: JobRow) -> Lease:
        request = request_of(job)
        proved, trains = request.circuit.visibility != 0, is_training(job.tier)
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
            trace=job.trace,
            plan=plan_of(session, job.job_id) if trains else None,
            transcript=resumed(session, task, lease.worker) if trains else [],
        )


def request_of(job: JobRow) -> JobRequest:
    """What a job asks for."""
    return _request(job.request)


@lru_cache(maxsize=256)
def _request(document: str) -> JobRequest:
    """A stored request. All tasks of a job have the same, and nobody changes one."""
    return read_request(document.encode())


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


def close(
    session: Session, lease: LeaseRow, outcome: Outcome, *, reason: str, at: int, actor: str | None = None
) -> None:
    """End a lease that nobody is to blame for, without accepted evidence: its task waits for a worker again."""
    change(session, lease, outcome, reason=reason, at=at, actor=actor)
    task = session.get_one(TaskRow, lease.task_id)
    if task.lease_id == lease.lease_id and task.state == TaskState.LEASED:
        change(session, task, TaskState.PENDING, reason=reason, at=at, lease_id=None)


def place(progress: Progress, most: int) -> tuple[int, int]:
    """Where progress stands; more records or proofs than there are do not count: a lease has only so many steps."""
    return _STAGES.index(progress.stage), min(progress.done, most)


def _steps(session: Session, lease_id: str, task: TaskRow, stage: Stage) -> int:
    """How many steps of progress a stage can have: segments whose keys are made, proofs, otherwise records.

    A training's are the plan's.
    """
    if is_training(task.tier):
        return session.get_one(TrainingRow, task.job_id).steps
    if stage == Stage.SETUP and task.tier != enum_name(Tier.COMMIT):
        return MAX_SEGMENTS
    pieces = select(func.count()).select_from(PieceRow).where(col(PieceRow.lease_id) == lease_id)
    return task.count * max(1, session.exec(pieces).one())


def records(task: TaskRow) -> str:
    """How reasons call a task."""
    return f"records {task.start} … {task.start + task.count - 1}"


def fail_job(session: Session, job: JobRow, reason: str, *, at: int, actor: str | None = None) -> None:
    """A job that cannot be finished: its tasks fail, its leases end. One that has ended stays as it is."""
    if job.state in (JobState.CERTIFIED, JobState.FAILED):
        return
    change(session, job, JobState.FAILED, reason=reason, at=at, actor=actor)
    job.reason = reason
    change_in_job(session, job.job_id, Outcome.OPEN, Outcome.CANCELLED, reason=reason, at=at, actor=actor)
    for state in (TaskState.PENDING, TaskState.LEASED, TaskState.QUARANTINED):
        change_in_job(session, job.job_id, state, TaskState.FAILED, reason=reason, at=at, actor=actor, lease_id=None)
    session.flush()
    session.expire_all()  # what was changed by the many is not what the session holds
