"""Route × role, through HTTP: who may use a route is refused nothing that the table allows, and the rest everything.

A route that is missing in the table fails; so does one whose roles differ from the table's.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.testclient import TestClient

from coordinator.app import create_app
from coordinator.documents import roles_of
from coordinator.rolepage import PAGE, page
from rexis.api import JobView, Lease, ModelRegistration, Role, WorkerRegistration
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import sha256
from rexis.protocol.parsing import canonical_json
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, new_account
from tests.unit.coordinator.fakes import MODEL_DIGEST, FakeClock, FakeLedger, FakeWorker, make_coordinator
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_recovery import finish


@dataclass
class Stage:
    """A closed coordinator with a running job (one lease is held) and a finished one, and somebody in every role.

    Attributes
    ----------
    accounts
        Those whose objects they are (requester, model owner, lease holder); for other roles, anybody who has it.
    others
        As `accounts`, but nothing is theirs.
    """

    scene: Scene
    http: TestClient
    worker: FakeWorker
    accounts: dict[Role, LocalAccount]
    others: dict[Role, LocalAccount]
    running: JobView
    finished: JobView
    lease: Lease
    upload: str
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, account: LocalAccount) -> str:
        address = address_of(account)
        if address not in self.tokens:
            self.tokens[address] = self.scene.token(account)
        return self.tokens[address]

    def names(self) -> dict[str, str]:
        return {
            "digest": str(MODEL_DIGEST),
            "job_id": str(self.running.job_id),
            "task_id": str(self.running.tasks[0].task_id),
            "lease_id": self.lease.lease_id,
            "piece_id": "0" * 32,
            "upload_id": self.upload,
            "epoch": "1",
            "index": "0",
            "address": address_of(new_account()),
        }


def build(folder: Path, clock: FakeClock) -> Stage:
    operator, ledger = new_account(), FakeLedger(new_account())
    coordinator = make_coordinator(folder, ledger, clock, members=[], operators=[address_of(operator)])
    scene, worker = Scene(coordinator, ledger), FakeWorker()
    accounts = {Role.REQUESTER: scene.requester, Role.MODEL_OWNER: scene.owner, Role.WORKER: worker.account}
    accounts |= {role: new_account() for role in (Role.VALIDATOR, Role.AUDITOR)}
    others = {role: new_account() for role in Role if role != Role.OPERATOR}
    for people in (accounts, others):
        for role, account in people.items():
            coordinator.members.give(address_of(operator), address_of(account), [role])
        people[Role.OPERATOR] = operator
    scene.publish()
    finished = scene.submit(nonce=sha256(b"finished"))
    for account in (worker.account, others[Role.WORKER]):
        coordinator.workers.register(address_of(account), REGISTRATION)
    while (lease := coordinator.leases.grant(worker.address)) is not None:
        scene.hand_in(worker, lease)
    finish(scene)
    running = scene.submit()
    upload, _ = coordinator.uploads.begin(address_of(scene.requester), sha256(b"to come"), 7)
    http = TestClient(create_app(coordinator), base_url="http://127.0.0.1:8080")
    return Stage(scene, http, worker, accounts, others, running, finished, scene.lease(worker), upload.upload_id)


REGISTRATION = WorkerRegistration(name="w", provider="CPUExecutionProvider", tiers=[Tier.COMMIT], memory_bytes=1)
BLOB = b"a blob that is there for nobody yet"


@dataclass(frozen=True)
class Row:
    """What the table says of a route.

    Attributes
    ----------
    roles
        Who may use it; None if it needs no token.
    body
        A body that the owner's request succeeds with.
    mine
        Status for who has the role and whose object it is; by role where they differ.
    others
        Status for who has the role, and not the object; None if the route has no object of anybody's.
    names
        Parameters of the path other than those of the stage.
    """

    roles: frozenset[Role] | None
    mine: int | dict[Role, int] = 200
    others: int | None = None
    body: Callable[[Stage], bytes] = lambda _: b""
    names: Callable[[Stage], dict[str, str]] = lambda _: {}
    headers: dict[str, str] = field(default_factory=dict)

    def status(self, role: Role) -> int:
        return self.mine if isinstance(self.mine, int) else self.mine[role]


R, M, W, V, A, O = Role  # noqa: E741
EVERY = frozenset(Role)


def only(*roles: Role) -> frozenset[Role]:
    return frozenset(roles)


def text(value: object) -> Callable[[Stage], bytes]:
    return lambda _: canonical_json(value)


def of_finished(stage: Stage) -> dict[str, str]:
    return {"job_id": str(stage.finished.job_id)}


def new_job(stage: Stage) -> bytes:
    return stage.scene.sign(stage.scene.request(nonce=sha256(b"new"))).to_json()


def model(stage: Stage) -> bytes:
    return ModelRegistration(model_digest=MODEL_DIGEST, key_epoch=1, circuit=NO_CIRCUIT, vka=[]).to_json()


def dataset(stage: Stage) -> bytes:
    return canonical_json({"digest": str(stage.scene.dataset.digest)})


def evidence(stage: Stage) -> bytes:
    blob, found = stage.worker.work(stage.lease, stage.scene.dataset)
    stage.scene.upload(stage.worker.account, blob)
    return found.to_json()


def batch(stage: Stage) -> bytes:
    blob, found = stage.worker.work(stage.lease, stage.scene.dataset)
    item = {"leaseId": stage.lease.lease_id, "evidence": found.to_object(), "outputs": "0x" + blob.hex()}
    return canonical_json({"items": [item]})


def statement(stage: Stage) -> bytes:
    _, found = stage.worker.work(stage.lease, stage.scene.dataset)
    return canonical_json({"signature": "0x" + found.signature.hex(), "statement": found.statement.to_object()})


def challenge(stage: Stage) -> bytes:
    return canonical_json({"address": address_of(stage.scene.owner)})


def new_blob(_: Stage) -> dict[str, str]:
    return {"digest": str(sha256(BLOB))}


def a_member(stage: Stage) -> dict[str, str]:
    return {"address": address_of(stage.others[V])}


def held(stage: Stage) -> dict[str, str]:
    return {"digest": str(stage.scene.dataset.digest)}


BEAT = text({"progress": {"stage": "fetch", "done": 0, "total": 3}})
TUS = {"Tus-Resumable": "1.0.0"}
BEGIN = {"Upload-Length": "9", "Upload-Metadata": "digest " + b64encode(str(sha256(b"a new one")).encode()).decode()}
PART = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
VALUES = str(sha256(b"values"))
FAILURE = text({"code": "x", "detail": ""})
BLOB_OF = {R: 200, M: 200, W: 200, V: 404}
JUDGED = text(
    {"slot": 0, "verdicts": [{"statement": str(sha256(b"s")), "verdict": "valid", "signature": "0x" + "00" * 256}]}
)
# Neither commitments, pieces nor checkpoints are of the running task: its holder is refused for that, others for the
# lease.
TABLE: dict[tuple[str, str], Row] = {
    ("GET", "/healthz"): Row(None),
    ("GET", "/readyz"): Row(None),
    ("GET", "/v1/info"): Row(None),
    ("GET", "/v1/anchors"): Row(None),
    ("GET", "/v1/anchors/{index}"): Row(None),
    ("GET", "/v1/log"): Row(None),
    ("GET", "/v1/log/checkpoint"): Row(None),
    ("GET", "/v1/log/proofs/{index}"): Row(None),
    ("GET", "/docs"): Row(None),
    ("GET", "/openapi.json"): Row(None),
    ("POST", "/v1/auth/challenge"): Row(None, body=challenge),
    ("POST", "/v1/auth/token"): Row(None, 401, body=text({"message": "", "signature": "0x"})),
    ("DELETE", "/v1/auth/token"): Row(EVERY, 204),
    ("PUT", "/v1/blobs/{digest}"): Row(only(R, M, W), 201, body=lambda _: BLOB, names=new_blob),
    ("HEAD", "/v1/blobs/{digest}"): Row(only(R, M, W, V), BLOB_OF, 404),
    ("GET", "/v1/blobs/{digest}"): Row(only(R, M, W, V), BLOB_OF, 404),
    ("OPTIONS", "/v1/uploads"): Row(only(R, M, W), 204),
    ("POST", "/v1/uploads"): Row(only(R, M, W), 201, headers=TUS | BEGIN),
    ("HEAD", "/v1/uploads/{upload_id}"): Row(only(R, M, W), {R: 200, M: 404, W: 404}, 404, headers=TUS),
    ("PATCH", "/v1/uploads/{upload_id}"): Row(only(R, M, W), {R: 204, M: 404, W: 404}, 404, headers=TUS | PART),
    ("DELETE", "/v1/uploads/{upload_id}"): Row(only(R, M, W), {R: 204, M: 404, W: 404}, 404, headers=TUS),
    ("POST", "/v1/workers"): Row(only(W), 200, body=lambda _: REGISTRATION.to_json()),
    ("GET", "/v1/workers"): Row(EVERY),
    ("POST", "/v1/models"): Row(only(M), 200, 403, body=model),
    ("GET", "/v1/models/{digest}/{epoch}"): Row(EVERY),
    ("GET", "/v1/models/{digest}/{epoch}/lineage"): Row(EVERY),
    ("POST", "/v1/datasets"): Row(only(R), 200, 422, body=dataset),
    ("GET", "/v1/datasets/{digest}"): Row(only(R, W), 200, 404, names=held),
    ("POST", "/v1/jobs"): Row(only(R), 201, 403, body=new_job),
    ("GET", "/v1/jobs"): Row(only(R)),
    ("GET", "/v1/jobs/{job_id}"): Row(only(R, O), {R: 200, O: 200}, 403),
    ("GET", "/v1/jobs/{job_id}/events"): Row(only(R), 200, 403, names=of_finished),
    ("GET", "/v1/jobs/{job_id}/tasks"): Row(only(R, O), {R: 200, O: 200}, 403),
    ("GET", "/v1/jobs/{job_id}/history"): Row(only(R, O), {R: 200, O: 200}, 403),
    ("GET", "/v1/jobs/{job_id}/waiting"): Row(only(R, O), {R: 200, O: 200}, 403),
    ("POST", "/v1/jobs/{job_id}/retry"): Row(only(R, O), {R: 409, O: 409}, 403),
    ("POST", "/v1/jobs/{job_id}/cancel"): Row(only(R), 200, 403),
    ("GET", "/v1/tasks/{task_id}"): Row(only(R, W, O), 200, 403),
    ("GET", "/v1/tasks/{task_id}/statement"): Row(only(R, W, O), 409, 403),
    ("GET", "/v1/jobs/{job_id}/certificate"): Row(only(R, V, A), 200, 403, names=of_finished),
    ("GET", "/v1/jobs/{job_id}/transcript"): Row(only(R, O), {R: 404, O: 404}, 403),
    ("GET", "/v1/jobs/{job_id}/outputs"): Row(only(R), 200, 403, names=of_finished),
    ("POST", "/v1/leases"): Row(only(W), 200, body=text({"waitSeconds": 0})),
    ("POST", "/v1/leases/{lease_id}/heartbeat"): Row(only(W), 200, 409, body=BEAT),
    ("POST", "/v1/leases/{lease_id}/commitment"): Row(only(W), 409, 409, body=statement),
    ("GET", "/v1/leases/{lease_id}/records"): Row(only(W), 200, 409),
    ("GET", "/v1/leases/{lease_id}/challenge"): Row(only(W), 409, 409),
    ("POST", "/v1/leases/{lease_id}/evidence"): Row(only(W), 200, 409, body=evidence),
    ("POST", "/v1/leases/{lease_id}/checkpoints"): Row(only(W), 409, 409),
    ("POST", "/v1/leases/{lease_id}/training"): Row(only(W), 409, 409),
    ("POST", "/v1/leases/{lease_id}/fail"): Row(only(W), 204, 409, body=FAILURE),
    ("DELETE", "/v1/leases/{lease_id}"): Row(only(W), 204, 409),
    ("POST", "/v1/leases/{lease_id}/pieces"): Row(only(W), 404, 409, body=text({"segments": 2, "values": VALUES})),
    ("POST", "/v1/leases/{lease_id}/pieces/turn"): Row(only(W), 200, 409, body=text({"finished": []})),
    ("POST", "/v1/pieces"): Row(only(W), 204, body=text({"waitSeconds": 0})),
    ("POST", "/v1/pieces/{piece_id}/heartbeat"): Row(only(W), 409, 409, body=BEAT),
    ("POST", "/v1/pieces/{piece_id}/proofs"): Row(only(W), 409, 409, body=text({"proofs": ["0x00"]})),
    ("POST", "/v1/pieces/{piece_id}/fail"): Row(only(W), 409, 409, body=FAILURE),
    # Others are answered, too: with the problem lease-lost on each item (test_batches.py).
    ("POST", "/v1/evidence"): Row(only(W), 200, 200, body=batch),
    # About running jobs validators are asked nothing; the others are in test_validation.py.
    ("GET", "/v1/validations"): Row(only(V)),
    ("GET", "/v1/validations/{job_id}"): Row(only(V), 409),
    ("POST", "/v1/validations/{job_id}"): Row(only(V), 409, body=JUDGED),
    ("POST", "/v1/validations/{job_id}/abstain"): Row(only(V), 409, body=FAILURE),
    ("GET", "/v1/members"): Row(only(O)),
    ("PUT", "/v1/members/{address}"): Row(only(O), body=text({"roles": ["worker"]})),
    ("DELETE", "/v1/members/{address}"): Row(only(O), 204, names=a_member),
    ("POST", "/v1/members/{address}/revoke"): Row(only(O)),
    ("GET", "/v1/audit"): Row(only(O)),
    ("GET", "/v1/audit/head"): Row(EVERY),
}  # fmt: skip
# Who reads a job whoever's it is.
READERS = {
    ("GET", "/v1/jobs/{job_id}"): {O},
    ("GET", "/v1/jobs/{job_id}/tasks"): {O},
    ("GET", "/v1/jobs/{job_id}/history"): {O},
    ("GET", "/v1/jobs/{job_id}/waiting"): {O},
    ("GET", "/v1/jobs/{job_id}/transcript"): {O},
    ("POST", "/v1/jobs/{job_id}/retry"): {O},
    ("GET", "/v1/tasks/{task_id}"): {O},
    ("GET", "/v1/tasks/{task_id}/statement"): {O},
    ("GET", "/v1/jobs/{job_id}/certificate"): {V, A},
}
CLOSED = {key: row for key, row in TABLE.items() if row.roles is not None}


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, clock: FakeClock) -> Iterator[Stage]:
    """Where nothing that is asked for happens."""
    made = build(tmp_path_factory.mktemp("stage"), clock)
    yield made
    made.scene.coordinator.close()


def ask(stage: Stage, key: tuple[str, str], token: str | None) -> int:
    method, path = key
    row = TABLE[key]
    url = path.format(**{**stage.names(), **row.names(stage)})
    headers = row.headers | ({} if token is None else {"Authorization": f"Bearer {token}"})
    return stage.http.request(method, url, headers=headers, content=row.body(stage)).status_code


def routes(stage: Stage) -> dict[tuple[str, str], frozenset[Role] | None]:
    """Every route of the application, with its roles."""
    found: dict[tuple[str, str], frozenset[Role] | None] = {}
    app: Any = stage.http.app
    for route in [*(route for route in app.routes if isinstance(route, Route)), *app.state.own_routes]:
        for method in route.methods - ({"HEAD"} if "GET" in route.methods else set()):
            described = isinstance(route, APIRoute) and "x-roles" in (route.openapi_extra or {})
            found[method, route.path] = roles_of(route) if described else None
    return found


def test_the_table_has_every_route_with_its_roles(stage: Stage) -> None:
    found = routes(stage)
    assert found == {key: row.roles for key, row in TABLE.items()}
    paths = stage.http.get("/openapi.json").json()["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} <= set(found)
    assert all(row.roles != frozenset() for row in TABLE.values())


def test_what_needs_no_token_has_no_caller_and_the_rest_says_who(stage: Stage) -> None:
    paths = stage.http.get("/openapi.json").json()["paths"]
    for (method, path), row in TABLE.items():
        described = paths.get(path, {}).get(method.lower())
        if row.roles is None:
            assert described is None or ("security" not in described and "x-roles" not in described)
        else:
            assert described["x-roles"] == [role for role in Role if role in row.roles]
            assert described["security"]


def test_the_page_is_drawn_from_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("key", CLOSED, ids=" ".join)
def test_refused(stage: Stage, clock: FakeClock, key: tuple[str, str]) -> None:
    """Without a token, with one that ended or is too old, without the role, and after a revocation."""
    row, coordinator = CLOSED[key], stage.scene.coordinator
    allowed = row.roles or frozenset()
    assert ask(stage, key, None) == 401
    assert ask(stage, key, "0" * 64) == 401
    for role in EVERY - allowed:
        assert ask(stage, key, stage.token(stage.accounts[role])) == 403, role
        assert ask(stage, key, stage.token(stage.others[role])) == 403, role
    for role in sorted(allowed - {O})[:1]:
        operator, somebody = address_of(stage.accounts[O]), new_account()
        coordinator.members.give(operator, address_of(somebody), [role])
        ended, old, kept = (stage.scene.token(somebody) for _ in range(3))
        coordinator.auth.end(address_of(somebody), ended)
        assert ask(stage, key, ended) == 401
        clock.now += 1_800_000
        assert ask(stage, key, old) == 401
        clock.now -= 1_800_000
        coordinator.members.remove(operator, address_of(somebody))
        assert ask(stage, key, kept) == 403
        coordinator.members.revoke(operator, address_of(somebody))
        assert ask(stage, key, kept) == 401


@pytest.mark.parametrize("key", TABLE, ids=" ".join)
def test_allowed(request: pytest.FixtureRequest, tmp_path: Path, key: tuple[str, str]) -> None:
    """With the role: to its owner the object answers, to others of the same role it is closed."""
    row, reads = TABLE[key], key[0] in ("GET", "HEAD")
    stage = request.getfixturevalue("stage") if reads else build(tmp_path, FakeClock())
    if row.roles is None:
        assert ask(stage, key, None) == row.status(R)
    for role in sorted(row.roles or ()):
        if row.others is not None and role not in READERS.get(key, ()):
            assert ask(stage, key, stage.token(stage.others[role])) == row.others, role
        mine = ask(stage, key, stage.scene.token(stage.accounts[role]))
        assert mine == row.status(role), role
        if key == ("PUT", "/v1/blobs/{digest}"):
            assert ask(stage, key, stage.token(stage.accounts[role])) == 200
    if not reads:
        stage.scene.coordinator.close()
