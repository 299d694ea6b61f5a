"""Blobs, named by their SHA-256, in any store that obstore knows."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import obstore
from obstore.store import LocalStore, from_url

from rexis.protocol.digests import Digest, digest_stream, sha256
from rexis.protocol.errors import DigestMismatchError, NotFoundError, ResourceError

_CHUNK = 1 << 20
_INCOMING = "incoming"
_STALE_S = 24 * 3600


class Blobs:
    """Content-addressed storage. A name exists only once its bytes are whole and have its digest.

    Parameters
    ----------
    url
        obstore URL; a folder in `data_dir` if None.
    max_bytes
        Size limit of an upload.
    """

    def __init__(self, url: str | None, data_dir: Path, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._cache = data_dir / "cache"
        folder = data_dir.absolute() / "blobs"
        self._store: Any = LocalStore(folder, mkdir=True) if url is None else from_url(url)
        self._folder = folder if url is None else None
        self._drop_stale()

    async def receive(self, digest: Digest, chunks: AsyncIterator[bytes]) -> int:
        """Store what an upload sends, under its digest; returns its size.

        Raises
        ------
        ResourceError
            It grows past the limit.
        DigestMismatchError
            It has another digest (was cut off, or is something else). Nothing is kept.
        """
        temporary = f"{_INCOMING}/{secrets.token_hex(16)}"
        state, size = hashlib.sha256(), 0
        # Leaving the block by an exception drops what was written.
        async with obstore.open_writer_async(self._store, temporary) as writer:
            async for chunk in chunks:
                size += len(chunk)
                if size > self.max_bytes:
                    raise self.too_large(f"more than {self.max_bytes}")
                state.update(chunk)
                await writer.write(chunk)
            if state.digest() != digest:
                found = Digest(state.digest())
                raise DigestMismatchError(
                    f"the upload of {size} bytes has digest {found}, not {digest}", hint="was it cut off? send it again"
                )
        await obstore.rename_async(self._store, temporary, _key(digest))
        return size

    def too_large(self, size: str) -> ResourceError:
        """The refusal of an upload."""
        return ResourceError(f"a blob of {size} bytes, over this coordinator's limit of {self.max_bytes}")

    def put(self, data: bytes) -> Digest:
        """Store bytes of our own."""
        digest = sha256(data)
        if self.size(digest) is None:
            temporary = f"{_INCOMING}/{secrets.token_hex(16)}"
            obstore.put(self._store, temporary, data)
            obstore.rename(self._store, temporary, _key(digest))
        return digest

    def size(self, digest: Digest) -> int | None:
        """Size in bytes; None if there is no such blob."""
        try:
            return int(obstore.head(self._store, _key(digest))["size"])
        except FileNotFoundError:
            return None

    def read(self, digest: Digest, what: str = "blob", max_bytes: int | None = None) -> bytes:
        """All bytes of a blob.

        Raises
        ------
        NotFoundError
            There is none.
        ResourceError
            It is larger than `max_bytes`.
        """
        size = self.size(digest)
        if size is None:
            raise NotFoundError(f"no {what} {digest} here", hint="upload it first")
        if max_bytes is not None and size > max_bytes:
            raise ResourceError(f"{what} {digest} has {size} bytes, over the limit of {max_bytes}")
        return bytes(obstore.get(self._store, _key(digest)).bytes())

    async def stream(self, digest: Digest, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes ``start … end-1`` of a blob that exists."""
        if start == end:
            return
        found = await obstore.get_async(self._store, _key(digest), options={"range": (start, end)})
        async for chunk in found.stream(min_chunk_size=_CHUNK):
            yield bytes(chunk)

    def path(self, digest: Digest, what: str) -> Path:
        """A blob as a file, for libraries that read files; a copy if the store is remote."""
        if self._folder is not None:
            path = self._folder / _key(digest)
            if not path.is_file():
                raise NotFoundError(f"no {what} {digest} here", hint="upload it first")
            return path
        path = self._cache / digest.hex()
        if not path.is_file() or not _has_digest(path, digest):
            self._cache.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
            part.write_bytes(self.read(digest, what))
            part.replace(path)
        return path

    def _drop_stale(self) -> None:
        """Remove what interrupted uploads of a killed process left in a local folder."""
        incoming = self._folder / _INCOMING if self._folder is not None else None
        if incoming is None or not incoming.is_dir():
            return
        for path in incoming.iterdir():
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink(missing_ok=True)


def _key(digest: Digest) -> str:
    name = digest.hex()
    return f"sha256/{name[:2]}/{name}"


def _has_digest(path: Path, digest: Digest) -> bool:
    with path.open("rb") as stream:
        return digest_stream(stream) == digest
