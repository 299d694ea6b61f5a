"""Jobs of tiers ``sampled`` and ``zk`` with real proofs of a tiny circuit, on a real chain."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from circuits.artefacts import CircuitCache
from circuits.build import ProvingCircuit, build_circuit
from circuits.process import EzklProcess
from circuits.srs import ensure_development_srs
from contracts.chain import Chain
from rexis.api import TaskState
from rexis.protocol.digests import sha256
from rexis.protocol.errors import DigestMismatchError, EvidenceError, MalformedError
from rexis.protocol.policy import Tier
from tests.integration.circuits.tiny_circuit import TINY, mlp
from tests.integration.coordinator.proved import ProvedRig
from tests.integration.coordinator.rig import Rig


@pytest.fixture(scope="module")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> ProvingCircuit:
    pytest.importorskip("ezkl")
    folder = tmp_path_factory.mktemp("owner")
    with EzklProcess() as ezkl:
        srs = ensure_development_srs(TINY.logrows, folder)
        return build_circuit(mlp(0), TINY, srs, CircuitCache(folder / "keys"), ezkl)


@pytest.fixture
def proved(rig: Rig, circuit: ProvingCircuit) -> Iterator[ProvedRig]:
    with EzklProcess() as ezkl:
        yield ProvedRig(rig, circuit, ezkl)


def test_sampled(proved: ProvedRig) -> None:
    job = proved.submit(Tier.SAMPLED, shard_size=5, sample_size=2, max_attempts=3)
    lease = proved.lease()
    outputs, trees, statement = proved.compute(lease)
    with pytest.raises(MalformedError, match="challenge is not known"):
        proved.worker.evidence(lease.lease_id, proved.evidence(lease, outputs, trees, statement, [0, 1]))

    indices = proved.challenged(lease, statement)
    others = [index for index in range(5) if index not in indices][:2]
    with pytest.raises(EvidenceError, match="records that the tier asks for"):
        proved.worker.evidence(lease.lease_id, proved.evidence(lease, outputs, trees, statement, others))

    proved.new_worker()
    lease = proved.lease()
    outputs, trees, statement = proved.compute(lease)
    indices = proved.challenged(lease, statement)
    proved.rig.stop(signal.SIGKILL)
    proved.rig.start()
    evidence = proved.evidence(lease, outputs, trees, statement, indices)
    assert proved.worker.evidence(lease.lease_id, evidence).accepted
    commitment = proved.certificate(job).tasks[0].commitment
    assert commitment is not None
    assert commitment.attempt == 2


def test_an_altered_output_that_is_drawn_has_no_proof(proved: ProvedRig) -> None:
    proved.submit(Tier.SAMPLED, shard_size=5, sample_size=5)
    lease = proved.lease()
    outputs, trees, statement = proved.compute(lease, altered=3)
    indices = proved.challenged(lease, statement)
    with pytest.raises(EvidenceError, match="proof of record 3"):
        proved.worker.evidence(lease.lease_id, proved.evidence(lease, outputs, trees, statement, indices))


def test_another_statement_than_the_committed_one(proved: ProvedRig) -> None:
    job = proved.submit(Tier.SAMPLED, shard_size=5, sample_size=1)
    lease = proved.lease()
    indices = proved.challenged(lease, proved.compute(lease, altered=0)[2])
    outputs, trees, statement = proved.compute(lease)
    with pytest.raises(EvidenceError, match="was committed"):
        proved.worker.evidence(lease.lease_id, proved.evidence(lease, outputs, trees, statement, indices))
    assert proved.rig.client(proved.rig.requester).job(job.job_id).tasks[0].state == TaskState.PENDING


def test_zk_certified_on_chain_through_a_kill(proved: ProvedRig) -> None:
    job = proved.submit(Tier.ZK, sample_size=0, certify_on_chain=True)
    for _ in range(2):
        lease = proved.lease()
        outputs, trees, statement = proved.compute(lease)
        indices = list(range(lease.start, lease.start + lease.count))
        evidence = proved.evidence(lease, outputs, trees, statement, indices)
        assert proved.worker.evidence(lease.lease_id, evidence).accepted
    chain = Chain.connect(proved.rig.dev.url)
    chain.attach(proved.rig.deployment)
    digest = lease.domain.digest(statement)
    while chain.certified_count(digest) == 0:  # among the last records
        chain.wait_for_block(chain.block_number() + 1, wait_s=10)
    proved.rig.stop(signal.SIGKILL)
    proved.rig.start()
    certificate = proved.certificate(job)
    assert [len(task.certified) for task in certificate.tasks] == [3, 2]
    assert len({one for task in certificate.tasks for one in task.certified}) == 5


def test_a_vka_of_another_circuit_is_refused(proved: ProvedRig) -> None:
    words = [*proved.circuit.artefacts.vka]
    words[-1] = sha256(b"another")
    with pytest.raises(DigestMismatchError, match="the words have digest"):
        proved.rig.client(proved.rig.owner).register_model(proved.registration.model_copy(update={"vka": words}))
