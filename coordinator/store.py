"""The database: one engine, reads apart from writes, one transaction per change of state."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.pool import QueuePool
from sqlmodel import Session, select

from coordinator.engine import (
    for_collecting,
    for_noting,
    for_one_look,
    for_reading,
    for_writing,
    is_sqlite,
    open_engine,
)
from coordinator.schema import prepare
from coordinator.tables import SecretRow
from rexis.protocol.errors import UnavailableError

_CONNECTIONS = 20
_PATIENCE_S = 10.0


class Store:
    """Sessions over a database.

    Parameters
    ----------
    url
        SQLAlchemy URL, of SQLite or PostgreSQL; nothing here knows which one it is.
    connections
        Most connections to a PostgreSQL server.
    migrate
        Whether tables of an older version may be changed on a PostgreSQL server; those of SQLite are.

    Raises
    ------
    ConflictError
        The database has tables of another version, which cannot or may not be changed.
    """

    def __init__(self, url: str, *, connections: int = _CONNECTIONS, migrate: bool = False) -> None:
        prepare(url, allowed=migrate)
        self._engine = open_engine(url, connections)
        self._reader, self._writer = for_reading(self._engine), for_writing(self._engine)
        self._looker = for_one_look(self._engine)
        self._noter, self._collector = for_noting(self._engine), for_collecting(self._engine)
        self._notes_beside = not is_sqlite(url)
        self._turn = threading.Lock()
        self._writing: int | None = None

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one consistent state."""
        with Session(self._reader, expire_on_commit=False, autoflush=False) as session:
            yield session

    @contextmanager
    def looking(self) -> Iterator[Session]:
        """A session for one statement that reads: it takes a third of the time of :meth:`reading` on a server.

        Two statements may see two states.
        """
        with Session(self._looker, expire_on_commit=False, autoflush=False) as session:
            yield session

    @contextmanager
    def writing(self, *, collecting: bool = False) -> Iterator[Session]:
        """One transaction: committed at the end, or rolled back as a whole if anything raises.

        It is the only one that writes, in all processes, from its beginning to its end: what it reads stays true. So
        it must be short: no chain, no blob, no proof within. It is not repeated if the connection breaks, because
        whether it was committed is not known then; every request can be sent again, and every background step taken
        again.

        Parameters
        ----------
        collecting
            What is decided is which blobs go: no :meth:`noting` is under way meanwhile either.

        Raises
        ------
        UnavailableError
            Others did not stop writing for too long.
        """
        engine = self._collector if collecting else self._writer
        with self._in_turn(), Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def noting(self) -> Iterator[Session]:
        """A transaction of one statement, which notes that blobs are used whatever else is true.

        On a server it waits for no writer but one that collects blobs.
        """
        if not self._notes_beside:
            with self.writing() as session:
                yield session
            return
        with Session(self._noter, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """One thread of this process at a time.

        The database sees to it anyway, but its waiters each have a connection, and it is slow to wake them (measured:
        docs/adr/0011).
        """
        if self._writing == threading.get_ident():
            raise RuntimeError("a writing transaction within another one")
        if not self._turn.acquire(timeout=_PATIENCE_S):
            raise UnavailableError("the database is busy", hint="try again")
        self._writing = threading.get_ident()
        try:
            yield
        finally:
            self._writing = None
            self._turn.release()

    def ping(self) -> None:
        """Return if the database answers and has our tables; otherwise SQLAlchemy's error."""
        with self.reading() as session:
            session.exec(select(SecretRow.name).limit(1)).first()

    def connections(self) -> dict[str, float]:
        """How many connections this process has, by what they do."""
        pool = self._engine.pool
        if not isinstance(pool, QueuePool):
            return {}
        return {"in-use": pool.checkedout(), "idle": pool.checkedin()}

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()
