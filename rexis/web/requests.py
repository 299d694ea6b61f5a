"""Outermost layer of the application: request ids, one log line a request, and the last catch."""

from __future__ import annotations

import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rexis.telemetry import logs
from rexis.web.problems import InternalError, problem_response

_HEADER = "X-Request-Id"
_GIVEN_ID = re.compile(r"[A-Za-z0-9-]{8,64}\Z")
_CLIENT_CLOSED = 499  # nginx's status for a client that left


class RequestLog:
    """ASGI middleware. The log line holds method, path, status, time and caller; no token, no body, no signature.

    Parameters
    ----------
    service
        Names the loggers: ``<service>.access`` and ``<service>.errors``.
    """

    def __init__(self, app: ASGIApp, service: str) -> None:
        self._app = app
        self._log, self._errors = (logging.getLogger(f"{service}.{name}") for name in ("access", "errors"))

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

        with logs.bound(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except ClientDisconnect:
                status = status or _CLIENT_CLOSED
            except Exception:
                self._errors.exception("request failed")
                if status:  # too late for another answer: break the connection instead of ending it well
                    raise
                response = problem_response(InternalError("an error of ours", hint="tell the operator"), request_id)
                await response(scope, receive, send_with_id)
            finally:
                line = {
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "ms": int((time.monotonic() - begun) * 1000),
                    "caller": state.get("caller", "-"),
                }
                self._log.info("request", extra=line)
