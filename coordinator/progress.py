"""A job's changes as they happen, for streams: from the database, so that it does not matter which process made one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select
from starlette.concurrency import run_in_threadpool

from coordinator import metrics
from coordinator.bell import Bell, heard
from coordinator.states import number_of
from coordinator.store import Store
from coordinator.tables import EventRow, JobRow, LeaseRow, Outcome, TaskRow
from coordinator.times import rfc3339
from coordinator.views import Views
from rexis.api import JobChange, JobProgress, JobState, LeaseProgress, Progress, TaskState
from rexis.protocol.digests import Digest
from rexis.protocol.errors import RexisError
from rexis.protocol.parsing import Address, Strict

_DONE = (TaskState.ACCEPTED, TaskState.ANCHORED)
_ENDED = (JobState.CERTIFIED, JobState.FAILED)
_AT_ONCE = 500
_POLL_S = 1.0
_HEARTBEAT_S = 15.0
# Then the client comes again, with its token: rights that ended meanwhile end here.
_LONGEST_S = 3600.0
_SHARE = 20
_SHOWN_LEASES = 32


class StreamLimitError(RexisError):
    """As many streams are open as one caller may have."""

    code = "too-many-streams"
    status = 429
    retryable = True


@dataclass
class _Read:
    changes: list[tuple[int, JobChange]]
    progress: JobProgress | None
    ended: bool


class JobStreams:
    """Streams of server-sent events.

    Parameters
    ----------
    per_caller
        Open streams of one address in this process.
    """

    def __init__(self, store: Store, views: Views, bell: Bell, per_caller: int) -> None:
        self._store, self._views, self._bell, self._per_caller = store, views, bell, per_caller
        self._open: Counter[Address] = Counter()

    def admit(self, caller: Address, job_id: Digest) -> None:
        """Before a stream begins: may this caller have one?

        Raises
        ------
        NotFoundError, ForbiddenError
            No such job, or somebody else's.
        StreamLimitError
            Too many are open.
        """
        self._views.require_own(caller, job_id)
        if self._open[caller] >= self._per_caller:
            raise StreamLimitError(
                f"{self._per_caller} streams are open already", hint="close one, or ask for the job now and then"
            )

    async def stream(self, caller: Address, job_id: Digest, after: int) -> AsyncIterator[bytes]:
        """What happened after event `after`, then what happens, until the job ends."""
        begun = beaten = time.monotonic()
        last: JobProgress | None = None
        count_again = begun
        with self._counted(caller):
            while True:
                rung = self._bell.listen()
                now = time.monotonic()
                found = await run_in_threadpool(self._read, job_id, after, now >= count_again)
                for number, change in found.changes:
                    after = number
                    yield _frame("change", change, number)
                if found.progress is not None:
                    took = time.monotonic() - now
                    count_again = now + max(_POLL_S, _SHARE * took)
                    if found.progress != last:
                        last = found.progress
                        yield _frame("progress", last)
                        beaten = now
                if len(found.changes) == _AT_ONCE:
                    continue
                if found.ended and found.progress is not None:
                    yield _frame("end", found.progress)
                    return
                if self._bell.stopping or now - begun > _LONGEST_S:
                    return
                if now - beaten > _HEARTBEAT_S:
                    beaten = now
                    yield b": still here\n\n"
                await heard(rung, _POLL_S)

    @contextmanager
    def _counted(self, caller: Address) -> Iterator[None]:
        self._open[caller] += 1
        metrics.EVENT_STREAMS.inc()
        try:
            yield
        finally:
            metrics.EVENT_STREAMS.dec()
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

    def _read(self, job_id: Digest, after: int, count: bool) -> _Read:
        with self._store.reading() as session:
            state = JobState(session.get_one(JobRow, str(job_id)).state)
            wanted = select(EventRow).where(col(EventRow.job) == number_of(str(job_id)), col(EventRow.id) > after)
            rows = session.exec(wanted.order_by(col(EventRow.id)).limit(_AT_ONCE)).all()
            ended = state in _ENDED
            return _Read(
                [(row.id or 0, _change(row)) for row in rows],
                self._progress(session, job_id, state) if count or ended else None,
                ended,
            )

    def _progress(self, session: Session, job_id: Digest, state: JobState) -> JobProgress:
        counted = select(TaskRow.state, func.count()).where(col(TaskRow.job_id) == str(job_id))
        tasks = Counter({TaskState(found): n for found, n in session.exec(counted.group_by(col(TaskRow.state)))})
        held = (
            select(TaskRow.start, LeaseRow.progress)
            .join(LeaseRow, col(LeaseRow.lease_id) == col(TaskRow.lease_id))
            .where(
                col(TaskRow.job_id) == str(job_id),
                col(TaskRow.state) == TaskState.LEASED,
                col(LeaseRow.outcome) == Outcome.OPEN,
                col(LeaseRow.progress).is_not(None),
            )
            .order_by(col(TaskRow.start))
            .limit(_SHOWN_LEASES)
        )
        leases = [
            LeaseProgress(start=start, progress=Progress.from_json(document.encode()))
            for start, document in session.exec(held)
            if document is not None
        ]
        return JobProgress(
            state=state,
            tasks=tasks.total(),
            leased=tasks[TaskState.LEASED],
            done=sum(tasks[each] for each in _DONE),
            leases=leases,
        )


def _change(row: EventRow) -> JobChange:
    return JobChange(
        entity=row.entity,
        start=row.start,
        count=row.count,
        before=row.before,
        after=row.after,
        at=rfc3339(row.at),
        reason=row.reason,
    )


def _frame(kind: str, document: Strict, number: int | None = None) -> bytes:
    """One event. Canonical JSON has no line break but at its end, so that it is one line of data."""
    head = b"" if number is None else b"id: %d\n" % number
    return head + b"event: %s\ndata: %s\n\n" % (kind.encode(), document.to_json().rstrip())
