"""The states of everything that has a life of its own, in one table; and the only code that changes one.

Every change is checked against the table, is made where the state is still the one that was seen, and leaves one event
in the same transaction: of what, from where to where, why, by whom, when. So a history is complete, and two coordinator
processes never both make a change.

A change of everything in a job at once (its tasks when it is taken, what is left of it when it fails) is one event
without a place: it is about each row of the job that was in the state `before`. That is exact, since the earlier events
of a row say in which state it was (:func:`of_task`).

``python -m coordinator.states`` writes ``docs/states.md`` from the table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, Table, Update, inspect
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import Session, SQLModel, col, insert, select, update

from coordinator.audit import OURSELVES, record
from coordinator.bulk import dialect_of, given, insert_rows, parameter
from coordinator.tables import (
    AnchorRow,
    AnchorState,
    EventRow,
    EvidenceState,
    JobRow,
    LeaseRow,
    Outcome,
    PieceRow,
    TaskRow,
)
from rexis.api import JobState, PieceState, TaskState
from rexis.protocol.errors import RexisError, UnavailableError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "states.md"
_MAX_REASON = 500
_CHUNK = 5000
_EVENTS = "events that wait"
RECORDED = "events of this transaction"


class IllegalChangeError(RexisError):
    """A change that the table does not have: a mistake of ours."""

    code = "internal"
    status = 500


class OvertakenError(UnavailableError):
    """Something else changed the row first. Look again."""


@dataclass(frozen=True)
class Machine:
    """The life of one kind of row.

    Attributes
    ----------
    name
        As events and the page call it.
    table, column
        Where the state stands.
    initial
        States that a row may be made in; the first is the usual one.
    changes
        From state to state, and what that means.
    """

    name: str
    table: type[SQLModel]
    column: str
    initial: tuple[StrEnum, ...]
    changes: Mapping[tuple[StrEnum, StrEnum], str]

    @property
    def kind(self) -> type[StrEnum]:
        """The states."""
        return type(self.initial[0])

    @property
    def state(self) -> ColumnElement[str]:
        """The column."""
        return cast("ColumnElement[str]", getattr(self.table, self.column))

    def require(self, before: str | None, to: StrEnum) -> None:
        """Refuse what is not in the table."""
        allowed = to in self.initial if before is None else (before, to) in self.changes
        if not allowed:
            raise IllegalChangeError(f"a {self.name} cannot go from {before} to {to.value}")

    def final(self) -> list[StrEnum]:
        """States that nothing leaves."""
        return [state for state in self.kind if not any(before == state for before, _ in self.changes)]


_J, _T, _L, _E, _A, _P = JobState, TaskState, Outcome, EvidenceState, AnchorState, PieceState

MACHINES = (
    Machine(
        "job",
        JobRow,
        "state",
        (_J.QUEUED,),
        {
            (_J.QUEUED, _J.RUNNING): "the first task was leased",
            (_J.RUNNING, _J.ANCHORING): "evidence of every task was accepted",
            (
                _J.ANCHORING,
                _J.CERTIFIED,
            ): "all is anchored, validators agreed if any are wanted, the certificate was issued",
            (_J.CERTIFIED, _J.ANCHORING): "a reorganisation took an anchor that it names; there will be another",
            (_J.QUEUED, _J.FAILED): "cancelled, past its deadline, or decided against by the chain",
            (_J.RUNNING, _J.FAILED): "as above, or a task was failed by too many workers or has no attempt left",
            (
                _J.ANCHORING,
                _J.FAILED,
            ): "cancelled, or chain, validators or the certificate's own check decided against it",
            (_J.FAILED, _J.QUEUED): "its requester has what failed tried again",
            (_J.FAILED, _J.ANCHORING): "its requester has it tried again, and every task was done before",
        },
    ),
    Machine(
        "task",
        TaskRow,
        "state",
        (_T.PENDING,),
        {
            (_T.PENDING, _T.LEASED): "a worker has it",
            (_T.LEASED, _T.PENDING): "the lease ended without accepted evidence",
            (_T.LEASED, _T.ACCEPTED): "the evidence holds",
            (_T.LEASED, _T.QUARANTINED): "it made several workers vanish",
            (_T.QUARANTINED, _T.PENDING): "its requester has it tried again",
            (_T.ACCEPTED, _T.ANCHORED): "its statement is under a root on chain",
            (_T.ANCHORED, _T.ACCEPTED): "a reorganisation took the root from the chain",
            (_T.PENDING, _T.FAILED): "its job failed",
            (_T.LEASED, _T.FAILED): "its job failed",
            (_T.QUARANTINED, _T.FAILED): "its job failed",
            (_T.FAILED, _T.PENDING): "its requester has the job tried again",
        },
    ),
    Machine(
        "lease",
        LeaseRow,
        "outcome",
        (_L.OPEN,),
        {
            (_L.OPEN, _L.ACCEPTED): "its evidence holds",
            (_L.OPEN, _L.REFUSED): "its evidence does not hold",
            (_L.OPEN, _L.GAVE_UP): "the worker cannot do the task, and says why",
            (_L.OPEN, _L.RETURNED): "the worker stops",
            (_L.OPEN, _L.EXPIRED): "no sign of life or progress came in time",
            (_L.OPEN, _L.CANCELLED): "the job failed",
        },
    ),
    Machine(
        "evidence",
        LeaseRow,
        "evidence",
        (_E.RECEIVED,),
        {
            (_E.RECEIVED, _E.ACCEPTED): "every step of the check held",
            (_E.RECEIVED, _E.REFUSED): "a step failed",
        },
    ),
    Machine(
        "anchor",
        AnchorRow,
        "state",
        (_A.PLANNED,),
        {
            (_A.PLANNED, _A.SENT): "its transaction was signed and written down; or was found on chain",
            (_A.SENT, _A.MINED): "a block has it",
            (_A.SENT, _A.PLANNED): "its transaction failed, or another one of its nonce was mined",
            (_A.MINED, _A.MINED): "a reorganisation put it into another block",
            (_A.MINED, _A.SENT): "a reorganisation dropped its block; it is sent again",
            (_A.MINED, _A.PLANNED): "as above, and another one of its nonce was mined",
            (_A.MINED, _A.FINAL): "enough blocks follow",
            (_A.FINAL, _A.SENT): "a reorganisation deeper than the confirmations dropped its block; it is sent again",
            (_A.FINAL, _A.PLANNED): "as above, and another one of its nonce was mined",
        },
    ),
    Machine(
        "piece",
        PieceRow,
        "state",
        (_P.OPEN,),
        {
            (_P.OPEN, _P.HELD): "a worker has it",
            (_P.HELD, _P.OPEN): "its holder left it, or its time ran out",
            (_P.HELD, _P.DONE): "its proofs are there",
            (_P.OPEN, _P.DONE): "the lead has its proofs, or it was made in an earlier lease",
        },
    ),
)
_OF_STATE = {machine.kind: machine for machine in MACHINES}


def create(session: Session, *rows: SQLModel, reason: str, at: int, actor: str | None = None) -> None:
    """Add rows, in the initial state that each has.

    Parameters
    ----------
    actor
        The address on whose behalf; None for the coordinator itself.
    """
    session.add_all(rows)
    session.flush()
    events: list[dict[str, object]] = []
    for row in rows:
        machine = next(one for one in MACHINES if isinstance(row, one.table))
        state = machine.kind(getattr(row, machine.column))
        machine.require(None, state)
        events.append(_event(machine, None, state, reason, at, actor) | _place(session, row))
        _audit(session, row, state, reason, at, actor)
    _record(session, events)


def create_leases(
    session: Session, leases: Sequence[LeaseRow], tasks: Sequence[TaskRow], *, reason: str, at: int, actor: str
) -> None:
    """Add leases of tasks, with one statement. The session does not hold them."""
    machine = next(one for one in MACHINES if one.column == "outcome")
    insert_rows(session, _table(LeaseRow), [lease.model_dump() for lease in leases])
    event = _event(machine, None, machine.initial[0], reason, at, actor)
    _record(
        session,
        [event | _place_in(task, lease.lease_id) for lease, task in zip(leases, tasks, strict=True)],
    )


def create_in_job(
    session: Session,
    job_id: str,
    table: type[SQLModel],
    rows: Iterable[dict[str, object]],
    *,
    reason: str,
    at: int,
    actor: str | None = None,
) -> int:
    """Add many rows of one job in their usual initial state; returns how many. One event is about them all."""
    machine = next(one for one in MACHINES if one.table is table)
    state, count = machine.initial[0], 0
    for chunk in _chunks(rows):
        session.execute(insert(_table(table)), [{**row, machine.column: state.value} for row in chunk])
        count += len(chunk)
    _record(session, [_event(machine, None, state, reason, at, actor) | {"job": number_of(job_id), "count": count}])
    return count


def change(
    session: Session, row: SQLModel, to: StrEnum, *, reason: str, at: int, actor: str | None = None, **also: object
) -> None:
    """Give a row another state.

    Parameters
    ----------
    also
        Other columns that are set with it.

    Raises
    ------
    OvertakenError
        The row is not in the state that was read any more.
    IllegalChangeError
        The table has no such change.
    """
    machine = _OF_STATE[type(to)]
    before = getattr(row, machine.column)
    machine.require(before, to)
    key = inspect(row).identity
    if key is None:
        raise IllegalChangeError(f"a {machine.name} that was not created")
    keys = [column == value for column, value in zip(inspect(machine.table).primary_key, key, strict=True)]
    same = machine.state.is_(None) if before is None else machine.state == before
    values = {machine.column: to.value, **also}
    if _changed(session.execute(_update(machine).where(*keys, same).values(**values))) != 1:
        raise OvertakenError(f"the {machine.name} was changed meanwhile", hint="try again")
    for name, value in ({machine.column: to} | also).items():
        set_committed_value(row, name, value)
    _record(session, [_event(machine, before, to, reason, at, actor) | _place(session, row)])
    _audit(session, row, to, reason, at, actor)


@dataclass(frozen=True)
class Step:
    """A change that many rows make, one after the other with others."""

    to: StrEnum
    reason: str
    actor: str | None = None


def change_each(
    session: Session,
    rows: Sequence[SQLModel],
    *steps: Step,
    at: int,
    also: Sequence[Mapping[str, object]] = (),
) -> None:
    """Take rows of one table, which are all in one state, through some steps: two statements, however many of either.

    Parameters
    ----------
    also
        For each row, other columns that are set with it; the same ones for all.

    Raises
    ------
    OvertakenError
        A row is not in the state that was read any more. Roll back: others may have been changed.
    IllegalChangeError
        The table has no such change, or the rows are in several states.
    """
    if not rows:
        return
    befores: dict[str, str | None] = {}
    afters: dict[str, StrEnum] = {}
    events: list[dict[str, object]] = []
    places = [_place(session, row) for row in rows]
    for step in steps:
        machine = _OF_STATE[type(step.to)]
        if machine.column not in befores:
            befores[machine.column] = _common(machine, rows)
        before = afters.get(machine.column, befores[machine.column])
        machine.require(before, step.to)
        afters[machine.column] = step.to
        event = _event(machine, before, step.to, step.reason, at, step.actor)
        events += [event | place for place in places]
    _update_each(session, rows, befores, afters, also)
    for row, other in zip(rows, also or [{}] * len(rows), strict=True):
        for name, value in (afters | dict(other)).items():
            set_committed_value(row, name, value)
    _record(session, events)


def _common(machine: Machine, rows: Sequence[SQLModel]) -> str | None:
    """The state that rows are in."""
    befores = {getattr(row, machine.column) for row in rows}
    if len(befores) != 1:
        raise IllegalChangeError(f"{machine.name}s in several states cannot be changed at once")
    return cast("str | None", befores.pop())


def _update_each(
    session: Session,
    rows: Sequence[SQLModel],
    befores: Mapping[str, str | None],
    afters: Mapping[str, StrEnum],
    also: Sequence[Mapping[str, object]],
) -> None:
    table, dialect = _table(type(rows[0])), dialect_of(session)
    (key,) = table.primary_key
    own = tuple(also[0]) if also else ()
    statement = _update_given(table, tuple(befores.items()), tuple(afters.items()), own, dialect)
    given_rows = [
        {**other, key.name: getattr(row, key.name)} for row, other in zip(rows, also or [{}] * len(rows), strict=True)
    ]
    found = session.connection().execute(statement, parameter(given_rows, (key.name, *own)))
    if _changed(found) != len(rows):
        raise OvertakenError(f"a {table.name} was changed meanwhile", hint="try again")


@lru_cache(maxsize=64)
def _update_given(
    table: Table,
    befores: tuple[tuple[str, str | None], ...],
    afters: tuple[tuple[str, StrEnum], ...],
    own: tuple[str, ...],
    dialect: str,
) -> Update:
    (key,) = table.primary_key
    rows = given(table, (key.name, *own), dialect)
    same = [table.c[name].is_(None) if state is None else table.c[name] == state for name, state in befores]
    values: dict[str, object] = {name: state.value for name, state in afters}
    return update(table).where(key == rows.c[key.name], *same).values(**values, **{name: rows.c[name] for name in own})


def change_many(
    session: Session,
    before: StrEnum,
    to: StrEnum,
    *where: ColumnElement[bool],
    reason: str,
    at: int,
    actor: str | None = None,
    **also: object,
) -> int:
    """Give all tasks of some condition that are in one state another one; returns how many.

    Two statements, however many rows. Rows that the session holds are not told.
    """
    machine = _OF_STATE[type(to)]
    machine.require(before, to)
    if machine.table is not TaskRow:
        raise IllegalChangeError(f"only tasks are changed by the many, not a {machine.name}")
    changed = session.execute(
        _update(machine)
        .where(machine.state == before, *where)
        .values(**{machine.column: to.value, **also})
        .returning(col(TaskRow.job_id), col(TaskRow.start))
    ).all()
    event = _event(machine, before, to, reason, at, actor)
    for chunk in _chunks(changed):
        _record(session, [event | {"job": number_of(job_id), "start": start} for job_id, start in chunk])
    return len(changed)


def change_in_job(
    session: Session,
    job_id: str,
    before: StrEnum,
    to: StrEnum,
    *,
    reason: str,
    at: int,
    actor: str | None = None,
    **also: object,
) -> int:
    """Give all tasks or leases of a job that are in one state another one; returns how many. One event is about all.

    Rows that the session holds are not told.
    """
    machine = _OF_STATE[type(to)]
    machine.require(before, to)
    of_job = col(TaskRow.job_id) == job_id
    if machine.table is LeaseRow:  # an open lease is its task's
        of_job = col(LeaseRow.lease_id).in_(select(TaskRow.lease_id).where(of_job, col(TaskRow.lease_id).is_not(None)))
    elif machine.table is not TaskRow:
        raise IllegalChangeError(f"a job has no {machine.name}s")
    found = _update(machine).where(of_job, machine.state == before)
    count = _changed(session.execute(found.values(**{machine.column: to.value, **also})))
    if count:
        event = _event(machine, before, to, reason, at, actor)
        _record(session, [event | {"job": number_of(job_id), "count": count}])
    return count


# --- events --------------------------------------------------------------------------------------------------------


def number_of(job_id: str) -> int:
    """What events call a job: 63 bits of its id, which is a hash. Events are many, and so they stay narrow."""
    return int(job_id[2:18], 16) >> 1


def of_task(events: Iterable[EventRow], start: int) -> Iterator[EventRow]:
    """Of a job's events, in their order, those of the task that begins with record `start`."""
    states: dict[str, str] = {}
    for event in events:
        if event.start is None and (event.entity == "job" or states.get(event.entity) != event.before):
            continue
        if event.start is None or event.start == start:
            states[event.entity] = event.after
            yield event


