"""Dishonest workers against a real coordinator: none is believed, each is blamed, and jobs end with certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from eth_account.signers.local import LocalAccount
from onnx import TensorProto, helper, numpy_helper

from contracts.chain import Deployment
from contracts.devchain import DevChain
from rexis.api import JobView, TaskState
from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import sha256
from rexis.protocol.errors import EvidenceError, LeaseError
from rexis.protocol.signing import address_of, new_account
from tests.integration.coordinator.adversaries import ADVERSARIES, Adversary, Scene, Sybils, Theft
from tests.integration.coordinator.rig import Rig, RigWorker
from tests.integration.coordinator.test_commit_job import require_valid
from tests.unit.coordinator.fakes import evaluate, make_policy
from verifier.certificate import VerifiedCertificate, VerifyOptions, verify_certificate

LEASE_S = 1.0
MAX_FAULTS = 4
PATIENT = {"REXIS_MAX_TASK_FAULTS": str(MAX_FAULTS), "REXIS_RETRY_SECONDS": "0"}
IMPATIENT = {**PATIENT, "REXIS_LEASE_SECONDS": str(LEASE_S), "REXIS_STALLED_SECONDS": str(LEASE_S)}
RECORDS = 5


class ModelRig(Rig):
    """A rig whose model is one that an auditor can run: what :func:`tests.unit.coordinator.fakes.evaluate` computes."""

    @property
    def model(self) -> bytes:
        """Each owner has a file of its own."""
        graph = helper.make_graph(
            [
                helper.make_node("ReduceSum", ["records", "axes"], ["sum"], keepdims=1),
                helper.make_node("ReduceMax", ["records"], ["max"], axes=[1], keepdims=1),
                helper.make_node("Concat", ["sum", "max"], ["outputs"], axis=1),
            ],
            "sum-and-max",
            [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["batch", 4])],
            [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["batch", 2])],
            [numpy_helper.from_array(np.array([1], np.int64), "axes")],
            doc_string=address_of(self.owner),
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(made.SerializeToString())


@pytest.fixture(scope="module")
def rig(
    tmp_path_factory: pytest.TempPathFactory,
    dev: DevChain,
    deployment: Deployment,
    funded: Callable[[], LocalAccount],
) -> Iterator[Rig]:
    """One coordinator for all of them."""
    made = ModelRig(tmp_path_factory.mktemp("rig"), dev, deployment, owner=funded(), account=funded())
    made.start(**PATIENT)
    made.publish()
    yield made
    made.close()


@pytest.fixture(scope="module")
def stolen(rig: Rig) -> Theft:
    """An honest worker's task, from which it has a credit."""
    honest, job = rig.worker(), submit(rig, "the honest one")
    lease = honest.lease()
    blob, evidence = honest.fake.work(lease, rig.dataset)
    honest.client.upload_blob(blob)
    assert honest.client.evidence(lease.lease_id, evidence).accepted
    rig.finished(job.job_id)
    return Theft(honest, lease, evidence, blob)


def submit(rig: Rig, nonce: str) -> JobView:
    """A job of one task, of which all records are opened."""
    policy = make_policy(shard_size=RECORDS, sample_size=RECORDS, abs_tolerance_e9=1000)
    return rig.client(rig.requester).submit_job(rig.request(policy, nonce=sha256(nonce.encode())))


def finish(scene: Scene, honest: RigWorker) -> None:
    """The honest worker does the task; on a busy machine its short lease may run out."""
    for _ in range(20):
        lease = honest.client.lease(1)
        if lease is None:
            continue
        _, evidence = honest.fake.work(lease, scene.rig.dataset)
        try:
            assert honest.client.evidence(lease.lease_id, evidence).accepted
        except LeaseError:
            continue
        return
    raise AssertionError("the task is not to be had, or its lease ran out each time")


def audited(rig: Rig, job: JobView, folder: Path) -> VerifiedCertificate:
    """What an auditor with the model and a chain node finds about a finished job."""
    document = rig.client(rig.requester).certificate(rig.finished(job.job_id).job_id)
    (folder / "model.onnx").write_bytes(rig.model)
    options = VerifyOptions(
        rpc_url=rig.dev.url, model=folder / "model.onnx", reexecute=RECORDS, allow_development_chain=True
    )
    return verify_certificate(document, options)


