"""One validator a folder, and what it shows of itself there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rexis.files import read_file, write_file
from rexis.locks import held_by_another, locked
from rexis.protocol.errors import ConflictError, RexisError
from verifier.validator.documents import ValidatorStatus

_MAX_BYTES = 64 << 10


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a validator's folder, which is made if it is not there: two with one journal's key would race.

    Raises
    ------
    ConflictError
        Another process holds it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RexisError(f"cannot create {folder}: {error.strerror}", hint="give another --state") from None

    def refuse() -> None:
        raise ConflictError(f"another validator runs with {folder}")

    with locked(_lock(folder), refuse):
        yield


def show(folder: Path, status: ValidatorStatus) -> None:
    """Write what others on this machine may read."""
    write_file(_file(folder), status.to_json(), private=True, overwrite=True)


def last_shown(folder: Path) -> tuple[ValidatorStatus, bool]:
    """What the folder's validator showed last, and whether it runs.

    Raises
    ------
    NotFoundError
        None ever ran there.
    """
    data = read_file(_file(folder), "validator's status", max_bytes=_MAX_BYTES)
    return ValidatorStatus.from_json(data), held_by_another(_lock(folder))


def _file(folder: Path) -> Path:
    return folder / "status.json"


def _lock(folder: Path) -> Path:
    return folder / "lock"
