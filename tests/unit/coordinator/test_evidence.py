"""Intake of evidence: what a worker's upload may cost, and what it may do to the rest of its job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from coordinator.app import create_app
from coordinator.judging import evidence_limit, widest_output
from coordinator.tables import ModelRow
from rexis.api import JobState, Lease, VerdictView
from rexis.protocol.errors import EvidenceError
from rexis.protocol.evidence import MAX_EVIDENCE_BYTES
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats, LeafFormat, Salts
from rexis.protocol.signing import new_account
from rexis.protocol.tensors import unpack_outputs
from tests.unit.coordinator.fakes import MODEL_DIGEST, FakeWorker, make_policy
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_jobs import CIRCUIT
from tests.unit.coordinator.test_recovery import finish


def hand_in(scene: Scene, worker: FakeWorker, lease: Lease, outputs: Floats) -> VerdictView:
    blob, evidence = worker.work(lease, scene.dataset, outputs=outputs)
    scene.upload(worker.account, blob)
    return scene.check(worker, lease, evidence)


@pytest.mark.each_database
def test_the_first_accepted_task_fixes_the_width(scene: Scene) -> None:
    scene.publish()
    job = scene.submit()
    worker, liar = scene.worker(), scene.worker()
    scene.hand_in(worker, scene.lease(worker))
    lease = scene.lease(liar)
    with pytest.raises(EvidenceError, match="a record has 7 values, this job's have 2"):
        hand_in(scene, liar, lease, np.zeros((lease.count, 7), np.float32))
    scene.hand_in(worker, scene.lease(worker))
    assert scene.job(job).state == JobState.ANCHORING


def test_the_registered_circuit_fixes_the_width(scene: Scene) -> None:
    scene.publish()
    with scene.coordinator._store.writing() as session:
        session.get_one(ModelRow, (str(MODEL_DIGEST), 1)).circuit = CIRCUIT.to_json().decode()
    scene.submit()
    liar = scene.worker()
    lease = scene.lease(liar)
    with pytest.raises(EvidenceError, match="this job's have 2"):
        hand_in(scene, liar, lease, np.zeros((lease.count, 7), np.float32))
    honest = scene.worker()
    assert scene.hand_in(honest, scene.lease(honest)).accepted


def test_outputs_of_another_arrangement_are_still_one_blob(scene: Scene) -> None:
    scene.publish()
    job = scene.submit()
    first, second = scene.worker(), scene.worker()
    lease = scene.lease(first)
    hand_in(scene, first, lease, first.outputs(lease, scene.dataset)[:, None, :])
    scene.hand_in(second, scene.lease(second))
    blob = scene.outputs(job)
    assert unpack_outputs(blob, count=5, fixed=False).shape == (5, 2)


def test_outputs_that_are_too_large_are_not_read(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.publish()
    scene.submit(policy=make_policy(shard_size=5))
    worker = scene.worker()
    lease = scene.lease(worker)
    _, evidence = worker.work(lease, scene.dataset)
    monkeypatch.setattr("coordinator.judging.MAX_VALUES", 3)
    large = bytes((64 << 10) + 5 * 3 * 4 + 1)
    digest = scene.upload(worker.account, large)
    read = scene.coordinator.blobs.read
    monkeypatch.setattr(
        scene.coordinator.blobs, "read", lambda one, *rest: read(one, *rest) if one != digest else 1 / 0
    )
    evidence = evidence.model_copy(update={"outputs_digest": digest})
    with pytest.raises(EvidenceError, match="a record may have 3 values"):
        scene.check(worker, lease, evidence)


def test_the_input_tree_is_built_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset of 300,000 records in tasks of 30 took seconds for each of them."""
    scene.publish()
    built: list[int] = []
    leaves = LeafFormat.leaves
    submission = scene.sign(scene.request(policy=make_policy(shard_size=1, sample_size=1)))

    def counted(form: LeafFormat, values: Floats, salts: Salts) -> Iterator[bytes]:
        built.append(len(values))
        return leaves(form, values, salts)

    monkeypatch.setattr(LeafFormat, "leaves", counted)
    job, _ = scene.coordinator.jobs.submit(submission.request.requester, submission)
    worker = scene.worker()
    asked = len(built)
    lease = scene.lease(worker)
    blob, evidence = worker.work(lease, scene.dataset)
    del built[asked:]  # the worker's own
    scene.upload(worker.account, blob)
    scene.check(worker, lease, evidence)
    assert built == [5, 1]  # the dataset's five records at submission, then the task's one
    monkeypatch.undo()
    scene.do_all()
    finish(scene)
    assert scene.job(job).state == JobState.CERTIFIED


@pytest.mark.parametrize("mine", [False, True])
def test_nothing_is_read_without_a_lease(scene: Scene, mine: bool) -> None:
    """A stranger's 200 MB, or those of a worker whose lease is over, stay where they are."""
    scene.publish()
    scene.submit(policy=make_policy(shard_size=5))
    worker = scene.worker()
    lease = scene.lease(worker)
    if mine:
        scene.coordinator.leases.give_back(lease.lease_id, worker.address)
    caller = worker.account if mine else new_account()
    sent = post_evidence(scene, lease.lease_id, scene.headers(caller), None)
    assert sent[0]["status"] == 409


def test_a_lease_says_how_much_evidence_can_be(scene: Scene) -> None:
    scene.publish()
    scene.submit(policy=make_policy(shard_size=5))
    worker = scene.worker()
    lease = scene.lease(worker)
    before = sorted(scene.coordinator.settings.data_dir.rglob("*"))
    sent = post_evidence(scene, lease.lease_id, scene.headers(worker.account), b"[" + b" " * (65 << 10))
    assert sent[0]["status"] == 413
    assert sorted(scene.coordinator.settings.data_dir.rglob("*")) == before


def test_evidence_grows_with_what_the_tier_proves(scene: Scene) -> None:
    commit = scene.request()
    sampled = scene.request(policy=make_policy(tier=Tier.SAMPLED, sample_size=2), circuit=CIRCUIT)
    proved = scene.request(policy=make_policy(tier=Tier.ZK, sample_size=0), circuit=CIRCUIT)
    assert evidence_limit(commit, 1 << 20) < 1 << 20
    assert evidence_limit(sampled, 5) == evidence_limit(proved, 2) > 4 << 20
    assert evidence_limit(proved, 1 << 20) == MAX_EVIDENCE_BYTES


def post_evidence(scene: Scene, lease: str, headers: dict[str, str], body: bytes | None) -> list[dict[str, Any]]:
    """What the application sends; with no body, it must not ask for one."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        assert body is not None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    path = f"/v1/leases/{lease}/evidence"
    headers = {"host": "127.0.0.1", **headers}
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "root_path": "", "scheme": "http", "server": ("127.0.0.1", 8080), "client": ("x", 1),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(create_app(scene.coordinator)(scope, receive, send))  # type: ignore[arg-type]
    return sent


def test_a_leaf_memory_and_the_certificate_bound_the_width(scene: Scene) -> None:
    request = scene.request(policy=make_policy(sample_size=0))
    assert widest_output(request, 1) == 1 << 20
    assert widest_output(request, 1 << 20) == 256
    opened = scene.request(
        policy=make_policy(sample_size=1024, shard_size=1024), record_count=16 * 1024, input_size=16 * 1024
    )
    assert widest_output(opened, 1024) == 640
