"""What the coordinator does on its own: expire leases, write to the chain, issue certificates."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from coordinator.bell import heard
from coordinator.services import Coordinator
from rexis.protocol.errors import RexisError

_IDLE_S = 1.0
_BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SENDERS = 4
_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class _BackOff:
    """When something that failed may be tried again; says once what is wrong."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    def ready(self, key: str) -> bool:
        return asyncio.get_running_loop().time() >= self._not_before.get(key, 0.0)

    def failed(self, key: str) -> None:
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        wait = _BACK_OFF_S[min(count, len(_BACK_OFF_S) - 1)]
        self._not_before[key] = asyncio.get_running_loop().time() + wait

    def worked(self, key: str) -> None:
        self._failures.pop(key, None)
        self._not_before.pop(key, None)


class Loops:
    """The background tasks. Every one of them can be cut off at any point and taken up again."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._back_off = _BackOff()
        # Each sender waits for a block in its thread, so the loops do not share the event loop's few threads.
        self._threads = ThreadPoolExecutor(_SENDERS + 4, "loops")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the loops for the length of a ``with`` block."""
        works = (self._expire, self._commit, self._finish, self._certify)
        tasks = [asyncio.create_task(self._repeat(work)) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _repeat(self, work: Callable[[], object]) -> None:
        while True:
            rung = self._coordinator.bell.listen()
            try:
                await work()  # type: ignore[misc]
            except Exception:
                _log.exception("a background loop failed; it goes on")
            await heard(rung, _IDLE_S)

    async def _expire(self) -> None:
        for expire in (self._coordinator.leases.expire, self._coordinator.pieces.expire):
            if await self._run(expire):
                self._coordinator.bell.ring()

    async def _commit(self) -> None:
        """Write waiting commitments on chain, some at a time: each waits for its block."""
        commitments = self._coordinator.commitments
        pending = [one for one in await self._run(commitments.pending) if self._back_off.ready(one)]
        await asyncio.gather(*(self._try(one, [], commitments.send, one) for one in pending[:_SENDERS]))
        for task in await self._run(commitments.spent):
            if self._back_off.ready(task):
                await self._try(task, [], commitments.settle, task)

    async def _finish(self) -> None:
        """Anchor what is accepted; issue the certificates of finished jobs."""
        anchoring, certificates = self._coordinator.anchoring, self._coordinator.certificates
        if self._back_off.ready("anchor") and await self._run(anchoring.due):
            affected = await self._run(anchoring.affected)
            await self._try("anchor", affected, anchoring.run)
        for job in await self._run(certificates.due):
            if self._back_off.ready(job):
                await self._try(job, [job], certificates.issue, job)

    async def _certify(self) -> None:
        """Have the Certifier check a few records of each job that wants it."""
        certifying = self._coordinator.certifying
        for job in await self._run(certifying.due):
            key = f"certify {job}"
            if self._back_off.ready(key):
                await self._try(key, [job], certifying.advance, job)

    async def _run(self, work: Callable[..., _Result], *arguments: str) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def _try(self, key: str, jobs: Iterable[str], work: Callable[..., None], *arguments: str) -> None:
        troubles = self._coordinator.troubles
        try:
            await self._run(work, *arguments)
        except Exception as error:
            reason = error.message if isinstance(error, RexisError) else "an error of ours, see the log"
            if not isinstance(error, RexisError):
                _log.exception("%s of %s failed", work.__name__, key)
            else:
                _log.warning("%s of %s waits: %s", work.__name__, key, error)
            self._back_off.failed(key)
            troubles.update(dict.fromkeys(jobs, reason))
        else:
            self._back_off.worked(key)
            for job in jobs:
                troubles.pop(job, None)
            self._coordinator.bell.ring()
