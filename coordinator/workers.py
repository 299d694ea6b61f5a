"""Workers, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from coordinator.placement import Candidate, private_records, service_of, tiers_of
from coordinator.standing import (
    NOTHING,
    Record,
    Rules,
    on_probation,
    penalty_at,
    record_of,
    records_of,
    sum_up,
    trusted,
)
from coordinator.store import Store
from coordinator.tables import LEASE_OPEN, LeaseRow, StandingRow, WorkerRow
from coordinator.times import Clock, rfc3339
from rexis.api import WorkerRegistration, WorkerView
from rexis.protocol.errors import ForbiddenError
from rexis.protocol.parsing import Address
from rexis.protocol.statement import Kind


@dataclass(frozen=True)
class Asking:
    """A worker that asks for tasks: its row, what it has done, and how many leases it has."""

    row: WorkerRow
    record: Record
    leases: int


class Workers:
    """The registered workers.

    Parameters
    ----------
    online_ms
        A worker that was silent for so long counts as offline.
    most
        Open leases of one worker.
    """

    def __init__(self, store: Store, clock: Clock, online_ms: int, most: int, rules: Rules) -> None:
        self._store, self._clock, self._online_ms, self._most, self._rules = store, clock, online_ms, most, rules

    def known(self, session: Session, address: Address) -> WorkerRow:
        """A registered worker.

        Raises
        ------
        ForbiddenError
            The address has not registered as a worker.
        """
        row = session.get(WorkerRow, address)
        if row is None:
            raise _unknown(address)
        return row

    def was_seen(self, row: WorkerRow) -> bool:
        """Whether it was noted lately that a worker is there."""
        return row.last_seen > self._clock() - self._online_ms // 8

    def register(self, address: Address, registration: WorkerRegistration) -> tuple[WorkerView, bool]:
        """Make a worker known, or change it; returns it and whether it is new. What it failed before stays failed."""
        with self._store.writing() as session:
            row = session.get(WorkerRow, address)
            created = row is None
            row = row or WorkerRow(address=address, name="", provider="", tiers="", memory_bytes=0, last_seen=0)
            row.name, row.provider = registration.name, registration.provider
            services = [service_of(Kind.EVALUATION, tier) for tier in sorted(set(registration.tiers))]
            services += [service_of(Kind.TRAINING, tier) for tier in sorted(set(registration.trains))]
            row.tiers = " ".join(services)
            requester = registration.requester or address
            row.datasets = " ".join(private_records(digest, requester) for digest in registration.datasets)
            row.memory_bytes, row.gpu_bytes = registration.memory_bytes, registration.gpu_memory_bytes
            row.modalities, row.slots = " ".join(registration.modalities), registration.slots
            row.last_seen = self._clock()
            session.add(row)
            return _view(row, record_of(session, address), self._clock()), created

    def all(self) -> list[WorkerView]:
        """All workers, by name."""
        with self._store.reading() as session:
            records, now = records_of(session), self._clock()
            rows = session.exec(select(WorkerRow).order_by(WorkerRow.name, WorkerRow.address))
            return [_view(row, records.get(row.address, NOTHING), now) for row in rows]

    def bound(self, worker: WorkerRow, record: Record) -> int:
        """Open leases that a worker may have at a time."""
        return 1 if on_probation(record, self._rules) else min(self._most, worker.slots or self._most)

    def candidates(self, session: Session) -> list[Candidate]:
        """All workers, for placement."""
        now, records = self._clock(), records_of(session)
        counts = select(LeaseRow.worker, func.count()).where(LEASE_OPEN).group_by(LeaseRow.worker)
        held = dict(session.exec(counts).all())
        found = []
        for row in session.exec(select(WorkerRow)):
            record, tiers = records.get(row.address, NOTHING), row.tiers.split()
            found.append(
                Candidate(
                    row.address,
                    frozenset(tiers),
                    frozenset(trusted(record, self._rules, tiers)),
                    row.last_seen > now - self._online_ms,
                    row.memory_bytes,
                    frozenset(row.datasets.split()),
                    gpu_bytes=row.gpu_bytes,
                    modalities=frozenset(row.modalities.split()),
                    barred_until=row.barred_until if row.barred_until > now else None,
                    full=held.get(row.address, 0) >= self.bound(row, record),
                )
            )
        return found

    def seen(self, session: Session, address: Address) -> WorkerRow:
        """Note that a worker is there, unless that was noted lately.

        Raises
        ------
        ForbiddenError
            The address has not registered as a worker.
        """
        row = self.known(session, address)
        self.note(row)
        return row

    def note(self, row: WorkerRow) -> None:
        """Note that a worker, whose row the session holds, is there, unless that was noted lately."""
        if not self.was_seen(row):
            row.last_seen = self._clock()

    def asking(self, session: Session, address: Address) -> Asking:
        """A worker that asks for tasks, in one statement.

        Raises
        ------
        ForbiddenError
            The address has not registered as a worker.
        """
        held = select(func.count()).select_from(LeaseRow).where(col(LeaseRow.worker) == address, LEASE_OPEN)
        wanted = (
            select(WorkerRow, StandingRow, held.scalar_subquery())
            .outerjoin(StandingRow, col(StandingRow.worker) == col(WorkerRow.address))
            .where(col(WorkerRow.address) == address)
        )
        found = session.exec(wanted).all()
        if not found:
            raise _unknown(address)
        row, _, leases = found[0]
        standing = [one for _, one, _ in found if one is not None]
        return Asking(row, sum_up(standing).get(address, NOTHING), leases)


def _unknown(address: Address) -> ForbiddenError:
    return ForbiddenError(f"{address} is not registered as a worker", hint="POST /v1/workers first")


def _view(row: WorkerRow, record: Record, now: int) -> WorkerView:
    return WorkerView(
        address=Address.parse(row.address),
        name=row.name,
        provider=row.provider,
        tiers=tiers_of(row.tiers.split(), Kind.EVALUATION),
        memory_bytes=row.memory_bytes,
        last_seen=rfc3339(row.last_seen),
        faults=record.refused,
        gpu_memory_bytes=row.gpu_bytes,
        modalities=row.modalities.split(),
        accepted=record.accepted,
        penalty=penalty_at(row, now),
        barred_until=rfc3339(row.barred_until) if row.barred_until > now else None,
        trains=tiers_of(row.tiers.split(), Kind.TRAINING),
    )
