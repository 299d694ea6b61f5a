"""How jobs and tasks look from outside, why they wait, and what became of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, func, or_, select

from contracts.accountability import Accountability
from coordinator.payments import payment_of
from coordinator.placement import Candidate, is_training, waiting_reason
from coordinator.scheduling import jobs_ahead, requesters_ahead
from coordinator.standing import Rules, attempts, last_attempt
from coordinator.states import number_of, of_task
from coordinator.store import Store
from coordinator.tables import TASK_TRIED, EventRow, FaultRow, JobRow, LeaseRow, TaskRow
from coordinator.times import Clock, rfc3339
from coordinator.transcripts import progress_of
from coordinator.troubles import Troubles
from coordinator.validation import explained
from coordinator.validation import progress_of as progress_of_validators
from coordinator.workers import Workers
from rexis.api import (
    Event,
    EventPage,
    Fault,
    JobState,
    JobSummary,
    JobView,
    Progress,
    TaskCounts,
    TaskPage,
    TaskState,
    TaskView,
    Waiting,
    WaitingGroup,
)
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ForbiddenError, NotFoundError
from rexis.protocol.parsing import Address
from rexis.protocol.training import read_request

SHOWN_TASKS = 100
MAX_PAGE = 1000
_MAX_LISTED = 100
_SHOWN_FAULTS = 10
_SHOWN_STARTS = 10
# Tasks that were tried before are looked at one by one, up to so many.
_MAX_TRIED = 1000
_OPEN = (JobState.QUEUED, JobState.RUNNING)
_QUARANTINED = (
    "quarantined: several different workers vanished with it; `rexis job retry JOB` has it tried again, without that "
    "only the rest of the job goes on"
)


class Views:
    """What requesters are shown, and workers of their tasks.

    Parameters
    ----------
    troubles
        Why jobs wait where it isn't for a worker.
    around
        Whose verdicts jobs may want, and by which escrow they may be paid.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        workers: Workers,
        rules: Rules,
        troubles: Troubles,
        around: Accountability | None = None,
    ) -> None:
        self._store, self._clock, self._workers, self._rules = store, clock, workers, rules
        self._troubles, self._counts, self._around = troubles, _Counts(), around

    def job(self, caller: Address, job_id: Digest, *, anybodys: bool = False) -> JobView:
        """A job of the caller's, or of anybody's, with its first tasks.

        Raises
        ------
        NotFoundError, ForbiddenError
            No such job, or somebody else's.
        """
        with self._store.reading() as session:
            row = own(session, caller, job_id, anybodys=anybodys)
            tasks = self._tasks(session, row, _of_job(row).limit(SHOWN_TASKS))
            training = progress_of(session, row.job_id) if is_training(row.tier) else None
            validation = progress_of_validators(session, row, self._around)
            payment = payment_of(session, row, self._around)
            beside = {"training": training, "validation": validation, "payment": payment}
            return JobView(tasks=tasks, **beside, **self._head(session, row))

    def jobs(self, caller: Address) -> list[JobSummary]:
        """The caller's newest jobs, newest first."""
        with self._store.reading() as session:
            rows = session.exec(
                select(JobRow)
                .where(col(JobRow.requester) == caller)
                .order_by(col(JobRow.submitted_at).desc(), col(JobRow.job_id))
                .limit(_MAX_LISTED)
            ).all()
            found = []
            for row in rows:
                head = self._head(session, row)
                counts: TaskCounts = head.pop("counts")
                found.append(JobSummary(task_count=counts.total, tasks_done=counts.done, **head))
            return found

    def require_own(self, caller: Address, job_id: Digest) -> None:
        """Return if the caller may see a job.

        Raises
        ------
        NotFoundError, ForbiddenError
            No such job, or somebody else's.
        """
        with self._store.reading() as session:
            own(session, caller, job_id)

    def tasks(
        self,
        caller: Address,
        job_id: Digest,
        after: int | None,
        most: int,
        state: TaskState | None = None,
        *,
        anybodys: bool = False,
    ) -> TaskPage:
        """Tasks of a job of the caller's, in the order of their records.

        Parameters
        ----------
        after
            First record of the last task of the page before.
        state
            Only those in this state.
        """
        with self._store.reading() as session:
            row = own(session, caller, job_id, anybodys=anybodys)
            wanted = _of_job(row)
            if after is not None:
                wanted = wanted.where(col(TaskRow.start) > after)
            if state is not None:
                wanted = wanted.where(col(TaskRow.state) == state)
            found = self._tasks(session, row, wanted.limit(most + 1))
        return TaskPage(tasks=found[:most], next=found[most - 1].start if len(found) > most else None)

    def task(self, caller: Address, identity: Digest, *, anybodys: bool = False) -> TaskView:
        """One task, for its requester and for the workers that had it, or for anybody."""
        with self._store.reading() as session:
            task = session.get(TaskRow, str(identity))
            if task is None:
                raise NotFoundError(f"no task {identity}")
            job = session.get_one(JobRow, task.job_id)
            leased = select(LeaseRow.lease_id).where(
                col(LeaseRow.task_id) == task.task_id, col(LeaseRow.worker) == caller
            )
            if not anybodys and caller != job.requester and session.exec(leased).first() is None:
                raise ForbiddenError("the task is of somebody else's job")
            (view,) = self._tasks(session, job, select(TaskRow).where(col(TaskRow.task_id) == task.task_id))
            return view

    def history(
        self,
        caller: Address,
        job_id: Digest,
        after: int,
        most: int,
        start: int | None = None,
        *,
        anybodys: bool = False,
    ) -> EventPage:
        """What became of a job of the caller's, or of its task that begins with record `start`; oldest first."""
        with self._store.reading() as session:
            own(session, caller, job_id, anybodys=anybodys)
            wanted = select(EventRow).where(col(EventRow.job) == number_of(str(job_id))).order_by(col(EventRow.id))
            if start is not None:
                wanted = wanted.where(or_(col(EventRow.start) == start, col(EventRow.start).is_(None)))
                rows = [row for row in of_task(session.exec(wanted), start) if (row.id or 0) > after][: most + 1]
            else:
                rows = list(session.exec(wanted.where(col(EventRow.id) > after).limit(most + 1)))
        return EventPage(
            events=[_event(row) for row in rows[:most]], next=rows[most - 1].id if len(rows) > most else None
        )

    def waiting(self, caller: Address, job_id: Digest, *, anybodys: bool = False) -> Waiting:
        """Why tasks of a job of the caller's are not being worked on."""
        with self._store.reading() as session:
            row = own(session, caller, job_id, anybodys=anybodys)
            counts = self._counts.of(session, row)
            groups: dict[str, list[int]] = defaultdict(list)
            more: dict[str, int] = defaultdict(int)
            tried = self._tasks(session, row, _of_job(row).where(TASK_TRIED).limit(_MAX_TRIED))
            held_back = _of_job(row).where(col(TaskRow.state) == TaskState.QUARANTINED).limit(_SHOWN_STARTS)
            for view in (*tried, *self._tasks(session, row, held_back)):
                groups[view.waiting or ""].append(view.start)
            if counts.quarantined:
                more[_QUARANTINED] = counts.quarantined - len(groups[_QUARANTINED])
            fresh = counts.pending - len(tried)
            if fresh > 0:
                reason = self._reason(session, row, self._workers.candidates(session), [], last=self._is_last(row))
                first = select(TaskRow.start).where(col(TaskRow.job_id) == row.job_id, col(TaskRow.ready_at) == 0)
                waits = first.where(col(TaskRow.state) == TaskState.PENDING).order_by(col(TaskRow.start))
                starts = list(session.exec(waits.limit(_SHOWN_STARTS)))
                groups[reason] += starts
                more[reason] += fresh - len(starts)
            trouble = self._troubles.of(session, [row.job_id]).get(row.job_id)
            for count, what in (
                (counts.accepted, "done, and its statement waits to be anchored"),
                (
                    counts.anchored if row.state == JobState.ANCHORING else 0,
                    f"anchored, and {self._for_validators(session, row) or 'the certificate is made'}",
                ),
            ):
                if count:
                    more[f"{what}: {trouble}" if trouble else what] += count
        found = [
            WaitingGroup(reason=reason, count=len(groups[reason]) + more[reason], starts=groups[reason][:_SHOWN_STARTS])
            for reason in dict.fromkeys((*groups, *more))
        ]
        return Waiting(groups=sorted((one for one in found if one.count > 0), key=lambda one: -one.count))

    def _head(self, session: Session, row: JobRow) -> dict[str, Any]:
        """What a job's documents have in common."""
        counts = self._counts.of(session, row)
        reason = row.reason or self._troubles.of(session, [row.job_id]).get(row.job_id)
        reason = reason or self._for_validators(session, row)
        if reason is None and counts.quarantined:
            reason = f"{counts.quarantined} of {counts.total} tasks are quarantined; see `rexis job why`"
        return {
            "job_id": Digest.parse(row.job_id),
            "state": JobState(row.state),
            "submitted_at": rfc3339(row.submitted_at),
            "request": read_request(row.request.encode()),
            "reason": reason,
            "certificate_digest": Digest.parse(row.certificate_digest) if row.certificate_digest else None,
            "counts": counts,
            "priority": row.priority,
            "deadline": rfc3339(row.deadline) if row.deadline is not None else None,
        }

    def _for_validators(self, session: Session, row: JobRow) -> str | None:
        """Why a job waits for validators, if that is what it waits for."""
        if row.state != JobState.ANCHORING or row.draft_digest is None:
            return None
        found = progress_of_validators(session, row, self._around)
        return None if found is None or found.settled == found.statements else explained(found)

    def _tasks(self, session: Session, job: JobRow, wanted: Any) -> list[TaskView]:
        """Views of the tasks that a statement selects; all are the job's."""
        tasks: Sequence[TaskRow] = session.exec(wanted).all()
        ids = [task.task_id for task in tasks]
        held = [task.lease_id for task in tasks if task.lease_id is not None]
        leases = {row.lease_id: row for row in session.exec(select(LeaseRow).where(col(LeaseRow.lease_id).in_(held)))}
        faults: dict[str, list[FaultRow]] = defaultdict(list)
        for fault in session.exec(select(FaultRow).where(col(FaultRow.task_id).in_(ids)).order_by(col(FaultRow.id))):
            faults[fault.task_id].append(fault)
        waits = [task.task_id for task in tasks if task.state == TaskState.PENDING]
        among = col(TaskRow.task_id).in_(waits)
        last = set(session.exec(select(TaskRow.task_id).where(among, last_attempt(self._rules))))
        none_left = attempts(col(TaskRow.task_id)) >= col(TaskRow.max_attempts)
        spent = set(session.exec(select(TaskRow.task_id).where(among, none_left)))
        workers = self._workers.candidates(session) if waits else []
        views = []
        for task in tasks:
            waiting = None
            if task.state == TaskState.QUARANTINED:
                waiting = _QUARANTINED
            elif task.task_id in spent:
                waiting = "no attempt is left, unless the chain says that one was never made: it is asked"
            elif task.state == TaskState.PENDING and task.ready_at > self._clock():
                waiting = f"tried again from {rfc3339(task.ready_at)}, since a worker failed it"
            elif task.state == TaskState.PENDING:
                failed = [fault.worker for fault in faults[task.task_id] if not fault.forgiven]
                waiting = self._reason(session, job, workers, failed, last=task.task_id in last)
            lease = leases.get(task.lease_id) if task.lease_id else None
            views.append(_view(task, lease, faults[task.task_id], waiting))
        return views

    def _reason(
        self, session: Session, job: JobRow, workers: Sequence[Candidate], failed: Sequence[str], *, last: bool
    ) -> str:
        if job.unfunded:
            at = self._around.job_escrow if self._around is not None else "an escrow that is not used here any more"
            return f"not paid in: {job.payer} has to pay it in at {at} (`rexis escrow fund`)"
        return waiting_reason(
            job.tier,
            job.needed_bytes,
            workers,
            failed,
            last=last,
            private=job.private_records,
            gpu_bytes=job.gpu_bytes,
            modality=job.modality,
            first=self._first(session, job),
        )

    def _first(self, session: Session, job: JobRow) -> str | None:
        """Whose tasks come before those of a job."""
        known: dict[str, str | None] = session.info.setdefault("first", {})
        if job.job_id not in known:
            others, mine = requesters_ahead(session, job.requester), jobs_ahead(session, job)
            ahead = [f"{others} other requester(s)"] * (others > 0) + [f"{mine} job(s) of your own"] * (mine > 0)
            known[job.job_id] = f"before it: {' and '.join(ahead)}" if ahead else None
        return known[job.job_id]

    def _is_last(self, job: JobRow) -> bool:
        """Whether the first attempt of a job's tasks is their last."""
        request = read_request(job.request.encode())
        return min(request.policy.max_attempts, self._rules.max_faults) <= 1


