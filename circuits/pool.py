"""Several children that run ezkl side by side, so that proofs of several records are made at a time.

One proof does not keep many cores busy: parts of it run on one thread, and a small circuit has little to share out.
Processes with few threads each prove more records an hour than one process with all of them, as long as their memory
is there (``python -m bench.prover_pool`` measures it on a machine).
"""

from __future__ import annotations

import os
import queue
from typing import Any, Self

from circuits.process import DEFAULT_TIMEOUT, EzklProcess


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
        process = self._free.get()
        try:
            return process.call(operation, **arguments)
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
