"""Many rows in one statement: they are one parameter, a JSON document, which the database takes apart itself.

A driver that sends each value by itself spends more on them than the database does (measured: docs/adr/0020).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

from sqlalchemy import JSON, Subquery, Table, Text, bindparam, cast, column, func, insert, literal_column, select, true
from sqlalchemy.sql.dml import Insert
from sqlmodel import Session

_ROWS = "given_rows"

Row = Mapping[str, object]


@lru_cache(maxsize=64)
def given(table: Table, names: tuple[str, ...], dialect: str) -> Subquery:
    """Rows with some of a table's columns, as a statement's source; :func:`parameter` is what they are.

    Parameters
    ----------
    dialect
        Of the connection on which the statement is executed.
    """
    rows = bindparam(_ROWS, type_=Text)
    if dialect == "sqlite":
        each = func.json_each(rows).table_valued("value")
        values = [
            func.json_extract(each.c.value, literal_column(f"'$[{place}]'"), type_=table.c[name].type).label(name)
            for place, name in enumerate(names)
        ]
        return select(*values).where(true()).subquery("given")
    # By place and not by name: the names would be sent with every row.
    each = func.json_array_elements(cast(rows, JSON)).table_valued(column("value", JSON)).alias("each")
    values = [
        cast(each.c.value.op("->>")(literal_column(str(place))), table.c[name].type).label(name)
        for place, name in enumerate(names)
    ]
    return select(*values).subquery("given")


def parameter(rows: Sequence[Row], names: Sequence[str]) -> dict[str, str]:
    """The parameter of a statement with :func:`given`."""
    found = [[row[name] for name in names] for row in rows]
    return {_ROWS: json.dumps(found, ensure_ascii=False, separators=(",", ":"))}


def insert_rows(session: Session, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows that all have the same columns; the others get their defaults."""
    if rows:
        names = tuple(rows[0])
        session.connection().execute(_insert(table, names, dialect_of(session)), parameter(rows, names))


def dialect_of(session: Session) -> str:
    """The name of the dialect of a session's database."""
    return session.get_bind().dialect.name


@lru_cache(maxsize=64)
def _insert(table: Table, names: tuple[str, ...], dialect: str) -> Insert:
    return insert(table).from_select(names, select(given(table, names, dialect)))
