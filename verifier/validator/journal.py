"""What a validator decided, in a file that survives its death: so that it never signs two verdicts on a statement.

Whoever signs both loses the stake (``ValidatorQuorum.reportEquivocation``). A verdict is written here, and is on disk,
before the signature over it is made. BLS signatures are deterministic, so they need not be kept.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Self

from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, RexisError
from rexis.protocol.parsing import enum_name
from rexis.protocol.validation import Finding

_TABLE = """
CREATE TABLE IF NOT EXISTS verdict (
    public_key BLOB NOT NULL,
    statement BLOB NOT NULL,
    verdict INTEGER NOT NULL,
    job BLOB NOT NULL,
    decided_at INTEGER NOT NULL,
    handed_in_at INTEGER,
    PRIMARY KEY (public_key, statement)
) STRICT, WITHOUT ROWID
"""
_AT_ONCE = 500


class Journal:
    """The verdicts of one key.

    Parameters
    ----------
    path
        An SQLite file, made if it is not there, readable by its owner only. It belongs to the key as the key's file
        does: with the key on another machine, and an empty journal, nothing keeps from signing twice.
    """

    def __init__(self, path: Path, public_key: bytes) -> None:
        self._public_key = public_key
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        try:
            self._file = sqlite3.connect(path, isolation_level=None)
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.execute(_TABLE)
        except sqlite3.Error as error:
            raise RexisError(f"the journal {path} cannot be used: {error}", hint="sign nothing without it") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def decide(self, job: Digest, findings: Mapping[Digest, Finding]) -> None:
        """Write verdicts down, all or none; those that are there already stay.

        Raises
        ------
        ConflictError
            One contradicts what is there. Nothing was written.
        """
        now = int(time.time())
        self._file.execute("BEGIN IMMEDIATE")
        try:
            for statement, finding in findings.items():
                self._insert(job, statement, finding, now)
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")

    def of(self, statements: Collection[Digest]) -> dict[Digest, Finding]:
        """What was decided on each of these statements; those without a verdict are left out."""
        found: dict[Digest, Finding] = {}
        wanted = [bytes(statement) for statement in statements]
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT statement, verdict FROM verdict WHERE public_key = ? AND statement IN ({marks})"  # noqa: S608
            with closing(self._file.execute(query, (self._public_key, *some))) as rows:
                found |= {Digest(statement): Finding(verdict) for statement, verdict in rows}
        return found

    def note_handed_in(self, job: Digest) -> None:
        """A coordinator has the verdicts on a job's statements."""
        self._file.execute(
            "UPDATE verdict SET handed_in_at = ? WHERE public_key = ? AND job = ? AND handed_in_at IS NULL",
            (int(time.time()), self._public_key, bytes(job)),
        )

    def counts(self) -> dict[str, int]:
        """Statements with each verdict, and those whose verdict no coordinator has: ``valid``, ``invalid`` …"""
        rows = self._file.execute(
            "SELECT sum(verdict = 1), sum(verdict = 2), sum(handed_in_at IS NULL) FROM verdict WHERE public_key = ?",
            (self._public_key,),
        )
        (found,) = rows.fetchall()
        return dict(zip(("valid", "invalid", "kept"), (int(count or 0) for count in found), strict=True))

    def _insert(self, job: Digest, statement: Digest, finding: Finding, now: int) -> None:
        added = self._file.execute(
            "INSERT INTO verdict (public_key, statement, verdict, job, decided_at) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            (self._public_key, bytes(statement), int(finding), bytes(job), now),
        )
        if added.rowcount == 1:
            return
        before = self.of([statement])[statement]
        if before != finding:
            raise ConflictError(
                f"statement {statement} was found {enum_name(before)} before; {enum_name(finding)} is not signed",
                hint="who signs both loses the stake",
            )
