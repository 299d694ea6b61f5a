"""Wakes whoever waits for a change of state: long polls and background loops."""

from __future__ import annotations

import asyncio


class Bell:
    """Rung from any thread; heard in the event loop. Nothing depends on it but how soon something is noticed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()
        self.stopping = False

    def start(self) -> None:
        """Belong to the running event loop."""
        self._loop = asyncio.get_running_loop()

    def ring(self) -> None:
        """Something changed. Safe from every thread and from a signal handler."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._swap)

    def stop(self) -> None:
        """Ring for the last time: long polls end now."""
        self.stopping = True
        self.ring()

    def listen(self) -> asyncio.Event:
        """The next ring. Take it before looking at the state, then wait for it: so no change is missed."""
        return self._event

    def _swap(self) -> None:
        rung, self._event = self._event, asyncio.Event()
        rung.set()


async def heard(event: asyncio.Event, seconds: float) -> None:
    """Wait for a ring, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
