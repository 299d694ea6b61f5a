"""How a database is opened: what SQLite and PostgreSQL each need so that the rest of the code sees no difference.

Transactions that write follow one another, on both. SQLite has one writer at a time by nature; on PostgreSQL a lock of
ours does the same, held to the end of the transaction, so that code which reads, decides and writes is right on both.
One kind of transaction goes beside them there: noting that blobs are used, which is one statement that decides nothing.
"""

from __future__ import annotations

import hashlib
import select
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import InvalidatePoolError

from coordinator.times import wall_clock
from rexis.protocol.errors import UnavailableError

_BUSY_MS = 10_000
_STATEMENT_MS = 30_000
# A process that was stopped in the middle of a transaction must not keep the others waiting for ever.
_IDLE_IN_TRANSACTION_MS = 30_000
_WRITING = "rexis_writing"
_NOTING = "rexis_noting"
_COLLECTING = "rexis_collecting"


def _lock(name: bytes) -> int:
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big", signed=True)


_WRITERS_LOCK = _lock(b"rexis writers")
_BLOBS_LOCK = _lock(b"rexis blobs")


def open_engine(url: str, connections: int) -> Engine:
    """An engine for reading; see :func:`for_writing`.

    Parameters
    ----------
    url
        SQLAlchemy URL.
    connections
        Most connections of this process at a time. SQLite, whose connections cost nothing, has as many as it needs.
    """
    engine = _sqlite(url, foreign_keys=True) if is_sqlite(url) else _postgresql(url, connections, limited=True)
    event.listen(engine, "begin", _on_begin)
    return engine


def open_for_migration(url: str) -> Engine:
    """An engine without time limits and, on SQLite, without foreign keys: altering a table makes it anew there."""
    engine = _sqlite(url, foreign_keys=False) if is_sqlite(url) else _postgresql(url, 1, limited=False)
    event.listen(engine, "begin", _on_begin)
    return for_writing(engine)


def for_writing(engine: Engine) -> Engine:
    """The same connections, for transactions that write: each waits for its turn when it begins."""
    return engine.execution_options(**{_WRITING: True})


def for_noting(engine: Engine) -> Engine:
    """A server's connections, for transactions that note which blobs are used: beside writers, but for collectors."""
    return engine.execution_options(**{_NOTING: True})


def for_collecting(engine: Engine) -> Engine:
    """The same connections, for transactions that decide which blobs go: as :func:`for_writing`, and nobody notes."""
    return engine.execution_options(**{_WRITING: True, _COLLECTING: True})


def for_reading(engine: Engine) -> Engine:
    """The same connections, for transactions that read one consistent state."""
    if engine.dialect.name != "postgresql":
        return engine  # a transaction of SQLite does so anyway
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def for_one_look(engine: Engine) -> Engine:
    """The same connections, for single statements that read: each is a transaction of its own."""
    if engine.dialect.name != "postgresql":
        return engine  # where a transaction's beginning and end cost no way to a server and back
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def driver_arguments(url: str) -> dict[str, Any]:
    """How the driver itself is told to connect to the same database."""
    parsed = make_url(url)
    _, arguments = parsed.get_dialect()().create_connect_args(parsed)
    return dict(arguments)


def is_sqlite(url: str) -> bool:
    """Whether a URL names an SQLite file."""
    return make_url(url).get_backend_name() == "sqlite"


def sqlite_file(url: str) -> Path | None:
    """The file that a URL of SQLite names; None if the database is in memory or is none of SQLite's."""
    parsed = make_url(url)
    in_file = is_sqlite(url) and parsed.database not in (None, "", ":memory:")
    return Path(str(parsed.database)) if in_file else None


def now_ms(connection: Connection) -> int:
    """The database's clock, which all of its users share: SQLite's are on one machine."""
    if connection.dialect.name == "sqlite":
        return wall_clock()
    found = connection.exec_driver_sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").scalar_one()
    return int(found)


def _on_begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    writing = options.get(_WRITING, False)
    if connection.dialect.name == "sqlite":
        # A writer takes the lock at once: a read that later wants to write could only fail, not wait.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
    elif writing:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS_LOCK})")
        if options.get(_COLLECTING, False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_BLOBS_LOCK})")
    elif options.get(_NOTING, False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock_shared({_BLOBS_LOCK})")


def _sqlite(url: str, *, foreign_keys: bool) -> Engine:
    file = sqlite_file(url)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(url, pool_size=20, max_overflow=40, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun above, not by the driver
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            f"foreign_keys={'ON' if foreign_keys else 'OFF'}",
            f"busy_timeout={_BUSY_MS}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _postgresql(url: str, connections: int, *, limited: bool) -> Engine:
    try:
        engine = create_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            hide_parameters=True,
            connect_args={"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10},
        )
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"the database's driver {error.name} is not installed", hint="pip install 'rexis[postgresql]'"
        ) from None

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        if limited:
            connection.execute(f"SET statement_timeout = {_STATEMENT_MS}")
            connection.execute(f"SET idle_in_transaction_session_timeout = {_IDLE_IN_TRANSACTION_MS}")
            connection.commit()

    @event.listens_for(engine, "checkout")
    def on_checkout(connection: Any, _record: object, _proxy: object) -> None:
        if connection.closed or _said_something(connection.fileno()):
            raise InvalidatePoolError  # the pool connects anew

    return engine


def _said_something(descriptor: int) -> bool:
    """Whether a server has sent bytes unasked: it does so when it ends a connection, and hardly ever else.

    Instead of asking it whether it is there, each time that a connection is used: that is as slow as a statement.
    """
    looking = select.poll()
    looking.register(descriptor, select.POLLIN)
    return bool(looking.poll(0))
