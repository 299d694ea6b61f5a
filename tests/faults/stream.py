"""A stream of jobs: a few under way at any time, each followed to its end."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

from rexis.api import JobState
from rexis.client import RexisClient
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, RexisError, UnavailableError
from rexis.transport import Retry
from tests.faults.site import Site
from tests.faults.work import Work

_UNDER_WAY = 3
# One job of so many has proofs; the second is the first of them.
_PROVED_EVERY = 10
# What a job says whose task nobody is left for, and how long the one that came then has to take it.
_ABANDONED = "has failed this task"
_REPLACED_S = 60.0
# A client that outlives restarts of everything.
_PATIENT = Retry(attempts=60, base_seconds=0.2, cap_seconds=2.0)


class Stream:
    """Submits jobs until it is told to stop, and then sees them all end.

    Attributes
    ----------
    submitted
        What each job asked for.
    retried
        How often the requester had tasks tried again that were quarantined: several workers had vanished with them.
    """

    def __init__(self, site: Site, say: Callable[[str], None]) -> None:
        self._site, self._say = site, say
        self.client = RexisClient(site.urls[0], site.requester, retry=_PATIENT)
        self.submitted: dict[Digest, Work] = {}
        self.ended: dict[Digest, JobState] = {}
        self.retried = 0
        self._replace_after = 0.0
        self._done: dict[Digest, int] = {}
        self.failure: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name="stream", daemon=True)
        self._thread.start()

    @property
    def done(self) -> int:
        """Tasks whose evidence was accepted, as far as was heard."""
        return sum(self._done.values())

    def finish(self, seconds: float) -> None:
        """Submit no more, and wait for the end of those that are under way."""
        self._stopping.set()
        self._thread.join(seconds)
        if self.failure is not None:
            raise self.failure
        left = [str(job) for job in self.submitted if job not in self.ended]
        assert not left, f"not ended within {seconds:g} s: {[self._describe(job) for job in left]}"

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:  # told to the main thread
            self.failure = error

    def _run(self) -> None:
        numbers = itertools.count()
        while not self._stopping.is_set() or len(self.ended) < len(self.submitted):
            under_way = [job for job in self.submitted if job not in self.ended]
            if not self._stopping.is_set() and len(under_way) < _UNDER_WAY:
                self._submit(next(numbers))
            for job in under_way:
                self._look(job)
            time.sleep(0.3)

    def _submit(self, number: int) -> None:
        work = self._site.proved if number % _PROVED_EVERY == 1 else self._site.committed
        request = work.request(number)
        while True:
            try:
                self.submitted[self.client.submit_job(request).job_id] = work  # the same request is the same job
            except UnavailableError as error:
                if self._stopping.is_set():
                    return
                self._say(f"submitting job {number} waits: {error}")
                time.sleep(0.5)
            else:
                return

    def _look(self, job: Digest) -> None:
        try:
            view = self.client.job(job)
        except UnavailableError:
            return
        self._done[job] = view.counts.accepted + view.counts.anchored
        if view.counts.quarantined:
            self._retry(job)
        if any(_ABANDONED in (task.waiting or "") for task in view.tasks):
            self._replace(job)
        if view.state in (JobState.CERTIFIED, JobState.FAILED):
            self.ended[job] = view.state
            self._say(f"job {len(self.ended)}/{len(self.submitted)} {view.state.value} {view.reason or ''}")

    def _replace(self, job: Digest) -> None:
        """A worker that dies between its commitment and its proof does not get the task again: others are needed."""
        if time.monotonic() < self._replace_after:
            return
        self._replace_after = time.monotonic() + _REPLACED_S
        old, new = self._site.replace()
        self._say(f"job {job}: all workers have left a task of it; {new.name} takes the place of {old.name}")

    def _retry(self, job: Digest) -> None:
        try:
            self.client.retry_job(job)
        except (UnavailableError, ConflictError):  # asked twice, the second time there is nothing to do
            return
        self.retried += 1
        self._say(f"job {job}: its requester has what was quarantined tried again")

    def _describe(self, job: str) -> str:
        try:
            view = self.client.job(Digest.parse(job))
        except RexisError as error:
            return f"{job}: {error}"
        waits = [f"{task.start}: {task.state.value} {task.waiting or ''}" for task in view.tasks]
        return f"{job}: {view.state.value}, {view.reason}, {waits}"
