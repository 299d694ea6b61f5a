"""Bodies of requests: bounded, and no slower than they may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request

from rexis.protocol.errors import ResourceError, RexisError

# Bytes a second below which a body counts as stopped.
_SLOWEST = 16 << 10


async def read_body(request: Request, max_bytes: int, patience_s: float) -> bytes:
    """A request's whole body.

    Raises
    ------
    ResourceError
        It is larger than `max_bytes`.
    BodyTimeoutError
        It stopped coming.
    """
    announced = announced_bytes(request)
    if announced is not None and announced > max_bytes:
        raise _too_large(max_bytes)
    data = bytearray()
    async for chunk in arriving(request, patience_s):
        data += chunk
        if len(data) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(data)


class BodyTimeoutError(RexisError):
    """A body that does not come, or comes too slowly."""

    code = "timeout"
    status = 408
    retryable = True


async def arriving(request: Request, patience_s: float) -> AsyncIterator[bytes]:
    """A body's chunks, as long as they come: `patience_s` seconds of patience, and more only for bytes that are here.

    Raises
    ------
    BodyTimeoutError
        They stopped coming.
    """
    loop, chunks = asyncio.get_running_loop(), request.stream()
    begun, received = loop.time(), 0
    while True:
        try:
            async with asyncio.timeout_at(begun + patience_s + received / _SLOWEST):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BodyTimeoutError(
                f"the body stopped after {received} bytes", hint="is the connection slow or cut off? send it again"
            ) from None
        received += len(chunk)
        yield chunk


def announced_bytes(request: Request) -> int | None:
    """The body's size, where the client announces it."""
    announced = request.headers.get("Content-Length", "")
    return int(announced) if announced.isascii() and announced.isdigit() and len(announced) < 19 else None


def _too_large(limit: int) -> ResourceError:
    return ResourceError(f"the document is larger than {limit} bytes")
