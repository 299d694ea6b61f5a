"""What a request passes before any route: host, client, rate; and the headers of every answer."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from coordinator.app import create_app
from coordinator.limits import Limits
from coordinator.main import _tls
from coordinator.settings import Settings
from rexis.api import Problem
from rexis.protocol.digests import sha256
from rexis.protocol.errors import MalformedError, QuotaError, RateError
from rexis.protocol.parsing import Address
from rexis.protocol.signing import address_of, new_account
from rexis.web.clients import client_of, read_networks
from rexis.web.limits import _MOST, Buckets
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, make_coordinator
from tests.unit.coordinator.scene import Scene

ADDRESS = address_of(new_account())


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def open_scene(folder: Path, **settings: object) -> tuple[Scene, TestClient]:
    ledger = FakeLedger(new_account())
    scene = Scene(make_coordinator(folder, ledger, **settings), ledger)
    return scene, TestClient(create_app(scene.coordinator), base_url="http://127.0.0.1:8080")


# --- rates -----------------------------------------------------------------------------------------------------------


def test_a_bucket_empties_and_fills() -> None:
    clock = Seconds()
    bucket = Buckets(2.0, 3, clock)
    assert [bucket.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.take("b") == 0
    clock.now += 0.5
    assert [bucket.take("a") for _ in range(2)] == [0, 0.5]
    clock.now += 100
    assert [bool(bucket.take("a")) for _ in range(4)] == [False, False, False, True]
    bucket.give_back("a")
    assert bucket.take("a") == 0


def test_no_rate_is_no_limit_and_no_memory() -> None:
    bucket = Buckets(0, 1)
    assert not any(bucket.take("a") for _ in range(100))
    assert len(bucket) == 0


def test_memory_is_bounded() -> None:
    bucket = Buckets(1.0, 1)
    for number in range(_MOST + 100):
        bucket.take(str(number))
    assert len(bucket) == _MOST


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("unknown", "unknown", True),
    ],
)
def test_a_client_is_an_address_or_a_subscribers_network(one: str, other: str, same: bool) -> None:
    limits = Limits(Buckets(0, 1), Buckets(1.0, 1, Seconds()))
    assert limits.arrived(one) == 0
    assert (limits.arrived(other) > 0) == same


def test_strangers_are_slowed_down_and_members_behind_the_same_address_are_not(tmp_path: Path) -> None:
    scene, http = open_scene(tmp_path, stranger_requests_per_second=0.001, stranger_burst=3)
    headers = scene.headers()
    for path in ("/v1/info", "/nothing", "/docs"):
        assert http.get(path).status_code in (200, 404)
    for path in ("/v1/info", "/nothing", "/docs", "/v1/jobs"):
        refused = http.get(path)
        assert refused.status_code == 429
        assert Problem.from_json(refused.content).retryable
        assert int(refused.headers["Retry-After"]) > 500
    # A token that is none, or on a path that needs none, is no way around it.
    assert http.get("/v1/jobs", headers={"Authorization": "Bearer x"}).status_code == 429
    for path in ("/v1/info", "/v1/anchors/0", "/openapi.json"):
        assert http.get(path, headers=headers).status_code == 429
    for _ in range(10):
        assert http.get("/v1/jobs", headers=headers).status_code == 200
    assert http.get("/healthz").status_code == 200


def test_each_address_has_its_own_rate(tmp_path: Path) -> None:
    scene, http = open_scene(tmp_path, requests_per_second=0.001, request_burst=2)
    mine, theirs = scene.headers(), scene.headers(new_account())
    assert [http.get("/v1/jobs", headers=mine).status_code for _ in range(3)] == [200, 200, 429]
    assert http.get("/v1/jobs", headers=theirs).status_code == 200


def test_a_signed_in_request_costs_its_client_nothing() -> None:
    clock = Seconds()
    limits = Limits(Buckets(1.0, 100, clock), Buckets(1.0, 1, clock))
    for _ in range(50):
        waits = limits.arrived("a")
        assert waits == 0
        limits.known("a", Address(ADDRESS), waits)
    limits.arrived("a")
    assert limits.arrived("a") > 0
    with pytest.raises(RateError):
        for _ in range(100):
            limits.known("a", Address(ADDRESS), 1.0)


def test_the_defaults_leave_room_for_64_workers_behind_one_address() -> None:
    """300 tasks a second are 5 a worker, each some requests; all of them sign in at the same time."""
    settings = Settings()
    assert settings.requests_per_second > 5 * 8
    assert settings.stranger_burst > 64 * 4


# --- clients and hosts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["10.9.9.9"], "203.0.113.7"),  # no proxy of ours
        ("10.0.0.1", ["198.51.100.4"], "198.51.100.4"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.4"], "198.51.100.4"),  # what the client wrote itself does not count
        ("10.0.0.1", ["1.2.3.4", "198.51.100.4, 10.0.0.2"], "198.51.100.4"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], "nonsense"),
        ("10.0.0.1", ["x" * 5000], "x" * 64),
    ],
)
def test_the_client_is_whom_a_proxy_of_ours_names(peer: str, forwarded: list[str], client: str) -> None:
    scope: dict[str, Any] = {"client": (peer, 1), "headers": [(b"x-forwarded-for", one.encode()) for one in forwarded]}
    assert client_of(scope, Headers(scope=scope), read_networks(["10.0.0.0/24"])) == client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("[::1]:8080", 200),
        ("rexis.example.org", 200),
        ("REXIS.example.org:443", 200),
        ("other.example.org", 200),
        ("203.0.113.9", 200),
        ("evil.example.org", 421),
        ("rexis.example.org.evil.org", 421),
        ("rexis.example.org@evil.org", 421),
        ("[", 421),
        ("", 421),
    ],
)
def test_only_our_hosts_are_served(tmp_path: Path, host: str, status: int) -> None:
    _, http = open_scene(tmp_path, public_url="https://rexis.example.org", allowed_hosts=["other.example.org"])
    assert http.get("/v1/info", headers={"Host": host}).status_code == status
    assert http.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("text", ["nonsense", "10.0.0.1/8", "10.0.0.0/99"])
def test_a_proxy_that_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match=r"appear|host bits") as refused:
        Settings.load(trusted_proxies=[text])
    assert refused.value.field == "REXIS_TRUSTED_PROXIES"


# --- other origins ---------------------------------------------------------------------------------------------------

DESK = "https://desk.example.org"
_PREFLIGHT = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization,last-event-id"}


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [([DESK], DESK, True), ([DESK], "https://evil.example.org", False), ([DESK], "null", False), ([], DESK, False)],
)
def test_only_desks_that_the_operator_names_may_read(
    tmp_path: Path, origins: list[str], origin: str, allowed: bool
) -> None:
    _, http = open_scene(tmp_path, desk_origins=origins)
    expected = origin if allowed else None
    asked = http.options("/v1/jobs", headers={"Origin": origin, **_PREFLIGHT})
    assert (asked.status_code == 200) == allowed
    for answer in (asked, http.get("/v1/info", headers={"Origin": origin})):
        assert answer.headers.get("Access-Control-Allow-Origin") == expected
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_desk_may_not_write(tmp_path: Path) -> None:
    _, http = open_scene(tmp_path, desk_origins=[DESK])
    headers = {"Origin": DESK, **_PREFLIGHT, "Access-Control-Request-Method": "POST"}
    assert http.options("/v1/jobs", headers=headers).status_code == 400


@pytest.mark.parametrize("text", ["*", "null", "desk.example.org", "https://desk.example.org/", "ftp://a"])
def test_a_desk_that_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="no origin") as refused:
        Settings.load(desk_origins=[text])
    assert refused.value.field == "REXIS_DESK_ORIGINS"


# --- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/info", "/docs", "/openapi.json", "/nothing", "/v1/jobs", "/healthz"])
@pytest.mark.parametrize("url", [None, "https://rexis.example.org"])
def test_every_answer_has_safe_headers(tmp_path: Path, path: str, url: str | None) -> None:
    _, http = open_scene(tmp_path, public_url=url)
    headers = http.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe-inline" not in headers["Content-Security-Policy"] or path == "/docs"
    assert ("Strict-Transport-Security" in headers) == (url is not None)


def test_tls_without_a_proxy_is_modern(tmp_path: Path) -> None:
    assert _tls(Settings()) == {}
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x",
         "-keyout", str(key), "-out", str(cert), "-days", "1"], check=True, capture_output=True,
    )  # fmt: skip
    config = uvicorn.Config(lambda: None, **_tls(Settings(tls_cert=cert, tls_key=key)))
    config.load()
    assert config.ssl is not None
    assert config.ssl.minimum_version >= ssl.TLSVersion.TLSv1_2
    names = {cipher["name"] for cipher in config.ssl.get_ciphers()}
    assert names
    assert all(name.startswith(("TLS_", "ECDHE-")) and "CBC" not in name and "SHA1" not in name for name in names)


# --- quotas ----------------------------------------------------------------------------------------------------------


def test_what_an_address_stores_is_bounded(tmp_path: Path) -> None:
    scene, http = open_scene(tmp_path, max_stored_bytes=100)

    def put(data: bytes, headers: dict[str, str], *, announced: bool = True) -> Any:
        content = data if announced else iter([data])
        return http.put(f"/v1/blobs/{sha256(data)}", content=content, headers=headers)

    headers = scene.headers()
    assert put(b"a" * 60, headers).status_code == 201
    assert put(b"a" * 60, headers).status_code == 200  # the same
    for announced in (True, False):
        refused = put(b"b" * 60, headers, announced=announced)
        assert (refused.status_code, refused.json()["code"]) == (403, "quota")
        assert refused.json()["field"] == "REXIS_MAX_STORED_BYTES"
    assert http.get(f"/v1/blobs/{sha256(b'b' * 60)}", headers=headers).status_code == 404
    assert put(b"c" * 40, headers).status_code == 201
    assert put(b"b" * 60, scene.headers(new_account())).status_code == 201
    with pytest.raises(QuotaError):
        scene.coordinator.uploads.begin(address_of(scene.requester), sha256(b"d"), 1)


def test_a_job_on_a_blob_does_not_forget_that_it_was_uploaded(tmp_path: Path) -> None:
    scene, _ = open_scene(tmp_path, max_stored_bytes=len(b"an encrypted model") + 10_000)
    scene.publish()
    scene.submit()
    stored = len(scene.dataset.to_bytes())
    with pytest.raises(QuotaError, match=f"{stored} bytes stored"):
        scene.coordinator.access.require_room(address_of(scene.requester), 20_000)


def test_a_requesters_jobs_are_bounded(tmp_path: Path) -> None:
    scene, _ = open_scene(tmp_path, max_unfinished_jobs=2)
    scene.publish()
    jobs = [scene.submit(nonce=sha256(bytes([number]))) for number in range(2)]
    with pytest.raises(QuotaError) as refused:
        scene.submit(nonce=sha256(b"third"))
    assert refused.value.field == "REXIS_MAX_UNFINISHED_JOBS"
    scene.submit(nonce=sha256(bytes([0])))  # known already
    scene.coordinator.jobs.cancel(address_of(scene.requester), jobs[0].job_id)
    scene.submit(nonce=sha256(b"third"))


def test_a_requesters_records_are_bounded_by_the_day(tmp_path: Path) -> None:
    clock, ledger = FakeClock(), FakeLedger(new_account())
    scene = Scene(make_coordinator(tmp_path, ledger, clock, max_daily_records=12), ledger)
    scene.publish()
    for number in range(2):  # five records each
        scene.submit(nonce=sha256(bytes([number])))
    with pytest.raises(QuotaError, match="10 records today, and 5 more"):
        scene.submit(nonce=sha256(b"third"))
    clock.pass_seconds(86_400)
    scene.submit(nonce=sha256(b"third"))
