"""Outermost layer of the application: request ids, one log line a request, and the last catch."""

from __future__ import annotations

import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.problems import InternalError, problem_response

_HEADER = "X-Request-Id"
_GIVEN_ID = re.compile(r"[A-Za-z0-9-]{8,64}\Z")
_CLIENT_CLOSED = 499  # nginx's status for a client that left
_log = logging.getLogger("coordinator.access")
_errors = logging.getLogger("coordinator.errors")


class RequestLog:
    """ASGI middleware. The log line holds method, path, status, time and caller; no token, no body, no signature."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(_HEADER, "")
        request_id = given if _GIVEN_ID.match(given) else secrets.token_hex(8)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        begun, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[_HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = status or _CLIENT_CLOSED
        except Exception:
            _errors.exception("request %s failed", request_id)
            if status:  # too late for another answer: break the connection instead of ending it well
                raise
            response = problem_response(InternalError("an error of ours", hint="tell the operator"), request_id)
            await response(scope, receive, send_with_id)
        finally:
            _log.info(
                "request id=%s method=%s path=%s status=%d ms=%d caller=%s",
                request_id,
                scope["method"],
                scope["path"].encode("unicode_escape").decode("ascii"),
                status,
                (time.monotonic() - begun) * 1000,
                state.get("caller", "-"),
            )
