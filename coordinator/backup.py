"""A copy of a coordinator's state, made while it runs, and a coordinator made of a copy.

The database is copied first, then the blobs. Blobs never change and are named by their digests, so whatever the
database knew when it was copied is there still when the blobs are. The other way round, a blob that came in between
would be known to the copy of the database and not be in it. Restoring goes the other way: blobs first, so that the
database never knows of one that is not there. Blobs are kept once for all copies in a folder; only new ones are read.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url
from sqlmodel import Session, col, select

from coordinator.blobs import Blobs
from coordinator.engine import for_reading, open_engine, sqlite_file
from coordinator.schema import standing
from coordinator.tables import DatasetRow, JobBlobRow, JobRow, ModelRow, TaskRow
from rexis.api import Time
from rexis.files import read_file, write_file
from rexis.protocol.digests import Digest, digest_stream
from rexis.protocol.errors import ConflictError, DigestMismatchError, NotFoundError, UnavailableError
from rexis.protocol.parsing import DigestField, Strict, UInt64

_COPIES, _MANIFEST = "copies", "manifest.json"
_MAX_MANIFEST = 64 << 20
_NO_LIMIT = 1 << 62
_ROWS = 1000
# Digests that a database knows of and whose bytes were promised to somebody.
_KNOWN = (
    ModelRow.model_digest,
    DatasetRow.digest,
    JobBlobRow.digest,
    JobRow.certificate_digest,
    JobRow.draft_digest,
    TaskRow.evidence_digest,
    TaskRow.outputs_digest,
)


class Manifest(Strict):
    """One copy of a database, and what of its blobs could not be copied.

    Attributes
    ----------
    revision
        The last migration of its tables.
    file, digest
        The copy, beside this document.
    blobs, bytes
        Blobs in the folder when the copy was made.
    missing
        Blobs that the database knows of and the store does not have, or has damaged.
    """

    at: Time
    kind: str
    revision: str
    file: str
    digest: DigestField
    blobs: UInt64
    bytes: UInt64
    missing: list[DigestField]


def back_up(database: str, blobs: Blobs, out: Path) -> Manifest:
    """Add a copy of the database to a folder, and the blobs that are not there yet.

    Raises
    ------
    UnavailableError
        ``pg_dump`` is not installed, or fails.
    """
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    copy = out / _COPIES / at.replace(":", "")
    copy.mkdir(parents=True, mode=0o700)
    kind = make_url(database).get_backend_name()
    file = copy / f"database.{kind}"
    revision = standing(database).found
    known = _known(database)
    _dump(database, file)
    kept = Blobs(None, out, _NO_LIMIT)
    damaged = asyncio.run(_copy(blobs, kept))
    missing = sorted({digest for digest in known if kept.size(digest) is None} | damaged)
    stored = list(kept.listed())
    with file.open("rb") as stream:
        digest = digest_stream(stream)
    made = Manifest(
        at=at,
        kind=kind,
        revision=revision,
        file=file.name,
        digest=digest,
        blobs=len(stored),
        bytes=sum(one.size for one in stored),
        missing=missing,
    )
    write_file(copy / _MANIFEST, made.to_json())  # last: a copy without it was cut off
    return made


def copies(folder: Path) -> list[str]:
    """Names of the complete copies in a folder, oldest first."""
    return sorted(path.parent.name for path in (folder / _COPIES).glob(f"*/{_MANIFEST}"))


def restore(folder: Path, database: str, blobs: Blobs, name: str | None = None) -> Manifest:
    """Make a copy's state that of an empty database and a blob store; blobs that are there already stay.

    Parameters
    ----------
    name
        Which copy; the newest if None.

    Raises
    ------
    NotFoundError
        No such copy.
    ConflictError
        The database is not empty, or of another kind than the copy.
    DigestMismatchError
        The copy was changed or damaged.
    """
    found = copies(folder)
    if not found or (name is not None and name not in found):
        raise NotFoundError(
            f"no copy {name or ''} in {folder}".replace("  ", " "), hint="`rexis coordinator backup` makes one"
        )
    copy = folder / _COPIES / (name or found[-1])
    manifest = Manifest.from_json(
        read_file(copy / _MANIFEST, "manifest", max_bytes=_MAX_MANIFEST), max_bytes=_MAX_MANIFEST
    )
    kind = make_url(database).get_backend_name()
    if kind != manifest.kind:
        raise ConflictError(f"the copy is of {manifest.kind}, the database is {kind}", hint="see REXIS_DATABASE_URL")
    file = copy / Path(manifest.file).name
    with file.open("rb") as stream:
        if digest_stream(stream) != manifest.digest:
            raise DigestMismatchError(f"{file} is not what was copied", hint="take another copy")
    if standing(database).found != "empty":
        raise ConflictError("the database is not empty", hint="a copy is restored into an empty one")
    damaged = asyncio.run(_copy(Blobs(None, folder, _NO_LIMIT), blobs))
    if damaged:
        raise DigestMismatchError(f"{len(damaged)} blobs of the copy are damaged, the first is {min(damaged)}")
    _load(file, database)
    return manifest


async def _copy(source: Blobs, target: Blobs) -> set[Digest]:
    """Copy what the target has not, checked by digest; returns what does not have its own."""
    damaged = set()
    for stored in source.listed():
        if target.size(stored.digest) == stored.size:
            continue
        try:
            await target.receive(stored.digest, source.stream(stored.digest, 0, stored.size))
        except DigestMismatchError:
            damaged.add(stored.digest)
        except FileNotFoundError:  # removed since it was listed
            continue
    return damaged


def _known(database: str) -> set[Digest]:
    """Blobs that the database knows of."""
    engine = open_engine(database, 1)
    try:
        with Session(for_reading(engine)) as session:
            return {digest for column in _KNOWN for digest in _digests(session, column)}
    finally:
        engine.dispose()


def _digests(session: Session, column: object) -> Iterator[Digest]:
    wanted = select(col(column)).where(col(column).is_not(None)).distinct()
    for text in session.exec(wanted.execution_options(yield_per=_ROWS)):
        yield Digest.parse(text)


def _dump(database: str, file: Path) -> None:
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    source = sqlite_file(database)
    if source is None:
        _postgresql(database, "pg_dump", "--format=custom", "--no-owner", "--no-acl", "--file", str(file))
        return
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(file)) as other:
        one.backup(other)


def _load(file: Path, database: str) -> None:
    target = sqlite_file(database)
    if target is None:
        _postgresql(
            database, "pg_restore", "--no-owner", "--no-acl", "--single-transaction", "--exit-on-error", str(file)
        )
        return
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with closing(sqlite3.connect(file)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


def _postgresql(database: str, program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL on a database. The password is in its environment, which others cannot see."""
    url = make_url(database)
    place = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    environment = {**os.environ, **({"PGPASSWORD": str(url.password)} if url.password else {})}
    try:
        done = subprocess.run(
            [program, "--dbname", place, *arguments], env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise UnavailableError(
            f"{program} is not installed",
            hint="it is part of PostgreSQL's client programs, of the server's version or newer",
        ) from None
    if done.returncode != 0:
        raise UnavailableError(f"{program} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
