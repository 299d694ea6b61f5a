"""Starts processes of the ``rexis`` command quickly: each is forked from one that has imported the program.

Imports are two seconds of processor time a start, more than all else that a killed process costs. What is forked is a
process as any other: it runs the command from its first line, in its own memory, and shares nothing that it can change.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any


class Child:
    """A forked process, which is not this one's child. Its number is never taken for another process's."""

    def __init__(self, pid: int) -> None:
        self.pid, self._handle = pid, os.pidfd_open(pid)

    def send(self, what: signal.Signals) -> bool:
        """Send a signal; whether the process was still there."""
        try:
            signal.pidfd_send_signal(self._handle, what)
        except ProcessLookupError:
            return False
        return True

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end; whether it came."""
        return bool(select.select([self._handle], [], [], seconds)[0])

    def __del__(self) -> None:
        os.close(self._handle)


class Nursery:
    """A process that has imported the program and forks.

    Parameters
    ----------
    environment
        Of all that it starts.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._asking = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, arguments: list[str], log: Path) -> Child:
        """Run ``rexis`` with these arguments; what it says goes to the end of `log`."""
        with self._asking:
            asking, answering = self._pipes()
            asking.write(json.dumps({"arguments": arguments, "log": str(log)}) + "\n")
            asking.flush()
            return Child(int(answering.readline()))

    def close(self) -> None:
        """Start no more."""
        self._pipes()[0].close()
        self._process.wait()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the nursery has no pipes")
        return self._process.stdin, self._process.stdout


def _serve() -> None:
    # What is imported here is what `coordinator run` and `worker run` import.
    import coordinator.main  # noqa: F401
    import provers.worker  # noqa: F401
    from rexis.cli.main import main

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    for line in sys.stdin:
        wanted: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _become(wanted["log"])
            code = main(wanted["arguments"])
            sys.stdout.flush()
            # Libraries' ends wait for threads that a fork does not have.
            os._exit(code)
        print(pid, flush=True)


def _become(log: str) -> None:
    """Standard streams of one's own."""
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, log, os.O_WRONLY | os.O_APPEND),
        (2, log, os.O_WRONLY | os.O_APPEND),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)


if __name__ == "__main__":
    _serve()
