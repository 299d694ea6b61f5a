"""One coordinator at a time on a database and on an account."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from rexis.protocol.errors import ConflictError

_HINT = "end the other process; more than one coordinator on a database or account is not supported yet"


@contextmanager
def exclusive(database: str, wallet: Path) -> Iterator[None]:
    """Hold the database and the wallet for the length of a ``with`` block; the system lets go if the process dies.

    Two coordinators would anchor the same statements twice, and count the nonces of one account apart.

    Raises
    ------
    ConflictError
        Another process holds one of them.
    """
    url = make_url(database)
    with ExitStack() as held:
        if url.get_backend_name() == "sqlite":
            if url.database and url.database != ":memory:":
                path = Path(url.database)
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                held.enter_context(_locked(path.with_name(path.name + ".lock"), "database", create=True))
        else:
            held.enter_context(_advisory(database))
        held.enter_context(_locked(wallet, "wallet", create=False))
        yield


@contextmanager
def _locked(path: Path, what: str, *, create: bool) -> Iterator[None]:
    with path.open("ab" if create else "rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"another coordinator uses the {what} ({path})", hint=_HINT) from None
        yield


@contextmanager
def _advisory(database: str) -> Iterator[None]:
    """PostgreSQL's lock of a session, by a number of ours."""
    number = int.from_bytes(hashlib.sha256(b"rexis coordinator").digest()[:8], "big", signed=True)
    engine = create_engine(database, hide_parameters=True)
    try:
        with engine.connect() as connection:
            if not connection.execute(text("SELECT pg_try_advisory_lock(:number)"), {"number": number}).scalar():
                raise ConflictError("another coordinator uses the database", hint=_HINT)
            connection.commit()  # the lock is the session's, and no transaction stays open
            yield
    finally:
        engine.dispose()
