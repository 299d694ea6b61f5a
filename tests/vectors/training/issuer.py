"""A training worker and a coordinator in memory: honest by default, dishonest where a :class:`Cheat` says so.

The chain is a real anvil with the real contracts, and steps are really taken, of a 4-3-2 network on 24 records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from contracts.chain import Chain, Deployment
from contracts.devchain import DevChain
from rexis.protocol.certificate import FORMAT
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import ZERO_DIGEST, Digest, sha256
from rexis.protocol.evidence import Evidence, Measured
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.parsing import to_hex
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.records import TaskTrees, input_root
from rexis.protocol.signing import address_of, sign_digest
from rexis.protocol.statement import JobRequest, Kind, Statement, statement_for
from rexis.protocol.tensors import Dataset, pack_outputs
from rexis.protocol.training import Optimiser, Schedule, TrainingPlan, TrainingRequest
from rexis.protocol.training_certificate import TRAINING_FORMAT
from rexis.protocol.training_kinds import LossKind, OptimiserKind, ScheduleKind
from rexis.protocol.transcript import (
    Checkpoint,
    SignedCheckpoint,
    State,
    TrainingEvidence,
    pack_state,
    state_root_of,
    transcript_tree,
    weights_of,
)
from rexis.protocol.typed_data import Domain
from rexis.training.exporting import export_checkpoint
from rexis.training.platforms import this_platform
from rexis.training.session import Losses, Trainer
from tests.vectors.certificates.accounts import account
from tests.vectors.certificates.issuer import ISSUED_AT, Document, network, seal

RECORDS, BATCH, STEPS, INTERVAL = 24, 4, 12, 3
SEGMENTS = STEPS // INTERVAL
# Of a segment's way: another platform's float32 differs by 1e-5 of it.
TOLERANCE_E9 = 1_000_000

PLAN = TrainingPlan(
    format="rexis-training-plan-v1",
    loss=LossKind.CROSS_ENTROPY,
    optimiser=Optimiser(
        kind=OptimiserKind.ADAM,
        learning_rate_e9=10_000_000,
        beta1_e9=900_000_000,
        beta2_e9=999_000_000,
        epsilon_e12=10_000,
    ),
    schedule=Schedule(kind=ScheduleKind.COSINE, warmup_steps=2),
    input_shape=[4],
    target_shape=[],
    steps=STEPS,
    batch_size=BATCH,
    checkpoint_interval=INTERVAL,
    order_seed=sha256(b"rexis training vectors: order"),
    trainable=["b1", "b2", "w1", "w2"],
    powers=[],
)


def dataset(seed: int) -> Dataset:
    """Records of four values and a class."""
    rng = np.random.default_rng(seed)
    inputs = rng.uniform(-2, 2, (RECORDS, 4)).astype(np.float32)
    classes = (inputs.sum(axis=1, keepdims=True) > 0).astype(np.float32)
    return Dataset(np.hstack([inputs, classes]), rng.integers(0, 256, (RECORDS, 32), dtype=np.uint8))


@dataclass(frozen=True)
class TrainingJob:
    """A signed request, and what belongs to it."""

    request: TrainingRequest
    signature: bytes
    domain: Domain
    plan: TrainingPlan
    data: Dataset
    base: bytes

    @property
    def job_id(self) -> Digest:
        return self.request.job_id(self.domain)


def honest_steps(trainer: Trainer, segment: int) -> Losses:
    """The steps of a segment."""
    return trainer.advance(trainer.plan.step_of(segment + 1) - trainer.plan.step_of(segment))


@dataclass(frozen=True)
class Cheat:
    """How worker and coordinator depart from the protocol; by default not at all.

    Attributes
    ----------
    take
        Takes a segment's steps.
    plan, data
        What the worker really trains by and with.
    state
        From a checkpoint's index and its state to the one that is committed, and gone on from.
    losses
        From a checkpoint's index and its losses to those that are signed.
    workers
        Who took each segment, and before it the first state; and who signs for each, if it is somebody else.
    checkpoints
        From the honest, unsigned checkpoints to those that are signed.
    signing_domain
        What checkpoints are signed for.
    statement
        From the honest statement to the one that is signed.
    signer
        Whose key signs it; by default the last worker's.
    discarded
        Commitments of other statements that the coordinator made before.
    commits, anchors
        Whether they are made at all.
    """

    take: Callable[[Trainer, int], Losses] = honest_steps
    plan: TrainingPlan | None = None
    data: Dataset | None = None
    state: Callable[[int, State], State] = lambda index, honest: honest
    losses: Callable[[int, Losses], Losses] = lambda index, honest: honest
    workers: Sequence[str] = ("worker",) * (SEGMENTS + 1)
    signers: Sequence[str] | None = None
    checkpoints: Callable[[list[Checkpoint]], list[Checkpoint]] = lambda honest: honest
    signing_domain: Domain | None = None
    statement: Callable[[Statement], Statement] = lambda honest: honest
    signer: str | None = None
    discarded: int = 0
    commits: bool = True
    anchors: bool = True


HONEST = Cheat()


@dataclass
class TrainingIssuer:
    """Makes training jobs and issues their certificates.

    Attributes
    ----------
    artifacts
        Files that certificates name, by digest.
    """

    dev: DevChain
    artifacts: dict[Digest, bytes] = field(default_factory=dict)
    _chains: dict[str, Chain] = field(default_factory=dict)
    _jobs: int = 0
    _epochs: int = 1

    def __post_init__(self) -> None:
        self.base, self.other_base = network(11), network(12)
        self.data, self.other_data = dataset(13), dataset(14)
        self.deployment: Deployment = self._node("owner").deploy_all()
        for model in (self.base, self.other_base):
            self.register(model)
        for data in (self.base, self.other_base, self.data.to_bytes(), self.other_data.to_bytes()):
            self.keep(data)

    def keep(self, data: bytes) -> Digest:
        """Make a file an artifact."""
        self.artifacts[sha256(data)] = data
        return sha256(data)

    def chain(self, name: str) -> Chain:
        """A connection as one of the accounts."""
        if name not in self._chains:
            self._chains[name] = self._node(name)
            self._chains[name].discover()
        return self._chains[name]

    def _node(self, name: str) -> Chain:
        self.dev.fund(address_of(account(name)))
        return Chain.connect(self.dev.url, account=account(name))

    def register(self, model: bytes, epoch: int = 1) -> None:
        """Register a model without circuit."""
        self.chain("owner").register(sha256(model), epoch, NO_CIRCUIT)

    def job(
        self,
        tier: Tier,
        *,
        sample: int = 0,
        plan: TrainingPlan = PLAN,
        data: Dataset | None = None,
        base: bytes | None = None,
        root: Digest | None = None,
        epoch: int = 1,
        domain: Domain | None = None,
        signer: str = "requester",
    ) -> TrainingJob:
        """A new job, signed."""
        data, base, domain = data or self.data, base or self.base, domain or self.deployment.domain
        self._jobs += 1
        request = TrainingRequest(
            kind=Kind.TRAINING,
            model_digest=sha256(base),
            key_epoch=epoch,
            circuit=NO_CIRCUIT,
            dataset_digest=data.digest,
            input_root=root or input_root(tier, NO_CIRCUIT, data.records, data.salts),
            input_size=len(data),
            record_start=0,
            record_count=len(data),
            policy=self._policy(tier, sample, len(data), rel=TOLERANCE_E9),
            requester=address_of(account("requester")),
            coordinator=address_of(account("coordinator")),
            nonce=sha256(b"training job ", str(self._jobs).encode()),
            plan_digest=plan.digest,
        )
        return TrainingJob(request, sign_digest(account(signer), request.job_id(domain)), domain, plan, data, base)

    def issue(self, job: TrainingJob, cheat: Cheat = HONEST) -> Document:
        """Run a job and return its sealed certificate."""
        transcript = self._train(job, cheat)
        return self.certify(job, transcript, cheat)

    def certify(self, job: TrainingJob, transcript: list[SignedCheckpoint], cheat: Cheat = HONEST) -> Document:
        """The certificate of a transcript."""
        worker = cheat.workers[-1]
        tree = transcript_tree([signed.checkpoint for signed in transcript])
        honest = self.statement(job.request, job.domain, tree.root, worker)
        statement = cheat.statement(honest)
        digest = job.domain.digest(statement)
        evidence = TrainingEvidence(
            statement=statement,
            signature=sign_digest(account(cheat.signer or worker), digest),
            transcript=transcript,
            platform=this_platform("cpu", 1),
            compute_ms=7,
        )
        commitment = self._commit(statement, digest, cheat) if job.request.policy.tier == Tier.SAMPLED else None
        return seal(
            {
                **self._head(job.request, job.signature, job.domain),
                "format": TRAINING_FORMAT,
                "plan": job.plan.to_object(),
                "evidence": evidence.to_object(),
                "commitment": commitment,
                "anchor": self._anchor(digest, cheat)[0],
            }
        )

    def evaluation(self, model: bytes, *, epoch: int) -> Document:
        """The certificate of an evaluation of a model at tier ``commit``, two records opened."""
        self.register(model, epoch)
        values = np.random.default_rng(15).uniform(-2, 2, (2, 4)).astype(np.float32)
        data = Dataset(values, np.zeros((2, 32), np.uint8))
        self._jobs += 1
        request = JobRequest(
            kind=Kind.EVALUATION,
            model_digest=self.keep(model),
            key_epoch=epoch,
            circuit=NO_CIRCUIT,
            dataset_digest=data.digest,
            input_root=input_root(Tier.COMMIT, NO_CIRCUIT, data.records, data.salts),
            input_size=2,
            record_start=0,
            record_count=2,
            policy=self._policy(Tier.COMMIT, 2, 2, rel=10_000),
            requester=address_of(account("requester")),
            coordinator=address_of(account("coordinator")),
            nonce=sha256(b"evaluation job ", str(self._jobs).encode()),
        )
        domain = self.deployment.domain
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        outputs: NDArray[np.float32] = np.asarray(session.run(None, {"input": values})[0], dtype=np.float32)
        trees = TaskTrees(Tier.COMMIT, NO_CIRCUIT, data.records, data.salts, 0, outputs)
        statement = self.statement(request, domain, trees.output_root, "worker")
        digest = domain.digest(statement)
        anchor, opening_block_hash = self._anchor(digest, HONEST)
        evidence = Evidence(
            statement=statement,
            signature=sign_digest(account("worker"), digest),
            outputs_digest=sha256(pack_outputs(outputs)),
            openings=[trees.open(0), trees.open(1)],
            proofs=[],
            measured=Measured.nothing("CPUExecutionProvider"),
        )
        task: Document = {
            "evidence": evidence.to_object(),
            "commitment": None,
            "openingBlockHash": opening_block_hash,
            "anchor": anchor,
            "certified": [],
        }
        head = self._head(request, sign_digest(account("requester"), request.job_id(domain)), domain)
        return seal({**head, "format": FORMAT, "circuit": None, "tasks": [task]})

    @staticmethod
    def statement(request: JobRequest, domain: Domain, root: Digest, worker: str) -> Statement:
        """What an honest worker says of the whole range."""
        return statement_for(
            request,
            domain,
            start=0,
            count=request.record_count,
            output_root=root,
            worker=address_of(account(worker)),
            nonce=sha256(b"lease ", request.nonce),
        )

    @cached_property
    def _sampled(self) -> Document:
        return self.issue(self.job(Tier.SAMPLED, sample=SEGMENTS))

    @cached_property
    def _committed(self) -> Document:
        return self.issue(self.job(Tier.COMMIT))

    def sampled(self) -> Document:
        """Tier sampled, all segments drawn."""
        return deepcopy(self._sampled)

    def commit(self) -> Document:
        """Tier commit."""
        return deepcopy(self._committed)

    @staticmethod
    def _policy(tier: Tier, sample: int, shard: int, *, rel: int) -> Policy:
        return Policy(
            tier=tier,
            sample_size=sample,
            shard_size=shard,
            max_attempts=3,
            abs_tolerance_e9=0,
            rel_tolerance_e9=rel,
            rung=Rung.EE_OUTSOURCED,
            validators=0,
            certify_on_chain=False,
        )

    def _head(self, request: JobRequest, signature: bytes, domain: Domain) -> Document:
        return {
            "domain": domain.to_object(),
            "contracts": {
                "modelRegistry": self.deployment.model_registry,
                "certifier": self.deployment.certifier,
            },
            "request": request.to_object(),
            "requestSignature": to_hex(signature),
            "development": ["chain"],
            "issuedAt": ISSUED_AT,
        }

    # --- the worker ---------------------------------------------------------------------------------------------

    def _train(self, job: TrainingJob, cheat: Cheat) -> list[SignedCheckpoint]:
        plan, data = cheat.plan or job.plan, cheat.data or job.data
        trainer = Trainer(job.base, plan, data.records)
        states, losses = [cheat.state(0, trainer.state())], [np.empty(0, np.float32)]
        for segment in range(SEGMENTS):
            trainer.load(plan.step_of(segment), states[-1])
            losses.append(cheat.losses(segment + 1, cheat.take(trainer, segment)))
            states.append(cheat.state(segment + 1, trainer.state()))
        model = self.keep(export_checkpoint(job.base, weights_of(states[-1])))
        made = [
            Checkpoint(
                task_id=self.statement(job.request, job.domain, ZERO_DIGEST, "worker").task_id,
                index=index,
                step=job.plan.step_of(index),
                cursor=job.plan.step_of(index) * BATCH,
                state_root=state_root_of(job.plan.step_of(index), job.plan.step_of(index) * BATCH, state),
                losses_digest=sha256(losses[index].astype("<f4").tobytes()),
                model_digest=model if index == SEGMENTS else ZERO_DIGEST,
                previous=ZERO_DIGEST,
                worker=address_of(account(cheat.workers[index])),
            )
            for index, state in enumerate(states)
        ]
        return self.signed(
            job, cheat.checkpoints(linked(made)), losses, [self.keep(pack_state(each)) for each in states], cheat
        )

    @staticmethod
    def signed(
        job: TrainingJob, made: list[Checkpoint], losses: Sequence[Losses], blobs: Sequence[Digest], cheat: Cheat
    ) -> list[SignedCheckpoint]:
        """Checkpoints as they travel; losses and blobs are taken by index."""
        signers, domain = cheat.signers or cheat.workers, cheat.signing_domain or job.domain
        return [
            SignedCheckpoint(
                checkpoint=checkpoint,
                losses=losses[checkpoint.index].astype("<f4").tobytes(),
                state_digest=blobs[checkpoint.index],
                signature=sign_digest(account(signers[checkpoint.index]), domain.digest(checkpoint)),
            )
            for checkpoint in made
        ]

    # --- the coordinator ----------------------------------------------------------------------------------------

    def _commit(self, statement: Statement, digest: Digest, cheat: Cheat) -> Document:
        chain = self.chain("coordinator")
        if not cheat.commits:
            return {
                "attempt": 1,
                "blockNumber": 5,
                "challengeBlockHash": str(chain.block_hash(6)),
                "transaction": str(sha256(b"no such transaction")),
            }
        for attempt in range(cheat.discarded):
            chain.commit(statement.task_id, sha256(b"discarded statement ", bytes([attempt]), digest))
        made, transaction = chain.commit(statement.task_id, digest)
        self.dev.mine()
        return {
            "attempt": made.attempt,
            "blockNumber": made.block,
            "challengeBlockHash": str(chain.block_hash(made.block + 1)),
            "transaction": str(transaction.hash),
        }

    def _anchor(self, digest: Digest, cheat: Cheat) -> tuple[Document, str]:
        """The anchor, and the hash of the block after it."""
        chain = self.chain("coordinator")
        tree = MerkleTree([sha256(b"a statement of another job"), digest])
        if cheat.anchors:
            made, transaction = chain.anchor(tree.root, len(tree))
            anchor_id, block, hashed = made.anchor_id, made.block, transaction.hash
        else:
            anchor_id, block, hashed = 0, chain.block_number(), sha256(b"no such transaction")
        self.dev.mine()
        anchor = {
            "anchorId": anchor_id,
            "root": str(tree.root),
            "size": 2,
            "leafIndex": 1,
            "path": [str(node) for node in tree.path(1)],
            "blockNumber": block,
            "transaction": str(hashed),
        }
        return anchor, str(chain.block_hash(block + 1))


def linked(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Each refers to the one before."""
    made: list[Checkpoint] = []
    for checkpoint in checkpoints:
        previous = made[-1].digest if made else ZERO_DIGEST
        made.append(checkpoint.model_copy(update={"previous": previous}))
    return made
