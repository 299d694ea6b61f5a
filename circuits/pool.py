"""Several children that run ezkl side by side, so that proofs of several records are made at a time.

One proof does not keep many cores busy: parts of it run on one thread, and a small circuit has little to share out.
Processes with few threads each prove more records an hour than one process with all of them, as long as their memory
is there (``python -m bench.prover_pool`` measures it on a machine).

Several tasks may use one pool, each through a :class:`PoolShare`: what one of them has going can be ended without
disturbing the others.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self

from circuits.process import DEFAULT_TIMEOUT, Calls, EzklProcess

_POLL_S = 0.1

Admit = Callable[[str], AbstractContextManager[object]]
"""Entered around one operation of a child, given its name: waits until there is room for it."""


class EzklPool:
    """Children that serve calls from as many threads; each child one call at a time. They start when needed.

    Parameters
    ----------
    size
        How many at most.
    memory_limit, timeout
        Of each: see :class:`circuits.process.EzklProcess`.
    """

    def __init__(self, size: int, *, memory_limit: int = 0, timeout: float = DEFAULT_TIMEOUT) -> None:
        threads = max(1, (os.cpu_count() or 1) // size)
        self._all = [EzklProcess(memory_limit=memory_limit, timeout=timeout, threads=threads) for _ in range(size)]
        self._free: queue.LifoQueue[EzklProcess] = queue.LifoQueue()  # those that run already first
        for process in reversed(self._all):
            self._free.put(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Calls that can run at a time."""
        return len(self._all)

    def call(self, operation: str, **arguments: Any) -> Any:
        """As :meth:`circuits.process.EzklProcess.call`, by the next child that is free."""
        with self.child() as process:
            return process.call(operation, **arguments)

    @contextmanager
    def child(self, waiting: Callable[[], None] | None = None) -> Iterator[EzklProcess]:
        """The next child that is free, for the caller alone; `waiting` is called meanwhile and may raise."""
        process = self._next(waiting)
        try:
            yield process
        finally:
            self._free.put(process)

    def kill(self) -> None:
        """End what is going on, from any thread; the calls in progress fail."""
        for process in self._all:
            process.kill()

    def close(self) -> None:
        """End the children for good."""
        for process in self._all:
            process.close()

    def _next(self, waiting: Callable[[], None] | None) -> EzklProcess:
        while waiting is not None:
            try:
                return self._free.get(timeout=_POLL_S)
            except queue.Empty:
                waiting()
        return self._free.get()


class PoolShare:
    """A pool's children, as one of its users has them.

    Parameters
    ----------
    admit
        Asked before each operation, for example for memory.
    waiting
        Called while every child is busy with others' calls; may raise, which ends the wait.
    """

    def __init__(
        self,
        pool: EzklPool,
        admit: Admit = lambda operation: nullcontext(),
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool, self._admit, self._waiting = pool, admit, waiting
        self._busy: set[EzklProcess] = set()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Calls that can run at a time."""
        return self._pool.size

    def call(self, operation: str, **arguments: Any) -> Any:
        """As :meth:`EzklPool.call`."""
        with self.child(operation) as process:
            return process.call(operation, **arguments)

    def single_threaded(self) -> Calls:
        """The same, with one thread each."""
        return _SingleThreaded(self)

    def kill(self) -> None:
        """End what this user has going, from any thread; its calls in progress fail."""
        with self._lock:  # so that no child is ended that another user has by now
            for process in self._busy:
                process.kill()

    @contextmanager
    def child(self, operation: str) -> Iterator[EzklProcess]:
        """A child for one operation, which :meth:`kill` ends."""
        with self._admit(operation), self._pool.child(self._waiting) as process:
            with self._lock:
                self._busy.add(process)
            try:
                yield process
            finally:
                with self._lock:
                    self._busy.discard(process)


class _SingleThreaded:
    """See :meth:`PoolShare.single_threaded`."""

    def __init__(self, share: PoolShare) -> None:
        self._share = share

    @property
    def size(self) -> int:
        """Calls that can run at a time."""
        return self._share.size

    def call(self, operation: str, **arguments: Any) -> Any:
        """As :meth:`PoolShare.call`."""
        with self._share.child(operation) as process:
            return process.single_threaded().call(operation, **arguments)
