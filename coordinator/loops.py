"""What the coordinator does on its own: expire leases, write to the chain, issue certificates.

Each of these is a duty (:mod:`coordinator.duties`), which one process has at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from coordinator import metrics
from coordinator.bell import heard
from coordinator.duties import RENEW_S, Duty
from coordinator.garbage import Collected
from coordinator.services import Coordinator
from rexis.protocol.errors import RexisError, UnavailableError

_IDLE_S = 1.0
# Between two turns of a loop: so long at least, and a few times as long as the turn took. Where the bell never stops
# ringing, the loops take a small share of the time, and do more at once in each turn.
_REST_S = 0.1
_REST = 4
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
        self._works: set[Future[Any]] = set()
        # A node that does not answer keeps a thread waiting, so the loops do not share the event loop's few.
        self._threads = ThreadPoolExecutor(_SENDERS + 4, "loops")
        self._renewing = ThreadPoolExecutor(1, "duties")
        self._collect_at = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the loops for the length of a ``with`` block."""
        works = (
            (Duty.EXPIRE, self._expire),
            (Duty.WALLET, self._watch),
            (Duty.WALLET, self._commit),
            (Duty.WALLET, self._finish),
            (Duty.WALLET, self._certify),
            (Duty.WALLET, self._validate),
            (Duty.WALLET, self._pay),
            (Duty.AUDIT, self._audit),
            (Duty.COLLECT, self._collect),
        )
        tasks = []
        if self._coordinator.settings.duties:
            tasks = [asyncio.create_task(self._repeat(duty, work)) for duty, work in works]
            tasks.append(asyncio.create_task(self._hold()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            await asyncio.get_running_loop().run_in_executor(self._renewing, self._hand_over)
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _repeat(self, duty: Duty, work: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            rung, begun = self._coordinator.bell.listen(), loop.time()
            self._coordinator.pulse.beat(work.__name__)
            if self._coordinator.duties.has(duty):
                try:
                    await work()
                except Exception as error:
                    if (expected := _expected(error)) is not None:
                        _log.warning("a background loop waits: %s", expected)
                    else:
                        _log.exception("a background loop failed; it goes on")
                    metrics.DUTY_ERRORS.labels(work.__name__.strip("_")).inc()
            await asyncio.sleep(min(_IDLE_S, max(_REST_S, _REST * (loop.time() - begun))))
            await heard(rung, _IDLE_S)

    async def _hold(self) -> None:
        """Keep the duties that this process has, and look whether others have lost theirs."""
        loop, duties = asyncio.get_running_loop(), self._coordinator.duties
        while True:
            self._coordinator.pulse.beat("_hold")
            try:
                if await loop.run_in_executor(self._renewing, duties.renew):
                    self._coordinator.bell.ring()
            except Exception as error:
                _log.warning("duties could not be renewed: %s", type(error).__name__)
            for duty in Duty:
                metrics.DUTY_HELD.labels(duty.value).set(duties.has(duty))
            await asyncio.sleep(RENEW_S)

    def _hand_over(self) -> None:
        """Let others have the duties at once; that of the wallet in its time, if a thread still waits for a block."""
        still = any(not one.done() for one in self._works)
        try:
            self._coordinator.duties.release([duty for duty in Duty if duty != Duty.WALLET or not still])
        except SQLAlchemyError as error:
            _log.warning("duties could not be handed over: %s", type(error).__name__)

    async def _expire(self) -> None:
        coordinator = self._coordinator
        await self._run(coordinator.leases.tidy_turns)
        for work in (coordinator.leases.expire, coordinator.pieces.expire, coordinator.jobs.plan):
            if await self._run(work):
                coordinator.bell.ring()

    async def _watch(self) -> None:
        """Look what has become of the transactions that are under way; the others act on it."""
        if self._back_off.ready("chain"):
            await self._try("chain", [], self._coordinator.outbox.advance)
        await asyncio.sleep(self._coordinator.settings.chain_poll_seconds)

    async def _commit(self) -> None:
        """Hand waiting commitments to the outbox, and follow those that are there."""
        commitments = self._coordinator.commitments
        pending = [one for one in await self._run(commitments.pending) if self._back_off.ready(one)]
        await asyncio.gather(*(self._try(one, [], commitments.send, one) for one in pending[:_SENDERS]))
        if self._back_off.ready("commitments"):
            await self._try("commitments", [], commitments.follow)
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
                await self._try(job, [job], self._coordinator.ending.issue, job)

    async def _certify(self) -> None:
        """Have the Certifier check a few records of each job that wants it."""
        certifying = self._coordinator.certifying
        for job in await self._run(certifying.due):
            key = f"certify {job}"
            if self._back_off.ready(key):
                await self._try(key, [job], certifying.advance, job)

    async def _validate(self) -> None:
        """Write validators' verdicts down."""
        validating = self._coordinator.validating
        for job in await self._run(validating.due):
            key = f"validate {job}"
            if self._back_off.ready(key):
                await self._try(key, [job], validating.advance, job)

    async def _pay(self) -> None:
        """See what was paid in, then claim and settle the payments of anchored tasks."""
        payments = self._coordinator.payments
        for job in await self._run(payments.unfunded):
            if self._back_off.ready(f"fund {job}"):
                await self._try(f"fund {job}", [], payments.look, job)
        for job in await self._run(payments.due):
            if self._back_off.ready(f"pay {job}"):
                await self._try(f"pay {job}", [], payments.advance, job)

    async def _audit(self) -> None:
        """Give the audit log's new notes their places, at most once a second."""
        await self._run(self._coordinator.audit.chain)
        await asyncio.sleep(_IDLE_S)

    async def _collect(self) -> None:
        """End uploads for which nothing comes, and remove blobs that nobody needs."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._collect_at:
            return
        self._collect_at = loop.time() + self._coordinator.settings.collect_seconds
        ended = await self._coordinator.uploads.expire()
        collected = await self._run(self._coordinator.garbage.run)
        if ended or collected != Collected():
            _log.info("collected: %d uploads ended, %s", ended, collected)

    async def _run(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        begun = self._threads.submit(work, *arguments)
        self._works = {one for one in self._works if not one.done()} | {begun}
        return await asyncio.wrap_future(begun)

    async def _try(self, key: str, jobs: Collection[str], work: Callable[..., bool], *arguments: str) -> None:
        """Do a piece of the wallet's work, which says whether it changed anything: then others have something to do."""
        troubles = self._coordinator.troubles
        if not self._coordinator.duties.has(Duty.WALLET):
            return  # lost since this turn began
        try:
            changed = await self._run(work, *arguments)
        except Exception as error:
            expected = _expected(error)
            if expected is None:
                reason = "an error of ours, see the log"
                _log.exception("%s of %s failed", work.__name__, key)
            else:
                reason = expected.message
                _log.warning("%s of %s waits: %s", work.__name__, key, expected)
            metrics.DUTY_ERRORS.labels(work.__name__.strip("_")).inc()
            self._back_off.failed(key)
            await self._run(troubles.note, jobs, reason)
        else:
            self._back_off.worked(key)
            await self._run(troubles.clear, jobs)
            if changed:
                self._coordinator.bell.ring()


def _expected(error: Exception) -> RexisError | None:
    """What an operator is told of an error that no fault of ours causes; None for all others."""
    if isinstance(error, OperationalError | PoolTimeout):
        return UnavailableError("the database is busy or out of reach")
    return error if isinstance(error, RexisError) else None
