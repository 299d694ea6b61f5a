"""What workers have shown so far, and what follows from it.

Anybody may be a worker, under as many addresses as they like. A task, though, has few attempts: those that the chain
counts (tier ``sampled``, the policy's ``maxAttempts``), and a bound on the workers that may fail it. So

1. a worker that failed a task, or left it after committing to it, doesn't get it again;
2. the last attempt of a task is kept for workers with a credit: more tasks of this tier done than failed;
3. a worker of which no evidence was accepted yet is on probation: one lease at a time;
4. what a worker gets wrong adds to its penalty, most of all evidence that does not hold and a commitment that leads to
   none. The penalty fades with time and with each accepted task; whoever reaches the limit gets nothing for a while.

A member of a closed coordinator needs no credit and is not on probation: addresses are not free there.

The figures stand in one row a worker and tier, and change in the transaction of what they count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from sqlalchemy import ColumnElement, ScalarSelect, Table, case, func, insert, or_, update
from sqlalchemy.orm import Mapped
from sqlmodel import Session, SQLModel, col, select

from coordinator.tables import CommitmentRow, FaultRow, Outcome, StandingRow, TaskRow, WorkerRow

PENALTY_LIMIT = 12
_WEIGHTS = {Outcome.REFUSED: 4, Outcome.GAVE_UP: 1, Outcome.RETURNED: 1, Outcome.EXPIRED: 1}
_COMMITTED = 4
# A penalty at its limit has faded after so long.
_FADES_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class Rules:
    """What an operator decided.

    Attributes
    ----------
    max_faults
        Workers that may fail one task; then its job fails.
    closed
        Only members sign in, so that addresses are not free.
    max_vanished
        Workers that may vanish with one task; then it is quarantined.
    barred_ms
        How long a worker gets nothing once its penalty has reached the limit.
    retry_ms, max_retry_ms
        How long a task waits after its first failure; it doubles with each one, up to the second of these.
    """

    max_faults: int
    closed: bool
    max_vanished: int = 3
    barred_ms: int = _FADES_MS
    retry_ms: int = 1000
    max_retry_ms: int = 300_000

    def back_off(self, failures: int) -> int:
        """Milliseconds for which a task waits after it failed so often."""
        if failures < 1 or self.retry_ms == 0:
            return 0
        doublings = min(failures - 1, 40)
        return min(self.retry_ms << doublings, self.max_retry_ms)


@dataclass(frozen=True)
class Record:
    """What a worker has done, over all tiers.

    Attributes
    ----------
    credit
        By tier: tasks accepted less faults.
    """

    accepted: int
    refused: int
    credit: dict[str, int]


NOTHING = Record(0, 0, {})


def attempts(task: Mapped[str]) -> ScalarSelect[int]:
    """Commitments to a task that were sent, or that may have been."""
    sent = (col(CommitmentRow.task_id) == task, col(CommitmentRow.since_block).is_not(None))
    return select(func.count()).select_from(CommitmentRow).where(*sent).scalar_subquery()


def faults(task: Mapped[str]) -> ScalarSelect[int]:
    """Faults of a task's leads, since its requester last had it tried again."""
    found = (
        col(FaultRow.task_id) == task,
        col(FaultRow.helping).is_(False),
        col(FaultRow.forgiven).is_(False),
    )
    return select(func.count()).select_from(FaultRow).where(*found).scalar_subquery()


def failed_by(worker: str) -> ColumnElement[bool]:
    """The worker has failed the task, or a piece of it."""
    found = (
        col(FaultRow.task_id) == col(TaskRow.task_id),
        col(FaultRow.worker) == worker,
        col(FaultRow.forgiven).is_(False),
    )
    # Counted, and not whether one exists: of that PostgreSQL might think that it is rare, and read whole tables.
    return select(func.count()).select_from(FaultRow).where(*found).correlate(TaskRow).scalar_subquery() > 0


def last_attempt(rules: Rules) -> ColumnElement[bool]:
    """The task has one attempt left."""
    task = col(TaskRow.task_id)
    return or_(attempts(task) >= col(TaskRow.max_attempts) - 1, faults(task) >= rules.max_faults - 1)


def records_of(session: Session, worker: str | None = None) -> dict[str, Record]:
    """What workers have done; of one worker or of all that did anything."""
    wanted = select(StandingRow)
    if worker is not None:
        wanted = wanted.where(col(StandingRow.worker) == worker)
    return sum_up(session.exec(wanted))


def sum_up(rows: Iterable[StandingRow]) -> dict[str, Record]:
    """What workers have done over all tiers."""
    found: dict[str, Record] = {}
    for row in rows:
        before = found.get(row.worker, NOTHING)
        credit = before.credit | {row.tier: row.accepted - row.failed}
        found[row.worker] = Record(before.accepted + row.accepted, before.refused + row.refused, credit)
    return found


def record_of(session: Session, worker: str) -> Record:
    """What one worker has done."""
    return records_of(session, worker).get(worker, NOTHING)


def trusted(record: Record, rules: Rules, tiers: list[str]) -> list[str]:
    """Tiers in which a worker may take a task's last attempt."""
    return [tier for tier in tiers if rules.closed or record.credit.get(tier, 0) > 0]


def on_probation(record: Record, rules: Rules) -> bool:
    """Whether a worker has to show something first."""
    return not rules.closed and record.accepted == 0


def penalty_at(worker: WorkerRow, now: int) -> int:
    """What a worker's faults weigh by now."""
    faded = (now - worker.penalty_at) * PENALTY_LIMIT // _FADES_MS
    return max(0, worker.penalty - faded)


def note_accepted(session: Session, worker: str, tier: str, count: int, now: int) -> None:
    """Evidence of so many tasks was accepted. Rows that the session holds are not told."""
    standing, known = _table(StandingRow), _table(WorkerRow)
    counted = (
        update(standing)
        .where(standing.c.worker == worker, standing.c.tier == tier)
        .values(accepted=standing.c.accepted + count)
    )
    connection = session.connection()
    if connection.execute(counted).rowcount == 0:
        connection.execute(insert(standing).values(worker=worker, tier=tier, accepted=count))
    left = known.c.penalty - (now - known.c.penalty_at) * PENALTY_LIMIT // _FADES_MS - count
    connection.execute(
        update(known)
        .where(known.c.address == worker, known.c.penalty > 0)
        .values(penalty=case((left > 0, left), else_=0), penalty_at=now)
    )


def note_fault(
    session: Session, worker: str, tier: str, outcome: Outcome, now: int, rules: Rules, *, committed: bool = False
) -> None:
    """A worker has failed a task, or a piece of one."""
    row = _row(session, worker, tier)
    row.failed += 1
    row.refused += outcome == Outcome.REFUSED
    known = session.get(WorkerRow, worker)
    if known is None:
        return
    weight = max(_WEIGHTS[outcome], _COMMITTED if committed else 0)
    known.penalty, known.penalty_at = penalty_at(known, now) + weight, now
    if known.penalty >= PENALTY_LIMIT:
        known.penalty, known.barred_until = PENALTY_LIMIT, now + rules.barred_ms


def _table(kind: type[SQLModel]) -> Table:
    return cast("Table", kind.__table__)  # type: ignore[attr-defined]


def _row(session: Session, worker: str, tier: str) -> StandingRow:
    """A worker's row of a tier. Transactions that write follow one another (:mod:`coordinator.engine`)."""
    row = session.get(StandingRow, (worker, tier))
    if row is None:
        row = StandingRow(worker=worker, tier=tier)
        session.add(row)
        session.flush()
    return row
