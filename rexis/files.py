"""Files that are either whole or not there: atomic writes, and secrets that only their owner may read."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from rexis.protocol.errors import ConflictError, KeyFileError, NotFoundError, ResourceError, RexisError
from rexis.protocol.rows import Read

_GROUP_AND_OTHERS = 0o077


def read_file(path: Path, what: str, *, max_bytes: int, may_be_pipe: bool = False) -> bytes:
    """Read a whole regular file that a person named.

    Parameters
    ----------
    what
        What the file should hold, for the error.
    max_bytes
        Larger files are refused before they are read.
    may_be_pipe
        Also take a pipe, for example a shell's ``<(command)``.

    Raises
    ------
    NotFoundError, ResourceError, RexisError
        The file is missing, too large, no regular file (a folder, a device), or cannot be read.
    """
    try:
        mode = path.stat().st_mode  # before opening: that blocks on a pipe that nobody writes to
        if not (stat.S_ISREG(mode) or (may_be_pipe and stat.S_ISFIFO(mode))):
            raise RexisError(f"{what} {path} is not a regular file", hint="check the path")
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > max_bytes:
                raise ResourceError(f"{what} {path} has {size} bytes, over the limit of {max_bytes}")
            data = stream.read(max_bytes + 1)
    except FileNotFoundError:
        raise NotFoundError(f"no {what} at {path}", hint="check the path") from None
    except OSError as error:
        raise RexisError(f"cannot read {what} {path}: {error.strerror}") from None
    if len(data) > max_bytes:  # a pipe, or a file that grows
        raise ResourceError(f"{what} {path} has more than {max_bytes} bytes")
    return data


def write_file(path: Path, data: bytes, *, private: bool = False, overwrite: bool = False) -> None:
    """Write a whole file: a reader sees the old one or the new one, never a part, even after a crash.

    Parameters
    ----------
    private
        Create it with mode 0600.
    overwrite
        Without it, an existing file is an error and stays as it is.

    Raises
    ------
    ConflictError
        The file exists and `overwrite` is false.
    RexisError
        The folder is missing or cannot be written.
    """
    with writing(path, private=private, overwrite=overwrite) as stream:
        stream.write(data)


@contextmanager
def writing(path: Path, *, private: bool = False, overwrite: bool = False) -> Iterator[BinaryIO]:
    """A stream whose bytes become a file as a whole at the end of the block, or not at all. See :func:`write_file`."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")  # mode 0600
    except OSError as error:
        raise RexisError(f"cannot write in {path.parent}: {error.strerror}", hint="does the folder exist?") from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            if not private:
                os.fchmod(stream.fileno(), 0o666 & ~_umask())
            os.fsync(stream.fileno())
        publish(temporary, path, overwrite=overwrite)
    except OSError as error:
        raise RexisError(f"cannot write {path}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def reader(path: Path, what: str) -> tuple[Read, int]:
    """What reads bytes ``start … end-1`` of a regular file that a person named, and the file's size.

    Raises
    ------
    NotFoundError, RexisError
        The file is missing, no regular file, or cannot be read; when it is read, that it became shorter.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # before opening: that blocks on a pipe
            raise RexisError(f"{what} {path} is not a regular file", hint="check the path")
        stream = path.open("rb", buffering=0)
        size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError:
        raise NotFoundError(f"no {what} at {path}", hint="check the path") from None
    except OSError as error:
        raise RexisError(f"cannot read {what} {path}: {error.strerror}") from None

    def read(start: int, end: int) -> bytes:
        try:
            data = b"".join(_read_all(stream, start, end))
        except OSError as error:
            raise RexisError(f"cannot read {what} {path}: {error.strerror}") from None
        if len(data) != end - start:
            raise RexisError(f"{what} {path} became shorter while it was read")
        return data

    return read, size


def _read_all(stream: FileIO, start: int, end: int) -> Iterator[bytes]:
    """One call reads at most 2 GiB."""
    while start < end and (data := os.pread(stream.fileno(), end - start, start)):
        yield data
        start += len(data)


def publish(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give a finished file in the same folder its final name, and make that last."""
    if overwrite:
        temporary.replace(path)
    else:
        try:
            os.link(temporary, path)  # unlike a rename, this never replaces
        except FileExistsError:
            raise already_there(path) from None
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def require_absent(*paths: Path) -> None:
    """Raise :class:`ConflictError` if one of the paths exists, before any work is done."""
    for path in paths:
        if path.exists() or path.is_symlink():
            raise already_there(path)


def already_there(path: Path) -> ConflictError:
    """The error for a file that will not be overwritten."""
    return ConflictError(f"{path} exists and will not be overwritten", hint="choose another name, or move it away")


def require_private(path: Path, what: str) -> None:
    """Refuse a secret file that others than its owner can reach.

    A credential that systemd passes to a service (``LoadCredential=``) is read through an access control list, which
    looks like a right of the group, in a folder that nobody else enters.

    Raises
    ------
    KeyFileError
        Its mode gives rights to the group or to everybody.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise NotFoundError(f"no {what} at {path}", hint="check the path") from None
    if mode & _GROUP_AND_OTHERS and not _is_credential(path):
        raise KeyFileError(
            f"{what} {path} can be reached by others (mode {mode & 0o777:04o})", hint=f"chmod 600 {path}"
        )


def _is_credential(path: Path) -> bool:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.parent == Path(str(folder)) and not path.is_symlink()


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
