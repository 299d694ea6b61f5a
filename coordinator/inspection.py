"""Intake of evidence: what a worker hands in is read, checked while its lease is kept, and recorded."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial

from coordinator.accepting import accepted_before
from coordinator.blobs import Blobs
from coordinator.leases import Leases, require_open
from coordinator.store import Store
from rexis.api import VerdictView
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import Address, Strict

_LARGE_AT_ONCE = 2


class Inspection(ABC):
    """Checks a kind of evidence and records what came out.

    Parameters
    ----------
    checking
        Where it is checked.
    keep_every_s
        How often a lease is kept alive while its evidence is checked.

    Attributes
    ----------
    large
        To be held while a large document is read and parsed.
    """

    def __init__(self, store: Store, blobs: Blobs, leases: Leases, checking: Executor, keep_every_s: float) -> None:
        self._store, self._blobs, self._leases = store, blobs, leases
        self._checking, self._keep_every_s = checking, keep_every_s
        self.large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._running: dict[tuple[str, str], asyncio.Task[VerdictView]] = {}

    @abstractmethod
    def _decide(self, lease_id: str, worker: Address, digest: Digest) -> VerdictView:
        """Check stored evidence and record the verdict; or record the fault, and raise it."""

    async def store(self, evidence: Strict) -> Digest:
        """Keep evidence as a blob, so that none waits in memory until it is checked."""
        return await asyncio.to_thread(lambda: self._blobs.put(evidence.to_json()))

    async def check(self, lease_id: str, worker: Address, digest: Digest) -> VerdictView:
        """Check stored evidence and record the verdict.

        The same piece sent again, while the first is checked or later, has the same answer.

        Raises
        ------
        LeaseError
            The lease is lost.
        EvidenceError
            Refused: the step that failed, and why. The fault is recorded and another worker gets the task.
        MalformedError
            The outputs have not been uploaded.
        UnavailableError
            A part that checking needs is missing here; the lease goes on.
        """
        key = (lease_id, str(digest))
        running = self._running.get(key)
        if running is None:
            running = asyncio.create_task(self._run(lease_id, worker, digest))
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(running)

    async def _run(self, lease_id: str, worker: Address, digest: Digest) -> VerdictView:
        known = await asyncio.to_thread(self._known, lease_id, worker, digest)
        if known is not None:
            return known
        await asyncio.to_thread(self._leases.receive, lease_id, worker)
        keeper = asyncio.create_task(self._keep(lease_id))
        try:
            loop = asyncio.get_running_loop()
            decide = partial(copy_context().run, self._decide, lease_id, worker, digest)
            return await loop.run_in_executor(self._checking, decide)
        finally:
            keeper.cancel()

    async def _keep(self, lease_id: str) -> None:
        while True:
            await asyncio.sleep(self._keep_every_s)
            await asyncio.to_thread(self._leases.keep, lease_id)

    def _known(self, lease_id: str, worker: Address, digest: Digest) -> VerdictView | None:
        """The verdict on evidence that was accepted before."""
        self._leases.expire()
        with self._store.reading() as session:
            known = accepted_before(session, lease_id, worker, str(digest))
            if known is None:
                require_open(session, lease_id, worker)
        return known
