"""Runs a coordinator process, graceful on SIGTERM, and none the worse for ``kill -9``."""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
from types import FrameType
from typing import Any

import uvicorn
from eth_account.signers.local import LocalAccount
from sqlalchemy import make_url

from contracts.accountability import Accountability
from contracts.onchain import Deployment
from coordinator import metrics
from coordinator.app import create_app
from coordinator.bell import Bell
from coordinator.services import Coordinator
from coordinator.settings import Settings
from rexis.protocol.errors import RexisError, UnavailableError
from rexis.telemetry import logs, traces
from rexis.telemetry.exposition import served_metrics

_GRACE_S = 10
# Of TLS 1.2; those of 1.3 are all good.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
# Between two requests on a connection. Slow headers are the proxy's to end.
_KEEP_ALIVE_S = 15
# Of the collector's generations; Python's own are 700, 10, 10. Few of our objects make cycles.
_COLLECT_AFTER = (10_000, 10, 50)
_log = logging.getLogger(__name__)
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "OTEL_EXPORTER_OTLP_HEADERS")


class _Server(uvicorn.Server):
    """Ends long polls as soon as it is asked to stop."""

    def __init__(self, config: uvicorn.Config, bell: Bell) -> None:
        super().__init__(config)
        self._bell = bell

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._bell.stop()
        super().handle_exit(sig, frame)


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises
    ------
    RexisError
        The deployment or the wallet cannot be read, the address is in use, or the database is of another version.
    """
    logs.install(sys.stderr)
    _hide_secrets(settings)
    traces.start("rexis-coordinator")
    deployment, around, account = settings.read_deployment(), settings.read_accountability(), settings.open_wallet()
    _serve(settings, deployment, account, around)


def _serve(
    settings: Settings, deployment: Deployment, account: LocalAccount, accountability: Accountability | None
) -> None:
    listener = _listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    settings = settings.model_copy(update={"port": port})
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    coordinator = Coordinator(settings, deployment, account, accountability=accountability)
    config = uvicorn.Config(
        create_app(coordinator),
        access_log=False,
        log_config=None,
        ws="none",
        proxy_headers=False,  # coordinator.front reads them, from proxies that the operator named
        server_header=False,
        **_tls(settings),
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
    _spare_collector()
    print(f"coordinator {coordinator.address} at {settings.public_url or _url(settings, port)}", flush=True)
    metrics.REGISTRY.register(coordinator.gauges)
    with served_metrics(metrics.REGISTRY, settings.metrics_host, settings.metrics_port, _log):
        _Server(config, coordinator.bell).run([listener])
    traces.stop()


def _spare_collector() -> None:
    """Leave what stays for good out of each search for cyclic garbage: a full one held every thread up for 0.2 s."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _hide_secrets(settings: Settings) -> None:
    """Passwords that an error's text could repeat. The passphrase is hidden where it is read."""
    logs.hide(make_url(settings.database).password, *(os.environ.get(name) for name in _SECRET_VARIABLES))


def main() -> int:
    """Run with settings from the environment; returns the exit status."""
    try:
        run(Settings.load())
    except RexisError as error:
        print(f"coordinator: {error}", file=sys.stderr)
        return 1
    return 0


def _tls(settings: Settings) -> dict[str, Any]:
    """TLS 1.2 and 1.3 with forward secrecy, if there is a certificate."""
    if settings.tls_cert is None:
        return {}
    return {"ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key, "ssl_ciphers": _CIPHERS}


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {host}:{port}: {error.strerror}", hint="is another coordinator running?"
        ) from None


def _url(settings: Settings, port: int) -> str:
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://[{settings.host}]:{port}" if ":" in settings.host else f"{scheme}://{settings.host}:{port}"
