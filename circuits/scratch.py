"""Temporary folders that are removed when their owner is gone, also one that was killed: by the next owner to come."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "rexis-ezkl-"


class Scratch:
    """A temporary folder that only its user may enter. Its lock, which the kernel frees, shows that its owner lives."""

    def __init__(self) -> None:
        _remove_orphans()
        while True:
            self._folder = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
            self.path = Path(self._folder.name)
            handle = _lock(self.path)
            if handle is not None:  # else somebody took it for an orphan, between its making and its lock
                self._handle = handle
                return

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        self._folder.cleanup()
        os.close(self._handle)


def _remove_orphans() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        handle = _lock(path)
        if handle is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(handle)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the folder's lock; None if another holds it, or the folder is gone or not ours."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    if os.fstat(handle).st_uid != os.getuid() or not path.exists():
        os.close(handle)
        return None
    return handle
