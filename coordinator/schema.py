"""Which tables a database has, and bringing them to those that this version needs."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError

from coordinator.engine import open_for_migration, sqlite_file
from rexis.protocol.errors import ConflictError, UnavailableError

_STEPS = Path(__file__).parent / "migrations"
_BASELINE = "0001"
# Of the tables that the baseline describes: what coordinators wrote into the database before there were steps.
_BASELINE_VERSION = 7
_MARK = "schema_version"


@dataclass(frozen=True)
class Standing:
    """Where a database stands.

    Attributes
    ----------
    found
        Its last step, "empty", or "version 7" of before there were steps.
    wanted
        The last step that this version knows.
    """

    found: str
    wanted: str

    @property
    def current(self) -> bool:
        """Nothing is to be done."""
        return self.found == self.wanted


@dataclass(frozen=True)
class Migrated:
    """What was done.

    Attributes
    ----------
    backup
        Copy of the SQLite file as it was before, if it had anything in it.
    """

    before: Standing
    backup: Path | None


def standing(url: str) -> Standing:
    """Where a database stands; it is not changed.

    Raises
    ------
    ConflictError
        Its tables are not rexis', or of a version that cannot be brought to this one.
    UnavailableError
        It does not answer.
    """
    with _locked(url) as connection:
        return _standing(connection)


def migrate(url: str) -> Migrated:
    """Bring a database to the tables of this version; changes nothing if it has them.

    Of several processes that do so at once, one works and the others wait for it. If a step fails, nothing has changed.

    Raises
    ------
    ConflictError
        Its tables are not rexis', or of a version that cannot be brought to this one.
    UnavailableError
        It does not answer.
    """
    with _locked(url) as connection:
        before = _standing(connection)
        if before.current:
            return Migrated(before, None)
        backup = _back_up(url, before) if before.found != "empty" else None
        try:
            _apply(connection, before)
        except BaseException:
            if backup is not None:
                backup.unlink()
            raise
        return Migrated(before, backup)


def prepare(url: str, *, allowed: bool) -> None:
    """Make sure that the tables are those that this version needs.

    An empty database, and one of SQLite, are brought to them; others only where that is `allowed`, because other
    processes may be using them.

    Raises
    ------
    ConflictError
        The database needs steps that are not allowed, or cannot be used by this version at all.
    UnavailableError
        It does not answer.
    """
    before = standing(url)
    if before.current:
        return
    if not (allowed or before.found == "empty" or sqlite_file(url)):
        raise ConflictError(
            f"the database stands at {before.found}, this coordinator needs {before.wanted}",
            hint="make a backup, then run `rexis coordinator migrate`, or start with --migrate",
        )
    migrate(url)


@contextmanager
def _locked(url: str) -> Iterator[Connection]:
    """A transaction that holds the writers' lock."""
    engine = open_for_migration(url)
    try:
        with engine.begin() as connection:
            yield connection
    except OperationalError as error:
        reason = str(error.orig).strip().split("\n")[0]
        raise UnavailableError(
            f"the database cannot be used: {reason}", hint="does REXIS_DATABASE_URL name it, and is it running?"
        ) from None
    finally:
        engine.dispose()


def _standing(connection: Connection) -> Standing:
    wanted, known = _head()
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None:
        if found not in known:
            raise ConflictError(
                f"the database stands at {found}, this coordinator knows steps up to {wanted}",
                hint="run the version that migrated it, or restore the backup that was made before",
            )
        return Standing(found, wanted)
    tables = inspect(connection).get_table_names()
    if not tables:
        return Standing("empty", wanted)
    if _MARK not in tables:
        raise ConflictError("the database has tables, but not those of a coordinator", hint="use an empty one")
    version = connection.execute(text(f"SELECT version FROM {_MARK}")).scalar()  # noqa: S608 - a constant
    if version != _BASELINE_VERSION:
        raise ConflictError(
            f"the database has tables of version {version}, this coordinator takes over version {_BASELINE_VERSION}",
            hint="run the version that made it, or start with an empty database",
        )
    return Standing(f"version {version}", wanted)


def _apply(connection: Connection, before: Standing) -> None:
    config = _config()
    config.attributes["connection"] = connection
    if before.found == f"version {_BASELINE_VERSION}":
        MigrationContext.configure(connection).stamp(ScriptDirectory.from_config(config), _BASELINE)
    command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            raise ConflictError(f"a step would leave {len(broken)} rows that point to nothing; nothing was changed")


def _back_up(url: str, before: Standing) -> Path | None:
    """Copy an SQLite file beside itself. The caller has the writers' lock, so nobody changes it meanwhile."""
    file = sqlite_file(url)
    if file is None:
        return None
    at = f"{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 1_000_000_000:09d}"
    copy = file.with_name(f"{file.name}.{before.found.replace(' ', '-')}-{at}.backup")
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


@cache
def _head() -> tuple[str, frozenset[str]]:
    """The last step, and all of them."""
    steps = ScriptDirectory.from_config(_config())
    head = steps.get_current_head()
    if head is None:
        raise RuntimeError("no steps in coordinator/migrations/versions")
    return head, frozenset(step.revision for step in steps.walk_revisions())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_STEPS).replace("%", "%%"))
    return config
