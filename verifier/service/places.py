"""How many verifications there are at a time, and how many wait for one of those places."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from rexis.protocol.errors import UnavailableError

_WAITING = 4  # for each place

_Result = TypeVar("_Result")


class Places:
    """So many verifications at a time; a bounded number of requests, whose bodies take memory, waits for them."""

    def __init__(self, at_once: int) -> None:
        self._at_once, self._here = at_once, 0
        self._places = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def queue(self) -> AsyncIterator[None]:
        """Be one of those that wait.

        Raises
        ------
        UnavailableError
            There are too many.
        """
        if self._here >= self._at_once * (1 + _WAITING):
            raise UnavailableError("too many certificates are waiting", hint="try again")
        self._here += 1
        try:
            yield
        finally:
            self._here -= 1

    async def run(self, call: Callable[[], _Result]) -> _Result:
        """Make a blocking call, in a thread, once there is a place. Its place is free when it ends, not before.

        A client that leaves does not end the call: it would otherwise be a way to start more than there are places.
        """
        await self._places.acquire()
        try:
            running = asyncio.ensure_future(asyncio.to_thread(call))
        except BaseException:
            self._places.release()
            raise
        running.add_done_callback(lambda _: self._places.release())
        return await asyncio.shield(running)
