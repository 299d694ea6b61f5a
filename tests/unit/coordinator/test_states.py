"""States change by one table only; each change leaves one event, and changes of many leave enough to tell each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

import coordinator
from coordinator.services import Coordinator
from coordinator.states import (
    MACHINES,
    PAGE,
    IllegalChangeError,
    OvertakenError,
    Step,
    change,
    change_each,
    change_many,
    number_of,
    of_task,
    page,
)
from coordinator.tables import AnchorRow, EventRow, JobRow, LeaseRow, Outcome, PieceRow, TaskRow
from rexis.api import JobState, TaskState
from rexis.protocol.signing import address_of
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, make_coordinator, make_policy
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_recovery import finish

_FOLDER = Path(coordinator.__file__).parent
_COLUMNS = {machine.column for machine in MACHINES}
_TABLES = {machine.table.__name__ for machine in MACHINES}


@pytest.fixture
def published(database: str, tmp_path: Path, ledger: FakeLedger, clock: FakeClock) -> Iterator[Scene]:
    made = Scene(make_coordinator(tmp_path, ledger, clock, database_url=database), ledger)
    made.publish()
    yield made
    made.coordinator.close()


def events(of: Coordinator, job_id: str) -> list[EventRow]:
    with of._store.reading() as session:
        found = select(EventRow).where(EventRow.job == number_of(job_id)).order_by(EventRow.id)  # type: ignore[arg-type]
        return list(session.exec(found))


def told(rows: list[EventRow]) -> list[tuple[str, str | None, str]]:
    return [(row.entity, row.before, row.after) for row in rows]


def test_no_other_module_sets_a_state() -> None:
    found = []
    for path in sorted(_FOLDER.rglob("*.py")):
        if path.name == "states.py" or "migrations" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            targets: list[ast.expr] = []
            if isinstance(node, ast.Assign):
                targets = [part for target in node.targets for part in ast.walk(target)]  # type: ignore[misc]
            elif isinstance(node, ast.AugAssign | ast.AnnAssign):
                targets = [node.target]
            elif isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in {"values", *_TABLES} and any(word.arg in _COLUMNS for word in node.keywords):
                    found.append(f"{path.name}:{node.lineno}")
            stored = (part for part in targets if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store))
            found += [f"{path.name}:{part.lineno}" for part in stored if part.attr in _COLUMNS]
    assert found == []


def test_every_state_can_be_reached_and_the_page_is_up_to_date() -> None:
    for machine in MACHINES:
        reached = set(machine.initial) | {to for _, to in machine.changes}
        assert reached == set(machine.kind), machine.name
    assert PAGE.read_text(encoding="utf-8") == page()


def test_a_job_from_its_submission_to_its_certificate(published: Scene) -> None:
    job = published.submit(policy=make_policy(shard_size=5))
    worker = published.do_all()
    finish(published)
    rows = events(published.coordinator, str(job.job_id))
    assert told(rows) == [
        ("job", None, "queued"),
        ("task", None, "pending"),
        ("task", "pending", "leased"),
        ("lease", None, "open"),
        ("job", "queued", "running"),
        ("evidence", None, "received"),
        ("evidence", "received", "accepted"),
        ("lease", "open", "accepted"),
        ("task", "leased", "accepted"),
        ("job", "running", "anchoring"),
        ("task", "accepted", "anchored"),
        ("job", "anchoring", "certified"),
    ]
    assert rows[0].actor == address_of(published.requester)
    assert rows[2].actor == rows[3].actor == worker.address
    assert all(row.reason and row.at for row in rows)
    assert told(list(of_task(rows, 0))) == [one for one in told(rows) if one[0] != "job"]


def test_what_is_left_of_a_failed_job_fails_in_a_few_events(published: Scene) -> None:
    """Five tasks: one accepted, one leased, three pending; then the job is cancelled."""
    job = published.submit(policy=make_policy(shard_size=1))
    worker = published.worker()
    published.hand_in(worker, published.lease(worker))
    held = published.lease(worker)
    published.coordinator.jobs.cancel(address_of(published.requester), job.job_id)
    rows = events(published.coordinator, str(job.job_id))
    ends = [row for row in rows if row.after in ("failed", "cancelled")]
    assert [(row.entity, row.before, row.count) for row in ends] == [
        ("job", "running", 1),
        ("lease", "open", 1),
        ("task", "pending", 3),
        ("task", "leased", 1),
    ]
    last = [list(of_task(rows, start))[-1].after for start in range(5)]
    assert last == ["accepted", "failed", "failed", "failed", "failed"]
    assert told(list(of_task(rows, held.start)))[-2:] == [("lease", "open", "cancelled"), ("task", "leased", "failed")]
    with published.coordinator._store.reading() as session:
        states = {row.start: row.state for row in session.exec(select(TaskRow))}
        assert [states[start] for start in range(5)] == last
        assert session.get_one(LeaseRow, held.lease_id).outcome == Outcome.CANCELLED


def test_only_changes_of_the_table_are_made(published: Scene) -> None:
    job = published.submit(policy=make_policy(shard_size=5))
    with published.coordinator._store.writing() as session:
        row = session.get_one(JobRow, str(job.job_id))
        with pytest.raises(IllegalChangeError, match="a job cannot go from queued to certified"):
            change(session, row, JobState.CERTIFIED, reason="just so", at=0)
        with pytest.raises(IllegalChangeError):
            change_many(session, TaskState.PENDING, TaskState.ANCHORED, reason="just so", at=0)
    assert told(events(published.coordinator, str(job.job_id))) == [("job", None, "queued"), ("task", None, "pending")]


def test_who_comes_second_changes_nothing(published: Scene) -> None:
    job = published.submit(policy=make_policy(shard_size=5))
    store = published.coordinator._store
    with store.reading() as session:
        seen = session.get_one(JobRow, str(job.job_id))
    published.coordinator.jobs.cancel(address_of(published.requester), job.job_id)
    with pytest.raises(OvertakenError), store.writing() as session:
        session.add(seen)
        change(session, seen, JobState.RUNNING, reason="as if it were still queued", at=0)
    assert published.job(job).state == JobState.FAILED


def test_a_change_and_its_event_are_one(published: Scene) -> None:
    job = published.submit(policy=make_policy(shard_size=5))
    store = published.coordinator._store
    before = told(events(published.coordinator, str(job.job_id)))
    with pytest.raises(KeyboardInterrupt), store.writing() as session:
        change(session, session.get_one(JobRow, str(job.job_id)), JobState.FAILED, reason="x", at=0)
        raise KeyboardInterrupt
    assert published.job(job).state == JobState.QUEUED
    assert told(events(published.coordinator, str(job.job_id))) == before


def test_machines_are_about_these_tables() -> None:
    assert {kind.__name__ for kind in (JobRow, TaskRow, LeaseRow, AnchorRow, PieceRow)} == _TABLES


def test_many_rows_are_changed_each_with_its_own(published: Scene) -> None:
    published.submit(policy=make_policy(shard_size=1, sample_size=1))
    with published.coordinator._store.reading() as session:
        rows = list(session.exec(select(TaskRow).order_by(TaskRow.start)))  # type: ignore[arg-type]
    also = [{"lease_id": f"lease {row.start}"} for row in rows[:3]]
    with published.coordinator._store.writing() as session:
        change_each(session, rows[:3], Step(TaskState.LEASED, "r"), at=1, also=also)
    assert [row.lease_id for row in rows] == ["lease 0", "lease 1", "lease 2", None, None]
    with published.coordinator._store.reading() as session:
        found = list(session.exec(select(TaskRow).order_by(TaskRow.start)))  # type: ignore[arg-type]
        leased = [event.start for event in session.exec(select(EventRow)) if event.after == TaskState.LEASED]
    assert [(row.state, row.lease_id) for row in found] == [(row.state, row.lease_id) for row in rows]
    assert leased == [0, 1, 2]

    stale = found[3:]
    with published.coordinator._store.writing() as session:
        change(session, session.get_one(TaskRow, stale[0].task_id), TaskState.LEASED, reason="first", at=2)
    with pytest.raises(OvertakenError), published.coordinator._store.writing() as session:
        change_each(session, stale, Step(TaskState.LEASED, "late"), at=3)
    with published.coordinator._store.reading() as session:
        assert session.get_one(TaskRow, stale[1].task_id).state == TaskState.PENDING
    with pytest.raises(IllegalChangeError, match="several states"), published.coordinator._store.writing() as session:
        change_each(session, [rows[0], rows[4]], Step(TaskState.LEASED, "mixed"), at=4)
