"""Temporary folders that are removed when their owner is gone, also one that was killed: by the next owner to come."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path


class Scratch:
    """A temporary folder that only its user may enter. Its lock, which the kernel frees, shows that its owner lives.

    Parameters
    ----------
    prefix
        Of its name. Folders of this prefix whose owners are gone are removed.
    parent
        Where it lies; by default where temporary files do.

    Attributes
    ----------
    path
        The folder.
    """

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        parent = parent or Path(tempfile.gettempdir())
        _remove_orphans(parent, prefix)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            handle = _lock(self.path)
            if handle is not None:  # else somebody took it for an orphan, between its making and its lock
                self._handle = handle
                self._removal = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
                return

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        self._removal()
        os.close(self._handle)

    def abandon(self) -> None:
        """Leave the folder for people to look at, until the next owner of one comes."""
        self._removal.detach()
        os.close(self._handle)


def _remove_orphans(parent: Path, prefix: str) -> None:
    for path in parent.glob(f"{prefix}*"):
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