def gains_nothing(rig: Rig, adversary: Adversary, stolen: Theft) -> JobView:
    """Let it attack a job; an honest worker then does the task."""
    scene = Scene(rig, submit(rig, adversary.name), stolen, LEASE_S)
    used = adversary.attack(scene)

    task = rig.client(rig.requester).job(scene.job.job_id).tasks[0]
    assert task.state == TaskState.PENDING, f"{adversary.name}: nothing is accepted, the task is there for others"
    for address in used:
        found = tuple(fault.code for fault in task.faults if fault.worker == address)
        assert found == adversary.faults, adversary.name
    assert {fault.worker for fault in task.faults} <= set(used), f"{adversary.name}: nobody else is blamed"
    for address in used:
        seen = next(one for one in stolen.worker.client.workers() if one.address == address)
        assert seen.accepted == 0
        assert seen.penalty >= len(adversary.faults), f"{adversary.name}: it counts against the address"
    finish(scene, stolen.worker)
    return scene.job


def test_sybils_leave_the_last_attempt_to_a_worker_that_has_shown_something(rig: Rig, stolen: Theft) -> None:
    scene = Scene(rig, submit(rig, "again"), stolen, LEASE_S)
    assert len(Sybils().attack(scene)) == MAX_FAULTS - 1
    waiting = rig.client(rig.requester).job(scene.job.job_id).tasks[0].waiting
    assert waiting is not None
    finish(scene, stolen.worker)
    rig.finished(scene.job.job_id)


def test_who_goes_on_cheating_is_barred(rig: Rig, stolen: Theft) -> None:
    """From task to task: each fault counts, until the address gets nothing for a while. Others are not touched."""
    cheat, jobs = rig.worker(), [submit(rig, f"cheat {number}") for number in range(5)]
    scene = Scene(rig, jobs[0], stolen, LEASE_S)
    caught = 0
    while (lease := cheat.client.lease(0)) is not None:
        blob, evidence = cheat.fake.work(lease, rig.dataset, signer=new_account())
        cheat.client.upload_blob(blob)
        with pytest.raises(EvidenceError):
            cheat.client.evidence(lease.lease_id, evidence)
        caught += 1
    assert 1 < caught < len(jobs), "there are tasks left that it has not failed"
    known = {one.address: one for one in stolen.worker.client.workers()}
    assert known[cheat.fake.address].barred_until is not None
    assert known[stolen.worker.fake.address].barred_until is None
    for _ in jobs:
        finish(scene, stolen.worker)
    for job in jobs:
        rig.finished(job.job_id)


def test_another_workers_results_are_not_there_for_a_thief(rig: Rig, stolen: Theft) -> None:
    """Who could read them would have the work done by others, and tier ``commit`` would not notice."""
    thief = rig.worker()
    assert not thief.client.has_blob(sha256(stolen.blob))
    assert not thief.client.has_blob(rig.dataset.digest)


def test_wrong_outputs_pass_the_intake_of_tier_commit_and_not_an_auditor(
    rig: Rig, stolen: Theft, tmp_path: Path
) -> None:
    """By design: intake does not run the model. The statement stands signed and anchored, and is what convicts."""
    job, liar = submit(rig, "wrong outputs"), rig.worker()
    outputs = evaluate(rig.dataset.records)
    outputs[3] += 1
    lease = liar.lease()
    blob, evidence = liar.fake.work(lease, rig.dataset, outputs=outputs)
    liar.client.upload_blob(blob)
    assert liar.client.evidence(lease.lease_id, evidence).accepted
    verdict = audited(rig, job, tmp_path)
    assert verdict.failed is not None
    assert "record 3 differs by 1" in verdict.failed.detail
    assert workers_of(verdict.certificate) == [liar.fake.address], "whose statement it is, is not in doubt"


@pytest.mark.parametrize("waits", [False, True], ids=["forgers", "idlers"])
def test_no_adversary_gains_anything_and_every_job_ends_well(
    rig: Rig, stolen: Theft, tmp_path: Path, waits: bool
) -> None:
    if waits:  # what is about time shall not take long
        rig.stop()
        rig.start(**IMPATIENT)
    jobs = [gains_nothing(rig, adversary, stolen) for adversary in ADVERSARIES if adversary.waits == waits]
    assert len(jobs) > 5
    for job in jobs:
        document = rig.client(rig.requester).certificate(rig.finished(job.job_id).job_id)
        assert workers_of(require_valid(rig, document)) == [stolen.worker.fake.address]
    assert audited(rig, jobs[-1], tmp_path).failed is None


def workers_of(certificate: Certificate | None) -> list[str]:
    """Who signed."""
    assert certificate is not None
    return [one.evidence.statement.worker for one in certificate.tasks]


def test_the_names_of_adversaries_are_their_own() -> None:
    names = [each.name for each in ADVERSARIES]
    assert len(set(names)) == len(names)
