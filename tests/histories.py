"""Whether what became of every job, task and lease is what the table of states allows, and led to where each stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from sqlmodel import Session, col, select

from coordinator.states import MACHINES, number_of, of_task
from coordinator.tables import EventRow, JobRow, LeaseRow, TaskRow


def check_histories(session: Session) -> None:
    """Every event is a change that the table has, from the state that the one before led to; the last is the row's."""
    events: dict[int | None, list[EventRow]] = defaultdict(list)
    for event in session.exec(select(EventRow).order_by(col(EventRow.id))):
        events[event.job].append(event)
    tasks: dict[str, list[TaskRow]] = defaultdict(list)
    for task in session.exec(select(TaskRow)):
        tasks[task.job_id].append(task)
    leases: dict[str, list[LeaseRow]] = defaultdict(list)
    for lease in session.exec(select(LeaseRow)):
        leases[lease.task_id].append(lease)
    for job in session.exec(select(JobRow)):
        of_job = events[number_of(job.job_id)]
        _replay("job", (event for event in of_job if event.entity == "job"), job.state, job.job_id)
        for task in tasks[job.job_id]:
            mine = list(of_task(of_job, task.start))
            _replay("task", (event for event in mine if event.entity == "task"), task.state, task.task_id)
            for lease in leases[task.task_id]:
                _replay("lease", _of_lease(mine, lease.lease_id), lease.outcome, lease.lease_id)


def _of_lease(events: Iterable[EventRow], lease_id: str) -> Iterator[EventRow]:
    """A lease's own events of its task's, and those about all leases of the job that were in its state."""
    at: str | None = None
    for event in events:
        if event.entity == "lease" and (event.subject == lease_id or (event.subject is None and event.before == at)):
            at = event.after
            yield event


def _replay(entity: str, events: Iterable[EventRow], state: str, name: str) -> None:
    """The events lead from a first state to the row's, each by a change that the table of states has."""
    machine = next(one for one in MACHINES if one.name == entity)
    told = [(event.before, event.after) for event in events]
    at: str | None = None
    for before, after in told:
        assert before == at, f"{entity} {name}: {told}"
        machine.require(before, machine.kind(after))
        at = after
    assert at == state, f"{entity} {name} is {state}, its history says {told}"
