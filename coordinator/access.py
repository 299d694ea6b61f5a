"""Who may read which blob. Their contents are encrypted, but not for everybody who can sign in."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlmodel import Session, col, select

from coordinator.inventory import keep
from coordinator.quotas import Quotas
from coordinator.store import Store
from coordinator.tables import JobBlobRow, JobRow, LeaseRow, Outcome, PieceRow, ReaderRow, TaskRow
from coordinator.times import Clock
from coordinator.validation import readable_by_validators
from rexis.api import PieceState, Role
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import Address
from rexis.protocol.training import read_request


class Access:
    """A blob is read by who uploaded it, by requesters of jobs on it, by workers while they have such a task, or a
    piece of one, and by validators while they are asked about a job that they cannot check without it.

    A model's or dataset's registrant is who uploaded it: nobody registers what they do not have. To everybody else a
    blob is not there.
    """

    def __init__(self, store: Store, quotas: Quotas, clock: Clock) -> None:
        self._store, self._quotas, self._clock = store, quotas, clock

    def holds(self, caller: Address, digest: Digest) -> bool:
        """Whether the caller uploaded a blob, or has a job on it."""
        with self._store.looking() as session:
            return _holds(session, caller, digest)

    def may_read(self, caller: Address, digest: Digest, roles: Collection[Role] = ()) -> bool:
        """Whether the caller holds a blob, or has an open lease, a piece of one or a check to make that needs it."""
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
            return (
                _holds(session, caller, digest)
                or session.exec(needed.limit(1)).first() is not None
                or _helps(session, caller, digest)
                or (Role.VALIDATOR in roles and readable_by_validators(session, digest))
            )

    def require_room(self, caller: Address, size: int) -> None:
        """Refuse an upload before it comes, if it is more than the caller may store (:class:`QuotaError`)."""
        with self._store.looking() as session:
            self._quotas.require_room(session, caller, size)

    def uploaded(self, caller: Address, digest: Digest, size: int) -> None:
        """Note that the caller has shown all of a blob.

        Raises
        ------
        QuotaError
            It is more than the caller may store. Nobody has the blob through this.
        UnavailableError
            The upload took so long that the blob is just being removed.
        """
        with self._store.writing() as session:
            keep(session, {digest: size}, self._clock())
            row = session.get(ReaderRow, (str(digest), caller)) or ReaderRow(digest=str(digest), address=caller)
            if not row.stored:
                self._quotas.require_room(session, caller, size)
                row.stored = size
                session.add(row)


def _holds(session: Session, caller: Address, digest: Digest) -> bool:
    return session.get(ReaderRow, (str(digest), caller)) is not None


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
        request = read_request(document.encode())
        circuit = request.circuit
        needed = (request.model_digest, circuit.settings_digest, circuit.vk_digest, circuit.srs_digest)
        if digest in needed or str(digest) == values:
            return True
    return False


def add_readers(session: Session, address: Address, digests: Iterable[Digest]) -> None:
    """Let somebody read blobs from now on."""
    for digest in set(digests):
        if session.get(ReaderRow, (str(digest), address)) is None:
            session.add(ReaderRow(digest=str(digest), address=address))
