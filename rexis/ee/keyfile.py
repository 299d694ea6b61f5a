"""Key files: an EE key encrypted at rest with a passphrase (age, scrypt recipient), readable by its owner only."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from pyrage import DecryptError
from pyrage import passphrase as age

from rexis.ee.groups import GROUP_BY_NAME, AxisKey
from rexis.ee.keys import DATA_SECRET_BYTES, EEKey
from rexis.protocol.errors import EncryptionError, KeyFileError, MalformedError
from rexis.protocol.parsing import DigestField, HexBytes, Strict

MAX_KEY_FILE_BYTES = 64 << 20
_AGE_HEADER = b"age-encryption.org/v1\n"
_OWNER_ONLY = 0o600


class _AxisDocument(Strict):
    """An axis key: its group, its length, and the group's arrays as little-endian float64."""

    group: Literal["affine", "permutation-scale"]
    size: Annotated[int, Field(strict=True, ge=1)]
    arrays: dict[str, HexBytes]

    @classmethod
    def of(cls, key: AxisKey) -> _AxisDocument:
        arrays = {name: array.astype("<f8").tobytes() for name, array in key.arrays().items()}
        return cls.model_validate({"group": key.group, "size": key.size, "arrays": arrays})

    def key(self) -> AxisKey:
        if any(len(raw) % 8 for raw in self.arrays.values()):
            raise EncryptionError("an array of an axis key holds a partial number")
        arrays = {name: np.frombuffer(raw, dtype="<f8").astype(np.float64) for name, raw in self.arrays.items()}
        return GROUP_BY_NAME[self.group].from_arrays(self.size, arrays)


class _KeyDocument(Strict):
    """What stands inside the age envelope, version 1."""

    format: Literal["rexis.ee.key"]
    version: Literal[1]
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    epoch: Annotated[int, Field(strict=True, ge=1)]
    model_digest: DigestField
    data_secret: Annotated[HexBytes, Field(min_length=DATA_SECRET_BYTES, max_length=DATA_SECRET_BYTES)]
    input: _AxisDocument
    output: _AxisDocument
    hidden: dict[str, _AxisDocument]


def save_key(path: Path, key: EEKey, passphrase: str, *, overwrite: bool = False) -> None:
    """Write a key file with permissions 0600. It appears at `path` complete or not at all.

    Parameters
    ----------
    passphrase
        Stretched by scrypt (about a second); its strength is the file's strength.
    overwrite
        Replace a file that is there. Its key is lost.

    Raises
    ------
    KeyFileError
        The passphrase is empty, or something is at `path` and `overwrite` is false, or the folder is not writable.
    """
    if not passphrase:
        raise KeyFileError("an empty passphrase protects nothing", field="passphrase")
    document = _KeyDocument(
        format="rexis.ee.key",
        version=1,
        key_id=key.key_id,
        epoch=key.epoch,
        model_digest=key.model_digest,
        data_secret=key.data_secret,
        input=_AxisDocument.of(key.input),
        output=_AxisDocument.of(key.output),
        hidden={name: _AxisDocument.of(axis) for name, axis in key.hidden.items()},
    )
    sealed = age.encrypt(document.to_json(), passphrase)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            _create(partial, sealed)
            if not overwrite:
                _create(path, b"")  # takes the name, or fails if somebody has it
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except FileExistsError:
        raise KeyFileError(f"{path} exists", hint="choose another name; a key that is overwritten is lost") from None
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from error


def load_key(path: Path, passphrase: str) -> EEKey:
    """Read a key file.

    Raises
    ------
    KeyFileError
        The file is missing, readable by others, not a key file, damaged, or the passphrase is wrong.
    """
    sealed = _read_private(path)
    if not sealed.startswith(_AGE_HEADER):
        raise KeyFileError(f"{path} is not a rexis key file", hint="it does not start with an age header")
    try:
        document = _KeyDocument.from_json(age.decrypt(sealed, passphrase), max_bytes=MAX_KEY_FILE_BYTES)
        return EEKey(
            key_id=document.key_id,
            epoch=document.epoch,
            model_digest=document.model_digest,
            input=document.input.key(),
            output=document.output.key(),
            hidden={name: axis.key() for name, axis in document.hidden.items()},
            data_secret=document.data_secret,
        )
    except DecryptError:
        raise KeyFileError(
            f"{path} cannot be decrypted: the passphrase is wrong, or the file is truncated or damaged",
            hint="try the passphrase again, then a backup of the file",
        ) from None
    # The causes are dropped on purpose: their context may quote what was decrypted.
    except MalformedError as error:
        where = f" at {error.field}" if error.field else ""
        raise KeyFileError(
            f"{path} is an age file, but not a rexis key of version 1 (fault{where})",
            hint="it may come from another program or a newer rexis",
        ) from None
    except EncryptionError as error:
        raise KeyFileError(f"{path} holds an invalid key: {error.message}") from None


def _create(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read_private(path: Path) -> bytes:
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
