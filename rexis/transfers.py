"""Large bodies over connections that break: uploads in parts (tus 1.0.0), downloads by range. Both are hashed."""

from __future__ import annotations

import hashlib
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import httpx

from rexis.files import publish
from rexis.protocol.digests import Digest, digest_stream, sha256
from rexis.protocol.errors import (
    ConflictError,
    DigestMismatchError,
    MalformedError,
    NotFoundError,
    ResourceError,
    RexisError,
)
from rexis.transport import Retry, Transport, may_retry

IN_PARTS_FROM = 16 << 20
"""Bytes from which on a blob is uploaded in parts."""
_CHUNK = 1 << 20
# Of one request: proxies bound the size of a body.
_PIECE_BYTES = 64 << 20
# The last part is answered when the coordinator has put all of them together and hashed them.
_ASSEMBLY_SECONDS = 1800.0
_UPLOAD = re.compile(r"/v1/uploads/[0-9a-f]{32}\Z")
_TUS = {"Tus-Resumable": "1.0.0"}
_RANGE_REFUSED = httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE

OnBytes = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all); the total is 0 while it is not known."""


class Patience:
    """Tries again as long as bytes keep moving, and a bounded number of times when they do not."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._failures, self._reached = 0, -1

    def moved_to(self, place: int) -> None:
        """Note how far it is."""
        if place > self._reached:
            self._reached, self._failures = place, 0

    def failed(self, error: RexisError, *, again: bool) -> None:
        """Sleep before the next try, or raise `error` if there is none."""
        self._failures += 1
        if self._failures >= self._retry.attempts or not again:
            raise error
        self._retry.pause(self._failures, asked=getattr(error, "retry_after", None))


def upload_in_parts(
    transport: Transport,
    source: Path | bytes,
    digest: Digest,
    size: int,
    *,
    stored: Callable[[], bool],
    retry: Retry,
    progress: OnBytes | None,
) -> None:
    """Bring a blob to the coordinator; goes on where an earlier upload of it stopped, of this process or another.

    Parameters
    ----------
    stored
        Whether the coordinator has the whole blob.

    Raises
    ------
    DigestMismatchError
        What arrived has another digest: the file changed meanwhile, or somebody on the way changed it.
    """
    patience = Patience(retry)
    while True:
        try:
            path, offset = _begin(transport, digest, size)
            while True:
                patience.moved_to(offset)
                report(progress, offset, size)
                offset = _append(transport, path, source, offset, size, progress)
                if offset == size:
                    return
        except RexisError as error:
            # Another sender of the same blob moves the upload on, or ends it.
            elsewhere = isinstance(error, ConflictError | NotFoundError)
            patience.failed(error, again=elsewhere or may_retry(error, idempotent=True))
            if _told(stored):
                report(progress, size, size)
                return


def download(
    transport: Transport,
    path: str,
    digest: Digest,
    to: Path,
    *,
    limit: int,
    retry: Retry,
    progress: OnBytes | None,
) -> Path:
    """Fetch a blob into the file `to`, which is whole and has the right digest, or is not there.

    An interrupted download stays as ``<name>.part`` and is taken up again. One process at a time per file.

    Raises
    ------
    DigestMismatchError
        The server sent other bytes than those asked for; they are thrown away.
    ResourceError
        Larger than `limit`.
    """
    part = part_of(to)
    resumed = part.exists()
    found = fetch(transport, path, part, limit=limit, retry=retry, progress=progress)
    if found != digest and resumed:  # an old part may be of something else, or torn
        part.unlink()
        found = fetch(transport, path, part, limit=limit, retry=retry, progress=progress)
    if found != digest:
        part.unlink()
        raise DigestMismatchError(f"the coordinator sent {found} for blob {digest}", hint="do not trust its store")
    publish(part, to, overwrite=True)
    return to


def fetch(transport: Transport, path: str, part: Path, *, limit: int, retry: Retry, progress: OnBytes | None) -> Digest:
    """Bring `part` up to the whole body of a GET and return its digest; tries again as long as bytes keep coming."""
    patience = Patience(retry)
    sink = _Sink(part)
    while True:
        patience.moved_to(sink.size)
        try:
            _fetch_rest(transport, path, sink, limit, progress)
        except RexisError as error:
            patience.moved_to(sink.size)
            patience.failed(error, again=may_retry(error, idempotent=True))
        else:
            return sink.digest


def part_of(path: Path) -> Path:
    """Where the unfinished file is."""
    return path.with_name(path.name + ".part")


