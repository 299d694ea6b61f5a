"""What a running worker is doing, in a file that others on its machine may read; and how they find such workers.

A worker holds a lock file for as long as it lives (the kernel frees it on any death), and beside it keeps a document
up to date. No key, token, node's URL or record stands in it.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from provers.cache import make_private_folder
from provers.display import Display
from rexis.api import ShortText, Stage, StageField, Tiers, Time
from rexis.files import read_file, write_file
from rexis.locks import held_by_another, locked
from rexis.protocol.digests import Digest
from rexis.protocol.errors import RexisError
from rexis.protocol.parsing import AddressField, DigestField, Strict, UInt32, UInt64
from rexis.protocol.policy import Tier, TierField

_FOLDER = "run"
_WRITE_EVERY_S = 0.5
_MAX_BYTES = 1 << 20
_KEPT_S = 60.0


class WorkerState(StrEnum):
    """What a worker is at."""

    STARTING = "starting"
    IDLE = "idle"
    WORKING = "working"
    DRAINING = "draining"
    STOPPING = "stopping"


class Ending(StrEnum):
    """How a task or piece ended, as its worker saw it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"
    GIVEN_BACK = "given-back"
    LOST = "lost"
    HELPED = "helped"


class TaskStatus(Strict):
    """A task under way, or a piece of another worker's task.

    Attributes
    ----------
    segment
        Of a piece; None for a task of its own.
    since
        When its lease was granted here.
    """

    name: str
    job_id: DigestField
    tier: TierField
    segment: UInt32 | None
    stage: StageField
    done: UInt64
    total: UInt64
    since: Time


class Endings(Strict):
    """How many tasks ended how, since the worker started; pieces for others are `helped`."""

    accepted: UInt64 = 0
    refused: UInt64 = 0
    failed: UInt64 = 0
    given_back: UInt64 = 0
    lost: UInt64 = 0
    helped: UInt64 = 0


class WorkerStatus(Strict):
    """One running worker.

    Attributes
    ----------
    site
        What it computes on.
    memory_bytes, taken_bytes
        Memory for set-up and proofs, and what the steps under way have taken of it by their estimates.
    at_once
        Tasks side by side, at most.
    compute_ms, prove_ms
        Wall time that accepted tasks measured, in all.
    """

    pid: UInt32
    name: ShortText
    address: AddressField
    coordinator: str
    started_at: Time
    updated_at: Time
    state: Annotated[WorkerState, BeforeValidator(WorkerState)]
    site: str
    provider: str
    tiers: Tiers
    memory_bytes: UInt64
    taken_bytes: UInt64
    at_once: UInt32
    tasks: list[TaskStatus]
    endings: Endings
    compute_ms: UInt64
    prove_ms: UInt64


@dataclass
class _Task:
    job_id: Digest
    tier: Tier
    segment: int | None
    since: str
    stage: Stage = Stage.FETCH
    done: int = 0
    total: int = 0


class StatusBoard:
    """The tasks under way, told to a display too (:class:`provers.display.Display`). May be used from many threads."""

    def __init__(self, display: Display) -> None:
        self._display, self._lock = display, threading.Lock()
        self._tasks: dict[str, _Task] = {}
        self._endings = dict.fromkeys(Ending, 0)
        self._compute_ms = self._prove_ms = 0

    def begin(self, name: str, job_id: Digest, tier: Tier, segment: int | None = None) -> None:
        """A task, or a segment of another worker's, is taken up."""
        with self._lock:
            self._tasks[name] = _Task(job_id, tier, segment, now())

    def stage(self, task: str, stage: Stage, done: int, total: int) -> None:
        """See :class:`provers.display.Display`."""
        with self._lock:
            if (found := self._tasks.get(task)) is not None:
                found.stage, found.done, found.total = stage, done, total
        self._display.stage(task, stage, done, total)

    def done(self, task: str) -> None:
        """See :class:`provers.display.Display`."""
        with self._lock:
            self._tasks.pop(task, None)
        self._display.done(task)

    def ended(self, how: Ending) -> None:
        """Count an ending."""
        with self._lock:
            self._endings[how] += 1

    def took(self, compute_ms: int, prove_ms: int) -> None:
        """Count what an accepted task measured."""
        with self._lock:
            self._compute_ms += compute_ms
            self._prove_ms += prove_ms

    @property
    def tasks(self) -> list[TaskStatus]:
        """Those under way."""
        with self._lock:
            return [
                TaskStatus(
                    name=name,
                    job_id=task.job_id,
                    tier=task.tier,
                    segment=task.segment,
                    stage=task.stage,
                    done=task.done,
                    total=task.total,
                    since=task.since,
                )
                for name, task in self._tasks.items()
            ]

    @property
    def endings(self) -> Endings:
        """How those before ended."""
        with self._lock:
            return Endings(**{how.value.replace("-", "_"): count for how, count in self._endings.items()})

    @property
    def times(self) -> tuple[int, int]:
        """(compute, prove) milliseconds of accepted tasks."""
        with self._lock:
            return self._compute_ms, self._prove_ms


@contextmanager
def published(folder: Path, status: Callable[[], WorkerStatus]) -> Iterator[None]:
    """Keep a worker's document in its cache folder up to date, as long as it runs."""
    run = make_private_folder(folder / _FOLDER)
    path = run / f"{os.getpid()}-{secrets.token_hex(4)}.json"
    over = threading.Event()

    def write() -> None:
        with suppress(RexisError):  # a full disk stops no task
            write_file(path, status().to_json(), private=True, overwrite=True)

    def keep() -> None:
        while not over.wait(_WRITE_EVERY_S):
            write()

    with locked(_lock_of(path)):
        write()
        thread = threading.Thread(target=keep, name="status", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            write()  # how it ended, for who waits for that
            _lock_of(path).unlink(missing_ok=True)


def running(folder: Path) -> list[WorkerStatus]:
    """The workers that run with this cache folder; what ended ones left is removed after a while.

    Raises
    ------
    MalformedError
        A running worker's document is not one of this version.
    """
    found = []
    for path in sorted((folder / _FOLDER).glob("*.json")):
        if held_by_another(_lock_of(path)):
            found.append(_read(path))
        elif time.time() - path.stat().st_mtime > _KEPT_S:
            path.unlink(missing_ok=True)
            _lock_of(path).unlink(missing_ok=True)
    return found


def last_of(folder: Path, worker: WorkerStatus) -> WorkerStatus:
    """What a worker wrote last, which may have ended since."""
    for path in (folder / _FOLDER).glob("*.json"):
        found = _read(path)
        if (found.pid, found.started_at) == (worker.pid, worker.started_at):
            return found
    return worker


def _read(path: Path) -> WorkerStatus:
    data = read_file(path, "worker's status", max_bytes=_MAX_BYTES)
    return WorkerStatus.from_json(data, max_bytes=_MAX_BYTES)


def now() -> str:
    """The time, as documents have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")
