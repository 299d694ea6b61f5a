"""Removes blobs that nobody needs any more, in steps that can be cut off at any point and taken up again.

1. *Mark*: blobs of open jobs are used now. So the time since a blob's last use counts from the end of its last job.
2. *Condemn*: a blob that was not used for longer than the policy keeps its like is condemned.
3. *Remove*: what is still condemned after the grace is claimed, its bytes go, then its row, and what was known of it.

Until a blob is claimed, an upload or a job that uses it takes it back; from then on, until its row is gone, it is
refused for a moment (:mod:`coordinator.inventory`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, exists, false, or_
from sqlmodel import Session, col, delete, select, update

from coordinator.blobs import Blobs
from coordinator.store import Store
from coordinator.tables import (
    BlobRow,
    BlobState,
    DatasetRow,
    JobBlobRow,
    JobRow,
    LeaseRow,
    ModelRow,
    Outcome,
    PieceRow,
    ReaderRow,
    TaskRow,
    UploadRow,
)
from coordinator.times import Clock
from rexis.api import JobState
from rexis.protocol.circuit import NO_CIRCUIT, Circuit
from rexis.protocol.digests import Digest

_AT_A_TIME = 200
# A process that claimed a blob and died is followed by another one. No request to a store takes so long.
_CLAIM_MS = 15 * 60 * 1000
_ENDED = (JobState.CERTIFIED, JobState.FAILED)


@dataclass(frozen=True)
class Retention:
    """How long blobs are kept after their last use, in milliseconds; None for ever. Blobs of models always are.

    Attributes
    ----------
    unused_ms
        What nothing names: uploads that were not registered, evidence that was refused.
    dataset_ms
        Registered datasets, since they were registered or a job on them ended.
    job_ms
        What a job used and made, since it ended.
    certificate_ms
        Certificates, since their job ended.
    grace_ms
        From being condemned to being removed.
    """

    unused_ms: int
    dataset_ms: int | None
    job_ms: int | None
    certificate_ms: int | None
    grace_ms: int


@dataclass(frozen=True)
class Collected:
    """What one run did."""

    condemned: int = 0
    removed: int = 0
    removed_bytes: int = 0

    def to_object(self) -> dict[str, int]:
        """As JSON."""
        return {"condemned": self.condemned, "removed": self.removed, "removedBytes": self.removed_bytes}


class Garbage:
    """The collection. Several processes may run it at once."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock, retention: Retention) -> None:
        self._store, self._blobs, self._clock, self._retention = store, blobs, clock, retention

    def run(self) -> Collected:
        """Mark, condemn, remove."""
        with self._store.writing(collecting=True) as session:
            self._mark(session)
            condemned = self._condemn(session)
        removed = size = 0
        for digests in self._claimed():
            for digest, bytes_ in digests:
                self._blobs.remove(digest)
                removed, size = removed + 1, size + bytes_
            with self._store.writing(collecting=True) as session:
                _forget(session, [str(digest) for digest, _ in digests])
        return Collected(condemned=condemned, removed=removed, removed_bytes=size)

    def rehearse(self) -> list[tuple[Digest, int | None, BlobState]]:
        """What the next run would condemn and what it would remove: digest, size, state now. Nothing is changed."""
        with self._store.reading() as session:
            unused = list(session.exec(select(BlobRow).where(self._unused(session), ~_of_open_jobs())))
            due = list(session.exec(select(BlobRow).where(self._due())))
        return [(Digest.parse(row.digest), row.size, BlobState(row.fate)) for row in (*unused, *due)]

    def orphans(self, *, adopt: bool) -> Iterator[tuple[Digest, int]]:
        """Blobs in the store that no row knows, for example of a restored database; digest and size.

        Parameters
        ----------
        adopt
            Give them rows, so that they are used again or, if nobody does, collected like any other.
        """
        page: dict[Digest, tuple[int, int]] = {}
        for stored in self._blobs.listed():
            page[stored.digest] = stored.size, int(stored.at.timestamp() * 1000)
            if len(page) == _AT_A_TIME:
                yield from self._unknown(page, adopt=adopt)
                page = {}
        yield from self._unknown(page, adopt=adopt)

    def _unknown(self, page: dict[Digest, tuple[int, int]], *, adopt: bool) -> list[tuple[Digest, int]]:
        names = [str(digest) for digest in page]
        known = select(BlobRow.digest).where(col(BlobRow.digest).in_(names))
        with self._store.reading() as session:
            rows = set(session.exec(known))
        lost = [digest for digest in page if str(digest) not in rows]
        if adopt and lost:
            with self._store.writing(collecting=True) as session:
                rows = set(session.exec(known))
                session.add_all(
                    BlobRow(digest=str(digest), size=page[digest][0], used_at=page[digest][1])
                    for digest in lost
                    if str(digest) not in rows
                )
        return [(digest, page[digest][0]) for digest in lost]

    def _mark(self, session: Session) -> None:
        session.exec(
            update(BlobRow)
            .where(col(BlobRow.fate) != BlobState.REMOVING, _of_open_jobs())
            .values(used_at=self._clock(), fate=BlobState.LIVE)
        )

    def _condemn(self, session: Session) -> int:
        found = session.exec(
            update(BlobRow)
            .where(self._unused(session))
            .values(fate=BlobState.CONDEMNED, changed_at=self._clock())
            .execution_options(synchronize_session=False)
        )
        return int(found.rowcount)

    def _unused(self, session: Session) -> ColumnElement[bool]:
        """Live, and not used for longer than the policy keeps what it is."""
        keeps, digest = self._retention, col(BlobRow.digest)
        return and_(
            col(BlobRow.fate) == BlobState.LIVE,
            self._older(keeps.unused_ms),
            digest.not_in(_of_models(session)),
            digest.not_in(select(UploadRow.digest)),
            or_(self._older(keeps.certificate_ms), ~exists().where(col(JobRow.certificate_digest) == digest)),
            or_(self._older(keeps.dataset_ms), ~exists().where(col(DatasetRow.digest) == digest)),
            or_(
                self._older(keeps.job_ms),
                and_(
                    ~exists().where(col(JobBlobRow.digest) == digest),
                    ~exists().where(col(TaskRow.outputs_digest) == digest),
                    ~exists().where(col(TaskRow.evidence_digest) == digest),
                ),
            ),
        )

    def _older(self, lasting_ms: int | None) -> ColumnElement[bool]:
        return false() if lasting_ms is None else col(BlobRow.used_at) < self._clock() - lasting_ms

    def _due(self) -> ColumnElement[bool]:
        now = self._clock()
        return or_(
            and_(
                col(BlobRow.fate) == BlobState.CONDEMNED,
                col(BlobRow.changed_at) <= now - self._retention.grace_ms,
            ),
            and_(col(BlobRow.fate) == BlobState.REMOVING, col(BlobRow.changed_at) <= now - _CLAIM_MS),
        )

    def _claimed(self) -> Iterator[list[tuple[Digest, int]]]:
        """Take blobs to remove, some at a time; no other process takes them too."""
        while True:
            with self._store.writing(collecting=True) as session:
                rows = list(session.exec(select(BlobRow).where(self._due()).limit(_AT_A_TIME)))
                for row in rows:
                    row.fate, row.changed_at = BlobState.REMOVING, self._clock()
                found = [(Digest.parse(row.digest), row.size or 0) for row in rows]
            if not found:
                return
            yield found


