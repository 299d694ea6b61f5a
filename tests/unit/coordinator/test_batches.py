"""Evidence by the batch: each piece on its own, nothing checked less than by itself, one transaction for what holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import event
from sqlmodel import select
from starlette.testclient import TestClient

from coordinator.tables import FaultRow, LeaseRow, Outcome, TaskRow
from rexis.api import (
    MAX_BATCH,
    MAX_INLINE_OUTPUTS,
    EvidenceBatch,
    EvidenceResult,
    EvidenceResults,
    JobState,
    Lease,
    TaskEvidence,
    TaskState,
)
from rexis.protocol.digests import sha256
from rexis.protocol.errors import MalformedError
from rexis.protocol.signing import new_account
from rexis.protocol.statement import Statement
from tests.unit.coordinator.fakes import FakeWorker, make_dataset, make_policy
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_recovery import finish


@pytest.fixture
def many(scene: Scene) -> Scene:
    """A job of six tasks with a record each."""
    large = replace(scene, dataset=make_dataset(count=6))
    large.publish()
    large.submit(policy=make_policy(shard_size=1, sample_size=1))
    return large


def leases(scene: Scene, *workers: FakeWorker) -> list[Lease]:
    return [scene.lease(worker) for worker in workers]


def item(scene: Scene, worker: FakeWorker, lease: Lease) -> TaskEvidence:
    blob, evidence = worker.work(lease, scene.dataset)
    return TaskEvidence(lease_id=lease.lease_id, evidence=evidence, outputs=blob)


def send(scene: Scene, http: TestClient, worker: FakeWorker, *items: TaskEvidence) -> list[EvidenceResult]:
    body = EvidenceBatch(items=list(items)).to_json()
    answer = http.post("/v1/evidence", content=body, headers=scene.headers(worker.account))
    assert answer.status_code == 200, answer.text
    return EvidenceResults.from_json(answer.content).results


def test_a_batch_finishes_a_job(many: Scene, http: TestClient) -> None:
    worker = many.veteran()
    first = [item(many, worker, lease) for lease in leases(many, *[worker] * 4)]
    found = send(many, http, worker, *first)
    assert [result.lease_id for result in found] == [one.lease_id for one in first]
    assert all(result.verdict is not None and result.verdict.accepted and result.problem is None for result in found)
    single = many.coordinator.views.jobs(many.request().requester)[0]
    assert (single.state, single.tasks_done) == (JobState.RUNNING, 4)

    send(many, http, worker, *[item(many, worker, lease) for lease in leases(many, worker, worker)])
    assert many.coordinator.views.jobs(many.request().requester)[0].state == JobState.ANCHORING
    finish(many)
    assert many.coordinator.views.jobs(many.request().requester)[0].state == JobState.CERTIFIED


def test_a_verdict_has_the_steps_of_a_single_check(many: Scene, http: TestClient) -> None:
    worker = many.veteran()
    alone, together = leases(many, worker, worker)
    single = many.hand_in(worker, alone)
    (found,) = send(many, http, worker, item(many, worker, together))
    assert found.verdict is not None
    shown = [(step.number, step.status) for step in found.verdict.steps]
    assert shown == [(step.number, step.status) for step in single.steps]
    with many.coordinator._store.reading() as session:
        rows = {row.task_id: row for row in session.exec(select(TaskRow))}
    stored = rows[str(found.verdict.task_id)]
    assert stored.verdict == found.verdict.to_json().decode()
    assert stored.statement_digest in found.verdict.steps[1].detail


def test_each_piece_has_its_own_answer(many: Scene, http: TestClient) -> None:
    honest, other = many.veteran(), many.veteran()
    mine = leases(many, *[honest] * 4)
    foreign = many.lease(other)
    altered = _altered(many, honest, mine[1])
    forged = _forged(many, honest, mine[2])
    swapped = item(many, honest, mine[3]).model_copy(update={"outputs": b"something else"})
    found = send(
        many, http, honest, altered, item(many, honest, mine[0]), item(many, other, foreign), forged, swapped
    )  # fmt: skip
    assert [result.problem.code if result.problem else "accepted" for result in found] == [
        "evidence-rejected", "accepted", "lease-lost", "evidence-rejected", "digest-mismatch",
    ]  # fmt: skip
    assert "another" in found[2].problem.detail if found[2].problem else False
    with many.coordinator._store.reading() as session:
        outcomes = {row.lease_id: row.outcome for row in session.exec(select(LeaseRow))}
        faults = session.exec(select(FaultRow)).all()
        states = sorted(row.state for row in session.exec(select(TaskRow)))
    assert [outcomes[lease.lease_id] for lease in (*mine, foreign)] == [
        Outcome.ACCEPTED, Outcome.REFUSED, Outcome.REFUSED, Outcome.OPEN, Outcome.OPEN,
    ]  # fmt: skip
    assert [fault.worker for fault in faults] == [honest.address] * 2
    assert states == sorted([TaskState.ACCEPTED, *[TaskState.PENDING] * 3, *[TaskState.LEASED] * 2])


def _altered(scene: Scene, worker: FakeWorker, lease: Lease) -> TaskEvidence:
    """Sends other outputs than it committed to."""
    blob, _ = worker.work(lease, scene.dataset, outputs=worker.outputs(lease, scene.dataset) + np.float32(1))
    _, evidence = worker.work(lease, scene.dataset)
    evidence = evidence.model_copy(update={"outputs_digest": sha256(blob)})
    return TaskEvidence(lease_id=lease.lease_id, evidence=evidence, outputs=blob)


def _forged(scene: Scene, worker: FakeWorker, lease: Lease) -> TaskEvidence:
    """Lets somebody else sign."""
    blob, evidence = worker.work(lease, scene.dataset, signer=new_account())
    return TaskEvidence(lease_id=lease.lease_id, evidence=evidence, outputs=blob)


def test_evidence_of_another_lease_is_refused(many: Scene, http: TestClient) -> None:
    worker = many.veteran()
    one, two = leases(many, worker, worker)
    swapped = item(many, worker, one).model_copy(update={"lease_id": two.lease_id})
    (found,) = send(many, http, worker, swapped)
    assert found.problem is not None
    assert "step 7" in found.problem.detail
    replayed: Statement = item(many, worker, one).evidence.statement.model_copy(update={"nonce": two.nonce})
    blob, _ = worker.work(one, many.dataset)
    again = TaskEvidence(lease_id=one.lease_id, evidence=worker.sign(one, replayed, blob), outputs=blob)
    (found,) = send(many, http, worker, again)
    assert found.problem is not None
    assert "statement.nonce" in found.problem.detail


def test_sent_again_it_has_the_same_answer(many: Scene, http: TestClient) -> None:
    worker = many.veteran()
    items = [item(many, worker, lease) for lease in leases(many, worker, worker)]
    assert send(many, http, worker, *items) == send(many, http, worker, *items)
    other = items[0].evidence.model_copy(
        update={"measured": items[0].evidence.measured.model_copy(update={"compute_ms": 9})}
    )
    (found,) = send(many, http, worker, items[0].model_copy(update={"evidence": other}))
    assert found.problem is not None
    assert found.problem.detail == "other evidence was accepted in this lease"


def test_a_lease_that_is_lost_meanwhile_takes_no_other_with_it(
    many: Scene, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = many.veteran()
    lost, kept = leases(many, worker, worker)
    put_all = many.coordinator.blobs.put_all

    def lose(*blobs):  # type: ignore[no-untyped-def]
        many.coordinator.leases.give_back(lost.lease_id, worker.address)
        put_all(*blobs)

    monkeypatch.setattr(many.coordinator.blobs, "put_all", lose)
    found = send(many, http, worker, item(many, worker, lost), item(many, worker, kept))
    assert [result.problem.code if result.problem else "accepted" for result in found] == ["lease-lost", "accepted"]


def test_outputs_may_have_been_uploaded(many: Scene, http: TestClient) -> None:
    worker, thief = many.veteran(), many.veteran()
    mine, theirs = many.lease(worker), many.lease(thief)
    bare = item(many, worker, mine).model_copy(update={"outputs": None})
    (found,) = send(many, http, worker, bare)
    assert found.problem is not None
    assert (found.problem.code, found.problem.field) == ("malformed", "outputsDigest")
    blob, _ = worker.work(mine, many.dataset)
    many.upload(worker.account, blob)
    # Who has not sent them cannot name them.
    stolen = item(many, thief, theirs)
    stolen = stolen.model_copy(
        update={"outputs": None, "evidence": stolen.evidence.model_copy(update={"outputs_digest": sha256(blob)})}
    )
    (refused,) = send(many, http, thief, stolen)
    assert refused.problem is not None
    assert refused.problem.field == "outputsDigest"
    (accepted,) = send(many, http, worker, bare)
    assert accepted.verdict is not None


def test_a_batch_is_few_statements(many: Scene, http: TestClient) -> None:
    """However many pieces: a handful of statements, and two transactions: which blobs come, and what was accepted."""
    worker = many.veteran()
    items = [item(many, worker, lease) for lease in leases(many, *[worker] * 4)]
    many.coordinator.batches.check(worker.address, EvidenceBatch(items=items[:1]))  # fixes the job's width
    counted: list[str] = []
    commits: list[object] = []
    engine = many.coordinator._store._engine
    event.listen(engine, "before_cursor_execute", lambda *arguments: counted.append(arguments[2]))
    event.listen(engine, "commit", commits.append)
    many.coordinator.batches.check(worker.address, EvidenceBatch(items=items[1:2]))
    one, several = len(counted), items[2:]
    commits.clear()
    many.coordinator.batches.check(worker.address, EvidenceBatch(items=several))
    assert (len(several), len(counted)) == (2, 2 * one)
    assert len(commits) == 2


def test_what_a_batch_may_hold(many: Scene, http: TestClient) -> None:
    worker = many.veteran()
    lease = many.lease(worker)
    one = item(many, worker, lease)
    with pytest.raises(MalformedError, match="named twice"):
        many.coordinator.batches.check(worker.address, EvidenceBatch(items=[one, one]))
    headers = scene_headers = many.headers(worker.account)
    large = one.to_object() | {"outputs": "0x" + "00" * (MAX_INLINE_OUTPUTS + 1)}
    for items in ([], [one.to_object()] * (MAX_BATCH + 1), [large]):
        answer = http.post("/v1/evidence", json={"items": items}, headers=scene_headers)
        assert answer.status_code == 422, answer.text
    assert http.post("/v1/evidence", content=b"[" + b" " * (4 << 20), headers=headers).status_code == 413
    assert http.post("/v1/evidence", json={"items": [one.to_object()]}).status_code == 401


def test_another_tier_has_its_own_route(many: Scene, http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = many.veteran()
    lease = many.lease(worker)
    proved = lease.request.model_copy(update={"policy": make_policy().model_copy(update={"tier": 3})})
    monkeypatch.setattr("coordinator.batches.request_of", lambda _: proved)
    (found,) = send(many, http, worker, item(many, worker, lease))
    assert found.problem is not None
    assert found.problem.hint == f"POST /v1/leases/{lease.lease_id}/evidence"
