"""Blobs: upload, presence, download in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from coordinator.documents import Caller, CallersRoles, DigestPath, Services, answer, arriving, operation
from coordinator.ranges import BYTES, body_headers, ranged
from coordinator.roles import PARTIES, READERS
from coordinator.services import Coordinator
from rexis.api import BlobView, Role
from rexis.protocol.digests import Digest
from rexis.protocol.errors import NotFoundError
from rexis.protocol.parsing import Address
from rexis.web.bodies import announced_bytes

router = APIRouter(prefix="/v1/blobs", tags=["blobs"])


@router.put(
    "/{digest}",
    **operation(
        "Upload a blob; it must have this SHA-256",
        (HTTPStatus.CREATED, BlobView),
        (HTTPStatus.OK, BlobView),
        refuses=(408, 413, 422),
        roles=PARTIES,
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
    await run_in_threadpool(services.access.require_room, caller, announced or 0)
    size = await blobs.receive(digest, arriving(request))
    await run_in_threadpool(services.access.uploaded, caller, digest, size)
    return answer(BlobView(digest=digest, size=size), HTTPStatus.CREATED)


@router.head(
    "/{digest}", **operation("Whether a blob is there", (HTTPStatus.OK, None), refuses=(404, 422), roles=READERS)
)
async def head_blob(caller: Caller, roles: CallersRoles, services: Services, digest: DigestPath) -> Response:
    size = await run_in_threadpool(_size_for, services, caller, digest, roles)
    if size is None:
        raise NotFoundError(f"no blob {digest} here")
    return Response(headers={**body_headers(digest), "Content-Length": str(size)}, media_type=BYTES)


@router.get(
    "/{digest}",
    **operation(
        "Download a blob, or with Range a part of it",
        (HTTPStatus.OK, BYTES),
        (HTTPStatus.PARTIAL_CONTENT, BYTES),
        refuses=(404, 416, 422),
        roles=READERS,
    ),
)
async def get_blob(
    request: Request, caller: Caller, roles: CallersRoles, services: Services, digest: DigestPath
) -> Response:
    size = await run_in_threadpool(_size_for, services, caller, digest, roles)
    if size is None:
        raise NotFoundError(f"no blob {digest} here")
    return ranged(request, size, digest, lambda start, end: services.blobs.stream(digest, start, end))


def _size_for(services: Coordinator, caller: Address, digest: Digest, roles: Collection[Role] = PARTIES) -> int | None:
    """Size of a blob that the caller may read."""
    return services.blobs.size(digest) if services.access.may_read(caller, digest, roles) else None


async def _drain(chunks: AsyncIterator[bytes], limit: int) -> None:
    """Read what the client sends anyway: an answer before its end breaks many clients."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            return
