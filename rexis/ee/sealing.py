"""Encryption under a passphrase: age with its scrypt recipient (C2SP age.md), with bounds on scrypt's work."""

from __future__ import annotations

from pyrage import DecryptError
from pyrage import passphrase as age

from rexis.protocol.errors import KeyFileError

# scrypt's N is 2^this, and takes 1 KiB of memory for each. age chooses what takes a second, by how fast the machine
# happens to be just then.
LEAST_WORK, MOST_WORK = 16, 21
_TRIES = 10


def seal(data: bytes, passphrase: str) -> bytes:
    """Encrypt, with no less work for a guess than :data:`LEAST_WORK`.

    Raises
    ------
    KeyFileError
        The machine is too busy to be measured as a faster one.
    """
    for _ in range(_TRIES):
        sealed: bytes = age.encrypt(data, passphrase)
        if (work_factor(sealed) or 0) >= LEAST_WORK:
            return sealed
    raise KeyFileError(
        f"this machine is so busy that scrypt would get less than 2^{LEAST_WORK} rounds",
        hint="try again when it is less busy",
    )


def unseal(sealed: bytes, passphrase: str) -> bytes:
    """Decrypt what has been checked to ask for no more work than :data:`MOST_WORK`.

    Raises
    ------
    DecryptError
        The passphrase is wrong, or the file is damaged.
    KeyFileError
        The machine is too busy: age refuses what would take it sixteen times as long as it thinks right.
    """
    for _ in range(_TRIES):
        try:
            opened: bytes = age.decrypt(sealed, passphrase)
        except DecryptError as error:
            if not str(error).startswith("Excessive work"):
                raise
        else:
            return opened
    raise KeyFileError(
        f"this machine is so busy that 2^{work_factor(sealed)} rounds of scrypt would take it far too long",
        hint="try again when it is less busy",
    )


def work_factor(sealed: bytes) -> int | None:
    """The logarithm of scrypt's N in an age header; None if it has no scrypt stanza that can be read."""
    for line in sealed[:1024].splitlines()[1:]:
        words = line.split(b" ")
        if words[:2] == [b"->", b"scrypt"]:
            return int(words[3]) if len(words) == 4 and words[3].isdigit() else None
    return None
