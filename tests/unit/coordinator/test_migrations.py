"""The steps lead to the tables of tables.py; what a database had before them goes on."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, inspect, text
from sqlmodel import SQLModel
from typer.testing import CliRunner

from contracts import onchain
from contracts.artefacts import CoreName
from coordinator.engine import is_sqlite, sqlite_file
from coordinator.schema import _head, migrate, prepare, standing
from coordinator.store import Store
from coordinator.tables import JobRow, LeaseRow, TaskRow
from rexis.api import JobState, TaskState
from rexis.cli.main import app
from rexis.protocol.certificate import Certificate
from rexis.protocol.errors import ConflictError
from rexis.protocol.parsing import Address
from rexis.protocol.signing import address_of
from tests.unit.coordinator import fakes
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, FakeWorker, make_coordinator
from tests.unit.coordinator.old.people import COORDINATOR, OWNER, REQUESTER, WORKERS
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_recovery import certificate, finish

OLD = Path(__file__).parent / "old"
# The contracts of that time: jobs and statements are signed for their log.
OLD_CONTRACTS: dict[CoreName, Address] = {
    "ModelRegistry": Address("0x4a2dbbF38edD0a9C0eF854F4e5392F6526EB903f"),
    "EvidenceLog": Address("0x336070efdA8ebC03DD183cc4455755A375a791e6"),
    "Certifier": Address("0x92395923D0Be77162966F94B1AaF4C3E8b0a7Dd3"),
}
HEAD, STEPS = _head()


def fill(url: str) -> None:
    """The database of version 7; on PostgreSQL its baseline's tables, without a word of steps, and its rows."""
    file = sqlite_file(url)
    if file is not None:
        with closing(sqlite3.connect(file)) as made:
            made.executescript((OLD / "version7.sql").read_text())
        return
    with closing(sqlite3.connect(":memory:")) as source:
        source.executescript((OLD / "version7.sql").read_text())
        source.row_factory = sqlite3.Row
        with connected(url) as connection:
            metadata = MetaData()
            copy = create_engine("sqlite://", creator=lambda: source)
            metadata.reflect(copy)
            metadata.create_all(connection)
            for table in metadata.sorted_tables:
                rows = [dict(row) for row in source.execute(f'SELECT * FROM "{table.name}"')]
                if rows:
                    connection.execute(table.insert(), [booleans(table, row) for row in rows])
            for table in ("anchor", "fault"):
                last = f"(SELECT max(id) FROM {table})"
                connection.execute(text(f"SELECT setval('{table}_id_seq', {last}) WHERE {last} IS NOT NULL"))
            connection.commit()


def booleans(table, row):  # type: ignore[no-untyped-def]
    return {name: bool(value) if str(table.c[name].type) == "BOOLEAN" else value for name, value in row.items()}


@contextmanager
def connected(url: str) -> Iterator:  # type: ignore[type-arg]
    engine = create_engine(url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def contents(url: str) -> dict[str, int]:
    """Rows of each table."""
    with connected(url) as connection:
        names = inspect(connection).get_table_names()
        return {name: connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one() for name in names}


def test_the_steps_lead_to_the_tables(empty_database: str) -> None:
    """If this fails: `coordinator/migrations/__init__.py` says how to add a step for the differences shown."""
    migrate(empty_database)
    with connected(empty_database) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_the_steps_are_one_line() -> None:
    names = sorted(path.name for path in (Path(__file__).parents[3] / "coordinator/migrations/versions").glob("0*.py"))
    assert {name[:4] for name in names} == STEPS
    assert HEAD in STEPS


def test_an_empty_database_is_set_up_without_a_word(empty_database: str) -> None:
    assert standing(empty_database).found == "empty"
    Store(empty_database).close()
    assert standing(empty_database).current
    assert list(contents(empty_database)) != []


def test_it_is_done_once_when_many_start_at_once(empty_database: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _: migrate(empty_database).before.found, range(6)))
    assert sorted(found) == sorted(["empty"] + [HEAD] * 5)


