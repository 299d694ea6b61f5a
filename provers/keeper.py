"""Keeps a lease alive while its task runs, and says when the task has to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from provers.display import Display, log
from rexis.api import Progress, Stage
from rexis.protocol.errors import LeaseError, NotFoundError, RexisError, UnavailableError
from rexis.telemetry.logs import bound, bound_ids

_TICK_S = 0.1
# How long a step of a task waits for a coordinator that is down (restarted, upgraded) before the task fails.
PATIENCE_S = 300.0
_RETRY_S = 2.0
# Progress that people watch is told sooner than the lease needs it, but no more often than this.
_PROGRESS_S = 2.0

_T = TypeVar("_T")


class StopRequested(Exception):
    """The worker was told to stop, and the current task is given back."""


class Stop:
    """Whether the worker was told to stop. Plain flags: a signal handler may not take a lock.

    Attributes
    ----------
    requested
        End at once, and give the tasks back.
    draining
        Take no new task, and end when those under way are done.
    """

    def __init__(self) -> None:
        self.requested = False
        self.draining = False

    def check(self) -> None:
        """Raise :class:`StopRequested` if the worker is to end at once."""
        if self.requested:
            raise StopRequested

    def leaving(self) -> bool:
        """No new task is wanted."""
        return self.requested or self.draining

    def wait(self, seconds: float) -> bool:
        """Sleep, at most until no new task is wanted; returns whether that is so."""
        deadline = time.monotonic() + seconds
        while not self.leaving() and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(_TICK_S, left))
        return self.leaving()


@dataclass(frozen=True)
class Held:
    """What a worker has for a time: a task's lease, or a piece of another worker's task.

    Attributes
    ----------
    name
        For people; no other task of this worker has it.
    total
        Its records; a training's steps.
    heartbeat_seconds
        How often the coordinator wants a sign of life.
    beat
        Gives one, with the progress.
    """

    name: str
    total: int
    heartbeat_seconds: int
    beat: Callable[[Progress], object]


class LeaseKeeper:
    """Sends heartbeats with the task's progress from a thread of its own; a context manager.

    Parameters
    ----------
    held
        What to keep.
    stop
        The worker's stop flag.
    finish
        Finish the task in spite of a stop.
    display
        Shown every stage.
    """

    def __init__(self, held: Held, stop: Stop, *, finish: bool, display: Display) -> None:
        self._held, self._stop, self._display = held, stop, display
        self._ignores_stop = finish
        self._progress = Progress(stage=Stage.FETCH, done=0, total=held.total)
        self._lost: RexisError | None = None
        self._interrupts: list[Callable[[], None]] = []
        self._closed = threading.Event()
        self._ids = bound_ids()
        self._thread = threading.Thread(target=self._keep, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join(timeout=5.0)
        self._display.done(self._held.name)

    def at(self, stage: Stage, done: int, total: int, loss: int | None = None) -> None:
        """Note how far the task is, after :meth:`check`; of a training with the last `loss` in units of 10⁻⁹."""
        self.check()
        self._progress = Progress(stage=stage, done=done, total=total, loss_e9=loss)
        self._display.stage(self._held.name, stage, done, total)

    def check(self) -> None:
        """Return if the task should go on.

        Raises
        ------
        LeaseError
            The lease is lost.
        StopRequested
            The worker is to stop.
        """
        if self._lost is not None:
            raise LeaseError(f"the lease is lost: {self._lost.message}")
        if self._stop.requested and not self._ignores_stop:
            raise StopRequested

    def finish(self) -> None:
        """From here on a stop no longer ends the task: it is nearly done."""
        self.check()
        self._ignores_stop = True

    def on_interrupt(self, call: Callable[[], None]) -> None:
        """Call this, from the keeper's thread, while the task has to end: it should make a long step fail."""
        self._interrupts.append(call)

    def patiently(self, call: Callable[[], _T]) -> _T:
        """Call the coordinator, waiting for it if it is down.

        Raises
        ------
        UnavailableError
            It stayed down for :data:`PATIENCE_S`.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.check()
            try:
                return call()
            except UnavailableError as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("%s; trying again", error)
                self.wait(_RETRY_S)

    def wait(self, seconds: float) -> None:
        """Sleep, after :meth:`check` and before it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            time.sleep(_TICK_S)
        self.check()

    def _keep(self) -> None:
        with bound(**self._ids):
            self._keep_alive()

    def _keep_alive(self) -> None:
        due, told, told_at = time.monotonic(), self._progress, -_PROGRESS_S
        while not self._closed.wait(_TICK_S):
            now = time.monotonic()
            news = self._progress != told and now >= told_at + _PROGRESS_S
            if self._lost is not None or (self._stop.requested and not self._ignores_stop):
                for call in self._interrupts:  # again and again: the task may have been just about to begin a step
                    call()
            elif now >= due or news:
                told = self._progress
                self._beat(told)
                told_at = time.monotonic()
                due = told_at + self._held.heartbeat_seconds

    def _beat(self, progress: Progress) -> None:
        try:
            self._held.beat(progress)
        except (LeaseError, NotFoundError) as error:
            self._lost = error
        except RexisError as error:  # the coordinator's word alone ends a lease, not its silence
            log.warning("heartbeat failed: %s", error)
