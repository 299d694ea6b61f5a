"""Python modules of ours run in a process of their own, with limits on memory and time, on what strangers sent.

Whatever a certificate makes such a process do, who started it lives on, and the next one finds a fresh process. Input
and answers are frames (:mod:`verifier.retrain`).
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from circuits.process import lower_limit
from rexis.interpreter import python, python_environment
from verifier.retrain import read_frame, write_frame

NO_MEMORY = 4
# Three steps a task, and some; a step names itself and a reason of at most 2,000 characters.
_MAX_FRAMES, _MAX_FRAME = 1 << 20, 16 << 20
# ezkl's folder for one proof holds a few megabytes.
_MAX_FILE = 1 << 30
# What the child needs of this process's environment. Nothing else is for a process that reads strangers' files.
_INHERITED = ("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Bounds:
    """What verifying one certificate may take.

    Attributes
    ----------
    memory_bytes
        Address space of the process, and of the one that it starts for ezkl.
    seconds
        By the clock.
    """

    memory_bytes: int
    seconds: int


@dataclass(frozen=True)
class Ended:
    """What a process answered before it ended, and why it may have ended early."""

    frames: list[bytes]
    early: str


def run_confined(module: str, bounds: Bounds, *inputs: bytes) -> Ended:
    """Run ``python -m module <memory limit> <seconds>`` on frames of input. Blocks until it has ended, or is ended."""
    with tempfile.TemporaryDirectory(prefix="rexis-judge-") as folder:
        environment = python_environment({name: os.environ[name] for name in _INHERITED if name in os.environ})
        child = subprocess.Popen(
            python("-m", module, str(bounds.memory_bytes), str(bounds.seconds)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | {"TMPDIR": folder},
            cwd=Path(__file__).anchor,
            start_new_session=True,
        )
        late = threading.Event()

        def expire() -> None:
            late.set()
            _end(child)

        timer = threading.Timer(bounds.seconds, expire)
        timer.start()
        try:
            with suppress(BrokenPipeError):
                for data in inputs:
                    write_frame(cast(BinaryIO, child.stdin), data)
            frames = _frames(cast(BinaryIO, child.stdout))
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # its exit code counts, not that it is ended below
        finally:
            timer.cancel()
            _end(child)
            with suppress(BrokenPipeError):
                child.communicate()
    return Ended(frames, _why_early(child.returncode, bounds, timed_out=late.is_set()))


def confine() -> BinaryIO:
    """In the child, first of all: lower its limits to those of its arguments; returns where answers go."""
    memory_limit, seconds = int(sys.argv[1]), int(sys.argv[2])
    lower_limit(resource.RLIMIT_AS, memory_limit)
    lower_limit(resource.RLIMIT_CPU, seconds * (os.cpu_count() or 1))  # ends it also if the parent was killed
    lower_limit(resource.RLIMIT_FSIZE, _MAX_FILE)
    lower_limit(resource.RLIMIT_CORE, 0)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print
    return answers


def _frames(stream: BinaryIO) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < _MAX_FRAMES and (frame := read_frame(stream, _MAX_FRAME)) is not None:
        found.append(frame)
    return found


def _why_early(code: int, bounds: Bounds, *, timed_out: bool) -> str:
    if timed_out:
        return f"the verification took longer than {bounds.seconds} s and was ended"
    if code == NO_MEMORY:
        return f"the verification needs more than the {bounds.memory_bytes >> 20} MiB that it may take"
    return "the process that verifies ended before it had a verdict"


def _end(child: subprocess.Popen[bytes]) -> None:
    """The process and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
