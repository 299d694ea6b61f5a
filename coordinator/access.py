"""Who may read which blob. Their contents are encrypted, but not for everybody who can sign in."""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import Session, col, select

from coordinator.store import Store
from coordinator.tables import JobBlobRow, JobRow, LeaseRow, Outcome, PieceRow, ReaderRow, TaskRow
from rexis.api import PieceState
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import Address
from rexis.protocol.statement import JobRequest


class Access:
    """A blob is read by who uploaded it, by requesters of jobs on it, and by workers while they have such a task, or a
    piece of one.

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
        """Whether the caller holds a blob, or has an open lease or a piece of one that needs it."""
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
            return session.exec(needed.limit(1)).first() is not None or _helps(session, caller, digest)

    def uploaded(self, caller: Address, digest: Digest) -> None:
        """Note that the caller has shown all of a blob."""
        with self._store.writing() as session:
            add_readers(session, caller, [digest])


def _helps(session: Session, caller: Address, digest: Digest) -> bool:
    """Whether the caller holds a piece that needs a blob: everything of the job but the dataset, and its values."""
    held = (
        select(PieceRow.values_digest, JobRow.request)
        .join(LeaseRow, col(LeaseRow.lease_id) == col(PieceRow.lease_id))
        .join(TaskRow, col(TaskRow.task_id) == col(LeaseRow.task_id))
        .join(JobRow, col(JobRow.job_id) == col(TaskRow.job_id))
        .where(
            col(PieceRow.worker) == caller,
            col(PieceRow.state) == PieceState.HELD,
            col(LeaseRow.outcome) == Outcome.OPEN,
        )
    )
    for values, document in session.exec(held):
        request = JobRequest.from_json(document.encode())
        circuit = request.circuit
        needed = (request.model_digest, circuit.settings_digest, circuit.vk_digest, circuit.srs_digest)
        if digest in needed or str(digest) == values:
            return True
    return False


def add_readers(session: Session, address: Address, digests: Iterable[Digest]) -> None:
    """Let somebody read blobs from now on."""
    for digest in set(digests):
        session.merge(ReaderRow(digest=str(digest), address=address))
