"""A small model, a dataset of its rows, and a worker that trains by protocol functions: its steps are sums."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
import onnx
from eth_account.signers.local import LocalAccount
from onnx import TensorProto, helper, numpy_helper

from coordinator.services import Coordinator
from rexis.api import JobSubmission, JobView, Lease, ModelRegistration, VerdictView, WorkerRegistration
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import ZERO_DIGEST, Digest, sha256
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Tier
from rexis.protocol.records import input_root
from rexis.protocol.signing import address_of, new_account, sign_digest
from rexis.protocol.statement import Kind, statement_for
from rexis.protocol.tensors import Dataset
from rexis.protocol.training import TrainingPlan, TrainingRequest
from rexis.protocol.transcript import (
    Checkpoint,
    Platform,
    SignedCheckpoint,
    State,
    TrainingEvidence,
    initial_state,
    pack_state,
    state_root_of,
    transcript_tree,
    weights_of,
)
from rexis.training.exporting import export_checkpoint, initial_weights
from tests.unit.coordinator.fakes import make_dataset, make_policy
from tests.unit.coordinator.scene import Scene

STEPS, INTERVAL = 5, 2


def make_model(seed: int = 7) -> bytes:
    """A linear classifier of 3 values into 2 classes."""
    rng = np.random.default_rng(seed)
    weights = numpy_helper.from_array(rng.normal(size=(3, 2)).astype(np.float32), "w")
    bias = numpy_helper.from_array(np.zeros(2, np.float32), "b")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weights, bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def make_rows(count: int = 8) -> Dataset:
    """Rows of 3 values and a class."""
    made = make_dataset(count)
    records = made.records.copy()
    records[:, 3] = np.arange(count) % 2
    return Dataset(records, made.salts)


def make_plan(**changes: object) -> TrainingPlan:
    fields: dict[str, object] = {
        "format": "rexis-training-plan-v1",
        "loss": "cross-entropy",
        "optimiser": {"kind": "sgd", "learningRateE9": 100_000_000, "momentumE9": 900_000_000},
        "schedule": {},
        "inputShape": [3],
        "targetShape": [],
        "steps": STEPS,
        "batchSize": 4,
        "checkpointInterval": INTERVAL,
        "orderSeed": str(sha256(b"order")),
        "trainable": ["b", "w"],
        "powers": ["permute", "sign"],
    }
    return TrainingPlan.from_object({**fields, **changes})


@dataclass
class TrainingScene:
    """A model and a dataset that are published, on top of the usual scene."""

    scene: Scene
    model: bytes = field(default_factory=make_model)
    dataset: Dataset = field(default_factory=make_rows)

    @property
    def coordinator(self) -> Coordinator:
        return self.scene.coordinator

    @property
    def model_digest(self) -> Digest:
        return sha256(self.model)

    def publish(self) -> None:
        self.scene.ledger.register_model(address_of(self.scene.owner), digest=self.model_digest)
        self.scene.upload(self.scene.owner, self.model)
        self.register(self.model_digest)
        self.scene.upload(self.scene.requester, self.dataset.to_bytes())
        self.coordinator.catalogue.register_dataset(address_of(self.scene.requester), self.dataset.digest)

    def register(self, digest: Digest) -> None:
        registration = ModelRegistration(model_digest=digest, key_epoch=1, circuit=NO_CIRCUIT, vka=[])
        self.coordinator.catalogue.register_model(address_of(self.scene.owner), registration)

    def request(self, plan: TrainingPlan, **changes: object) -> TrainingRequest:
        fields: dict[str, object] = {
            "kind": Kind.TRAINING,
            "model_digest": self.model_digest,
            "key_epoch": 1,
            "circuit": NO_CIRCUIT,
            "dataset_digest": self.dataset.digest,
            "input_root": input_root(Tier.COMMIT, NO_CIRCUIT, self.dataset.records, self.dataset.salts),
            "input_size": len(self.dataset),
            "record_start": 0,
            "record_count": len(self.dataset),
            "policy": make_policy(),
            "requester": address_of(self.scene.requester),
            "coordinator": self.coordinator.address,
            "nonce": sha256(b"nonce"),
            "plan_digest": plan.digest,
        }
        return TrainingRequest(**{**fields, **changes})  # type: ignore[arg-type]

    def submission(self, plan: TrainingPlan | None = None, **changes: object) -> JobSubmission:
        plan = plan or make_plan()
        request = self.request(plan, **changes)
        job_id = request.job_id(self.coordinator.deployment.domain)
        return JobSubmission(request=request, signature=sign_digest(self.scene.requester, job_id), plan=plan)

    def submit(self, plan: TrainingPlan | None = None, **changes: object) -> JobView:
        submission = self.submission(plan, **changes)
        return self.coordinator.jobs.submit(address_of(self.scene.requester), submission)[0]

    def trainer(self) -> FakeTrainer:
        trainer = FakeTrainer(self.scene)
        registration = WorkerRegistration(
            name="t", provider="CPUExecutionProvider", tiers=[Tier.COMMIT], memory_bytes=1, trains=[Tier.COMMIT]
        )
        self.coordinator.workers.register(trainer.address, registration)
        return trainer


@dataclass
class FakeTrainer:
    """Adds 1 to everything in each step, and hands in what the protocol asks for."""

    scene: Scene
    account: LocalAccount = field(default_factory=new_account)

    @property
    def address(self) -> Address:
        return address_of(self.account)

    def lease(self) -> Lease:
        lease = self.scene.coordinator.leases.grant(self.address)
        assert lease is not None
        return lease

    def state(self, lease: Lease, step: int, model: bytes) -> State:
        assert lease.plan is not None
        start = initial_state(lease.plan, initial_weights(model, lease.plan.trainable))
        return {name: value + np.float32(step) for name, value in start.items()}

    def make(self, lease: Lease, before: SignedCheckpoint | None, model: bytes, **changes: object) -> SignedCheckpoint:
        """The checkpoint after `before`, with its blobs uploaded."""
        plan, domain = lease.plan, lease.domain
        assert plan is not None
        previous = None if before is None else before.checkpoint
        index = 0 if previous is None else previous.index + 1
        step = plan.step_of(index)
        state = self.state(lease, step, model)
        blob, losses = pack_state(state), np.linspace(1, 0.5, step - (previous.step if previous else 0), dtype="<f4")
        self.scene.upload(self.account, blob)
        model_digest = ZERO_DIGEST
        if index == plan.segments:
            trained = export_checkpoint(model, weights_of(state))
            model_digest = self.scene.upload(self.account, trained)
        fields: dict[str, object] = {
            "task_id": self.statement(lease, ZERO_DIGEST).task_id,
            "index": index,
            "step": step,
            "cursor": step * plan.batch_size,
            "state_root": state_root_of(step, step * plan.batch_size, state),
            "losses_digest": sha256(losses.tobytes()),
            "model_digest": model_digest,
            "previous": previous.digest if previous else ZERO_DIGEST,
            "worker": self.address,
        }
        checkpoint = Checkpoint(**{**fields, **changes})  # type: ignore[arg-type]
        return SignedCheckpoint(
            checkpoint=checkpoint,
            losses=losses.tobytes(),
            state_digest=sha256(blob),
            signature=sign_digest(self.account, domain.digest(checkpoint)),
        )

    def hand_in(self, lease: Lease, signed: SignedCheckpoint) -> None:
        self.scene.coordinator.checkpoints.add(lease.lease_id, self.address, signed)

    def train(self, lease: Lease, model: bytes, until: int | None = None) -> list[SignedCheckpoint]:
        """Go on from the lease's transcript, up to a checkpoint."""
        assert lease.plan is not None
        found = list(lease.transcript)
        while len(found) <= (lease.plan.segments if until is None else until):
            found.append(self.make(lease, found[-1] if found else None, model))
            self.hand_in(lease, found[-1])
        return found

    def finish(self, lease: Lease, model: bytes) -> VerdictView:
        """Train to the end, and hand the evidence in."""
        return self.send(lease, self.evidence(lease, self.train(lease, model)))

    def send(self, lease: Lease, evidence: TrainingEvidence) -> VerdictView:
        """What the route does."""
        intake = self.scene.coordinator.training_intake

        async def sent() -> VerdictView:
            assert len(evidence.to_json()) <= intake.admit(lease.lease_id, self.address)
            return await intake.check(lease.lease_id, self.address, await intake.store(evidence))

        return asyncio.run(sent())

    def statement(self, lease: Lease, root: Digest):  # type: ignore[no-untyped-def]
        return statement_for(
            lease.request,
            lease.domain,
            start=lease.start,
            count=lease.count,
            output_root=root,
            worker=self.address,
            nonce=lease.nonce,
        )

    def evidence(self, lease: Lease, transcript: list[SignedCheckpoint]) -> TrainingEvidence:
        statement = self.statement(lease, transcript_tree([signed.checkpoint for signed in transcript]).root)
        return TrainingEvidence(
            statement=statement,
            signature=sign_digest(self.account, lease.domain.digest(statement)),
            transcript=transcript,
            platform=Platform(torch="0", device="cpu", machine="none", threads=1),
            compute_ms=1,
        )
