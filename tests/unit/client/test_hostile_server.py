"""What a coordinator, or somebody in between, could have a client do with its token, its wallet or its network."""

from __future__ import annotations

import json
import time

import pytest
from eth_account.signers.local import LocalAccount

from contracts.node import Node
from rexis.client import RexisClient
from rexis.protocol.errors import ForbiddenError, MalformedError, RexisError, UnavailableError
from rexis.protocol.login import login_message, require_login_to
from rexis.protocol.signing import address_of
from rexis.suggested import require_suggestable
from rexis.transport import Retry
from tests.unit.client.fake_coordinator import FakeCoordinator, Reply, Request, serving

AWS = "http://169.254.169.254/latest/meta-data"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_and_no_token_leaks(server: FakeCoordinator, client: RexisClient, status: int) -> None:
    other = FakeCoordinator()
    with serving(other):
        client.login()
        server.on("GET", "/v1/jobs", Reply(status, b"", {"Location": f"{other.url}/v1/jobs"}))
        with pytest.raises(RexisError, match=f"HTTP {status}"):
            client.jobs()
        assert other.requests == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_of_a_chain_node_is_followed(server: FakeCoordinator, status: int) -> None:
    other = FakeCoordinator()
    with serving(other):
        server.on("POST", "/", Reply(status, b"", {"Location": f"{other.url}/v1/secret"}))
        with pytest.raises(UnavailableError):
            Node.connect(server.url)
        assert server.count("POST", "/")
        assert other.requests == []


@pytest.mark.parametrize(
    ("url", "by"),
    [
        (AWS, "https://93.184.215.14"),
        (AWS, "http://127.0.0.1:8080"),
        (AWS, "http://10.0.0.1"),
        ("http://[fe80::1]/", "http://127.0.0.1"),
        ("http://[::ffff:169.254.169.254]/", "https://93.184.215.14"),
        ("http://127.0.0.1:6379", "https://93.184.215.14"),
        ("http://2130706433/", "https://93.184.215.14"),  # 127.0.0.1 as one number
        ("http://0/", "https://93.184.215.14"),
        ("http://[::1]/", "https://93.184.215.14"),
        ("http://localhost/", "https://93.184.215.14"),
        ("http://10.0.0.7/", "https://93.184.215.14"),
        ("http://192.168.1.1/", "http://127.0.0.1"),
        ("http://100.64.0.1/", "https://93.184.215.14"),
        ("http://224.0.0.1/", "https://93.184.215.14"),
        ("file:///etc/passwd", "https://93.184.215.14"),
        ("gopher://93.184.215.14/", "https://93.184.215.14"),
        ("http://user:password@93.184.215.14/", "https://93.184.215.14"),
        ("http:///x", "https://93.184.215.14"),
    ],
)
def test_a_suggested_node_is_not_one_near_us(url: str, by: str) -> None:
    with pytest.raises(ForbiddenError):
        require_suggestable(url, by)


@pytest.mark.parametrize(
    ("url", "by"),
    [
        ("https://93.184.215.14/key", "https://1.1.1.1"),
        ("http://127.0.0.1:8545", "http://localhost:8080"),
        ("http://10.0.0.7:8545", "http://192.168.0.1"),
    ],
)
def test_a_suggested_node_as_near_as_the_coordinator_is(url: str, by: str) -> None:
    require_suggestable(url, by)


MESSAGE = {
    "authority": "rexis.example.org",
    "uri": "https://rexis.example.org",
    "chain_id": 1,
    "nonce": "a" * 64,
    "issued_at": "2026-01-01T00:00:00Z",
    "expires_at": "2026-01-01T00:05:00Z",
}


def message(account: LocalAccount, **changes: object) -> str:
    return login_message(address=address_of(account), **{**MESSAGE, **changes})  # type: ignore[arg-type]


def test_our_own_message_is_signed(account: LocalAccount) -> None:
    require_login_to(message(account), authority="rexis.example.org", address=address_of(account))


@pytest.mark.parametrize(
    "forged",
    [
        lambda text: text + "\nResources:\n- https://bank.example/transfer",
        lambda text: text + "\n",
        lambda text: text.replace("URI: https://rexis.example.org", "URI: https://evil.example.org"),
        lambda text: text.replace("URI: https://rexis.example.org", "URI: https://rexis.example.org@evil.example"),
        lambda text: text.replace("URI: https", "URI: javascript"),
        lambda text: text.replace("Version: 1", "Version: 2"),
        lambda text: text.replace("Chain ID: 1", "Chain ID: x"),
        lambda text: text.replace("Nonce: ", "Nonce: a b"),
        lambda text: text.replace("Expiration Time: ", "Not Before: "),
        lambda text: text.replace("This signature moves no funds", "This signature moves all funds"),
        lambda text: text.replace("rexis.example.org wants", "evil.example.org wants"),
    ],
)
def test_nothing_else_is_signed(account: LocalAccount, forged: object) -> None:
    with pytest.raises(MalformedError):
        require_login_to(forged(message(account)), authority="rexis.example.org", address=address_of(account))  # type: ignore[operator]


def test_a_token_is_renewed_before_it_ends(
    server: FakeCoordinator, account: LocalAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    real = time.time()
    monkeypatch.setattr("rexis.transport.time.monotonic", lambda: now[0])

    def token(request: Request) -> Reply:
        given = server.token(request)
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(real + 100))
        return Reply.json({**json.loads(given.body), "expiresAt": until})

    server.routes["POST", "/v1/auth/token"] = token
    server.on("GET", "/v1/jobs", Reply.json({"jobs": []}))
    with RexisClient(server.url, account, retry=Retry(attempts=1)) as client:
        client.login()
        for at, signed_in in ((50.0, 1), (70.0, 1), (76.0, 2), (100.0, 2), (152.0, 3)):
            now[0] = at
            client.jobs()
            assert server.count("POST", "/v1/auth/token") == signed_in, at


def test_signing_out_ends_the_token(server: FakeCoordinator, client: RexisClient) -> None:
    server.on("DELETE", "/v1/auth/token", Reply(204))
    client.logout()
    assert server.count("DELETE", "/v1/auth/token") == 0
    client.login()
    client.logout()
    assert server.requests[-1].headers["authorization"].startswith("Bearer token-")
    client.logout()
    assert server.count("DELETE", "/v1/auth/token") == 1
