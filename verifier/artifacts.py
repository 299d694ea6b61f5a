"""Files that a certificate names by digest and does not embed: the SRS and the encrypted model."""

from __future__ import annotations

from pathlib import Path

from rexis.protocol.digests import Digest, digest_stream
from rexis.protocol.errors import DigestMismatchError, UnavailableError


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
        path = given or (self._folder / artifact_name(digest) if self._folder else None)
        if path is None or not path.is_file():
            where = f"no file {path}" if path else "no folder to look in"
            raise UnavailableError(
                f"{what} {digest}: {where}", hint=f"give {option} FILE, or fetch the certificate with its files"
            )
        with path.open("rb") as stream:
            found = digest_stream(stream)
        if found != digest:
            raise DigestMismatchError(f"{what} file {path} has digest {found}, not the pinned {digest}")
        return path
