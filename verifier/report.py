"""Steps and verdicts: what was checked, in order, and why something failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from rexis.protocol.errors import EvidenceError, ResourceError, RexisError, UnavailableError

_MAX_DETAIL = 2000


class Status(StrEnum):
    """Outcome of one step."""

    OK = "ok"
    FAILED = "failed"
    # A part was missing, so nobody knows.
    UNCHECKED = "unchecked"
    # The caller asked not to (``--offline``).
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Step:
    """One numbered check.

    Attributes
    ----------
    number
        Position in the list of ``verifier.certificate``; sub-steps of tasks share it.
    name
        What was checked.
    detail
        What was found; for a failure the reason.
    hint
        What the reader can do about it.
    """

    number: int
    name: str
    status: Status
    detail: str
    hint: str | None = None


@dataclass
class Verdict:
    """The steps taken so far. Not valid until :meth:`require_valid` says so."""

    steps: list[Step] = field(default_factory=list)
    on_step: Callable[[Step], None] | None = None

    def add(self, number: int, name: str, status: Status, detail: str, hint: str | None = None) -> None:
        """Record a step."""
        step = Step(number, name, status, _printable(detail), None if hint is None else _printable(hint))
        self.steps.append(step)
        if self.on_step is not None:
            self.on_step(step)

    @contextmanager
    def step(self, number: int, name: str) -> Iterator[Notes]:
        """Run one check: it passes unless it raises a :class:`RexisError`, which becomes the step's reason.

        A failure stops the verification (later steps would build on what is not true). A missing part
        (:class:`UnavailableError`), or no room for the check (:class:`ResourceError`), makes the step ``unchecked``,
        and verification goes on.
        """
        notes = Notes()
        try:
            yield notes
        except (UnavailableError, ResourceError) as error:
            self.add(number, name, Status.UNCHECKED, error.message, error.hint)
        except RexisError as error:
            where = f"{error.field}: " if error.field else ""
            self.add(number, name, Status.FAILED, where + error.message, error.hint)
            raise StepFailed(number, name, where + error.message, hint=error.hint) from error
        else:
            self.add(number, name, Status.OK, notes.text)

    @property
    def failed(self) -> Step | None:
        """The first failed step."""
        return next((step for step in self.steps if step.status == Status.FAILED), None)

    @property
    def outcome(self) -> Outcome:
        """Invalid if a step failed; undecided if one could not be taken, or none was."""
        if self.failed is not None:
            return Outcome.INVALID
        if self.unchecked or not self.steps:
            return Outcome.UNDECIDED
        return Outcome.VALID

    @property
    def skipped(self) -> list[Step]:
        """Steps that the caller chose not to take."""
        return [step for step in self.steps if step.status == Status.SKIPPED]

    @property
    def unchecked(self) -> list[Step]:
        """Steps that could not be taken."""
        return [step for step in self.steps if step.status == Status.UNCHECKED]


def _printable(text: str) -> str:
    """A stranger's text on one line: nothing in it may look like another step, or steer a terminal."""
    shown = text if len(text) <= _MAX_DETAIL else text[:_MAX_DETAIL] + "…"
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)


class Outcome(StrEnum):
    """What a whole verification came to; the command line's exit codes 0, 1 and 2."""

    VALID = "valid"
    INVALID = "invalid"
    UNDECIDED = "could not check"


class Notes:
    """What a passing step found, for the report."""

    def __init__(self) -> None:
        self.text = ""

    def say(self, text: str) -> None:
        """Set the text."""
        self.text = text


class StepFailed(EvidenceError):
    """A verification step that did not pass."""

    def __init__(self, number: int, name: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"step {number} ({name}): {reason}", hint=hint)
        self.number = number
        self.name = name
        self.reason = reason
