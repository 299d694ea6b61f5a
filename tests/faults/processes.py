"""Processes that a supervisor starts again, as systemd would."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.nursery import Child, Nursery

_RESTART_S = 0.2
STOP_S = 20.0
_START = b"--- start ---\n"


class Supervised:
    """A ``rexis`` command that runs again whenever it ends, until it is stopped.

    Parameters
    ----------
    log
        Where its output goes.
    """

    def __init__(self, name: str, nursery: Nursery, arguments: list[str], log: Path) -> None:
        self.name, self.starts = name, 0
        self._nursery, self._arguments, self.log = nursery, arguments, log
        self._stopping = threading.Event()
        self._process = self._start()
        self._thread = threading.Thread(target=self._supervise, name=name, daemon=True)
        self._thread.start()

    @property
    def said(self) -> str:
        """What it wrote since it was last started."""
        with self.log.open("rb") as stream:
            stream.seek(self._begins)
            return stream.read().decode(errors="replace")

    def kill(self) -> int | None:
        """``kill -9``; returns the process that was hit."""
        process = self._process
        if not process.send(signal.SIGKILL):
            return None
        process.wait()
        return process.pid

    def pause(self, seconds: float) -> int | None:
        """Stop it for a while, as a machine does that swaps or is moved: it comes back and knows nothing of it."""
        process = self._process
        if not process.send(signal.SIGSTOP):
            return None
        threading.Timer(seconds, process.send, (signal.SIGCONT,)).start()
        return process.pid

    def stop(self) -> None:
        """End it for good, in good order."""
        self._stopping.set()
        self._process.send(signal.SIGCONT)
        self._process.send(signal.SIGTERM)
        self._thread.join(STOP_S)
        self.kill()

    def _start(self) -> Child:
        with self.log.open("ab") as stream:
            stream.write(_START)
            self._begins = stream.tell()
        self.starts += 1
        return self._nursery.start(self._arguments, self.log)

    def _supervise(self) -> None:
        while True:
            self._process.wait()
            if self._stopping.wait(_RESTART_S):
                return
            self._process = self._start()


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something, or fail with its name."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
