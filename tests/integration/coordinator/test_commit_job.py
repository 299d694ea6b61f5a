"""A whole job of tier ``commit`` over HTTP, on a real chain; cheats; crashes."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest
from eth_account.signers.local import LocalAccount

from rexis.api import JobState, ModelRegistration, TaskEvidence, TaskState, VerdictView
from rexis.outputs import read_outputs, require_certified
from rexis.protocol.certificate import Certificate
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import sha256
from rexis.protocol.errors import EvidenceError, ForbiddenError, MalformedError, RexisError
from rexis.protocol.policy import Rung
from rexis.protocol.rung import RungClaim, sign_rung_claim
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.statement import Statement
from rexis.protocol.typed_data import Domain
from tests.integration.coordinator.rig import Rig
from tests.unit.coordinator.fakes import evaluate, make_policy
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.report import Status


def require_valid(rig: Rig, document: bytes) -> Certificate:
    """The independent verifier accepts it, against the chain."""
    options = VerifyOptions(
        rpc_url=rig.dev.url,
        requester=address_of(rig.requester),
        model_digest=rig.model_digest,
        allow_development_chain=True,
    )
    verdict = verify_certificate(document, options)
    assert verdict.failed is None, verdict.failed
    assert all(step.status == Status.OK for step in verdict.steps), verdict.steps
    assert verdict.certificate is not None
    return verdict.certificate


def test_an_honest_job_gets_a_certificate_that_verifies_against_the_chain(rig: Rig) -> None:
    rig.publish()
    requester = rig.client(rig.requester)
    submitted = requester.submit_job(rig.request())
    assert [task.waiting for task in submitted.tasks] == ["no worker registered"] * 2
    assert requester.submit_job(rig.request()).job_id == submitted.job_id

    worker = rig.worker()
    for _ in range(2):
        assert worker.do_one(rig.dataset).accepted

    view = rig.finished(submitted.job_id)
    document = requester.certificate(view.job_id)
    assert sha256(document) == view.certificate_digest
    certificate = require_valid(rig, document)
    assert certificate.development == ["chain"]
    assert [len(task.evidence.openings) for task in certificate.tasks] == [2, 2]

    outputs = read_outputs(certificate, requester.outputs(view.job_id))
    require_certified(certificate, rig.dataset, rig.dataset.digest, outputs)
    assert np.array_equal(outputs, evaluate(rig.dataset.records))
    assert [job.job_id for job in requester.jobs()] == [view.job_id]
    with pytest.raises(ForbiddenError):
        rig.client(new_account()).certificate(view.job_id)


def test_a_rung_that_the_owner_claims_stands_in_the_certificate(rig: Rig) -> None:
    rig.publish()
    requester, policy = rig.client(rig.requester), make_policy(rung=Rung.EE_PRIVATE_WEIGHTS, shard_size=5)
    with pytest.raises(MalformedError, match="has not claimed") as refused:
        requester.submit_job(rig.request(policy))
    assert (refused.value.field, "use ee-outsourced" in str(refused.value.hint)) == ("request.policy.rung", True)

    claim = RungClaim(
        rung=Rung.EE_PRIVATE_WEIGHTS, model_digest=rig.model_digest, key_epoch=1, base_digest=sha256(b"base"),
        distance_e9=1_300_000_000, threshold_e9=10**9, card_digest=sha256(b"card"), owner=address_of(rig.owner),
    )  # fmt: skip
    domain = rig.deployment.domain
    registration = ModelRegistration(model_digest=rig.model_digest, key_epoch=1, circuit=NO_CIRCUIT, vka=[])
    owner = rig.client(rig.owner)
    low = sign_rung_claim(rig.owner, claim.model_copy(update={"distance_e9": 1}), domain)
    with pytest.raises(EvidenceError, match=r"a layer is only 0\.0% from the base model"):
        owner.register_model(registration.model_copy(update={"rung_claim": low}))
    signed = sign_rung_claim(rig.owner, claim, domain)
    owner.register_model(registration.model_copy(update={"rung_claim": signed}))
    assert requester.model(rig.model_digest, 1).rung_claim == signed

    job = requester.submit_job(rig.request(policy))
    assert rig.worker().do_one(rig.dataset).accepted
    certificate = require_valid(rig, requester.certificate(rig.finished(job.job_id).job_id))
    assert certificate.rung_claim == signed


def test_cheats_are_refused_and_the_task_goes_to_another_worker(rig: Rig) -> None:
    rig.publish()
    requester = rig.client(rig.requester)
    job = requester.submit_job(rig.request(make_policy(shard_size=5)))
    cheats = (_other_outputs, _foreign_signature, _other_task, _other_chain)
    for cheat in cheats:
        worker = rig.worker()
        with pytest.raises(EvidenceError) as refused:
            cheat(rig, worker)
        assert "step" in refused.value.message
        task = requester.job(job.job_id).tasks[0]
        assert task.state == TaskState.PENDING
        assert task.faults[-1].worker == worker.fake.address
        assert task.waiting == "every worker that fits has failed this task"
        assert worker.client.lease(0) is None
    assert len(task.faults) == len(cheats)
    assert rig.worker().do_one(rig.dataset).accepted
    require_valid(rig, requester.certificate(rig.finished(job.job_id).job_id))


def _other_outputs(rig: Rig, worker) -> None:  # type: ignore[no-untyped-def]
    """Uploads other outputs than those that the statement commits to."""
    lease = worker.lease()
    _, evidence = worker.fake.work(lease, rig.dataset)
    blob, _ = worker.fake.work(lease, rig.dataset, outputs=worker.fake.outputs(lease, rig.dataset) + 1)
    worker.client.upload_blob(blob)
    worker.client.evidence(lease.lease_id, evidence.model_copy(update={"outputs_digest": sha256(blob)}))


def _foreign_signature(rig: Rig, worker) -> None:  # type: ignore[no-untyped-def]
    """Lets somebody else sign."""
    _submit(rig, worker, lambda statement: statement, signer=new_account())


def _other_task(rig: Rig, worker) -> None:  # type: ignore[no-untyped-def]
    """Makes the statement about another task."""
    _submit(rig, worker, lambda statement: statement.model_copy(update={"task_id": sha256(b"another task")}))


def _other_chain(rig: Rig, worker) -> None:  # type: ignore[no-untyped-def]
    """Signs for another chain."""
    lease = worker.lease()
    foreign = Domain(chain_id=1, verifying_contract=lease.domain.verifying_contract)
    blob, evidence = worker.fake.work(lease.model_copy(update={"domain": foreign}), rig.dataset)
    worker.client.upload_blob(blob)
    worker.client.evidence(lease.lease_id, evidence)


def _submit(rig: Rig, worker, change, signer: LocalAccount | None = None) -> None:  # type: ignore[no-untyped-def]
    lease = worker.lease()
    outputs = worker.fake.outputs(lease, rig.dataset)
    blob, _ = worker.fake.work(lease, rig.dataset, outputs=outputs)
    statement: Statement = change(worker.fake.statement(lease, rig.dataset, outputs))
    worker.client.upload_blob(blob)
    worker.client.evidence(lease.lease_id, worker.fake.sign(lease, statement, blob, signer))


def test_a_job_survives_kill_9_at_every_stage(rig: Rig) -> None:
    rig.publish()
    requester = rig.client(rig.requester)
    job = requester.submit_job(rig.request())
    worker = rig.worker()
    lease = worker.lease()
    rig.stop(signal.SIGKILL)
    rig.start()

    blob, evidence = worker.fake.work(lease, rig.dataset)
    worker.client.upload_blob(blob)
    verdict = worker.client.evidence(lease.lease_id, evidence)
    rig.stop(signal.SIGKILL)
    rig.start()
    assert worker.client.evidence(lease.lease_id, evidence) == verdict

    worker.do_one(rig.dataset)
    time.sleep(0.15)  # somewhere between plan, transaction and receipt
    rig.stop(signal.SIGKILL)
    rig.start()
    view = rig.finished(job.job_id)
    certificate = require_valid(rig, requester.certificate(view.job_id))
    # Nothing was anchored twice.
    assert len({task.anchor.root for task in certificate.tasks}) == len(
        {task.anchor.anchor_id for task in certificate.tasks}
    )


@pytest.mark.slow
def test_without_a_node_a_job_waits_and_says_why(rig: Rig) -> None:
    rig.publish()
    requester = rig.client(rig.requester)
    job = requester.submit_job(rig.request())
    worker = rig.worker()
    rig.stop()
    working, rig.rpc = rig.rpc, "http://127.0.0.1:9"
    rig.start()
    for _ in range(2):
        worker.do_one(rig.dataset)
    deadline = time.monotonic() + 10
    while (view := requester.job(job.job_id)).reason is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert view.state == JobState.ANCHORING
    assert "no chain node answers" in (view.reason or "")
    with pytest.raises(RexisError, match="no chain node"):
        requester.submit_job(rig.request(nonce=sha256(b"another")))
    assert rig.stop() in (0, -signal.SIGTERM)  # uvicorn ends well, then by the signal itself
    rig.rpc = working
    rig.start()
    assert rig.finished(job.job_id).reason is None


def test_the_log_holds_no_secret(rig: Rig) -> None:
    rig.publish()
    client = rig.client(rig.requester)
    client.jobs()
    token = client._transport._token
    assert token is not None
    assert token not in rig.log
    assert rig.account.key.hex() not in rig.log
    deadline = time.monotonic() + 5  # the line follows the answer
    while "path=/v1/jobs status=200" not in rig.log and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "path=/v1/jobs status=200" in rig.log


def test_a_batch_is_judged_piece_by_piece(rig: Rig) -> None:
    rig.publish()
    requester = rig.client(rig.requester)
    job = requester.submit_job(rig.request(make_policy(shard_size=1)))
    worker = rig.worker()
    worker.do_one(rig.dataset)  # a new worker gets one task at a time
    items = []
    for lease in [worker.lease() for _ in range(3)]:
        blob, evidence = worker.fake.work(lease, rig.dataset)
        items.append(TaskEvidence(lease_id=lease.lease_id, evidence=evidence, outputs=blob))
    forged = items[1].evidence.model_copy(update={"signature": items[0].evidence.signature})
    items[1] = items[1].model_copy(update={"evidence": forged})
    answers = worker.client.evidence_batch(items)
    assert [isinstance(answer, VerdictView) for answer in answers] == [True, False, True]
    assert isinstance(answers[1], EvidenceError)
    another = rig.worker()
    for _ in range(2):
        another.do_one(rig.dataset)
    require_valid(rig, requester.certificate(rig.finished(job.job_id).job_id))