class _Counts:
    """How many tasks of each state a job has.

    Of a job with very many, the figures are kept for a time that is long beside that of counting.
    """

    _MANY = 10_000
    _TIMES = 20

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, TaskCounts]] = {}

    def of(self, session: Session, job: JobRow) -> TaskCounts:
        """Counts of one job."""
        begun = time.monotonic()
        until, counts = self._known.get(job.job_id, (0.0, TaskCounts()))
        if begun < until:
            return counts
        states = select(TaskRow.state, func.count()).where(col(TaskRow.job_id) == job.job_id)
        found = {TaskState(state).value: count for state, count in session.exec(states.group_by(col(TaskRow.state)))}
        if job.planned is not None:  # not made yet
            left = TaskState.PENDING if job.state in _OPEN else TaskState.FAILED
            request = read_request(job.request.encode())
            end, size = request.record_start + request.record_count, request.policy.shard_size
            found[left.value] = found.get(left.value, 0) + -(-(end - job.planned) // size)
        counts = TaskCounts(**found)
        if counts.total > self._MANY:
            now = time.monotonic()
            self._known = {name: one for name, one in self._known.items() if one[0] > now}
            self._known[job.job_id] = now + self._TIMES * (now - begun), counts
        return counts


def own(session: Session, caller: Address, job_id: Digest, *, anybodys: bool = False) -> JobRow:
    """A job of the caller's, or of anybody's.

    Raises
    ------
    NotFoundError, ForbiddenError
        No such job, or somebody else's.
    """
    row = session.get(JobRow, str(job_id))
    if row is None:
        raise NotFoundError(f"no job {job_id}")
    if row.requester != caller and not anybodys:
        raise ForbiddenError("the job is somebody else's")
    return row


def _of_job(job: JobRow) -> Any:
    return select(TaskRow).where(col(TaskRow.job_id) == job.job_id).order_by(col(TaskRow.start))


def _view(task: TaskRow, lease: LeaseRow | None, faults: Sequence[FaultRow], waiting: str | None) -> TaskView:
    return TaskView(
        task_id=Digest.parse(task.task_id),
        job_id=Digest.parse(task.job_id),
        start=task.start,
        count=task.count,
        state=TaskState(task.state),
        worker=Address.parse(lease.worker) if lease else None,
        progress=Progress.from_json(lease.progress.encode()) if lease and lease.progress else None,
        waiting=waiting,
        faults=[
            Fault(worker=Address.parse(fault.worker), at=rfc3339(fault.at), code=fault.code, detail=fault.detail)
            for fault in faults[-_SHOWN_FAULTS:]
        ],
        fault_count=len(faults),
    )


def _event(row: EventRow) -> Event:
    return Event(
        at=rfc3339(row.at),
        entity=row.entity,
        start=row.start,
        count=row.count,
        subject=row.subject,
        before=row.before,
        after=row.after,
        actor=Address.parse(row.actor) if row.actor else None,
        reason=row.reason,
    )