@pytest.fixture
def _old_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this version's contracts were those of that time: a job's log is for good, whatever the tables."""
    now = onchain.address_of_contract
    monkeypatch.setattr(onchain, "address_of_contract", lambda name: OLD_CONTRACTS.get(name) or now(name))
    monkeypatch.setattr(fakes, "DEPLOYMENT", onchain.Deployment.on(fakes.DEPLOYMENT.chain_id))


@pytest.mark.usefixtures("_old_contracts")
def test_old_data_stay_and_a_job_in_flight_goes_on(empty_database: str, tmp_path: Path) -> None:
    fill(empty_database)
    before = contents(empty_database)
    assert standing(empty_database).found == "version 7"
    done = migrate(empty_database)
    after = contents(empty_database)
    assert {name: after[name] for name in before} == before
    if is_sqlite(empty_database):
        assert done.backup is not None
        assert contents(f"sqlite:///{done.backup}") == before
        assert done.backup.stat().st_mode & 0o777 == 0o600

    shutil.copytree(OLD / "blobs", tmp_path / "blobs")
    ledger, clock = FakeLedger(COORDINATOR), FakeClock()
    ledger.register_model(address_of(OWNER))
    coordinator = make_coordinator(tmp_path, ledger, clock, database_url=empty_database)
    scene = Scene(coordinator, ledger, owner=OWNER, requester=REQUESTER)
    jobs = {view.state: view for view in coordinator.views.jobs(address_of(REQUESTER))}
    assert {JobState.CERTIFIED, JobState.FAILED, JobState.RUNNING} <= set(jobs)
    done_job = coordinator.views.job(address_of(REQUESTER), jobs[JobState.CERTIFIED].job_id)
    assert Certificate.parse(coordinator.jobs.certificate(address_of(REQUESTER), done_job.job_id)).tasks
    running = [
        view
        for summary in coordinator.views.jobs(address_of(REQUESTER))
        if (view := coordinator.views.job(address_of(REQUESTER), summary.job_id)).state == JobState.RUNNING
    ]
    flying = next(
        view for view in running if {task.state for task in view.tasks} == {TaskState.ACCEPTED, TaskState.LEASED}
    )
    sampled = next(view for view in running if view is not flying)
    leased = next(task for task in flying.tasks if task.state == TaskState.LEASED)
    assert leased.worker == address_of(WORKERS[0])
    assert leased.progress is not None and leased.progress.done == 1
    assert [fault.code for view in (flying, sampled) for task in view.tasks for fault in task.faults] == ["too-large"]

    hand_in_what_is_leased(scene, leased.task_id)
    finish(scene)
    ended = scene.job(flying)
    assert ended.state == JobState.CERTIFIED, ended.reason
    assert len(certificate(scene, flying).tasks) == 2

    clock.pass_seconds(61)
    coordinator.leases.expire()
    (task,) = scene.job(sampled).tasks
    assert (task.state, task.fault_count) == (TaskState.PENDING, 1)
    coordinator.close()


def hand_in_what_is_leased(scene: Scene, task_id) -> None:  # type: ignore[no-untyped-def]
    """Do the old lease's task, with the account that leased it."""
    with scene.coordinator._store.reading() as session:
        task = session.get_one(TaskRow, str(task_id))
        lease = session.get_one(LeaseRow, task.lease_id)
        document = scene.coordinator.leases._document(session, lease, task, session.get_one(JobRow, task.job_id))
    scene.hand_in(FakeWorker(WORKERS[0]), document)


