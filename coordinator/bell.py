"""Wakes whoever waits for a change of state: long polls and background loops."""

from __future__ import annotations

import asyncio


class Bell:
    """Rung from any thread; heard in the event loop. Nothing depends on it but how soon something is noticed.

    Attributes
    ----------
    rung_here
        Set by every ring of this process; whoever passes rings on to others clears it, and :attr:`work_here`.
    work_here
        One of these rings was about work.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._any, self._work = asyncio.Event(), asyncio.Event()
        self.rung_here, self.work_here = asyncio.Event(), False
        self.stopping = False

    def start(self) -> None:
        """Belong to the running event loop."""
        self._loop = asyncio.get_running_loop()

    def ring(self, *, work: bool = True) -> None:
        """Something changed. Safe from every thread and from a signal handler.

        Parameters
        ----------
        work
            There may be work for a worker now that there was not before. Many wait for it, and each of them looks.
        """
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ring_here, work)

    def stop(self) -> None:
        """Ring for the last time: long polls end now."""
        self.stopping = True
        self.ring()

    def listen(self, *, work: bool = False) -> asyncio.Event:
        """The next ring, or the next that is about work. Take it before looking at the state, then wait for it: so no
        change is missed.
        """
        return self._work if work else self._any

    def echo(self, *, work: bool = True) -> None:
        """Another process rang. In the event loop only."""
        rung, self._any = self._any, asyncio.Event()
        rung.set()
        if work:
            rung, self._work = self._work, asyncio.Event()
            rung.set()

    def _ring_here(self, work: bool) -> None:
        self.echo(work=work)
        self.work_here |= work
        self.rung_here.set()


async def heard(event: asyncio.Event, seconds: float) -> None:
    """Wait for a ring, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
