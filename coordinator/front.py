"""What a request passes before any route sees it: which host it asks for, which client it comes from, and how often."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from re import Pattern
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.limits import Limits
from rexis.protocol.errors import RexisError
from rexis.web.clients import Networks, client_of
from rexis.web.limits import too_many
from rexis.web.problems import problem_response

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked by machines of the operator's, under whatever name, as often as they like."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class HostError(RexisError):
    """A request that was meant for another host."""

    code = "misdirected"
    status = 421


class Front:
    """ASGI middleware.

    Parameters
    ----------
    hosts
        Names under which the coordinator is reached; an IP address is always one (nobody can point another name's
        pages at us with it).
    proxies
        Whose ``X-Forwarded-For`` is believed.
    open_paths
        Patterns of paths that need no token: there a token is not looked at, and does not spare the client's bucket.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        hosts: Collection[str],
        proxies: Networks,
        open_paths: Collection[Pattern[str]],
    ) -> None:
        self._app, self._limits = app, limits
        self._hosts, self._proxies, self._open_paths = frozenset(hosts), proxies, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        state = scope["state"]
        state["client"] = client = client_of(scope, headers, self._proxies)
        error: RexisError | None = None
        if not self._ours(headers.get("host", "")):
            error = HostError("this host is not served here", hint="use the coordinator's public URL")
        state["waits"] = waits = self._limits.arrived(client)
        if waits and ("authorization" not in headers or self._open(scope["path"])):
            error = too_many("too many requests from where you are", waits)
        if error is None:
            await self._app(scope, receive, send)
        else:
            await problem_response(error, state["request_id"])(scope, receive, send)

    def _open(self, path: str) -> bool:
        return any(pattern.match(path) for pattern in self._open_paths)

    def _ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._hosts or _is_ip(name)


def _is_ip(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
