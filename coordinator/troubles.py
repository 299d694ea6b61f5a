"""Why jobs are held up where it isn't for a worker: noted by the process that found out, told by any."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sqlmodel import Session, col, delete, select

from coordinator.store import Store
from coordinator.tables import JobRow, TroubleRow
from coordinator.times import Clock
from rexis.api import JobState

# Values in one statement; databases have a limit.
_AT_ONCE = 1000
_ENDED = (JobState.CERTIFIED, JobState.FAILED)


class Troubles:
    """One reason a job at most, the latest.

    A job that has ended is held up by nothing: a process may be cut off between what it did and the note of it.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    def note(self, jobs: Collection[str], reason: str) -> None:
        """Jobs are held up; those that are not there are left out."""
        for some in _parts(jobs):
            with self._store.reading() as session:
                news = set(some) - {job for job, known in self.of(session, some).items() if known == reason}
            if news:
                with self._store.writing() as session:
                    for job in session.exec(select(JobRow.job_id).where(col(JobRow.job_id).in_(news))).all():
                        session.merge(TroubleRow(job_id=job, reason=reason, at=self._clock()))

    def clear(self, jobs: Collection[str]) -> None:
        """Jobs are held up no more."""
        for some in _parts(jobs):
            theirs = col(TroubleRow.job_id).in_(some)
            with self._store.reading() as session:
                known = session.exec(select(TroubleRow.job_id).where(theirs).limit(1)).first()
            if known is not None:
                with self._store.writing() as session:
                    session.exec(delete(TroubleRow).where(theirs))

    def of(self, session: Session, jobs: Collection[str]) -> dict[str, str]:
        """The reason of each of these jobs that is held up."""
        wanted = (
            select(TroubleRow.job_id, TroubleRow.reason)
            .join(JobRow, col(JobRow.job_id) == col(TroubleRow.job_id))
            .where(col(TroubleRow.job_id).in_(jobs), col(JobRow.state).not_in(_ENDED))
        )
        return dict(session.exec(wanted).all())


def _parts(jobs: Collection[str]) -> Iterator[list[str]]:
    names = list(jobs)
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]
