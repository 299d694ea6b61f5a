"""What a person reads when there is no node."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from eth_abi.abi import encode

from contracts.chain import Chain, Deployment
from rexis.protocol.digests import sha256
from rexis.protocol.errors import NotFoundError, UnavailableError
from rexis.protocol.keccak import keccak
from rexis.protocol.parsing import ZERO_ADDRESS


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_connect_says_that_nothing_answers_and_hides_the_url() -> None:
    port = _closed_port()
    with pytest.raises(UnavailableError) as caught:
        Chain.connect(f"http://user:pass@127.0.0.1:{port}/v3/provider-key?token=secret", timeout_s=2)
    assert f"127.0.0.1:{port}" in str(caught.value)
    for secret in ("pass", "provider-key", "secret"):
        assert secret not in str(caught.value)


def test_connect_times_out_on_a_node_that_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UnavailableError):
            Chain.connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)


GARBAGE = [
    b"<html>hello</html>", b"", b"[]", b"null", b"{}", b"\xff", b'"x"',
    b'{"jsonrpc":"2.0","id":0,"result":null}',
    b'{"jsonrpc":"2.0","id":0,"result":"zz"}',
    b'{"jsonrpc":"2.0","id":0,"result":{"a":1}}',
    b'{"jsonrpc":"2.0","id":0,"error":"x"}',
    b'{"jsonrpc":"2.0","id":0,"error":null}',
    b'{"jsonrpc":"2.0","id":0,"error":{"code":-32005,"message":"rate limit exceeded"}}',
    b'{"jsonrpc":"2.0","id":0,"error":{"code":3,"message":"execution reverted","data":"0x4e487b71'
    + b"00" * 30 + b'03e7"}}',  # Panic(999)
]  # fmt: skip


class _Node(BaseHTTPRequestHandler):
    """Says its chain id, and then always the same."""

    answer = b""
    honest_about: ClassVar[tuple[str, ...]] = ()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        known = {"eth_chainId": "0x7a69", "eth_getCode": "0x01"}
        body = self.answer
        if asked["method"] in self.honest_about:
            body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": known[asked["method"]]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def bad_node() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Node) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("answer", GARBAGE, ids=lambda answer: repr(answer[:60]))
def test_garbage_from_the_node_is_no_answer(bad_node: str, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(_Node, "answer", answer)
    monkeypatch.setattr(_Node, "honest_about", ())
    with pytest.raises(UnavailableError):
        Chain.connect(bad_node)
    monkeypatch.setattr(_Node, "honest_about", ("eth_chainId", "eth_getCode"))
    chain = Chain.connect(bad_node)
    chain.discover()
    digest = sha256(b"any")
    for ask in (
        lambda: chain.registration(digest, 1),
        lambda: chain.anchor_of(0),
        lambda: chain.commitment(ZERO_ADDRESS, digest, 1),
        lambda: chain.is_certified(digest),
        lambda: chain.block_hash(1),
        chain.block_number,
    ):
        with pytest.raises(UnavailableError):
            ask()
    with pytest.raises((UnavailableError, NotFoundError)):  # null is how a node says that there is none
        chain.transaction_with(digest, "EvidenceLog", "Anchored")


def test_a_contract_cannot_have_a_url_fetched(bad_node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIP-3668: a revert with OffchainLookup names URLs, which web3 would ask."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Node) as tracker:
        asked: list[object] = []
        monkeypatch.setattr(tracker, "process_request", lambda *request: asked.append(request))
        threading.Thread(target=tracker.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{tracker.server_address[1]}/{{sender}}/{{data}}"
        kinds = ["address", "string[]", "bytes", "bytes4", "bytes"]
        lookup = keccak(b"OffchainLookup(address,string[],bytes,bytes4,bytes)")[:4] + encode(
            kinds, [Deployment.on(31337).certifier, [url], b"", b"\1\2\3\4", b""]
        )
        error = {"code": 3, "message": "execution reverted", "data": "0x" + lookup.hex()}
        monkeypatch.setattr(_Node, "answer", json.dumps({"jsonrpc": "2.0", "id": 0, "error": error}).encode())
        monkeypatch.setattr(_Node, "honest_about", ("eth_chainId", "eth_getCode"))
        chain = Chain.connect(bad_node)
        chain.discover()
        with pytest.raises(UnavailableError):
            chain.is_certified(sha256(b"any"))
        tracker.shutdown()
    assert asked == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8545",
        "ftp://127.0.0.1",
        "ws://127.0.0.1:8545",
        "file:///tmp/ipc",
        "http://[",
        "http://127.0.0.1:99999",
        "http://a b/",
        "http://\u2603.invalid",
        f"http://{'a' * 70}.x/",
    ],
)
def test_connect_refuses_what_is_not_an_http_url(url: str) -> None:
    with pytest.raises(UnavailableError):
        Chain.connect(url)
