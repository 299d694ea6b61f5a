"""Blobs: upload, presence, download in parts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from coordinator.documents import Caller, DigestPath, Services, announced_bytes, answer, arriving, operation
from coordinator.services import Coordinator
from rexis.api import BlobView
from rexis.protocol.digests import Digest
from rexis.protocol.errors import MalformedError, NotFoundError
from rexis.protocol.parsing import Address

router = APIRouter(prefix="/v1/blobs", tags=["blobs"])

_BYTES = "application/octet-stream"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")


@router.put(
    "/{digest}",
    **operation(
        "Upload a blob; it must have this SHA-256",
        (HTTPStatus.CREATED, BlobView),
        (HTTPStatus.OK, BlobView),
        refuses=(408, 413, 422),
    ),
)
async def put_blob(request: Request, caller: Caller, services: Services, digest: DigestPath) -> Response:
    blobs = services.blobs
    announced = announced_bytes(request)
    if announced is not None and announced > blobs.max_bytes:
        raise blobs.too_large(str(announced))
    size = await run_in_threadpool(_size_for, services, caller, digest)
    if size is not None:
        await _drain(arriving(request), blobs.max_bytes)
        return answer(BlobView(digest=digest, size=size))
    # Whoever does not hold the blob sends all of it, and is answered as if it had not been there.
    size = await blobs.receive(digest, arriving(request))
    await run_in_threadpool(services.access.uploaded, caller, digest)
    return answer(BlobView(digest=digest, size=size), HTTPStatus.CREATED)


@router.head("/{digest}", **operation("Whether a blob is there", (HTTPStatus.OK, None), refuses=(404, 422)))
async def head_blob(caller: Caller, services: Services, digest: DigestPath) -> Response:
    size = await run_in_threadpool(_size_for, services, caller, digest)
    if size is None:
        raise NotFoundError(f"no blob {digest} here")
    return Response(headers={**_headers(str(digest)), "Content-Length": str(size)}, media_type=_BYTES)


@router.get(
    "/{digest}",
    **operation(
        "Download a blob, or with Range a part of it",
        (HTTPStatus.OK, _BYTES),
        (HTTPStatus.PARTIAL_CONTENT, _BYTES),
        refuses=(404, 416, 422),
    ),
)
async def get_blob(request: Request, caller: Caller, services: Services, digest: DigestPath) -> Response:
    size = await run_in_threadpool(_size_for, services, caller, digest)
    if size is None:
        raise NotFoundError(f"no blob {digest} here")
    start, end = 0, size
    headers, status = _headers(str(digest)), HTTPStatus.OK
    wanted = _range(request.headers.get("Range", ""), size)
    if wanted is not None:
        start, end = wanted
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        status = HTTPStatus.PARTIAL_CONTENT
    headers["Content-Length"] = str(end - start)
    return StreamingResponse(services.blobs.stream(digest, start, end), status, headers, _BYTES)


def _size_for(services: Coordinator, caller: Address, digest: Digest) -> int | None:
    """Size of a blob that the caller may read."""
    return services.blobs.size(digest) if services.access.may_read(caller, digest) else None


class RangeError(MalformedError):
    """A range that lies outside the blob."""

    code = "range"
    status = 416


def _range(header: str, size: int) -> tuple[int, int] | None:
    """First and last+1 byte of a single range (RFC 9110 §14.2); None for none, or one that we do not serve."""
    found = _RANGE.match(header)
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start = int(first)
        end = min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise RangeError(f"the blob has {size} bytes", hint="it may be complete already")
    return start, end


def _headers(digest: str) -> dict[str, str]:
    return {"ETag": f'"{digest}"', "Accept-Ranges": "bytes", "Cache-Control": "private, immutable"}


async def _drain(chunks: AsyncIterator[bytes], limit: int) -> None:
    """Read what the client sends anyway: an answer before its end breaks many clients."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            return
