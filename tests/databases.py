"""Databases for tests, of either kind, empty or with all tables. Migrations run once; tests get copies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from coordinator.schema import migrate
from tests.postgresql import Server, running_server

KINDS = ("sqlite", "postgresql")


class Databases:
    """Made once for a test session; a PostgreSQL server is started when one is first asked for.

    Parameters
    ----------
    folder
        For the SQLite file that is copied.
    """

    def __init__(self, folder: Path) -> None:
        self._template = folder / "template.sqlite"
        self._held = ExitStack()
        self._server: Server | None = None
        self._migrated: str | None = None

    @contextmanager
    def empty(self, kind: str, folder: Path) -> Iterator[str]:
        """The URL of a database without tables; an SQLite file lies in `folder`."""
        if kind == "sqlite":
            yield f"sqlite:///{folder}/state.db"
            return
        with self.server.database() as url:
            yield url

    @contextmanager
    def migrated(self, kind: str, folder: Path) -> Iterator[str]:
        """The URL of a database with all tables and no rows."""
        if kind == "sqlite":
            self.copy_sqlite(folder / "state.db")
            yield f"sqlite:///{folder}/state.db"
            return
        if self._migrated is None:
            self._migrated = self._held.enter_context(self.server.database())
            migrate(self._migrated)
        with self.server.database(self._migrated) as url:
            yield url

    def copy_sqlite(self, file: Path) -> None:
        """Put an SQLite database with all tables there."""
        if not self._template.exists():
            migrate(f"sqlite:///{self._template}")
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._template, file)

    @property
    def server(self) -> Server:
        """The PostgreSQL server."""
        if self._server is None:
            self._server = self._held.enter_context(running_server())
        return self._server

    def close(self) -> None:
        self._held.close()
