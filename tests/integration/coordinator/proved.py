"""A rig whose model has a circuit, and a worker that proves with it, step by step as a test wants."""

from __future__ import annotations

import secrets

from circuits.build import ProvingCircuit
from circuits.process import Calls
from circuits.proving import Prover
from contracts.chain import Chain
from rexis.api import JobView, Lease, ModelRegistration, PaymentOffer, WorkerRegistration
from rexis.protocol.certificate import Certificate
from rexis.protocol.challenge import challenge_indices
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.evidence import Evidence, Measured, RecordProof
from rexis.protocol.policy import Tier
from rexis.protocol.records import Integers, TaskTrees, input_root, quantise
from rexis.protocol.signing import address_of, new_account, sign_digest
from rexis.protocol.statement import Statement, statement_for
from rexis.protocol.tensors import pack_outputs
from tests.integration.coordinator.rig import Rig
from tests.unit.coordinator.fakes import make_policy
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.report import Status


class ProvedRig:
    """A :class:`Rig` whose model has a circuit, and one worker that proves with it."""

    def __init__(self, rig: Rig, circuit: ProvingCircuit, ezkl: Calls) -> None:
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

    @property
    def inputs(self) -> Integers:
        """The dataset in fixed point."""
        return quantise(self.rig.dataset.records, self.pinned.input_scale)

    def submit(self, tier: Tier, payment: PaymentOffer | None = None, **policy: object) -> JobView:
        data = self.rig.dataset
        root = input_root(tier, self.pinned, data.records, data.salts)
        wanted = make_policy(tier=tier, **policy)
        request = self.rig.request(wanted, circuit=self.pinned, input_root=root, nonce=Digest(secrets.token_bytes(32)))
        return self.rig.client(self.rig.requester).submit_job(request, payment=payment)

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
        inputs = self.inputs
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
