"""Several endpoints as one: which is asked, and what may be said of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from requests.exceptions import RequestException
from web3.types import RPCEndpoint

from contracts.node import Node
from contracts.providers import FallbackProvider
from rexis.protocol.errors import UnavailableError

NOBODY = "http://127.0.0.1:9"


@contextmanager
def node(chain_id: int, block: int, *, status: int = 200) -> Iterator[str]:
    """An endpoint that knows its chain and its height."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = {"eth_chainId": hex(chain_id), "eth_blockNumber": hex(block)}
            self.send_response(status)
            self.end_headers()
            answer = {"jsonrpc": "2.0", "id": asked["id"], "result": known[asked["method"]]}
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(provider: FallbackProvider) -> object:
    return provider.make_request(RPCEndpoint("eth_blockNumber"), [])["result"]


def test_the_first_that_answers_is_asked_and_kept() -> None:
    with node(5, 10) as first, node(5, 20) as second:
        provider = FallbackProvider([NOBODY, first, second], 2.0)
        assert [ask(provider), ask(provider)] == [hex(10)] * 2
        assert ask(FallbackProvider([second, first], 2.0)) == hex(20)


def test_an_endpoint_that_limits_its_rate_is_left() -> None:
    with node(5, 10, status=429) as limited, node(5, 20) as other:
        assert ask(FallbackProvider([limited, other], 2.0)) == hex(20)


def test_an_endpoint_of_another_chain_is_not_taken() -> None:
    with node(5, 10) as first, node(6, 20) as foreign:
        provider = FallbackProvider([first, foreign], 2.0)
        assert ask(provider) == hex(10)
        provider._nodes[0] = FallbackProvider([NOBODY], 2.0)  # type: ignore[call-overload]
        with pytest.raises(RequestException):
            ask(provider)


def test_errors_name_hosts_only() -> None:
    secret = "http://user:password@127.0.0.1:9/v2/secret-key"
    with pytest.raises(UnavailableError) as caught:
        Node.connect(secret, f"{NOBODY}/another-secret")
    assert "http://127.0.0.1:9, http://127.0.0.1:9" in str(caught.value)
    assert not any(word in str(caught.value) for word in ("password", "secret"))
