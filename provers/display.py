"""What the worker tells the person who runs it: a live line on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from rexis.api import Stage

log = logging.getLogger("rexis.worker")

_REPEAT_S = 10.0


class Display(Protocol):
    """Shows how far the current task is."""

    def stage(self, task: str, stage: Stage, done: int, total: int) -> None:
        """The task is here now; units are records."""
        ...

    def idle(self) -> None:
        """No task."""
        ...


class PlainDisplay:
    """A log line when a stage begins, and every 10 s within one."""

    def __init__(self) -> None:
        self._last: tuple[str, Stage] | None = None
        self._next = 0.0

    def stage(self, task: str, stage: Stage, done: int, total: int) -> None:
        """See :class:`Display`."""
        if self._last == (task, stage) and time.monotonic() < self._next:
            return
        self._last, self._next = (task, stage), time.monotonic() + _REPEAT_S
        log.info("%s: %s %d/%d", task, stage.value, done, total)

    def idle(self) -> None:
        """See :class:`Display`."""
        self._last = None


class RichDisplay:
    """A progress bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar: TaskID | None = None

    def stage(self, task: str, stage: Stage, done: int, total: int) -> None:
        """See :class:`Display`."""
        text = f"{task} [bold]{stage.value}[/]"
        if self._bar is None:
            self._bar = self._progress.add_task(text, total=total)
        self._progress.update(self._bar, description=text, completed=done, total=total)

    def idle(self) -> None:
        """See :class:`Display`."""
        if self._bar is not None:
            self._progress.remove_task(self._bar)
            self._bar = None


@contextmanager
def show(console: Console | None = None) -> Iterator[Display]:
    """Send the worker's log and progress to a terminal or a log file, whichever standard error is."""
    console = console or Console(stderr=True)
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler(console.file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        if not console.is_terminal:
            yield PlainDisplay()
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            yield RichDisplay(progress)
    finally:
        log.removeHandler(handler)
        log.propagate = True
