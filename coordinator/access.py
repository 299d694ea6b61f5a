"""Who may read which blob. Their contents are encrypted, but not for everybody who can sign in."""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import Session, col, select

from coordinator.store import Store
from coordinator.tables import JobBlobRow, LeaseRow, Outcome, ReaderRow, TaskRow
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import Address


class Access:
    """A blob is read by who uploaded it, by requesters of jobs on it, and by workers while they have such a task.

    A model's or dataset's registrant is who uploaded it: nobody registers what they do not have. To everybody else a
    blob is not there.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def holds(self, caller: Address, digest: Digest) -> bool:
        """Whether the caller uploaded a blob, or has a job on it."""
        with self._store.reading() as session:
            return session.get(ReaderRow, (str(digest), caller)) is not None

    def may_read(self, caller: Address, digest: Digest) -> bool:
        """Whether the caller holds a blob, or has an open lease that needs it."""
        if self.holds(caller, digest):
            return True
        needed = (
            select(LeaseRow.lease_id)
            .join(TaskRow, col(TaskRow.task_id) == col(LeaseRow.task_id))
            .join(JobBlobRow, col(JobBlobRow.job_id) == col(TaskRow.job_id))
            .where(
                col(LeaseRow.worker) == caller,
                col(LeaseRow.outcome) == Outcome.OPEN,
                col(JobBlobRow.digest) == str(digest),
            )
        )
        with self._store.reading() as session:
            return session.exec(needed.limit(1)).first() is not None

    def uploaded(self, caller: Address, digest: Digest) -> None:
        """Note that the caller has shown all of a blob."""
        with self._store.writing() as session:
            add_readers(session, caller, [digest])


def add_readers(session: Session, address: Address, digests: Iterable[Digest]) -> None:
    """Let somebody read blobs from now on."""
    for digest in set(digests):
        session.merge(ReaderRow(digest=str(digest), address=address))
