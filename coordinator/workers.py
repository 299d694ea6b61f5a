"""Workers, and what they may do."""

from __future__ import annotations

from sqlalchemy import func
from sqlmodel import Session, col, select

from coordinator.placement import Candidate
from coordinator.standing import credits_of
from coordinator.store import Store
from coordinator.tables import FaultRow, Outcome, WorkerRow
from coordinator.times import Clock, rfc3339
from rexis.api import WorkerRegistration, WorkerView
from rexis.protocol.errors import ForbiddenError
from rexis.protocol.parsing import Address, enum_name
from rexis.protocol.policy import Tier

_TIERS = {enum_name(tier): tier for tier in Tier}


class Workers:
    """The registered workers.

    Parameters
    ----------
    closed
        Only members sign in.
    online_ms
        A worker that was silent for so long counts as offline.
    """

    def __init__(self, store: Store, clock: Clock, online_ms: int, *, closed: bool) -> None:
        self._store, self._clock, self._online_ms, self._closed = store, clock, online_ms, closed

    def register(self, address: Address, registration: WorkerRegistration) -> tuple[WorkerView, bool]:
        """Make a worker known, or change it; returns it and whether it is new. What it failed before stays failed."""
        with self._store.writing() as session:
            row = session.get(WorkerRow, address)
            created = row is None
            row = row or WorkerRow(address=address, name="", provider="", tiers="", memory_bytes=0, last_seen=0)
            row.name, row.provider = registration.name, registration.provider
            row.tiers = " ".join(enum_name(tier) for tier in sorted(set(registration.tiers)))
            row.datasets = " ".join(str(digest) for digest in registration.datasets)
            row.memory_bytes, row.last_seen = registration.memory_bytes, self._clock()
            session.add(row)
            return _view(row, _faults(session).get(address, 0)), created

    def all(self) -> list[WorkerView]:
        """All workers, by name."""
        with self._store.reading() as session:
            faults = _faults(session)
            rows = session.exec(select(WorkerRow).order_by(WorkerRow.name, WorkerRow.address))
            return [_view(row, faults.get(row.address, 0)) for row in rows]

    def candidates(self, session: Session) -> list[Candidate]:
        """All workers, for placement."""
        since, found = self._clock() - self._online_ms, credits_of(session)
        return [
            Candidate(
                row.address,
                frozenset(tiers := row.tiers.split()),
                frozenset(tier for tier in tiers if self._closed or found[row.address][tier] > 0),
                row.last_seen > since,
                row.memory_bytes,
                frozenset(row.datasets.split()),
            )
            for row in session.exec(select(WorkerRow))
        ]

    def seen(self, session: Session, address: Address) -> WorkerRow:
        """Note that a worker is there.

        Raises
        ------
        ForbiddenError
            The address has not registered as a worker.
        """
        row = session.get(WorkerRow, address)
        if row is None:
            raise ForbiddenError(f"{address} is not registered as a worker", hint="POST /v1/workers first")
        row.last_seen = self._clock()
        session.add(row)
        return row


def _faults(session: Session) -> dict[str, int]:
    counts = select(FaultRow.worker, func.count()).where(col(FaultRow.outcome) == Outcome.REFUSED)
    return dict(session.exec(counts.group_by(FaultRow.worker)).all())


def _view(row: WorkerRow, faults: int) -> WorkerView:
    return WorkerView(
        address=Address.parse(row.address),
        name=row.name,
        provider=row.provider,
        tiers=[_TIERS[name] for name in row.tiers.split()],
        memory_bytes=row.memory_bytes,
        last_seen=rfc3339(row.last_seen),
        faults=faults,
    )
