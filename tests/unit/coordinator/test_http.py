"""Over HTTP: every refusal is a problem document with a request id; nothing a client sends gives a 500."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from obstore.exceptions import BaseError
from pydantic import ValidationError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.testclient import TestClient

from coordinator.app import create_app
from coordinator.documents import LARGE, MEDIUM, SMALL
from coordinator.roles import Members
from coordinator.services import Coordinator
from rexis.api import (
    Failure,
    Info,
    JobList,
    JobView,
    LeaseRequest,
    Leases,
    ModelRegistration,
    Problem,
    TaskView,
    WorkerRegistration,
)
from rexis.protocol.digests import ZERO_DIGEST, sha256
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, new_account
from rexis.telemetry import logs
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, make_coordinator, make_policy
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_jobs import CIRCUIT
from tests.unit.coordinator.test_recovery import finish

POSTS = (
    "/v1/auth/challenge",
    "/v1/auth/token",
    "/v1/workers",
    "/v1/models",
    "/v1/datasets",
    "/v1/jobs",
    "/v1/leases",
    "/v1/leases/{lease}/heartbeat",
    "/v1/leases/{lease}/commitment",
    "/v1/leases/{lease}/evidence",
    "/v1/leases/{lease}/checkpoints",
    "/v1/leases/{lease}/training",
    "/v1/leases/{lease}/fail",
    "/v1/leases/{lease}/pieces",
    "/v1/leases/{lease}/pieces/turn",
    "/v1/pieces",
    "/v1/pieces/{lease}/heartbeat",
    "/v1/pieces/{lease}/proofs",
    "/v1/pieces/{lease}/fail",
)
# Each of these has a limit of its own, which the lease says.
OWN_LIMITS = ("evidence", "proofs", "checkpoints", "training")
BAD_BODIES = (
    b"",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"\xff\xfe",
    b'{"address": 1.5}',
    b'{"address": NaN}',
    b'{"a": 1, "a": 1}',
    b'{"unknown": true}',
    b"[" * 100_000,
    b'{"waitSeconds": 99999999999999999999}',
    b'{"waitSeconds": "5"}',
    b'{"name": "\\u0000", "provider": "x", "tiers": [], "memoryBytes": -1}',
    b'{"request": {}, "signature": "0x"}',
    b'{"statement": null, "signature": "0x00"}',
    b'{"message": "\\ud800", "signature": "0x"}',
)

# The one route that is not well without a problem: its document says what is wrong.
HEALTH = "/readyz"


def problem(response: Any, status: int, code: str) -> Problem:
    assert response.headers["Content-Type"] == "application/problem+json"
    found = Problem.from_json(response.content)
    assert (response.status_code, found.status, found.code) == (status, status, code)
    assert found.request_id == response.headers["X-Request-Id"]
    return found


@pytest.mark.parametrize("path", POSTS)
def test_bad_bodies_are_problems(http: TestClient, scene: Scene, path: str) -> None:
    headers = scene.headers()
    for body in BAD_BODIES:
        response = http.post(path.format(lease="0" * 32), content=body, headers=headers)
        assert 400 <= response.status_code < 500, (body, response.text)
        problem(response, response.status_code, response.json()["code"])


@pytest.mark.parametrize("path", [path for path in POSTS if "auth" not in path])
def test_without_a_token_nothing_is_read(http: TestClient, path: str) -> None:
    problem(http.post(path.format(lease="0" * 32), content=b"{"), 401, "unauthorised")
    problem(http.post(path.format(lease="0" * 32), headers={"Authorization": "Basic eDp5"}), 401, "unauthorised")


@pytest.mark.parametrize("path", [path for path in POSTS if path.rpartition("/")[2] not in OWN_LIMITS])
def test_documents_have_a_limit(http: TestClient, scene: Scene, path: str) -> None:
    limit = (2 << 20) if path in ("/v1/models", "/v1/jobs") else (32 << 10)
    huge = b'{"address": "' + b"a" * limit + b'"}'
    for body in (huge, iter([huge])):
        response = http.post(path.format(lease="0" * 32), content=body, headers=scene.headers())
        problem(response, 413, "too-large")


def test_the_largest_documents_fit(scene: Scene) -> None:
    words = [sha256(b"word")] * (1 << 14)
    model = ModelRegistration(model_digest=words[0], key_epoch=2**53 - 1, circuit=CIRCUIT, vka=words)
    assert len(model.to_json()) < LARGE
    with pytest.raises(ValidationError):
        ModelRegistration(model_digest=words[0], key_epoch=1, circuit=CIRCUIT, vka=[*words, words[0]])
    worker = WorkerRegistration(name="\U0001f9ec" * 200, provider="\U0001f9ec" * 200, tiers=list(Tier), memory_bytes=1)
    assert len(worker.to_json()) < SMALL
    assert len(Failure(code="x" * 64, detail="\U0001f9ec" * 2000).to_json()) < MEDIUM
    assert (
        len(scene.sign(scene.request(circuit=CIRCUIT, policy=make_policy(tier=Tier.SAMPLED))).to_json()) < MEDIUM // 4
    )


def test_unknown_paths_and_methods(http: TestClient) -> None:
    problem(http.get("/v2/jobs"), 404, "not-found")
    problem(http.get("/v1/jobs/"), 404, "not-found")
    for method, path, allowed in (
        ("DELETE", "/v1/info", "GET"),
        ("DELETE", "/v1/jobs", "GET, POST"),
        ("POST", f"/v1/blobs/0x{'0' * 64}", "GET, HEAD, PUT"),
    ):
        response = http.request(method, path)
        problem(response, 405, "method-not-allowed")
        assert response.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "path",
    ["/v1/jobs/x", "/v1/tasks/0x", "/v1/models/0x12/1", "/v1/datasets/x", "/v1/models/0x" + "0" * 64 + "/one"],
)
def test_bad_names(http: TestClient, scene: Scene, path: str) -> None:
    problem(http.get(path, headers=scene.headers()), 422, "malformed")


@pytest.mark.parametrize("path", ["jobs", "tasks", "datasets"])
def test_names_of_nothing(http: TestClient, scene: Scene, path: str) -> None:
    problem(http.get(f"/v1/{path}/0x{'0' * 64}", headers=scene.headers()), 404, "not-found")
    epoch = 10**30
    problem(http.get(f"/v1/models/0x{'0' * 64}/{epoch}", headers=scene.headers()), 404, "not-found")


def test_the_chain_being_away_is_a_retryable_problem(http: TestClient, scene: Scene, ledger: FakeLedger) -> None:
    scene.publish()
    ledger.down = True
    body = scene.sign(scene.request()).to_json()
    response = http.post("/v1/jobs", content=body, headers=scene.headers())
    assert problem(response, 503, "unavailable").retryable
    assert response.headers["Retry-After"].isdigit()


def test_an_error_of_ours_shows_nothing(
    http: TestClient, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def burst(*_: object) -> None:
        raise ZeroDivisionError("a secret detail")

    caplog.handler.setFormatter(logs.TextFormatter())
    monkeypatch.setattr(coordinator.auth, "challenge", burst)
    body = json.dumps({"address": address_of(new_account())}).encode()
    response = http.post("/v1/auth/challenge", content=body)
    found = problem(response, 500, "internal")
    assert "secret" not in response.text
    assert f"request_id={found.request_id}" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("error", [PoolTimeout(), OSError(28, "No space left"), BaseError("a secret place")])
def test_storage_that_fails_is_a_retryable_problem(
    http: TestClient, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(coordinator.auth, "challenge", fail)
    body = json.dumps({"address": address_of(new_account())}).encode()
    found = problem(http.post("/v1/auth/challenge", content=body), 503, "unavailable")
    assert found.retryable
    assert "secret" not in found.to_json().decode()


def test_what_was_sent_is_repeated_in_part(http: TestClient, scene: Scene) -> None:
    response = http.get("/v1/" + "x" * 5000, headers=scene.headers())
    assert len(problem(response, 404, "not-found").detail) < 1100
    response = http.post("/v1/auth/challenge", content=b'{"' + b"x" * 5000 + b'":1}')
    assert len(problem(response, 422, "malformed").to_json()) < 3000


@pytest.mark.parametrize("path", ["/v1/auth/challenge", f"/v1/blobs/0x{'0' * 64}"])
def test_a_body_that_does_not_come_is_given_up(tmp_path: Path, path: str) -> None:
    ledger = FakeLedger(new_account())
    scene = Scene(make_coordinator(tmp_path, ledger, body_seconds=0.2), ledger)
    sent: list[dict[str, Any]] = []
    chunks = [b'{"a', b"d"]

    async def receive() -> dict[str, Any]:
        if not chunks:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": chunks.pop(0), "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = {**scene.headers(), "host": "127.0.0.1:8080", "content-length": "100"}
    scope = {
        "type": "http", "http_version": "1.1", "method": "PUT" if "blobs" in path else "POST", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "client": ("x", 1),
        "server": ("127.0.0.1", 8080), "headers": [(name.lower().encode(), headers[name].encode()) for name in headers],
    }  # fmt: skip
    asyncio.run(asyncio.wait_for(create_app(scene.coordinator)(scope, receive, send), 10))  # type: ignore[arg-type]
    found = Problem.from_json(sent[1]["body"])
    assert (sent[0]["status"], found.code, found.retryable) == (408, "timeout", True)


def test_the_callers_request_id_is_kept_if_it_is_one(http: TestClient) -> None:
    assert http.get("/v1/info", headers={"X-Request-Id": "abc-12345"}).headers["X-Request-Id"] == "abc-12345"
    assert http.get("/v1/info", headers={"X-Request-Id": "a b\tc"}).headers["X-Request-Id"] != "a b\tc"


def test_one_log_line_a_request_without_secrets(
    http: TestClient, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    headers = scene.headers()
    caplog.handler.setFormatter(logs.TextFormatter())
    with caplog.at_level(logging.INFO, "coordinator"):
        http.get("/v1/jobs?token=hidden", headers=headers)
    lines = [line for line in caplog.text.splitlines() if "coordinator.access" in line]
    assert len(lines) == 1
    assert "method=GET path=/v1/jobs status=200" in lines[0]
    assert f"caller={address_of(scene.requester)}" in lines[0]
    assert headers["Authorization"].removeprefix("Bearer ") not in caplog.text
    assert "hidden" not in caplog.text


def test_info(http: TestClient, coordinator: Coordinator) -> None:
    info = Info.from_json(http.get("/v1/info").content)
    assert info.coordinator == coordinator.address
    assert Tier.COMMIT in info.tiers
    assert info.rpc_url is None
    assert http.get("/healthz").text == "ok\n"


def test_a_job_over_http(http: TestClient, scene: Scene) -> None:
    scene.publish()
    headers, body = scene.headers(), scene.sign(scene.request()).to_json()
    first = http.post("/v1/jobs", content=body, headers=headers)
    again = http.post("/v1/jobs", content=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    view = JobView.from_json(first.content)
    listed = JobList.from_json(http.get("/v1/jobs", headers=headers).content).jobs
    assert [(job.job_id, job.state, job.task_count, job.tasks_done) for job in listed] == [
        (view.job_id, "queued", 2, 0)
    ]
    task = http.get(f"/v1/tasks/{view.tasks[0].task_id}", headers=headers)
    assert TaskView.from_json(task.content) == view.tasks[0]
    problem(http.get(f"/v1/jobs/{view.job_id}", headers=scene.headers(new_account())), 403, "forbidden")
    problem(http.get(f"/v1/jobs/{view.job_id}/certificate", headers=headers), 409, "conflict")


def test_a_job_is_cancelled_by_its_requester(http: TestClient, scene: Scene) -> None:
    scene.publish()
    job, worker = scene.submit(), scene.worker()
    lease, url = scene.lease(worker), f"/v1/jobs/{job.job_id}/cancel"
    problem(http.post(url, headers=scene.headers(new_account())), 403, "forbidden")
    for _ in range(2):
        view = JobView.from_json(http.post(url, headers=scene.headers()).content)
        assert (view.state, view.reason) == ("failed", "cancelled by its requester")
        assert {task.state for task in view.tasks} == {"failed"}
        assert [task.faults for task in view.tasks] == [[], []]
    beat = f"/v1/leases/{lease.lease_id}/heartbeat"
    body = b'{"progress":{"stage":"fetch","done":0,"total":3}}'
    problem(http.post(beat, content=body, headers=scene.headers(worker.account)), 409, "lease-lost")
    assert scene.coordinator.leases.grant(worker.address) is None


def test_what_is_done_is_not_cancelled_and_what_is_cancelled_not_anchored(
    http: TestClient, scene: Scene, clock: FakeClock
) -> None:
    scene.publish()
    certified, cancelled = scene.submit(), scene.submit(nonce=sha256(b"another"))
    scene.do_all()
    http.post(f"/v1/jobs/{cancelled.job_id}/cancel", headers=scene.headers())
    finish(scene)
    assert scene.job(certified).state == "certified"
    assert {task.state for task in scene.job(cancelled).tasks} == {"accepted"}
    assert [anchored.size for anchored, _ in scene.ledger.anchors] == [2]
    problem(http.post(f"/v1/jobs/{certified.job_id}/cancel", headers=scene.headers()), 409, "conflict")


def test_a_view_shows_the_last_faults_and_how_many_there_are(scene: Scene) -> None:
    scene.publish()
    job = scene.submit(policy=make_policy(shard_size=5))
    for number in range(12):
        worker = scene.worker()
        scene.coordinator.leases.give_up(scene.lease(worker).lease_id, worker.address, "x", f"number {number}")
    task = scene.job(job).tasks[0]
    assert task.fault_count == 12
    assert [fault.detail for fault in task.faults] == [f"number {number}" for number in range(2, 12)]


def test_a_lease_over_http(http: TestClient, scene: Scene) -> None:
    scene.publish()
    account = new_account()
    headers, wait = scene.headers(account), LeaseRequest(wait_seconds=0).to_json()
    problem(http.post("/v1/leases", content=wait, headers=headers), 403, "forbidden")
    worker = WorkerRegistration(name="w", provider="CPU", tiers=[Tier.COMMIT], memory_bytes=1).to_json()
    statuses = [http.post("/v1/workers", content=worker, headers=headers).status_code for _ in range(2)]
    assert statuses == [201, 200]
    assert http.get("/v1/workers", headers=headers).json()["workers"][0]["address"] == address_of(account)
    assert http.post("/v1/leases", content=wait, headers=headers).status_code == 204
    scene.submit()
    (lease,) = Leases.from_json(http.post("/v1/leases", content=wait, headers=headers).content).leases
    url = f"/v1/leases/{lease.lease_id}"
    beat = http.post(f"{url}/heartbeat", content=b'{"progress":{"stage":"fetch","done":0,"total":3}}', headers=headers)
    assert beat.status_code == 200
    problem(http.get(f"{url}/challenge", headers=headers), 409, "conflict")
    problem(http.delete(url, headers=scene.headers()), 409, "lease-lost")
    assert http.delete(url, headers=headers).status_code == 204
    problem(http.post(f"{url}/fail", content=b'{"code":"x","detail":""}', headers=headers), 409, "lease-lost")


PUBLIC = ("/v1/auth", "/v1/info", "/v1/anchors", "/v1/log")


def test_openapi_describes_every_operation(http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["responses"]["500"]["content"]["application/problem+json"], where
            if path.startswith("/v1/") and not path.startswith(PUBLIC):
                assert operation["security"] == [{"HTTPBearer": []}], where
                assert "401" in operation["responses"], where
            if method == "post" and not path.endswith(("/cancel", "/retry", "/revoke", "/uploads")):
                reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                assert reference.rpartition("/")[2] in schemas, where
    references = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert references <= set(schemas)
    assert "jobId" in schemas["JobView"]["properties"]
    digest = schemas["JobView"]["properties"]["jobId"]
    assert digest["pattern"] == "^0x[0-9a-f]{64}$"
    certificate = document["paths"]["/v1/jobs/{job_id}/certificate"]["get"]["responses"]["200"]
    assert certificate["content"]["application/json"]["schema"]["$ref"].endswith("/Certificate")


def operations(http: TestClient) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, found in http.get("/openapi.json").json()["paths"].items():
        for method, operation in found.items():
            yield method.upper(), path, operation


def test_every_problem_that_a_route_can_have_is_documented(http: TestClient) -> None:
    chain = {"/v1/models", "/v1/jobs", "/v1/leases/{lease_id}/evidence", "/v1/leases/{lease_id}/challenge"}
    for method, path, operation in operations(http):
        wanted = {"500", "503"}
        if operation.get("security"):
            wanted |= {"401", "403"}
        if "requestBody" in operation:
            wanted |= {"408", "413", "422"}
        if path in chain and (method == "POST" or path.endswith("challenge")):
            wanted |= {"502"}
        documented = operation["responses"]
        assert wanted <= set(documented), (method, path)
        for status, response in documented.items():
            if status >= "400":
                assert path == HEALTH or list(response["content"]) == ["application/problem+json"], (
                    method,
                    path,
                    status,
                )


@pytest.mark.parametrize("fault", ["none", "token", "member", "database", "body", "names"])
def test_every_answer_is_a_documented_one(
    http: TestClient, scene: Scene, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    scene.publish()
    headers = {} if fault == "token" else scene.headers()
    values = {"job_id": ZERO_DIGEST, "task_id": ZERO_DIGEST, "digest": ZERO_DIGEST, "epoch": 1, "index": 0}
    values["lease_id"] = "0" * 32
    values["piece_id"] = values["upload_id"] = values["lease_id"]
    values["address"] = address_of(scene.owner)
    if fault == "names":
        values = dict.fromkeys(values, "x")
    if fault == "member":
        closed = Members(scene.coordinator._store, FakeClock(), {})
        monkeypatch.setattr(scene.coordinator.auth, "_members", closed)
    if fault == "database":

        def lost(*_: object) -> None:
            raise PoolTimeout

        monkeypatch.setattr(scene.coordinator._store._reader, "connect", lost)
        monkeypatch.setattr(scene.coordinator._store._writer, "connect", lost)
    for method, path, operation in operations(http):
        content = {"POST": b"[]", "PUT": b"y"}.get(method)
        if fault == "body" and method == "POST":
            content = b"{" * (3 << 20)
        url = path.format(**values)
        response = http.request(method, url, headers=headers, content=content)
        assert str(response.status_code) in operation["responses"], (method, path, response.text)
        if response.status_code >= 400 and method != "HEAD" and path != HEALTH:
            assert response.headers["Content-Type"] == "application/problem+json"


def test_the_description_needs_no_other_host(http: TestClient) -> None:
    response = http.get("/docs")
    assert response.status_code == 200
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "<script" not in response.text
    assert "://" not in response.text.partition("<h2>Documents")[0]
    assert "POST /v1/leases/{lease_id}/evidence" in response.text
