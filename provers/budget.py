"""Memory that tasks of one worker share: each step takes what it needs for as long as it runs, in turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from circuits.memory import available_bytes

_POLL_S = 0.1


class MemoryBudget:
    """First come, first served: a large step is not starved by small ones that would fit in front of it.

    Parameters
    ----------
    limit
        Bytes; None for what is free whenever nothing is taken.
    free
        Measures that.
    """

    def __init__(self, limit: int | None, free: Callable[[], int] = available_bytes) -> None:
        self._limit, self._free = limit, free
        self._measured = free() if limit is None else limit
        self._taken = 0
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def total(self) -> int:
        """Bytes in all. What is free is measured only while nothing is taken: of steps under way it shows a part."""
        with self._changed:
            return self._total()

    @property
    def taken(self) -> int:
        """Bytes that steps under way have taken, by their estimates."""
        with self._changed:
            return self._taken

    @contextmanager
    def take(self, needed: int, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Have `needed` bytes; a step that needs more than there is in all has all to itself.

        Parameters
        ----------
        waiting
            Called while others have too much; may raise, which ends the wait.
        """
        turn = object()
        with self._changed:
            self._queue.append(turn)
        try:
            while not self._granted(turn, needed):
                waiting()
        except BaseException:
            with self._changed:
                self._queue.remove(turn)
                self._changed.notify_all()
            raise
        try:
            yield
        finally:
            with self._changed:
                self._taken -= needed
                self._changed.notify_all()

    def _granted(self, turn: object, needed: int) -> bool:
        with self._changed:
            if self._queue[0] is not turn or (self._taken and self._taken + needed > self._total()):
                self._changed.wait(_POLL_S)
                return False
            self._queue.popleft()
            self._total()
            self._taken += needed
            self._changed.notify_all()
            return True

    def _total(self) -> int:
        if self._limit is None and not self._taken:
            self._measured = self._free()
        return self._measured