def _of_open_jobs() -> ColumnElement[bool]:
    """What an open job needs, and what was made for it."""
    digest, unfinished = col(BlobRow.digest), col(JobRow.state).not_in(_ENDED)
    held = and_(col(PieceRow.lease_id) == col(LeaseRow.lease_id), col(LeaseRow.outcome) == Outcome.OPEN)
    return or_(
        exists().where(col(JobBlobRow.digest) == digest, col(JobRow.job_id) == col(JobBlobRow.job_id), unfinished),
        exists().where(col(JobRow.draft_digest) == digest, unfinished),
        exists().where(
            or_(col(TaskRow.outputs_digest) == digest, col(TaskRow.evidence_digest) == digest),
            col(JobRow.job_id) == col(TaskRow.job_id),
            unfinished,
        ),
        exists().where(or_(col(PieceRow.values_digest) == digest, col(PieceRow.proofs_digest) == digest), held),
    )


def _of_models(session: Session) -> set[str]:
    """Models and their circuits, which stand in documents."""
    found: set[str] = set()
    for digest, document in session.exec(select(ModelRow.model_digest, ModelRow.circuit)):
        found.add(digest)
        circuit = Circuit.from_json(document.encode())
        if circuit != NO_CIRCUIT:
            found |= {str(one) for one in (circuit.settings_digest, circuit.vk_digest, circuit.srs_digest)}
    return found


def _forget(session: Session, digests: list[str]) -> None:
    """Remove the rows of blobs whose bytes are gone. A dataset without its records is none."""
    session.exec(delete(BlobRow).where(col(BlobRow.digest).in_(digests), col(BlobRow.fate) == BlobState.REMOVING))
    session.exec(delete(ReaderRow).where(col(ReaderRow.digest).in_(digests)))
    session.exec(delete(DatasetRow).where(col(DatasetRow.digest).in_(digests)))
