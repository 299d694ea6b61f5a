"""Runs a coordinator: one process, graceful on SIGTERM, and none the worse for ``kill -9``."""

from __future__ import annotations

import logging
import socket
import sys
from types import FrameType

import uvicorn
from eth_account.signers.local import LocalAccount

from contracts.onchain import Deployment
from coordinator.app import create_app
from coordinator.bell import Bell
from coordinator.exclusive import exclusive
from coordinator.services import Coordinator
from coordinator.settings import Settings
from rexis.protocol.errors import RexisError, UnavailableError

_GRACE_S = 10
# Between two requests on a connection. Slow headers are the proxy's to end.
_KEEP_ALIVE_S = 15
_LOG_FORMAT = "%(asctime)s level=%(levelname)s logger=%(name)s %(message)s"


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
        The deployment or the wallet cannot be read, or the address, the database or the wallet is in use.
    """
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT, stream=sys.stderr)
    deployment, account = settings.read_deployment(), settings.open_wallet()
    with exclusive(settings.database, settings.wallet):
        _serve(settings, deployment, account)


def _serve(settings: Settings, deployment: Deployment, account: LocalAccount) -> None:
    listener = _listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    settings = settings.model_copy(update={"port": port})
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    coordinator = Coordinator(settings, deployment, account)
    config = uvicorn.Config(
        create_app(coordinator),
        access_log=False,
        log_config=None,
        ws="none",
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
    print(f"coordinator {coordinator.address} at {settings.public_url or _url(settings.host, port)}", flush=True)
    _Server(config, coordinator.bell).run([listener])


def main() -> int:
    """Run with settings from the environment; returns the exit status."""
    try:
        run(Settings.load())
    except RexisError as error:
        print(f"coordinator: {error}", file=sys.stderr)
        return 1
    return 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {host}:{port}: {error.strerror}", hint="is another coordinator running?"
        ) from None


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
