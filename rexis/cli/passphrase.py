"""Where passphrases come from: a file, the environment, or a hidden prompt. Never an argument, which `ps` shows."""

from __future__ import annotations

import getpass
import os
import stat
import sys
from pathlib import Path

from rexis.files import read_file, require_private
from rexis.protocol.errors import KeyFileError

VARIABLE = "REXIS_PASSPHRASE"
_MAX_BYTES = 4096


def read_passphrase(what: str, file: Path | None, *, new: bool = False) -> str:
    """The passphrase of one secret file.

    Parameters
    ----------
    what
        Whose passphrase, for the prompt.
    file
        Its first line is the passphrase; goes before the environment.
    new
        Ask twice.

    Raises
    ------
    KeyFileError
        It is empty, others can read the file, or there is nobody to ask.
    """
    if file is not None:
        return _from_file(file)
    if VARIABLE in os.environ:
        return _not_empty(os.environ[VARIABLE], VARIABLE)
    if not sys.stdin.isatty():
        raise KeyFileError(
            f"no passphrase for {what}", hint=f"--passphrase-file FILE, or {VARIABLE} in the environment"
        )
    found = _not_empty(getpass.getpass(f"Passphrase for {what}: "), "passphrase")
    if new and getpass.getpass("The same again: ") != found:
        raise KeyFileError("the two passphrases differ")
    return found


def _from_file(file: Path) -> str:
    if file.exists() and stat.S_ISREG(file.stat().st_mode):  # a pipe has no mode that says anything
        require_private(file, "passphrase file")
    raw = read_file(file, "passphrase file", max_bytes=_MAX_BYTES, may_be_pipe=True)
    try:
        line = raw.decode("utf-8").split("\n", 1)[0].removesuffix("\r")
    except UnicodeDecodeError:
        raise KeyFileError(f"passphrase file {file} is not UTF-8 text") from None
    return _not_empty(line, f"passphrase file {file}")


def _not_empty(passphrase: str, what: str) -> str:
    if not passphrase:
        raise KeyFileError(f"{what} is empty")
    return passphrase
