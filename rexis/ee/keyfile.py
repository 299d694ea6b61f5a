"""Key files: an EE key encrypted at rest with a passphrase (age, scrypt recipient), readable by its owner only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pyrage import DecryptError

from rexis.ee.keyformat import MAX_KEY_BYTES, read_key, write_key
from rexis.ee.keys import EEKey
from rexis.ee.sealing import MOST_WORK, seal, unseal, work_factor
from rexis.files import write_file
from rexis.protocol.errors import ConflictError, EncryptionError, KeyFileError, MalformedError, RexisError

MAX_KEY_FILE_BYTES = MAX_KEY_BYTES + (1 << 20)
_AGE_HEADER = b"age-encryption.org/v1\n"


def save_key(path: Path, key: EEKey, passphrase: str) -> None:
    """Write a key file with permissions 0600. It appears at `path` complete or not at all, and replaces nothing.

    Parameters
    ----------
    passphrase
        Stretched by scrypt (about a second, more on a busy machine); its strength is the file's strength.

    Raises
    ------
    KeyFileError
        The passphrase is empty, something is at `path`, the folder is not writable, or the machine is too busy.
    EncryptionError
        The key is too large to be read back.
    """
    if not passphrase:
        raise KeyFileError("an empty passphrase protects nothing", field="passphrase")
    sealed = seal(write_key(key), passphrase)
    try:
        write_file(path, sealed, private=True)
    except ConflictError:
        raise KeyFileError(f"{path} exists", hint="choose another name; a key that is overwritten is lost") from None
    except RexisError as error:
        raise KeyFileError(error.message, hint=error.hint) from None


def load_key(path: Path, passphrase: str) -> EEKey:
    """Read a key file.

    Raises
    ------
    KeyFileError
        The file is missing, readable by others, not a key file, damaged, or the passphrase is wrong; or the machine is
        too busy to read it.
    """
    sealed = read_private(path)
    if not sealed.startswith(_AGE_HEADER):
        raise KeyFileError(f"{path} is not a rexis key file", hint="it does not start with an age header")
    require_bounded_work(sealed, path)
    try:
        return read_key(unseal(sealed, passphrase))
    except DecryptError:
        raise KeyFileError(
            f"{path} cannot be decrypted: the passphrase is wrong, or the file is truncated or damaged",
            hint="try the passphrase again, then a backup of the file",
        ) from None
    # The causes are dropped on purpose: their context may quote what was decrypted.
    except MalformedError as error:
        where = f" (fault at {error.field})" if error.field else ""
        raise KeyFileError(
            f"{path} is an age file, but not a rexis key of version 3{where}",
            hint="it may come from another program or another rexis",
        ) from None
    except EncryptionError as error:
        raise KeyFileError(f"{path} holds an invalid key: {error.message}") from None


def require_bounded_work(sealed: bytes, path: Path) -> None:
    """Refuse a header that would cost hours or gigabytes before the passphrase is even tried."""
    found = work_factor(sealed)
    if found is None or found > MOST_WORK:
        raise KeyFileError(
            f"{path} asks for more than 2^{MOST_WORK} rounds of scrypt" if found else f"{path} has no scrypt header",
            hint="this was not written by rexis",
        )


def read_private(path: Path) -> bytes:
    """The bytes of a secret file; refuses one that others can reach, or that is no file."""
    try:
        # O_NONBLOCK so that opening a FIFO cannot hang; regular files ignore it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise KeyFileError(f"there is no key file at {path}") from None
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)  # of what was opened, not of what the name may mean by now
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"{path} is not a regular file")
        if os.name == "posix" and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyFileError(
                f"{path} can be read or written by other users (mode {stat.S_IMODE(status.st_mode):04o})",
                hint=f"chmod 600 {path}, and consider the key as seen",
            )
        if status.st_size > MAX_KEY_FILE_BYTES:
            raise KeyFileError(f"{path} has {status.st_size} bytes: too large for a key file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)
