"""What the database takes by itself: the same rows a task, inserted and updated in a loop by its driver alone."""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

_TABLES = (
    "CREATE TABLE bare_task (id BIGINT PRIMARY KEY, job BIGINT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL)",
    "CREATE INDEX bare_task_state ON bare_task (state, id)",
    "CREATE INDEX bare_task_job ON bare_task (job)",
)
_TASKS = 20_000
_BODY = "x" * 300  # about what a task's or an event's row has


@dataclass(frozen=True)
class Rows:
    """What one task takes: rows inserted, rows updated."""

    inserted: float
    updated: float


def postgres_limit(dsn: str, rows: Rows, *, connections: int, at_once: int, seconds: float) -> float:
    """Tasks a second that the server takes over so many connections, `at_once` tasks a transaction."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS bare_task")
        for statement in _TABLES:
            connection.execute(statement)
        with connection.cursor() as cursor, cursor.copy("COPY bare_task FROM STDIN") as copy:
            for number in range(_TASKS):
                copy.write_row((number, number % 100, "pending", _BODY))
    done = [0] * connections

    def work(mine: int, until: float) -> None:
        with psycopg.connect(dsn) as connection:
            turns = _Turns(mine, connections)
            while time.monotonic() < until:
                with connection.cursor() as cursor:
                    inserts, updates = turns.next(rows, at_once)
                    cursor.executemany("INSERT INTO bare_task VALUES (%s, %s, %s, %s)", inserts)
                    cursor.executemany("UPDATE bare_task SET state = %s, body = %s WHERE id = %s", updates)
                connection.commit()
                done[mine] += at_once

    return _timed(work, connections, seconds) and sum(done) / seconds


def sqlite_limit(folder: Path, rows: Rows, *, at_once: int, seconds: float) -> float:
    """As :func:`postgres_limit`; SQLite has one writer. The file is a new one in `folder`."""
    file = folder / f"bare-{at_once}.sqlite"
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute("BEGIN")
    filled = [(number, number % 100, "pending", _BODY) for number in range(_TASKS)]
    connection.executemany("INSERT INTO bare_task VALUES (?, ?, ?, ?)", filled)
    connection.execute("COMMIT")
    done, turns, until = 0, _Turns(0, 1), time.monotonic() + seconds
    while time.monotonic() < until:
        inserts, updates = turns.next(rows, at_once)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO bare_task VALUES (?, ?, ?, ?)", inserts)
        connection.executemany("UPDATE bare_task SET state = ?, body = ? WHERE id = ?", updates)
        connection.execute("COMMIT")
        done += at_once
    connection.close()
    return done / seconds


class _Turns:
    """The rows of one connection's transactions; no two connections update the same ones."""

    def __init__(self, mine: int, of: int) -> None:
        self._mine, self._of, self._turn, self._serial = mine, of, 0, 0
        self._owed = [0.0, 0.0]

    def next(self, rows: Rows, tasks: int) -> tuple[list[Any], list[Any]]:
        """Inserts and updates of so many tasks; fractions of rows are made up for later."""
        self._owed[0] += rows.inserted * tasks
        self._owed[1] += rows.updated * tasks
        inserts, updates = int(self._owed[0]), int(self._owed[1])
        self._owed[0] -= inserts
        self._owed[1] -= updates
        body = _BODY[:250] + secrets.token_hex(25)
        made = [((1 + self._serial + i) * self._of + self._mine + _TASKS, i, "event", body) for i in range(inserts)]
        self._serial += inserts
        span = _TASKS // self._of
        places = [(self._turn + i) % span * self._of + self._mine for i in range(updates)]
        self._turn += updates
        return made, [("leased" if place % 2 else "accepted", body, place) for place in sorted(places)]


def _timed(work: Callable[[int, float], None], threads: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    running = [threading.Thread(target=work, args=(number, until)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return True
