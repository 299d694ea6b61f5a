"""Which workers may take which task: what a worker has, what it has shown so far, and what a task has been through.

Anybody may be a worker, under as many addresses as they like. A task, though, has few attempts: those that the chain
counts (tier ``sampled``, the policy's ``maxAttempts``), and a bound on the workers that may fail it. So

1. a worker that failed a task, or left it after committing to it, doesn't get it again;
2. the last attempt of a task is kept for workers with a credit: more tasks of this tier done than failed. A member of a
   closed coordinator needs none;
3. who left several commitments within a day, and did not do as many tasks, gets no more of that tier for the day.

And no worker gets a task whose proofs take more memory than it has: by the estimate, they would fail.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import ColumnElement, ScalarSelect, and_, exists, func, or_
from sqlalchemy.orm import Mapped
from sqlmodel import Session, col, select

from coordinator.tables import CommitmentRow, FaultRow, LeaseRow, Outcome, TaskRow, WorkerRow

_MAX_DROPPED = 3
_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class Rules:
    """What an operator decided.

    Attributes
    ----------
    max_faults
        Workers that may fail one task; then its job fails.
    closed
        Only members sign in, so that addresses are not free.
    """

    max_faults: int
    closed: bool


def attempts(task: Mapped[str]) -> ScalarSelect[int]:
    """Commitments to a task that were sent, or that may have been."""
    sent = (col(CommitmentRow.task_id) == task, col(CommitmentRow.since_block).is_not(None))
    return select(func.count()).select_from(CommitmentRow).where(*sent).scalar_subquery()


def faults(task: Mapped[str]) -> ScalarSelect[int]:
    """Faults of a task's leads."""
    found = (col(FaultRow.task_id) == task, col(FaultRow.helping).is_(False))
    return select(func.count()).select_from(FaultRow).where(*found).scalar_subquery()


def failed_by(worker: str) -> ColumnElement[bool]:
    """The worker has failed the task, or a piece of it."""
    return exists().where(col(FaultRow.task_id) == col(TaskRow.task_id), col(FaultRow.worker) == worker)


def last_attempt(rules: Rules) -> ColumnElement[bool]:
    """The task has one attempt left."""
    task = col(TaskRow.task_id)
    return or_(attempts(task) >= col(TaskRow.max_attempts) - 1, faults(task) >= rules.max_faults - 1)


def placeable(session: Session, worker: WorkerRow, now: int, rules: Rules) -> ColumnElement[bool]:
    """Condition on tasks: this worker may have them. Whoever holds private datasets works on these only."""
    tiers, datasets = worker.tiers.split(), worker.datasets.split()
    credit = credits_of(session, worker.address)[worker.address]
    barred = _barred(session, worker.address, now)
    task = col(TaskRow.task_id)
    held = col(TaskRow.private_records)
    trusted = [tier for tier in tiers if rules.closed or credit[tier] > 0]
    return and_(
        col(TaskRow.tier).in_([tier for tier in tiers if tier not in barred]),
        col(TaskRow.needed_bytes) <= worker.memory_bytes,
        ~failed_by(worker.address),
        held.in_(datasets) if datasets else held.is_(None),
        attempts(task) < col(TaskRow.max_attempts),
        or_(col(TaskRow.tier).in_(trusted), ~last_attempt(rules)),
    )


def credits_of(session: Session, worker: str | None = None) -> dict[str, dict[str, int]]:
    """Tasks done less tasks failed, by worker and tier; of one worker or of all."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    done = (
        select(LeaseRow.worker, TaskRow.tier, func.count())
        .join(TaskRow, col(TaskRow.task_id) == col(LeaseRow.task_id))
        .where(col(LeaseRow.outcome) == Outcome.ACCEPTED)
    )
    failed = select(FaultRow.worker, TaskRow.tier, func.count()).join(
        TaskRow, col(TaskRow.task_id) == col(FaultRow.task_id)
    )
    if worker is not None:
        done, failed = done.where(col(LeaseRow.worker) == worker), failed.where(col(FaultRow.worker) == worker)
    for who, tier, count in session.exec(done.group_by(col(LeaseRow.worker), col(TaskRow.tier))):
        found[who][tier] += count
    for who, tier, count in session.exec(failed.group_by(col(FaultRow.worker), col(TaskRow.tier))):
        found[who][tier] -= count
    return found


def _barred(session: Session, worker: str, now: int) -> set[str]:
    """Tiers in which the worker left too many commitments lately."""
    since = now - _DAY_MS
    dropped = (
        select(TaskRow.tier, func.count())
        .join(FaultRow, col(FaultRow.task_id) == col(TaskRow.task_id))
        .where(col(FaultRow.worker) == worker, col(FaultRow.committed).is_(True), col(FaultRow.at) > since)
    )
    done = (
        select(TaskRow.tier, func.count())
        .join(LeaseRow, col(LeaseRow.lease_id) == col(TaskRow.lease_id))
        .where(col(LeaseRow.worker) == worker, col(TaskRow.accepted_at) > since)
    )
    made = dict(session.exec(done.group_by(col(TaskRow.tier))).all())
    lost = session.exec(dropped.group_by(col(TaskRow.tier))).all()
    return {tier for tier, count in lost if count >= _MAX_DROPPED + made.get(tier, 0)}
