"""Jobs of tiers ``sampled`` and ``zk`` with real proofs of a tiny circuit, on a real chain."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from circuits.artefacts import CircuitCache
from circuits.build import ProvingCircuit, build_circuit
from circuits.process import EzklProcess
from circuits.proving import Prover
from circuits.srs import ensure_development_srs
from contracts.chain import Chain
from rexis.api import JobView, Lease, ModelRegistration, TaskState, WorkerRegistration
from rexis.protocol.certificate import Certificate
from rexis.protocol.challenge import challenge_indices
from rexis.protocol.digests import sha256
from rexis.protocol.errors import DigestMismatchError, EvidenceError, MalformedError
from rexis.protocol.evidence import Evidence, Measured, RecordProof
from rexis.protocol.policy import Tier
from rexis.protocol.records import Integers, TaskTrees, input_root, quantise
from rexis.protocol.signing import address_of, new_account, sign_digest
from rexis.protocol.statement import Statement, statement_for
from rexis.protocol.tensors import pack_outputs
from tests.integration.circuits.tiny_circuit import TINY, mlp
from tests.integration.coordinator.rig import Rig
from tests.unit.coordinator.fakes import make_policy
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.report import Status


@pytest.fixture(scope="module")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> ProvingCircuit:
    pytest.importorskip("ezkl")
    folder = tmp_path_factory.mktemp("owner")
    with EzklProcess() as ezkl:
        srs = ensure_development_srs(TINY.logrows, folder)
        return build_circuit(mlp(0), TINY, srs, CircuitCache(folder / "keys"), ezkl)


class ProvedRig:
    """A :class:`Rig` whose model has a circuit, and one worker that proves with it."""

    def __init__(self, rig: Rig, circuit: ProvingCircuit, ezkl: EzklProcess) -> None:
        self.rig, self.circuit, self.pinned = rig, circuit, circuit.artefacts.description
        self.prover = Prover(circuit, ezkl)
        chain = Chain.connect(rig.dev.url, account=rig.owner)
        chain.attach(rig.deployment)
        chain.register(rig.model_digest, 1, self.pinned)
        owner = rig.client(rig.owner)
        for blob in (rig.model, circuit.artefacts.settings, circuit.artefacts.vk, circuit.srs.path):
            owner.upload_blob(blob)
        self.registration = ModelRegistration(
            model_digest=rig.model_digest, key_epoch=1, circuit=self.pinned, vka=list(circuit.artefacts.vka)
        )
        owner.register_model(self.registration)
        requester = rig.client(rig.requester)
        requester.upload_blob(rig.dataset.to_bytes())
        requester.register_dataset(rig.dataset.digest)
        self.new_worker()

    def new_worker(self) -> None:
        self.account = new_account()
        self.worker = self.rig.client(self.account)
        self.worker.register_worker(
            WorkerRegistration(
                name="prover", provider="CPUExecutionProvider", tiers=[Tier.SAMPLED, Tier.ZK], memory_bytes=1 << 30
            )
        )

    def submit(self, tier: Tier, **policy: object) -> JobView:
        data = self.rig.dataset
        root = input_root(tier, self.pinned, data.records, data.salts)
        wanted = make_policy(tier=tier, **policy)
        return self.rig.client(self.rig.requester).submit_job(
            self.rig.request(wanted, circuit=self.pinned, input_root=root)
        )

    def lease(self) -> Lease:
        lease = self.worker.lease(5)
        assert lease is not None
        assert lease.vka == list(self.circuit.artefacts.vka)
        return lease

    def compute(self, lease: Lease, *, altered: int | None = None) -> tuple[Integers, TaskTrees, Statement]:
        """Outputs, trees and statement; the output of record `altered` is changed."""
        data = self.rig.dataset
        rows = quantise(data.records[lease.start : lease.start + lease.count], self.pinned.input_scale)
        outputs = self.prover.outputs(rows)
        if altered is not None:
            outputs = outputs.copy()
            outputs[altered - lease.start] += 1
        trees = TaskTrees(lease.request.policy.tier, self.pinned, data.records, data.salts, lease.start, outputs)
        statement = statement_for(
            lease.request,
            lease.domain,
            start=lease.start,
            count=lease.count,
            output_root=trees.output_root,
            worker=address_of(self.account),
            nonce=lease.nonce,
        )
        return outputs, trees, statement

    def evidence(
        self, lease: Lease, outputs: Integers, trees: TaskTrees, statement: Statement, indices: list[int]
    ) -> Evidence:
        """Uploads the outputs; proves the given records."""
        blob = pack_outputs(outputs)
        self.worker.upload_blob(blob)
        inputs = quantise(self.rig.dataset.records, self.pinned.input_scale)
        return Evidence(
            statement=statement,
            signature=sign_digest(self.account, lease.domain.digest(statement)),
            outputs_digest=sha256(blob),
            openings=[trees.open(index) for index in indices],
            proofs=[
                RecordProof(index=index, proofs=self.prover.prove(inputs[index]).proofs, boundaries=[])
                for index in indices
            ],
            measured=Measured(
                max_abs_error_e9=0, rms_error_e9=0, compute_ms=1, prove_ms=1, provider="CPUExecutionProvider"
            ),
        )

    def challenged(self, lease: Lease, statement: Statement) -> list[int]:
        """Commit, and wait for the records to prove."""
        self.worker.commitment(lease.lease_id, statement)
        challenge = self.worker.challenge(lease.lease_id)
        assert challenge is not None
        drawn = challenge.commitment.challenge_block_hash
        digest = lease.domain.digest(statement)
        return challenge_indices(digest, drawn, lease.start, lease.count, lease.request.policy.sample_size)

    def certificate(self, job: JobView) -> Certificate:
        """The finished job's certificate, which the independent verifier accepts."""
        rig = self.rig
        document = rig.client(rig.requester).certificate(rig.finished(job.job_id, 60).job_id)
        options = VerifyOptions(
            rpc_url=rig.dev.url,
            srs=self.circuit.srs.path,
            allow_development_srs=True,
            allow_development_chain=True,
        )
        verdict = verify_certificate(document, options)
        assert all(step.status == Status.OK for step in verdict.steps), verdict.steps
        assert verdict.certificate is not None
        assert verdict.certificate.development == ["chain", "srs"]
        return verdict.certificate


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
