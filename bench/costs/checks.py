"""Results that are compared with what they have to be, while they are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.costs.result import Check, Outcome
from rexis.protocol.errors import ResourceError, RexisError, UnavailableError
from verifier.report import StepFailed


class WrongResult(Exception):
    """Something came out that must not."""


def require(holds: bool, otherwise: str) -> None:
    """Raise :class:`WrongResult` unless it holds."""
    if not holds:
        raise WrongResult(otherwise)


class Checks:
    """All of a run. A wrong result is written down, and measuring goes on."""

    def __init__(self) -> None:
        self.found: list[Check] = []

    @contextmanager
    def that(self, name: str, about: str, unless: tuple[type[RexisError], ...] = ()) -> Iterator[Callable[[str], None]]:
        """Around one check; yields a function that takes what was found.

        Anything of ours that is raised fails it, except that a part which is not there (:class:`UnavailableError`), or
        no room for it, leaves it out.

        Parameters
        ----------
        unless
            Passed on: says nothing about the result.
        """
        said: list[str] = []
        try:
            yield said.append
        except unless:
            raise
        except (UnavailableError, ResourceError) as error:
            self._add(about, name, Outcome.SKIPPED, error.message)
        except RexisError as error:
            self._add(about, name, Outcome.FAILED, error.message)
        except WrongResult as error:
            self._add(about, name, Outcome.FAILED, str(error))
        else:
            self._add(about, name, Outcome.OK, "; ".join(said))

    def refused(self, name: str, about: str, step: int, act: Callable[[], object]) -> None:
        """Check that `act`, which verifies something false, fails at the verifier's `step`."""
        with self.that(name, about) as found:
            try:
                act()
            except StepFailed as refusal:
                require(refusal.number == step, f"refused at step {refusal.number}, expected step {step}")
                found(refusal.message)
            else:
                raise WrongResult("it was accepted")

    def skip(self, name: str, about: str, reason: str) -> None:
        """Write down that something could not be checked."""
        self._add(about, name, Outcome.SKIPPED, reason)

    def _add(self, about: str, name: str, outcome: Outcome, detail: str) -> None:
        self.found.append(Check(about, name, outcome, detail))
