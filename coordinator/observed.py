"""ASGI middleware: counts and times each request, and opens its span where it belongs to a trace."""

from __future__ import annotations

import time
from contextlib import nullcontext

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator import metrics
from rexis.telemetry import traces

_NO_ROUTE = "none"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# A job's trace begins here if its requester began none. Nothing else begins one: workers poll all day.
_ROOT = ("POST", "/v1/jobs")
_UPLOAD, _DOWNLOAD = "in", "out"
_BLOBS = "/v1/blobs/"


class Observed:
    """Outermost layer, so that what the others answer for an error of ours counts too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 0
        is_blob = scope["path"].startswith(_BLOBS)

        async def counted_receive() -> Message:
            message = await receive()
            if is_blob and message["type"] == "http.request":
                metrics.BLOB_BYTES.labels(_UPLOAD).inc(len(message.get("body", b"")))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif is_blob and message["type"] == "http.response.body":
                metrics.BLOB_BYTES.labels(_DOWNLOAD).inc(len(message.get("body", b"")))
            await send(message)

        parent = traces.given(Headers(scope=scope))
        method = scope["method"] if scope["method"] in _METHODS else "other"
        belongs = traces.is_on() and (parent is not None or (method, scope["path"]) == _ROOT)
        try:
            with traces.span(method, parent) if belongs else nullcontext():
                await self._app(scope, counted_receive, counted_send)
                if belongs:
                    traces.rename(f"{method} {_route(scope)}")
                    found: dict[str, traces.Value] = {
                        "http.route": _route(scope),
                        "http.response.status_code": status,
                    }
                    traces.annotate(**found)
        finally:
            route = _route(scope)
            metrics.HTTP_REQUESTS.labels(method, route, str(status)).inc()
            metrics.HTTP_SECONDS.labels(method, route).observe(time.monotonic() - begun)


def _route(scope: Scope) -> str:
    """The route's template, never the path: that has ids, and whatever a stranger types."""
    route = scope.get("route")
    return getattr(route, "path", _NO_ROUTE)
