"""Passes rings of the bell between coordinator processes: by PostgreSQL's notifications, or by a file beside SQLite's.

A ring that is lost costs a second at most: everybody who waits for one looks again by then.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.bell import Bell
from coordinator.engine import driver_arguments, is_sqlite, sqlite_file

if TYPE_CHECKING:
    from psycopg import AsyncConnection

# Rings so close together are passed on as one.
_TOGETHER_S = 0.05
_LOOK_S = 0.1
_RECONNECT_S = 1.0
_WORK, _OTHER = "work", "other"
_log = logging.getLogger(__name__)


class Relay:
    """Between this process's bell and those of the others over the same database.

    Parameters
    ----------
    database
        SQLAlchemy URL.
    """

    def __init__(self, database: str, bell: Bell) -> None:
        self._database, self._bell = database, bell
        self._name = secrets.token_hex(8)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Pass rings on for the length of a ``with`` block."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        if is_sqlite(self._database):
            file = sqlite_file(self._database)
            if file is not None:
                await self._by_file(file.with_name(f"{file.name}.bell"))
            return
        from psycopg import Error

        while True:
            try:
                await self._by_notifications()
            except (Error, OSError) as error:
                _log.warning("rings of other processes are not heard: %s", type(error).__name__)
            await asyncio.sleep(_RECONNECT_S)

    # --- PostgreSQL --------------------------------------------------------------------------------------------

    async def _by_notifications(self) -> None:
        async with await self._connect() as listening, await self._connect() as telling:
            await listening.execute("LISTEN rexis_bell")
            self._bell.echo()  # whatever was rung before
            tasks = [asyncio.create_task(self._hear(listening)), asyncio.create_task(self._tell(telling))]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self, listening: AsyncConnection) -> None:
        async for notification in listening.notifies():
            name, _, about = notification.payload.partition(" ")
            if name != self._name:
                self._bell.echo(work=about == _WORK)

    async def _tell(self, telling: AsyncConnection) -> None:
        while True:
            about = _WORK if await self._rung() else _OTHER
            await telling.execute("SELECT pg_notify('rexis_bell', %s)", (f"{self._name} {about}",))

    async def _connect(self) -> AsyncConnection:
        from psycopg import AsyncConnection

        how = {"connect_timeout": 10, "keepalives_idle": 30, **driver_arguments(self._database)}
        return await AsyncConnection.connect(autocommit=True, **how)

    # --- SQLite ------------------------------------------------------------------------------------------------

    async def _by_file(self, file: Path) -> None:
        """Its time of change is the ring. One's own is heard again, which costs a look."""
        _touch(file)
        heard = _changed_at(file)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._bell.rung_here.wait()
            if self._bell.rung_here.is_set():
                await self._rung()
                _touch(file)
            now = _changed_at(file)
            if now != heard:
                heard = now
                self._bell.echo()

    async def _rung(self) -> bool:
        """Wait until the bell is rung here, and a little for other rings; whether one was about work."""
        await self._bell.rung_here.wait()
        await asyncio.sleep(_TOGETHER_S)
        work = self._bell.work_here
        self._bell.rung_here.clear()
        self._bell.work_here = False
        return work


def _touch(file: Path) -> None:
    file.touch(mode=0o600)


def _changed_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
