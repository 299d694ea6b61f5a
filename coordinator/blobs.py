"""Blobs, named by their SHA-256, in any store that obstore knows."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import obstore
from obstore.store import LocalStore, from_url

from rexis.protocol.digests import Digest, digest_stream, sha256
from rexis.protocol.errors import DigestMismatchError, NotFoundError, ResourceError, UnavailableError

_CHUNK = 1 << 20
# Of a multipart upload to S3, which takes parts of 5 MiB or more; so many wait in memory for each upload.
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 2
_BLOBS, _INCOMING, _PROBES = "sha256", "incoming", "probe"
_STALE_S = 24 * 3600
# A file of the cache that was asked for within this time may be in use.
_IN_USE_S = 3600
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_FILES_AT_ONCE = 4
_DEFAULT_CACHE_BYTES = 10 << 30


@dataclass(frozen=True)
class Stored:
    """A blob as the store lists it."""

    digest: Digest
    size: int
    at: datetime


class Blobs:
    """Content-addressed storage. A name exists only once its bytes are whole and have its digest.

    Nothing is renamed, since S3 cannot: bytes are written under their final name, and the write is completed (a
    multipart upload's last request, a local file's rename) only once the digest is the right one.

    Parameters
    ----------
    url
        obstore URL; a folder in `data_dir` if None. Of ``s3://bucket/prefix`` the environment's ``AWS_…`` variables
        say the rest.
    max_bytes
        Size limit of an upload.
    cache_bytes
        Bound on the copies of remote blobs that :meth:`path` makes.
    expect
        Told of blobs before they are written: digests, and sizes where they are known. It may refuse.
    """

    def __init__(
        self,
        url: str | None,
        data_dir: Path,
        max_bytes: int,
        *,
        cache_bytes: int = _DEFAULT_CACHE_BYTES,
        expect: Callable[[Mapping[Digest, int | None]], None] = lambda sizes: None,
    ) -> None:
        self.max_bytes, self._expect = max_bytes, expect
        self._cache, self._cache_bytes = data_dir / "cache" / "blobs", cache_bytes
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
        await asyncio.to_thread(self._expect, {digest: None})
        state, size = hashlib.sha256(), 0
        # Leaving the block by an exception drops what was written; only its end makes the blob.
        async with obstore.open_writer_async(
            self._store, _key(digest), buffer_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
        ) as writer:
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
        return size

    def too_large(self, size: str) -> ResourceError:
        """The refusal of an upload."""
        return ResourceError(f"a blob of {size} bytes, over this coordinator's limit of {self.max_bytes}")

    def put(self, data: bytes) -> Digest:
        """Store bytes of our own."""
        digest = sha256(data)
        self._expect({digest: len(data)})
        self._put(digest, data)
        return digest

    def put_all(self, several: Sequence[bytes], pool: Executor) -> None:
        """Store many bytes of our own, side by side."""
        blobs = {sha256(data): data for data in several}
        self._expect({digest: len(data) for digest, data in blobs.items()})
        if self._folder is None:
            list(pool.map(self._put, blobs.keys(), blobs.values()))
            return
        # A file takes less time than a thread that is woken for it, unless the disk is slow: then a few help.
        some = list(blobs.items())
        list(pool.map(self._put_some, [some[place::_FILES_AT_ONCE] for place in range(_FILES_AT_ONCE)]))

    def _put_some(self, blobs: Sequence[tuple[Digest, bytes]]) -> None:
        for digest, data in blobs:
            self._put(digest, data)

    def _put(self, digest: Digest, data: bytes) -> None:
        if self._folder is not None:
            _write(self._folder / _key(digest), data)
        elif self.size(digest) is None:
            obstore.put(self._store, _key(digest), data)

    def size(self, digest: Digest) -> int | None:
        """Size in bytes; None if there is no such blob."""
        if self._folder is not None:
            return _size_of(self._folder / _key(digest))
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
        size = self._require_size(digest, what)
        if max_bytes is not None and size > max_bytes:
            raise ResourceError(f"{what} {digest} has {size} bytes, over the limit of {max_bytes}")
        if self._folder is not None:
            return (self._folder / _key(digest)).read_bytes()
        return bytes(obstore.get(self._store, _key(digest)).bytes())

    def reader(self, digest: Digest, what: str = "blob") -> tuple[Callable[[int, int], bytes], int]:
        """What reads bytes ``start … end-1`` of a blob, and its size; :class:`NotFoundError` if there is none."""
        size = self._require_size(digest, what)

        def read(start: int, end: int) -> bytes:
            if start == end:
                return b""
            return bytes(obstore.get_range(self._store, _key(digest), start=start, end=end))

        return read, size

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
            self._copy(digest, what, path)
        os.utime(path)
        self._bound_cache()
        return path

    # --- parts of uploads --------------------------------------------------------------------------------------

    async def stage(self, upload_id: str, start: int, data: bytes) -> str:
        """Keep a part of an unfinished upload; returns its name, which no other part has."""
        key = f"{_INCOMING}/{upload_id}/{start:015d}-{secrets.token_hex(4)}"
        await obstore.put_async(self._store, key, data, use_multipart=False)
        return key

    async def assemble(self, digest: Digest, keys: Sequence[str]) -> int:
        """Make a blob of staged parts in their order; returns its size. See :meth:`receive`."""
        return await self.receive(digest, self._staged(keys))

    async def drop(self, keys: Iterable[str]) -> None:
        """Remove staged parts."""
        await obstore.delete_async(self._store, list(keys))

    def staged(self) -> Iterator[tuple[str, str, datetime]]:
        """Staged parts: upload, name, and since when."""
        for listed in obstore.list(self._store, prefix=_INCOMING):
            for found in listed:
                yield found["path"].split("/")[1], found["path"], found["last_modified"]

    async def _staged(self, keys: Sequence[str]) -> AsyncIterator[bytes]:
        for key in keys:
            found = await obstore.get_async(self._store, key)
            async for chunk in found.stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)

    # --- the store as a whole ----------------------------------------------------------------------------------

    def probe(self) -> None:
        """Return if the store takes a few bytes and gives them back.

        Raises
        ------
        UnavailableError
            It gives others.
        OSError, BaseError
            It does not answer, or is full.
        """
        key, data = f"{_PROBES}/{secrets.token_hex(8)}", secrets.token_bytes(16)
        obstore.put(self._store, key, data)
        found = bytes(obstore.get(self._store, key).bytes())
        obstore.delete(self._store, key)
        if found != data:
            raise UnavailableError("the store gives other bytes than it took")

    def remove(self, digest: Digest) -> None:
        """Remove a blob, if it is there. Whether it may go, :mod:`coordinator.garbage` knows."""
        try:
            obstore.delete(self._store, _key(digest))
        except FileNotFoundError:
            return

    def listed(self) -> Iterator[Stored]:
        """All the blobs in the store."""
        for listed in obstore.list(self._store, prefix=_BLOBS):
            for found in listed:
                name = found["path"].rpartition("/")[2]
                if _key_of(name) == found["path"]:
                    yield Stored(Digest(bytes.fromhex(name)), found["size"], found["last_modified"])

    def _require_size(self, digest: Digest, what: str) -> int:
        size = self.size(digest)
        if size is None:
            raise NotFoundError(f"no {what} {digest} here", hint="upload it first")
        return size

    def _copy(self, digest: Digest, what: str, path: Path) -> None:
        """Bring a remote blob into a file, a chunk at a time."""
        self._require_size(digest, what)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        state = hashlib.sha256()
        try:
            with part.open("wb") as stream:
                for chunk in obstore.get(self._store, _key(digest)).stream(min_chunk_size=_CHUNK):
                    state.update(chunk)
                    stream.write(chunk)
            if state.digest() != digest:
                raise DigestMismatchError(
                    f"the store's {what} {digest} has digest {Digest(state.digest())}", hint="the store has damaged it"
                )
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _bound_cache(self) -> None:
        """Remove the least recently used copies until the rest fits; those that may be in use stay."""
        files = [(path, path.stat()) for path in self._cache.iterdir()]
        total, now = sum(stat.st_size for _, stat in files), time.time()
        for path, stat in sorted(files, key=lambda entry: entry[1].st_mtime):
            if total <= self._cache_bytes or now - stat.st_mtime < _IN_USE_S:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size

    def _drop_stale(self) -> None:
        """Remove what interrupted writes of a killed process left in a local folder.

        On S3 that is a bucket's rule: ``AbortIncompleteMultipartUpload``.
        """
        if self._folder is None:
            return
        for path in self._folder.glob("**/*#*"):
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    """Write a file as obstore does, in a tenth of its time: whole or not at all, and by a name that tells its rest.

    With as few system calls as there can be: after each of them a thread waits for its turn among those that compute.
    """
    name = str(path)
    if os.path.exists(name):  # noqa: PTH110 - a quarter of the time
        return
    part = f"{name}#{secrets.token_hex(4)}"
    try:
        descriptor = os.open(part, _CREATE, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(part, _CREATE, 0o666)
    try:
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)
        os.replace(part, name)  # noqa: PTH105
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _size_of(path: Path) -> int | None:
    """A file's size, in a twentieth of the time that obstore takes to say it; None if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _key(digest: Digest) -> str:
    return _key_of(digest.hex())


def _key_of(name: str) -> str:
    return f"{_BLOBS}/{name[:2]}/{name}"


def _has_digest(path: Path, digest: Digest) -> bool:
    with path.open("rb") as stream:
        return digest_stream(stream) == digest