def _event(
    machine: Machine, before: str | None, to: StrEnum, reason: str, at: int, actor: str | None
) -> dict[str, object]:
    return {
        "entity": machine.name,
        "job": None,
        "start": None,
        "count": 1,
        "subject": None,
        "before": None if before is None else str(before),
        "after": to.value,
        "at": at,
        "actor": actor,
        "reason": reason[:_MAX_REASON],
    }


def _place(session: Session, row: SQLModel) -> dict[str, object]:
    """Which job and task a row is about, and which of that task's leases or pieces."""
    subject: str | None = None
    if isinstance(row, AnchorRow):
        return {"subject": str(row.id)}
    if isinstance(row, JobRow):
        return {"job": number_of(row.job_id)}
    if isinstance(row, PieceRow):
        subject, row = row.piece_id, session.get_one(LeaseRow, row.lease_id)
    if isinstance(row, LeaseRow):
        subject, row = subject or row.lease_id, session.get_one(TaskRow, row.task_id)
    if not isinstance(row, TaskRow):
        raise IllegalChangeError(f"a {type(row).__name__} has no state")
    return _place_in(row, subject)


def _place_in(task: TaskRow, subject: str | None) -> dict[str, object]:
    return {"job": number_of(task.job_id), "start": task.start, "subject": subject}


