"""A published model and dataset, a requester, and workers, straight on the coordinator's parts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from eth_account.signers.local import LocalAccount

from coordinator.services import Coordinator
from coordinator.standing import note_accepted
from rexis.api import JobSubmission, JobView, Lease, ModelRegistration, VerdictView, WorkerRegistration
from rexis.protocol.circuit import NO_CIRCUIT, Circuit
from rexis.protocol.digests import Digest
from rexis.protocol.evidence import Evidence
from rexis.protocol.parsing import enum_name
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, new_account, sign_digest, sign_text
from rexis.protocol.statement import JobRequest
from rexis.protocol.tensors import Dataset
from tests.unit.coordinator.fakes import MODEL, MODEL_DIGEST, FakeLedger, FakeWorker, make_dataset, make_request


@dataclass
class Scene:
    coordinator: Coordinator
    ledger: FakeLedger
    owner: LocalAccount = field(default_factory=new_account)
    requester: LocalAccount = field(default_factory=new_account)
    dataset: Dataset = field(default_factory=make_dataset)

    def publish(self) -> None:
        self.ledger.register_model(address_of(self.owner))
        self.upload(self.owner, MODEL)
        self.coordinator.catalogue.register_model(
            address_of(self.owner),
            ModelRegistration(model_digest=MODEL_DIGEST, key_epoch=1, circuit=NO_CIRCUIT, vka=[]),
        )
        self.upload(self.requester, self.dataset.to_bytes())
        self.coordinator.catalogue.register_dataset(address_of(self.requester), self.dataset.digest)

    def upload(self, account: LocalAccount, data: bytes) -> Digest:
        digest = self.coordinator.blobs.put(data)
        self.coordinator.access.uploaded(address_of(account), digest, len(data))
        return digest

    def keep_circuit(self, circuit: Circuit) -> None:
        """Have a circuit's blobs count as there, for jobs whose proofs nobody makes."""
        for digest in (circuit.settings_digest, circuit.vk_digest, circuit.srs_digest):
            self.coordinator.access.uploaded(address_of(self.owner), digest, 1)

    def request(self, **changes: object) -> JobRequest:
        return make_request(self.dataset, address_of(self.requester), self.coordinator.address, **changes)

    def sign(self, request: JobRequest, signer: LocalAccount | None = None) -> JobSubmission:
        domain = self.coordinator.deployment.domain
        return JobSubmission(request=request, signature=sign_digest(signer or self.requester, request.job_id(domain)))

    def submit(self, **changes: object) -> JobView:
        return self.coordinator.jobs.submit(address_of(self.requester), self.sign(self.request(**changes)))[0]

    def job(self, job: JobView) -> JobView:
        return self.coordinator.views.job(address_of(self.requester), job.job_id)

    def worker(self, *tiers: Tier) -> FakeWorker:
        worker = FakeWorker()
        self.coordinator.workers.register(
            worker.address,
            WorkerRegistration(
                name="w", provider="CPUExecutionProvider", tiers=list(tiers) or [Tier.COMMIT], memory_bytes=1
            ),
        )
        return worker

    def veteran(self, *tiers: Tier) -> FakeWorker:
        """A worker that has done a task of each of its tiers."""
        worker = self.worker(*tiers)
        for tier in tiers or (Tier.COMMIT,):
            self.prove(worker, tier)
        return worker

    def prove(self, worker: FakeWorker, tier: Tier = Tier.COMMIT) -> FakeWorker:
        """Let it have done a task of a tier: it is on probation no more."""
        with self.coordinator._store.writing() as session:
            note_accepted(session, worker.address, enum_name(tier), 1, 0)
        return worker

    def lease(self, worker: FakeWorker) -> Lease:
        lease = self.coordinator.leases.grant(worker.address)
        assert lease is not None
        return lease

    def hand_in(self, worker: FakeWorker, lease: Lease) -> VerdictView:
        blob, evidence = worker.work(lease, self.dataset)
        self.upload(worker.account, blob)
        return self.check(worker, lease, evidence)

    def check(self, worker: FakeWorker, lease: Lease, evidence: Evidence) -> VerdictView:
        """What the route does."""

        async def send() -> VerdictView:
            intake = self.coordinator.intake
            intake.admit(lease.lease_id, worker.address)
            return await intake.check(lease.lease_id, worker.address, await intake.store(evidence))

        return asyncio.run(send())

    def do_all(self) -> FakeWorker:
        worker = self.worker()
        while (lease := self.coordinator.leases.grant(worker.address)) is not None:
            self.hand_in(worker, lease)
        return worker

    def outputs(self, job: JobView, start: int = 0, end: int | None = None) -> bytes:
        """A job's outputs, or a part of them."""
        joined = self.coordinator.jobs.outputs(address_of(self.requester), job.job_id)

        async def read() -> bytes:
            return b"".join([chunk async for chunk in joined.stream(start, joined.size if end is None else end)])

        return asyncio.run(read())

    def token(self, account: LocalAccount) -> str:
        auth = self.coordinator.auth
        message = auth.challenge(address_of(account), "127.0.0.1:8080", "http://127.0.0.1:8080").message
        return auth.token(message, sign_text(account, message)).token

    def headers(self, account: LocalAccount | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(account or self.requester)}"}
