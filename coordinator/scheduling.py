"""Which tasks a worker gets next.

First whose: the requester whose turn it is. Turns are start-time fair queueing (Goyal, Vin, Cheng, 1996): work that is
handed out moves its requester's turn on by its cost, from where that turn stood or from where everybody else's stands
now, whichever is later. So of two requesters with tasks that wait neither gets ahead of the other by more than what is
handed out at once, however many tasks they have; and whoever was away has neither lost nor saved up anything.

Then which of the requester's jobs: the one of the smallest *rank*, its time of submission less what its priority is
worth. A job with a low priority is passed by later ones only for so long, so it is not put off for ever.

Then the job's tasks: those that nothing went wrong with, in the order of their records, then the others, once they are
ready again.

Each step is a look into an index that holds only open jobs or waiting tasks, so the length of the queue does not
matter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import BigInteger, ColumnElement, Integer, Update, bindparam, case, exists, func, or_
from sqlmodel import Session, col, delete, insert, select, update
from sqlmodel.sql.expression import SelectOfScalar

from coordinator.standing import Record, Rules, attempts, failed_by, last_attempt, trusted
from coordinator.tables import JOB_OPEN, TASK_WAITS, JobRow, ShareRow, TaskRow, WorkerRow

# What a proof costs beside running the model on a record, for requesters' shares.
_PROOF_COST = 100
_NOW, _MEMORY, _JOB, _MOST = "now_ms", "memory_left", "of_job", "at_most"
_KEPT = 512


@dataclass(frozen=True)
class Offer:
    """What a worker can take now.

    Attributes
    ----------
    trusted
        Tiers in which it may take a task's last attempt.
    memory_bytes
        What it has left.
    """

    worker: WorkerRow
    trusted: Collection[str]
    memory_bytes: int
    now: int
    rules: Rules


@dataclass(frozen=True)
class _Asked:
    """What a statement for an offer depends on, but for its parameters."""

    worker: str
    tiers: str
    datasets: str
    modalities: str
    gpu_bytes: int
    trusted: tuple[str, ...]
    rules: Rules


def _asked(offer: Offer) -> _Asked:
    row = offer.worker
    return _Asked(
        row.address,
        row.tiers,
        row.datasets,
        row.modalities,
        row.gpu_bytes,
        tuple(offer.trusted),
        offer.rules,
    )


def _given(offer: Offer) -> dict[str, int]:
    return {_NOW: offer.now, _MEMORY: offer.memory_bytes}


def offer_of(worker: WorkerRow, record: Record, memory_bytes: int | None, now: int, rules: Rules) -> Offer:
    """What a worker can take; `memory_bytes` is what it says that it has left, None for all."""
    left = worker.memory_bytes if memory_bytes is None else min(memory_bytes, worker.memory_bytes)
    return Offer(worker, trusted(record, rules, worker.tiers.split()), left, now, rules)


def task_cost(records: int, proofs: int) -> int:
    """What a task counts for in its requester's share."""
    return records + _PROOF_COST * proofs


def rank_of(submitted_at: int, priority: int, step_ms: int) -> int:
    """A job's place among its requester's own: a step of priority is worth so much waiting."""
    return submitted_at - priority * step_ms


def is_any(session: Session, offer: Offer) -> bool:
    """Whether there is a task for a worker."""
    return session.exec(_next_job(_asked(offer), frozenset()), params=_given(offer)).first() is not None


def pick(session: Session, offer: Offer, most: int) -> list[tuple[JobRow, Sequence[TaskRow]]]:
    """The next tasks for a worker, by job; their requesters' turns move on.

    Transactions that write follow one another (:mod:`coordinator.engine`), so two processes never pick the same.
    """
    found: list[tuple[JobRow, Sequence[TaskRow]]] = []
    seen: set[str] = set()
    while most > 0:
        job = session.exec(_whole_job(_asked(offer), frozenset(seen)), params=_given(offer)).first()
        if job is None:
            break
        seen.add(job.job_id)
        wanted = _tasks(_asked(offer), job.tier)
        tasks = session.exec(wanted, params={_NOW: offer.now, _JOB: job.job_id, _MOST: most}).all()
        if tasks:
            charge(session, job.requester, job.cost * len(tasks))
            found.append((job, tasks))
            most -= len(tasks)
    return found


def charge(session: Session, requester: str, cost: int) -> None:
    """Move a requester's turn on."""
    session.connection().execute(_charging(), {"whose": requester, "cost": cost})


@lru_cache(maxsize=1)
def _charging() -> Update:
    now = func.coalesce(select(func.max(ShareRow.began)).scalar_subquery(), 0)
    began = case((col(ShareRow.finished) > now, col(ShareRow.finished)), else_=now)
    return (
        update(ShareRow)
        .where(col(ShareRow.requester) == bindparam("whose"))
        .values(began=began, finished=began + bindparam("cost"))
    )


def enter(session: Session, requester: str) -> None:
    """Have a requester take turns."""
    if session.get(ShareRow, requester) is None:
        session.add(ShareRow(requester=requester))


