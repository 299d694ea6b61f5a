"""A coordinator that answers what a test tells it to, over real sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from eth_account import Account

from contracts.onchain import Deployment
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.login import login_message
from rexis.protocol.parsing import Address
from rexis.protocol.signing import address_of, recover, text_digest

DEPLOYMENT = Deployment.on(31337)
COORDINATOR = address_of(Account.from_key(b"\x07" * 32))


@dataclass
class Reply:
    """One HTTP answer. `cut_at`: break the connection after so many bytes of the body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None

    @classmethod
    def json(cls, document: object, status: int = 200) -> Reply:
        return cls(status, json.dumps(document).encode())

    @classmethod
    def problem(cls, status: int, code: str, **more: Any) -> Reply:
        document = {
            "type": f"urn:rexis:{code}",
            "title": code,
            "status": status,
            "detail": f"detail of {code}",
            "code": code,
            "requestId": "request-1",
        }
        return cls.json(document | more, status)


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Handler = Callable[[Request], Reply]


@dataclass
class FakeCoordinator:
    """Routes by (method, path); remembers every request."""

    url: str = ""
    routes: dict[tuple[str, str], Handler | list[Reply]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    authority: str | None = None

    def on(self, method: str, path: str, *replies: Reply) -> None:
        """Answer with these in turn; the last one stays."""
        self.routes[method, path] = list(replies)

    def handle(self, request: Request) -> Reply:
        self.requests.append(request)
        route = self.routes.get((request.method, request.path))
        if route is None:
            return Reply.problem(404, "not-found")
        if isinstance(route, list):
            return route.pop(0) if len(route) > 1 else route[0]
        return route(request)

    def count(self, method: str, path: str) -> int:
        return sum((request.method, request.path) == (method, path) for request in self.requests)

    def allowed(self, request: Request) -> bool:
        return request.headers.get("authorization", "").removeprefix("Bearer ") in self.tokens

    def challenge(self, request: Request) -> Reply:
        address = Address.parse(json.loads(request.body)["address"])
        message = login_message(
            authority=self.authority or self.url.removeprefix("http://"),
            uri=self.url,
            address=address,
            chain_id=31337,
            nonce="abcdefgh12345678",
            issued_at="2026-11-01T00:00:00Z",
            expires_at="2026-11-01T00:05:00Z",
        )
        return Reply.json({"message": message, "expiresAt": "2026-11-01T00:05:00Z"})

    def token(self, request: Request) -> Reply:
        asked = json.loads(request.body)
        signer = recover(text_digest(asked["message"]), bytes.fromhex(asked["signature"][2:]))
        token = f"token-{len(self.tokens)}-{signer}"
        self.tokens.add(token)
        return Reply.json({"token": token, "address": signer, "expiresAt": "2026-11-01T01:00:00Z"})

    def info(self, request: Request) -> Reply:
        return Reply.json(
            {
                "version": "0.1.0",
                "domain": DEPLOYMENT.domain.to_object(),
                "contracts": {"modelRegistry": DEPLOYMENT.model_registry, "certifier": DEPLOYMENT.certifier},
                "coordinator": COORDINATOR,
                "rpcUrl": None,
                "tiers": ["commit", "sampled", "zk"],
                "maxBlobBytes": 1 << 20,
            }
        )

    def serve_blob(self, content: bytes, *, cuts: list[int]) -> Digest:
        """Serve a blob with Range, breaking the connection after each of `cuts` bytes, one cut a request."""
        digest = sha256(content)

        def blob(request: Request) -> Reply:
            start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            if start >= len(content) and start:
                return Reply.problem(416, "malformed")
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
            return Reply(206 if start else 200, content[start:], headers, cuts.pop(0) if cuts else None)

        self.routes["GET", f"/v1/blobs/{digest}"] = blob
        return digest


@contextmanager
def serving(fake: FakeCoordinator) -> Iterator[None]:
    """Listen on a free port of the loopback interface."""

    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = fake.handle(Request(self.command, self.path, headers, body))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body[: reply.cut_at])
            if reply.cut_at is not None:
                self.close_connection = True

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    http.daemon_threads = True
    fake.url = f"http://127.0.0.1:{http.server_address[1]}"
    fake.routes["GET", "/v1/info"] = fake.info
    fake.routes["POST", "/v1/auth/challenge"] = fake.challenge
    fake.routes["POST", "/v1/auth/token"] = fake.token
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
