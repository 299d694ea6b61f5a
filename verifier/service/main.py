"""Serves the application until it is told to stop."""

from __future__ import annotations

import socket
import sys
import webbrowser

import uvicorn

from rexis.protocol.errors import UnavailableError
from rexis.telemetry import logs
from verifier.service.app import create_app
from verifier.service.settings import ServiceSettings

_MOST_CONNECTIONS = 256
_KEEP_ALIVE_S = 15
_GRACE_S = 10


def run(settings: ServiceSettings, host: str, port: int, *, browse: bool = False) -> None:
    """Serve until SIGINT or SIGTERM. TLS is the proxy's in front.

    Parameters
    ----------
    browse
        Open the desk in this machine's browser, if it has one.

    Raises
    ------
    UnavailableError
        The address is in use.
    """
    logs.install(sys.stderr)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise UnavailableError(f"cannot listen on {host}:{port}: {error.strerror}", hint="is it in use?") from None
    config = uvicorn.Config(
        create_app(settings),
        access_log=False,
        log_config=None,
        ws="none",
        proxy_headers=False,  # the application reads them, from proxies that the operator named
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    print(f"verifier and auditor's desk at {url}", flush=True)
    if browse and not webbrowser.open(f"{url}/"):
        print("no browser here: open that address in one", flush=True)
    uvicorn.Server(config).run([listener])
