"""Lock files between processes of one machine, and how to stop waiting for one."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_S = 0.1


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file `path`; the kernel frees it on any death of the holder.

    Parameters
    ----------
    path
        Made, readable by its owner only, and left there: removing it would let two processes hold two files.
    waiting
        Called again and again while somebody else holds it. What it raises ends the wait: a system call that blocks
        could not be ended so by another thread.
    """
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        while not _taken(handle):
            if waiting is not None:
                waiting()
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def held_by_another(path: Path) -> bool:
    """Whether somebody holds the lock file now."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _taken(handle)
    finally:
        os.close(handle)
