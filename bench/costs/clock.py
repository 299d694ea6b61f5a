"""Timing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from bench.costs.result import Spread

_Found = TypeVar("_Found")


def timed(work: Callable[[], _Found]) -> tuple[float, _Found]:
    """Seconds of one call, and its result."""
    begun = time.perf_counter()
    found = work()
    return time.perf_counter() - begun, found


def repeated(work: Callable[[], object], runs: int, seconds: float) -> Spread:
    """Up to `runs` calls, and no further one once they have taken `seconds` together."""
    took: list[float] = []
    while not took or (len(took) < runs and sum(took) < seconds):
        took.append(timed(work)[0])
    return Spread.of(took)


class Stopwatch(Generic[_Found]):
    """Adds up what calls of one function take."""

    def __init__(self, work: Callable[..., _Found]) -> None:
        self._work = work
        self.seconds: list[float] = []

    def __call__(self, *arguments: object) -> _Found:
        took, found = timed(lambda: self._work(*arguments))
        self.seconds.append(took)
        return found

    @property
    def total(self) -> float:
        """Seconds of all calls."""
        return sum(self.seconds)
