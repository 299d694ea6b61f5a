"""``/metrics`` for Prometheus, on an address of its own: it is for whoever runs the process, not for its callers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, disable_created_metrics, start_http_server

from rexis.protocol.errors import UnavailableError

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series beside each counter and histogram, about when it began


@contextmanager
def served_metrics(registry: CollectorRegistry, host: str, port: int | None, log: logging.Logger) -> Iterator[None]:
    """Serve a registry for the length of a ``with`` block; nothing without a port, any free one for port 0.

    Parameters
    ----------
    log
        Told the address.

    Raises
    ------
    UnavailableError
        The address is in use, or not one of this machine.
    """
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise UnavailableError(
            f"cannot serve metrics on {host}:{port}: {error.strerror}", hint="each process needs a port of its own"
        ) from None
    log.info("metrics at http://%s:%d", host, server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
