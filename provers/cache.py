"""What a worker keeps on disk: blobs by digest and finished proofs. A crash leaves whole files or none."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from rexis.files import write_file
from rexis.locks import locked
from rexis.protocol.digests import Digest, digest_stream, sha256
from rexis.protocol.errors import MalformedError, RexisError
from rexis.protocol.records import Integers

_PROOF_DOMAIN = b"rexis.proof-cache.v1\0"
_DIGEST_BYTES = 32

Fetch = Callable[[Digest, Path], object]
"""Brings a blob into a file, checked (:meth:`rexis.client.RexisClient.download_blob`)."""


def make_private_folder(path: Path) -> Path:
    """Create a folder that only its owner may enter."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RexisError(f"cannot create the cache folder {path}: {error.strerror}", hint="give another one") from None
    return path


def evict(folder: Path, pattern: str, max_bytes: int) -> None:
    """Remove the least recently used files of a folder until they fit; those that somebody has flocked stay."""
    files = [(path, path.stat()) for path in folder.glob(pattern) if path.is_file()]
    total = sum(stat.st_size for _, stat in files)
    for path, stat in sorted(files, key=lambda entry: entry[1].st_mtime_ns):
        if total <= max_bytes:
            return
        if _unlink_unused(path):
            total -= stat.st_size


def _unlink_unused(path: Path) -> bool:
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink(missing_ok=True)
    return True


class BlobCache:
    """Blobs in files named ``sha256-<hex>``, least recently used first to go.

    Parameters
    ----------
    folder
        Made if it is not there; may be shared by several workers.
    max_bytes
        Bound on all the blobs together; the ones in use are never removed.
    fetch
        Gets what is not here.
    """

    def __init__(self, folder: Path, *, max_bytes: int, fetch: Fetch) -> None:
        self._folder = make_private_folder(folder)
        self._max_bytes = max_bytes
        self._fetch = fetch
        self._in_use: list[BinaryIO] = []

    def get(self, digest: Digest, waiting: Callable[[], None] | None = None) -> Path:
        """The file with this digest, checked every time; it stays until :meth:`done`.

        Parameters
        ----------
        waiting
            Called while another worker uses the folder, perhaps for a long download; may raise, which ends the wait.

        Raises
        ------
        RexisError
            Whatever fetching it gave.
        """
        path = self._folder / f"sha256-{digest.hex()}"
        with locked(self._folder / ".lock", waiting):
            if not path.is_file() or not _has_digest(path, digest):
                self._fetch(digest, path)
            os.utime(path)
            stream = path.open("rb")
            self._in_use.append(stream)
            fcntl.flock(stream, fcntl.LOCK_SH)
            evict(self._folder, "sha256-*", self._max_bytes)
        return path

    def done(self) -> None:
        """Nothing that was got is in use any more."""
        while self._in_use:
            self._in_use.pop().close()


class ProofCache:
    """Finished proofs, so that a killed worker, or the next lease of the same records, does not prove them again.

    An ezkl proof is bound to its verifying key and its public instances and to nothing else (the statement's binding
    is the Merkle opening), so these two are its name.

    Parameters
    ----------
    folder
        Made if it is not there.
    max_bytes
        Bound on all proofs together.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = make_private_folder(folder)
        self._max_bytes = max_bytes
        self._evicting = threading.Lock()

    def get(self, vk_digest: Digest, instances: Integers) -> bytes | None:
        """A proof made before; one that the disk has damaged counts as none."""
        path = self._path(vk_digest, instances)
        try:
            data = path.read_bytes()
            proof = data[_DIGEST_BYTES:]
            if Digest(data[:_DIGEST_BYTES]) != sha256(proof):
                return None
            os.utime(path)
        except (OSError, MalformedError):
            return None
        return proof

    def put(self, vk_digest: Digest, instances: Integers, proof: bytes) -> None:
        """Keep a proof."""
        write_file(self._path(vk_digest, instances), sha256(proof) + proof, private=True, overwrite=True)
        with self._evicting:
            evict(self._folder, "*.proof", self._max_bytes)

    def _path(self, vk_digest: Digest, instances: Integers) -> Path:
        name = sha256(_PROOF_DOMAIN, vk_digest, instances.astype(">i8").tobytes())
        return self._folder / f"{name.hex()}.proof"


def _has_digest(path: Path, digest: Digest) -> bool:
    with path.open("rb") as stream:
        return digest_stream(stream) == digest