def test_postgresql_waits_to_be_told(databases, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with databases.empty("postgresql", tmp_path) as url:
        fill(url)
        before = contents(url)
        with pytest.raises(ConflictError, match="stands at version 7") as refused:
            Store(url)
        assert "rexis coordinator migrate" in str(refused.value.hint)
        assert contents(url) == before
        Store(url, migrate=True).close()
        Store(url).close()
        assert standing(url).current


def test_sqlite_is_migrated_by_itself(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    fill(url)
    Store(url).close()
    assert standing(url).current
    (backup,) = tmp_path.glob("state.db.version-7-*.backup")
    assert standing(f"sqlite:///{backup}").found == "version 7"


@pytest.mark.parametrize("version", [6, 8])
def test_other_versions_of_before_the_steps_are_refused(empty_database: str, version: int) -> None:
    fill(empty_database)
    with connected(empty_database) as connection:
        connection.execute(text(f"UPDATE schema_version SET version = {version}"))
        connection.commit()
    before = contents(empty_database)
    with pytest.raises(ConflictError, match=f"version {version}"):
        prepare(empty_database, allowed=True)
    assert contents(empty_database) == before


def test_a_database_that_is_ahead_is_refused(database: str) -> None:
    with connected(database) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.commit()
    with pytest.raises(ConflictError, match="stands at 9999"):
        Store(database, migrate=True)


def test_somebody_elses_tables_are_left_alone(empty_database: str) -> None:
    with connected(empty_database) as connection:
        connection.execute(text("CREATE TABLE patients (id INTEGER)"))
        connection.commit()
    with pytest.raises(ConflictError, match="not those of a coordinator"):
        Store(empty_database, migrate=True)
    assert contents(empty_database) == {"patients": 0}


def test_a_step_that_fails_changes_nothing(
    empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(empty_database)
    before = contents(empty_database)

    def broken(config, _to):  # type: ignore[no-untyped-def]
        connection = config.attributes["connection"]
        connection.execute(text("CREATE TABLE half (id INTEGER)"))
        raise RuntimeError("the power fails")

    monkeypatch.setattr("coordinator.schema.command.upgrade", broken)
    with pytest.raises(RuntimeError):
        migrate(empty_database)
    assert contents(empty_database) == before
    assert list(tmp_path.glob("*.backup")) == []
    monkeypatch.undo()
    migrate(empty_database)
    assert standing(empty_database).current


def test_a_running_coordinator_goes_on_while_the_tables_are_a_step_ahead(scene: Scene, database: str) -> None:
    """What steps may add, as `coordinator/migrations/__init__.py` says."""
    scene.publish()
    job = scene.submit()
    worker = scene.worker()
    lease = scene.lease(worker)
    with connected(database) as connection:
        for statement in (
            "ALTER TABLE task ADD COLUMN later TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE lease ADD COLUMN later BIGINT",
            "CREATE TABLE later (id BIGINT PRIMARY KEY)",
            "CREATE INDEX ix_later ON lease (later)",
            "UPDATE alembic_version SET version_num = '9999'",
        ):
            connection.execute(text(statement))
        connection.commit()
    scene.hand_in(worker, lease)
    scene.do_all()
    finish(scene)
    assert scene.job(job).state == JobState.CERTIFIED


def test_the_coordinator_of_before_refuses_what_was_migrated(database: str) -> None:
    """It looks at this table, and knows 7."""
    with connected(database) as connection:
        assert connection.execute(text("SELECT version FROM schema_version")).scalars().all() == [8]


def test_the_command(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(empty_database)
    monkeypatch.setenv("REXIS_DATABASE_URL", empty_database)

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["coordinator", "migrate", *arguments])
        return done.exit_code, done.stdout

    assert run("--check") == (1, f"version 7 → {HEAD} is to be done\n")
    status, document = run("--json")
    assert status == 0
    found = json.loads(document)
    assert (found["found"], found["wanted"], found["migrated"]) == ("version 7", HEAD, True)
    assert (found["backup"] is not None) == is_sqlite(empty_database)
    assert run("--check") == (0, f"the database stands at {HEAD}, as it should\n")
    assert run()[0] == 0
