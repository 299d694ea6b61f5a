"""Which blobs the coordinator keeps, as rows: a row is there before the bytes are, and goes after them.

So nothing is in the store that no row knows, and a blob that is used again is never one that is being removed: both
are decided on its row, and whoever removes blobs does so while nobody else writes any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import cast

from sqlalchemy import Executable, Table, func, true
from sqlalchemy import select as sql_select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from coordinator.bulk import dialect_of, given, parameter
from coordinator.store import Store
from coordinator.tables import BlobRow, BlobState
from coordinator.times import Clock
from rexis.protocol.digests import Digest
from rexis.protocol.errors import UnavailableError

_AT_A_TIME = 500
_COLUMNS = ("digest", "size", "used_at", "fate", "changed_at")


class Inventory:
    """Rows of blobs, in transactions of their own."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    def expect(self, sizes: Mapping[Digest, int | None]) -> None:
        """Bytes of these blobs are about to be written; sizes where they are known.

        Raises
        ------
        UnavailableError
            One is just being removed.
        """
        with self._store.noting() as session:
            keep(session, sizes, self._clock())


def keep(session: Session, sizes: Mapping[Digest, int | None], now: int) -> None:
    """Blobs are uploaded or used now, in this transaction: from here on they stay for a while. Rows that lack are made.

    Raises
    ------
    UnavailableError
        One is just being removed. It can be sent again in a moment.
    """
    if not sizes:
        return
    rows = [
        {"digest": str(digest), "size": size, "used_at": now, "fate": BlobState.LIVE, "changed_at": 0}
        for digest, size in sorted(sizes.items())  # whoever waits for another's row has none that the other wants
    ]
    session.flush()
    kept = session.connection().execute(_keeping(dialect_of(session)), parameter(rows, _COLUMNS))
    if kept.rowcount != len(rows):
        names = [str(digest) for digest in sizes]
        gone = select(BlobRow.digest).where(col(BlobRow.digest).in_(names), col(BlobRow.fate) == BlobState.REMOVING)
        raise _removing(session.exec(gone).first())


@lru_cache(maxsize=2)
def _keeping(dialect: str) -> Executable:
    """Make rows, and revive those that are there; those of blobs that are being removed stay as they are."""
    table = cast("Table", BlobRow.__table__)  # type: ignore[attr-defined]
    rows = sql_select(given(table, _COLUMNS, dialect)).where(true())  # SQLite takes ON CONFLICT for a join's ON
    fresh = (sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)).from_select(_COLUMNS, rows)
    new = fresh.excluded
    return fresh.on_conflict_do_update(
        index_elements=[table.c.digest],
        set_={"size": func.coalesce(new.size, table.c.size), "used_at": new.used_at, "fate": new.fate},
        where=table.c.fate != BlobState.REMOVING.value,
    ).execution_options(preserve_rowcount=True)


def require_kept(session: Session, digests: Iterable[Digest], now: int) -> Digest | None:
    """Use blobs that were uploaded before; returns the first of which nothing is left.

    Raises
    ------
    UnavailableError
        One is just being removed.
    """
    wanted = list(digests)
    found = _rows(session, wanted)
    for digest in wanted:
        row = found.get(str(digest))
        if row is None:
            return digest
        _revive(row, now)
    return None


def _revive(row: BlobRow, now: int) -> None:
    if row.fate == BlobState.REMOVING:
        raise _removing(row.digest)
    row.fate, row.used_at = BlobState.LIVE, now


def _removing(digest: str | None) -> UnavailableError:
    return UnavailableError(f"blob {digest} is just being removed", hint="try again in a minute")


def _rows(session: Session, digests: Iterable[Digest]) -> dict[str, BlobRow]:
    names = [str(digest) for digest in digests]
    found: dict[str, BlobRow] = {}
    for place in range(0, len(names), _AT_A_TIME):
        wanted = select(BlobRow).where(col(BlobRow.digest).in_(names[place : place + _AT_A_TIME]))
        found |= {row.digest: row for row in session.exec(wanted)}
    return found