def _audit(session: Session, row: SQLModel, to: StrEnum, reason: str, at: int, actor: str | None) -> None:
    """What becomes of jobs and anchors, and evidence that was refused, stands in the audit log, too."""
    if isinstance(row, JobRow):
        record(session, at, actor or OURSELVES, f"job.{to}", row.job_id, reason)
    elif isinstance(row, AnchorRow):
        record(session, at, actor or OURSELVES, f"anchor.{to}", row.root, reason)
    elif isinstance(row, LeaseRow) and to is EvidenceState.REFUSED:
        record(session, at, row.worker, "evidence.refused", row.task_id, reason)


@contextmanager
def events_at_once(session: Session) -> Iterator[None]:
    """Have the events of all changes within written at the end, with one statement."""
    events: list[Mapping[str, object]] = []
    session.info[_EVENTS] = events
    try:
        yield
    finally:
        del session.info[_EVENTS]
    insert_rows(session, _table(EventRow), events)


def _record(session: Session, events: Sequence[Mapping[str, object]]) -> None:
    session.info.setdefault(RECORDED, []).extend(events)  # for whoever counts what is committed
    waiting: list[Mapping[str, object]] | None = session.info.get(_EVENTS)
    if waiting is None:
        insert_rows(session, _table(EventRow), events)
    else:
        waiting += events


