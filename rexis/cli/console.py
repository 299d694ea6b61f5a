"""What the command line shows: results on stdout, everything else (progress, notes, errors) on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

from rexis.protocol.errors import RexisError


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave the exit code to the command; rich would end with 1, which `verify` means as "not valid"."""
        raise BrokenPipeError


def stdout() -> Console:
    """The console for results; no markup, so that names from elsewhere stay names."""
    return _Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def stderr() -> Console:
    """The console for progress and notes."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def clean(text: str) -> str:
    """Text from another machine without characters that would steer the terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)


def say(text: str) -> None:
    """A result, in one or more lines."""
    stdout().print(_clean_lines(text))


def note(text: str) -> None:
    """A line on stderr: what is being done, or a warning."""
    stderr().print(_clean_lines(text))


def _clean_lines(text: str) -> str:
    return "\n".join(clean(line) for line in text.split("\n"))


def emit(document: dict[str, Any] | list[Any]) -> None:
    """A result as JSON on one line, keys sorted."""
    sys.stdout.write(json.dumps(document, sort_keys=True, default=str) + "\n")


def agree(question: str, *, yes: bool) -> None:
    """Go on only if the person at the terminal agrees, or did so before (`--yes`).

    Raises
    ------
    RexisError
        They do not, or there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise RexisError(f"{question} Nobody is here to ask", hint="--yes")
    if not typer.confirm(clean(question), err=True):
        raise RexisError("nothing was done")


def complain(error: RexisError) -> None:
    """The one line that an error becomes."""
    where = f"{error.field}: " if error.field else ""
    what = f" (hint: {error.hint})" if error.hint else ""
    sys.stderr.write(clean(f"error: {where}{error.message}{what}") + "\n")


@contextmanager
def transfer(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for bytes; yields the callback that moves it."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=stderr(), transient=True) as bars:
        bar = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total or None)


@contextmanager
def working(label: str) -> Iterator[None]:
    """A spinner while one long step runs; one plain line where there is no terminal."""
    console = stderr()
    if not console.is_terminal:
        note(f"{label} …")
        yield
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True) as bars:
        bars.add_task(label, total=None)
        yield
    note(f"✓ {label}")


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar over named steps; yields ``at(what, done, total)``. One plain line a step without a terminal."""
    console = stderr()
    said: set[str] = set()
    if not console.is_terminal:

        def plainly(what: str, done: int, total: int) -> None:
            if what not in said:
                said.add(what)
                note(f"{what} …")

        yield plainly
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("", total=None)
        yield lambda what, done, total: bars.update(bar, description=what, completed=done, total=total)
