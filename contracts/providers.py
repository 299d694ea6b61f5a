"""Several endpoints of one chain, used as one: whichever answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from requests.exceptions import RequestException
from web3 import HTTPProvider
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from rexis.protocol.errors import UnavailableError

_log = logging.getLogger(__name__)


class FallbackProvider(JSONBaseProvider):
    """Asks the endpoint that answered last; when it does not answer, the next, once round.

    An endpoint that is switched to must be on the same chain as the first that answered. Nothing else is compared:
    endpoints may be some blocks apart, and callers must not take it for a reorganisation when one knows less.

    Parameters
    ----------
    urls
        In the order in which they are tried.
    timeout_s
        For one answer.

    Raises
    ------
    UnavailableError
        One of them is no http(s) URL.
    """

    def __init__(self, urls: Sequence[str], timeout_s: float) -> None:
        super().__init__()
        self._hosts = [_host(url) for url in urls]
        self._nodes = [
            HTTPProvider(
                url,
                # A node that redirects would have this machine ask somewhere else.
                request_kwargs={"timeout": timeout_s, "allow_redirects": False},
                exception_retry_configuration=None,
            )
            for url in urls
        ]
        self._switching = threading.Lock()
        self._current = 0
        self._chain_id: Any = None

    @property
    def endpoints(self) -> str:
        """Scheme and host of each: all of a URL that may be shown."""
        return ", ".join(self._hosts)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask one node, or the next.

        Raises
        ------
        RequestException
            None of them answers.
        """
        first = self._current
        for offset in range(len(self._nodes)):
            number = (first + offset) % len(self._nodes)
            try:
                if len(self._nodes) > 1 and (number != self._current or self._chain_id is None):
                    self._use(number)
                return self._nodes[number].make_request(method, params)
            except (RequestException, ValueError) as error:  # a ValueError is what is no JSON
                failed = error
                if len(self._nodes) > 1:
                    _log.warning("the chain node at %s is no use (%s)", self._hosts[number], type(error).__name__)
        raise failed

    def _use(self, number: int) -> None:
        """Switch to a node, after asking which chain it is on."""
        answer = self._nodes[number].make_request(RPCEndpoint("eth_chainId"), [])
        found = answer.get("result") if isinstance(answer, dict) else None
        with self._switching:
            if self._chain_id is None:
                self._chain_id = found
            if found is None or found != self._chain_id:
                raise RequestException("another chain")
            self._current = number


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:  # an unfinished IPv6 address, a port out of range
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise UnavailableError("the chain's RPC address is not an http(s) URL")
    return f"{parts.scheme}://{parts.hostname}{port}"
