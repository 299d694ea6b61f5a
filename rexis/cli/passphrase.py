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
MIN_LENGTH = 8
_MAX_BYTES = 4096
_MIN_DISTINCT = 5
_MIN_DIGITS = 20
# Stems of the best known ones; whatever list one takes, most weak passphrases are not on it.
_GUESSED = frozenset(
    ("password", "passphrase", "passwort", "qwertyui", "qwertyuiop", "iloveyou", "letmein", "changeme")
)


def read_passphrase(what: str, file: Path | None, *, new: bool = False, weak: bool = False) -> str:
    """The passphrase of one secret file.

    Parameters
    ----------
    what
        Whose passphrase, for the prompt.
    file
        Its first line is the passphrase; goes before the environment.
    new
        Ask twice, and refuse one that is easily guessed.
    weak
        Take an easily guessed one all the same.

    Raises
    ------
    KeyFileError
        It is empty or too weak, others can read the file, or there is nobody to ask.
    """
    found = _given(what, file)
    if found is None:
        found = _asked(what, new=new)
    if new and not weak:
        _require_strength(found)
    return found


def _given(what: str, file: Path | None) -> str | None:
    """The passphrase of the file or the environment; None where a person has to be asked."""
    if file is not None:
        return _from_file(file)
    if VARIABLE in os.environ:
        return _not_empty(os.environ[VARIABLE], VARIABLE)
    if not sys.stdin.isatty():
        raise KeyFileError(
            f"no passphrase for {what}", hint=f"--passphrase-file FILE, or {VARIABLE} in the environment"
        )
    return None


def _asked(what: str, *, new: bool) -> str:
    found = _not_empty(getpass.getpass(f"Passphrase for {what}: "), "passphrase")
    if new and getpass.getpass("The same again: ") != found:
        raise KeyFileError("the two passphrases differ")
    return found


def _require_strength(passphrase: str) -> None:
    """Refuse what falls in the first minutes of guessing; scrypt makes each guess dear, not a bad passphrase good."""
    fault = None
    if len(passphrase) < MIN_LENGTH:
        fault = f"has {len(passphrase)} characters, at least {MIN_LENGTH} are needed"
    elif len(set(passphrase)) < _MIN_DISTINCT:
        fault = f"has only {len(set(passphrase))} different characters"
    elif passphrase.isdigit() and len(passphrase) < _MIN_DIGITS:
        fault = f"is a number of fewer than {_MIN_DIGITS} digits"
    elif passphrase.lower().rstrip("0123456789!?.") in _GUESSED:
        fault = "is one of those that are tried first"
    if fault is not None:
        raise KeyFileError(
            f"the new passphrase {fault}",
            field="passphrase",
            hint="take five random words or more; --weak-passphrase insists on this one",
        )


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
