"""The database: one engine, reads apart from writes, one transaction per change of state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event, make_url
from sqlmodel import Session, SQLModel, create_engine, select

from coordinator.tables import SCHEMA_VERSION, SchemaRow
from rexis.protocol.errors import ConflictError

_BUSY_MS = 10_000
_WRITING = "rexis_writing"


class Store:
    """Sessions over a database.

    Parameters
    ----------
    url
        SQLAlchemy URL. SQLite is tuned (WAL, foreign keys, busy time-out); nothing else here knows which one it is.

    Raises
    ------
    ConflictError
        The database was made by another version of the tables.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        if sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._engine = create_engine(url, pool_size=20, max_overflow=40, pool_pre_ping=not sqlite, hide_parameters=True)
        if sqlite:
            _tune_sqlite(self._engine)
        self._writer = self._engine.execution_options(**{_WRITING: True})
        SQLModel.metadata.create_all(self._writer)
        self._require_version()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one consistent state."""
        with Session(self._engine, expire_on_commit=False, autoflush=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction: committed at the end, or rolled back as a whole if anything raises."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _require_version(self) -> None:
        with self.writing() as session:
            found = session.exec(select(SchemaRow)).first()
            if found is None:
                session.add(SchemaRow(version=SCHEMA_VERSION))
            elif found.version != SCHEMA_VERSION:
                raise ConflictError(
                    f"the database has tables of version {found.version}, this coordinator needs {SCHEMA_VERSION}",
                    hint="run the version that made it, or start with an empty database",
                )


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={_BUSY_MS}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A writer takes the lock at once: a read that later wants to write could only fail, not wait.
        writing = connection.get_execution_options().get(_WRITING, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
