"""Files that a certificate names by digest and does not embed: the SRS and the encrypted model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rexis.protocol.digests import Digest, digest_stream, sha256
from rexis.protocol.errors import DigestMismatchError, UnavailableError

_MAX_BYTES = 2 << 30  # protobuf's own limit


def artifact_name(digest: Digest) -> str:
    """File name of an artefact: ``sha256-<hex>``."""
    return f"sha256-{digest.hex()}"


class Artifacts:
    """Looks files up by digest.

    Parameters
    ----------
    folder
        Where files named ``sha256-<hex>`` lie; None for nowhere.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def find(self, what: str, digest: Digest, given: Path | None, option: str) -> Path:
        """The file with this digest, checked.

        Raises
        ------
        UnavailableError
            There is no such file.
        DigestMismatchError
            There is one, with another digest.
        """
        path = self._path(what, digest, given, option)
        with _readable(what, path), path.open("rb") as stream:
            found = digest_stream(stream)
        _require(what, path, found, digest)
        return path

    def read(self, what: str, digest: Digest, given: Path | None, option: str) -> bytes:
        """As :meth:`find`, but the bytes themselves: what is used is what was checked.

        Raises
        ------
        UnavailableError, DigestMismatchError
            As :meth:`find`.
        """
        path = self._path(what, digest, given, option)
        with _readable(what, path):
            if path.stat().st_size > _MAX_BYTES:
                raise UnavailableError(f"{what} file {path} has more than {_MAX_BYTES} bytes")
            data = path.read_bytes()
        _require(what, path, sha256(data), digest)
        return data

    def _path(self, what: str, digest: Digest, given: Path | None, option: str) -> Path:
        path = given or (self._folder / artifact_name(digest) if self._folder else None)
        if path is None or not path.is_file():
            where = f"no file {path}" if path else "no folder to look in"
            raise UnavailableError(
                f"{what} {digest}: {where}", hint=f"give {option} FILE, or fetch the certificate with its files"
            )
        return path


def _require(what: str, path: Path, found: Digest, expected: Digest) -> None:
    if found != expected:
        raise DigestMismatchError(f"{what} file {path} has digest {found}, not the pinned {expected}")


@contextmanager
def _readable(what: str, path: Path) -> Iterator[None]:
    """What cannot be read says nothing against a certificate."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"{what} file {path} cannot be read: {error.strerror}") from None
