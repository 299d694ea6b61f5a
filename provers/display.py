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
from rexis.telemetry.logs import LogFormat, formatter

log = logging.getLogger("rexis.worker")

_REPEAT_S = 10.0


class Display(Protocol):
    """Shows how far each task is; told by several threads."""

    def stage(self, task: str, stage: Stage, done: int, total: int) -> None:
        """The task is here now; units are records."""
        ...

    def done(self, task: str) -> None:
        """The task has ended."""
        ...


class PlainDisplay:
    """A log line when a stage begins, and every 10 s within one."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Stage, float]] = {}

    def stage(self, task: str, stage: Stage, done: int, total: int) -> None:
        """See :class:`Display`."""
        last, until = self._last.get(task, (None, 0.0))
        if last == stage and time.monotonic() < until:
            return
        self._last[task] = stage, time.monotonic() + _REPEAT_S
        log.info("%s: %s %d/%d", task, stage.value, done, total)

    def done(self, task: str) -> None:
        """See :class:`Display`."""
        self._last.pop(task, None)


class RichDisplay:
    """A progress bar for each task."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def stage(self, task: str, stage: Stage, done: int, total: int) -> None:
        """See :class:`Display`."""
        text = f"{task} [bold]{stage.value}[/]"
        if task not in self._bars:
            self._bars[task] = self._progress.add_task(text, total=total)
        self._progress.update(self._bars[task], description=text, completed=done, total=total)

    def done(self, task: str) -> None:
        """See :class:`Display`."""
        bar = self._bars.pop(task, None)
        if bar is not None:
            self._progress.remove_task(bar)


@contextmanager
def show(console: Console | None = None) -> Iterator[Display]:
    """Send the worker's log and progress to a terminal or a log file, whichever standard error is."""
    console = console or Console(stderr=True)
    handler: logging.Handler
    live = console.is_terminal and LogFormat.chosen() == LogFormat.TEXT
    if live:
        handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler(console.file)
        handler.setFormatter(formatter())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        if not live:
            yield PlainDisplay()
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            yield RichDisplay(progress)
    finally:
        log.removeHandler(handler)
        log.propagate = True