def _update(machine: Machine) -> Any:
    """An update of the table below the session's objects, which it need not look for."""
    return update(machine.table).execution_options(synchronize_session=False)


def _table(kind: type[SQLModel]) -> Table:
    return cast("Table", kind.__table__)  # type: ignore[attr-defined]


def _changed(result: object) -> int:
    return cast("CursorResult[object]", result).rowcount


def _chunks(rows: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(rows)
    while chunk := list(islice(left, _CHUNK)):
        yield chunk


# --- the page ------------------------------------------------------------------------------------------------------


def page() -> str:
    """``docs/states.md``."""
    parts = [_HEAD]
    for machine in MACHINES:
        parts.append(f"\n## {machine.name.capitalize()}\n\n```mermaid\nstateDiagram-v2\n")
        parts += [f"    [*] --> {_id(state)}\n" for state in machine.initial]
        parts += [f"    {_id(before)} --> {_id(to)}\n" for before, to in machine.changes]
        parts += [f"    {_id(state)} --> [*]\n" for state in machine.final()]
        parts.append("```\n\n| from | to | when |\n| --- | --- | --- |\n")
        parts += [f"| `{before.value}` | `{to.value}` | {what} |\n" for (before, to), what in machine.changes.items()]
    return "".join(parts)


def _id(state: StrEnum) -> str:
    return state.value.replace("-", "_")


_HEAD = """# States

Written by `python -m coordinator.states` from the table in `coordinator/states.py`; do not edit it by hand. Nothing
else in the coordinator changes a state, and each change leaves an event with its reason and time in the same
transaction.
"""


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with ``--check`` say whether it is up to date; returns the exit status."""
    if "--check" not in arguments:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"coordinator.states: {PAGE.name} is not up to date; run: python -m coordinator.states", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