def tidy(session: Session) -> None:
    """Forget the turns of requesters without open jobs that nothing depends on any more."""
    waits = select(JobRow.requester).where(JOB_OPEN).distinct()
    now = select(func.max(ShareRow.began)).scalar_subquery()
    idle = (col(ShareRow.finished) < now, col(ShareRow.requester).not_in(waits))
    session.exec(delete(ShareRow).where(*idle).execution_options(synchronize_session=False))
    missing = waits.where(col(JobRow.requester).not_in(select(ShareRow.requester)))
    for requester in session.exec(missing).all():
        session.exec(insert(ShareRow).values(requester=requester))


def requesters_ahead(session: Session, requester: str) -> int:
    """Requesters with open jobs whose turn comes before that of this one."""
    mine = session.get(ShareRow, requester)
    if mine is None:
        return 0
    waits = exists().where(col(JobRow.requester) == col(ShareRow.requester), JOB_OPEN)
    ahead = or_(
        col(ShareRow.finished) < mine.finished,
        (col(ShareRow.finished) == mine.finished) & (col(ShareRow.requester) < requester),
    )
    return session.exec(select(func.count()).select_from(ShareRow).where(ahead, waits)).one()


def jobs_ahead(session: Session, job: JobRow) -> int:
    """The requester's own jobs that come before this one and have tasks that wait."""
    waits = exists().where(col(TaskRow.job_id) == col(JobRow.job_id), TASK_WAITS)
    before = or_(col(JobRow.rank) < job.rank, (col(JobRow.rank) == job.rank) & (col(JobRow.job_id) < job.job_id))
    mine = (col(JobRow.requester) == job.requester, JOB_OPEN, before, waits)
    return session.exec(select(func.count()).select_from(JobRow).where(*mine)).one()


# Putting a statement together takes longer than executing it: each worker's are kept.
@lru_cache(maxsize=_KEPT)
def _whole_job(asked: _Asked, but: frozenset[str]) -> SelectOfScalar[JobRow]:
    return select(JobRow).where(col(JobRow.job_id) == _next_job(asked, but).scalar_subquery())


@lru_cache(maxsize=_KEPT)
def _tasks(asked: _Asked, tier: str) -> SelectOfScalar[TaskRow]:
    return (
        select(TaskRow)
        .where(col(TaskRow.job_id) == bindparam(_JOB), *_takes(asked, tier=tier))
        .order_by(col(TaskRow.ready_at), col(TaskRow.start))
        .limit(bindparam(_MOST, type_=Integer))
    )


@lru_cache(maxsize=_KEPT)
def _next_job(asked: _Asked, but: frozenset[str]) -> SelectOfScalar[str]:
    """The job that a worker gets tasks of next."""
    # The first one, and not whether one exists: PostgreSQL might look all of them up for that.
    waits = (
        select(TaskRow.task_id)
        .where(col(TaskRow.job_id) == col(JobRow.job_id), *_takes(asked))
        .order_by(col(TaskRow.ready_at), col(TaskRow.start))
        .limit(1)
        .correlate(JobRow)
        .scalar_subquery()
        .is_not(None)
    )
    first = (
        select(JobRow.job_id)
        .where(col(JobRow.requester) == col(ShareRow.requester), *_fits(asked), waits, col(JobRow.job_id).not_in(but))
        .order_by(col(JobRow.rank), col(JobRow.job_id))
        .limit(1)
        .correlate(ShareRow)
        .scalar_subquery()
    )
    turns = select(ShareRow.requester, ShareRow.finished, first.label("job_id")).subquery()
    return (
        select(turns.c.job_id).where(turns.c.job_id.is_not(None)).order_by(turns.c.finished, turns.c.requester).limit(1)
    )


def _fits(asked: _Asked) -> list[ColumnElement[bool]]:
    """Conditions on jobs: the worker has what their tasks need. Whoever holds private datasets works on these only."""
    held, datasets, modalities = col(JobRow.private_records), asked.datasets.split(), asked.modalities.split()
    deadline, modality = col(JobRow.deadline), col(JobRow.modality)
    return [
        JOB_OPEN,  # type: ignore[list-item]
        col(JobRow.unfunded).is_(False),
        col(JobRow.tier).in_(asked.tiers.split()),
        col(JobRow.needed_bytes) <= bindparam(_MEMORY, type_=BigInteger),
        col(JobRow.gpu_bytes) <= asked.gpu_bytes,
        held.in_(datasets) if datasets else held.is_(None),
        *([or_(modality.is_(None), modality.in_(modalities))] if modalities else []),
        or_(deadline.is_(None), deadline > bindparam(_NOW, type_=BigInteger)),
    ]


def _takes(asked: _Asked, tier: str | None = None) -> list[ColumnElement[bool]]:
    """Conditions on tasks: the worker may have them. Without `tier` they are within a condition on jobs."""
    last = last_attempt(asked.rules)
    if tier is None:
        spare = [or_(col(JobRow.tier).in_(asked.trusted), ~last)]
    else:
        spare = [] if tier in asked.trusted else [~last]
    return [
        TASK_WAITS,  # type: ignore[list-item]
        col(TaskRow.ready_at) <= bindparam(_NOW, type_=BigInteger),
        ~failed_by(asked.worker),
        attempts(col(TaskRow.task_id)) < col(TaskRow.max_attempts),
        *spare,
    ]