def measure(source: Path | bytes) -> tuple[Digest, int]:
    """Digest and size."""
    if isinstance(source, bytes):
        return sha256(source), len(source)
    return digest_of(source), source.stat().st_size


def digest_of(path: Path) -> Digest:
    """A file's digest."""
    with path.open("rb") as stream:
        return digest_stream(stream)


def chunks(source: Path | bytes, start: int, end: int, size: int, progress: OnBytes | None) -> Iterator[bytes]:
    """Bytes ``start … end-1`` of a source of `size` bytes."""
    stream = BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with stream:
        stream.seek(start)
        while start < end and (chunk := stream.read(min(_CHUNK, end - start))):
            yield chunk
            start += len(chunk)
            report(progress, start, size)


def report(progress: OnBytes | None, done: int, total: int) -> None:
    """Tell how far it is, if somebody listens."""
    if progress is not None:
        progress(done, total)


class _Sink:
    """A file that grows, and the hash of what is in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state, self.size = hashlib.sha256(), 0
        if path.exists():
            with path.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    self._state.update(chunk)
                    self.size += len(chunk)

    @property
    def digest(self) -> Digest:
        """Of all that was written."""
        return Digest(self._state.digest())

    def clear(self) -> None:
        """Forget what is there."""
        self._path.write_bytes(b"")
        self._state, self.size = hashlib.sha256(), 0

    def write(self, chunks: Iterator[bytes]) -> Iterator[int]:
        """Append chunks; yields the size before each is written, so that it can still be refused."""
        with self._path.open("ab") as stream:
            for chunk in chunks:
                yield self.size + len(chunk)
                stream.write(chunk)
                self._state.update(chunk)
                self.size += len(chunk)
            stream.flush()
            os.fsync(stream.fileno())


def _begin(transport: Transport, digest: Digest, size: int) -> tuple[str, int]:
    """Path of the upload, and how much of it is there."""
    metadata = f"digest {b64encode(str(digest).encode()).decode()}"
    headers = _TUS | {"Upload-Length": str(size), "Upload-Metadata": metadata}
    with transport.stream("POST", "/v1/uploads", headers=headers) as response:
        path = response.headers.get("Location", "")
        if not _UPLOAD.match(path):
            raise MalformedError("the coordinator's answer names no upload", field="Location")
        return path, _offset(response, size)


def _append(
    transport: Transport, path: str, source: Path | bytes, offset: int, size: int, progress: OnBytes | None
) -> int:
    end = min(size, offset + _PIECE_BYTES)
    headers = _TUS | {
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(end - offset),
    }
    with transport.stream(
        "PATCH",
        path,
        body=lambda: chunks(source, offset, end, size, progress),
        headers=headers,
        read_seconds=_ASSEMBLY_SECONDS,
    ) as response:
        return _offset(response, size)


def _offset(response: httpx.Response, size: int) -> int:
    text = response.headers.get("Upload-Offset", "")
    if not (text.isascii() and text.isdigit() and len(text) < 19) or int(text) > size:
        raise MalformedError("the coordinator's answer names no place in the upload", field="Upload-Offset")
    return int(text)


def _told(stored: Callable[[], bool]) -> bool:
    try:
        return stored()
    except RexisError:
        return False


def _fetch_rest(transport: Transport, path: str, sink: _Sink, limit: int, progress: OnBytes | None) -> None:
    headers = {"Accept-Encoding": "identity"}
    if sink.size:
        headers["Range"] = f"bytes={sink.size}-"
    with transport.stream("GET", path, headers=headers, accept=(_RANGE_REFUSED,)) as response:
        if response.status_code == _RANGE_REFUSED:
            return  # the part is whole already, or longer than the blob: its digest decides
        if not _resumes_at(response, sink.size):
            sink.clear()
        announced = response.headers.get("Content-Length", "")
        total = sink.size + int(announced) if announced.isdigit() else 0
        for size in sink.write(response.iter_raw()):
            if max(size, total) > limit:
                raise ResourceError(f"a blob of {max(size, total)} bytes, over the limit of {limit}")
            report(progress, size, total)


def _resumes_at(response: httpx.Response, have: int) -> bool:
    """Whether a response goes on at byte `have`; any other answer is the whole blob again."""
    unit_and_start = response.headers.get("Content-Range", "").partition("-")[0]
    return response.status_code == httpx.codes.PARTIAL_CONTENT and unit_and_start == f"bytes {have}"
