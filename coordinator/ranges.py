"""Bodies that are sent in parts (RFC 9110 §14), so that a broken download goes on."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from fastapi import Request, Response
from starlette.responses import StreamingResponse

from rexis.protocol.digests import Digest
from rexis.protocol.errors import MalformedError

BYTES = "application/octet-stream"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")


class RangeError(MalformedError):
    """A range that lies outside the body."""

    code = "range"
    status = 416


def ranged(request: Request, size: int, etag: Digest, stream: Callable[[int, int], AsyncIterator[bytes]]) -> Response:
    """The part of a body of `size` bytes that a request asks for, or all of it."""
    start, end = 0, size
    headers, status = body_headers(etag), HTTPStatus.OK
    wanted = _range(request.headers.get("Range", ""), size)
    if wanted is not None:
        start, end = wanted
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        status = HTTPStatus.PARTIAL_CONTENT
    headers["Content-Length"] = str(end - start)
    return StreamingResponse(stream(start, end), status, headers, BYTES)


def body_headers(etag: Digest) -> dict[str, str]:
    """Of a body that never changes."""
    return {"ETag": f'"{etag}"', "Accept-Ranges": "bytes", "Cache-Control": "private, immutable"}


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
        raise RangeError(f"there are {size} bytes", hint="it may be complete already")
    return start, end
