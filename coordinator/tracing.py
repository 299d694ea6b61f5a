"""The last spans of a job's trace, made by whichever process issues its certificate."""

from __future__ import annotations

from sqlmodel import Session, col, select

from coordinator import metrics
from coordinator.certificates import Certificates
from coordinator.states import number_of
from coordinator.store import Store
from coordinator.tables import EventRow, JobRow
from rexis.api import JobState, TaskState
from rexis.telemetry import traces

_NS_PER_MS = 1_000_000


class Ending:
    """Issues certificates, and tells how long a job's statements waited for their anchor."""

    def __init__(self, store: Store, certificates: Certificates) -> None:
        self._store, self._certificates = store, certificates

    def issue(self, job_id: str) -> bool:
        """See :meth:`coordinator.certificates.Certificates.issue`."""
        with self._store.reading() as session:
            trace = session.get_one(JobRow, job_id).trace
        if trace is None:
            changed = self._certificates.issue(job_id)
        else:
            with traces.span("certificate", trace, job_id=job_id):
                changed = self._certificates.issue(job_id)
        with self._store.reading() as session:
            if session.get_one(JobRow, job_id).state != JobState.CERTIFIED:
                return changed
            accepted, anchored = (_last(session, job_id, state) for state in (TaskState.ACCEPTED, TaskState.ANCHORED))
        if accepted is not None and anchored is not None:
            metrics.ANCHOR_SECONDS.observe(max(0, anchored - accepted) / 1000)
            traces.record("anchor", trace, accepted * _NS_PER_MS, anchored * _NS_PER_MS, job_id=job_id)
        return changed


def _last(session: Session, job_id: str, state: TaskState) -> int | None:
    """When the last task of a job came into a state, in milliseconds."""
    wanted = select(EventRow.at).where(
        col(EventRow.job) == number_of(job_id), col(EventRow.entity) == "task", col(EventRow.after) == state
    )
    return session.exec(wanted.order_by(col(EventRow.id).desc()).limit(1)).first()
