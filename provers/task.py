"""One task, from the lease's documents to what a tier needs. Nothing that the coordinator says is believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from eth_account.signers.local import LocalAccount

from circuits.proving import SegmentProof
from provers.cache import ProofCache
from provers.executor import Executor
from rexis.api import Lease, Piece, PiecesView, Stage
from rexis.protocol.certificate import Commitment
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, require_digest
from rexis.protocol.errors import ConflictError, DigestMismatchError, MalformedError
from rexis.protocol.evidence import Evidence, Measured, RecordProof
from rexis.protocol.onsite import PrivateDataset, salted
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats, Integers, TaskTrees, input_root, quantise
from rexis.protocol.signing import address_of, require_signer, sign_digest
from rexis.protocol.statement import JobRequest, Kind, Statement, statement_for
from rexis.protocol.tensors import Dataset, Shard
from rexis.protocol.training import TrainingRequest
from rexis.protocol.typed_data import Domain

OnStage = Callable[[Stage, int, int], None]
"""Told the stage and how many of how many records are done; raises if the task is to end."""


class RecordProver(Protocol):
    """A circuit with its keys, ready to run and prove fixed-point records (:class:`circuits.proving.Prover`)."""

    @property
    def at_once(self) -> int:
        """How many calls are worth making at a time, from as many threads."""
        ...

    def outputs(self, records: Integers) -> Integers:
        """Exactly what the circuit outputs, ``[n, output_length]`` in its output scale."""
        ...

    def trace(self, records: Integers) -> list[Integers]:
        """What each segment of the circuit gives: the values on the boundaries, then the outputs."""
        ...

    def prove_segment(self, segment: int, inputs: Integers) -> SegmentProof:
        """A proof of one segment for one record, verified once on this side."""
        ...

    def check_segment(
        self, segment: int, proofs: Sequence[bytes], inputs: Integers, outputs: Integers
    ) -> list[str | None]:
        """Why proofs of one segment that somebody else made do not hold; None for each that does."""
        ...


class Board(Protocol):
    """Where the lead of a task finds other workers that prove pieces of it (:mod:`provers.pieces`)."""

    def offer(self, values: Sequence[Integers]) -> None:
        """Let others prove segments, given every segment's inputs and the last one's outputs ``[records, width]``."""
        ...

    def turn(self, finished: Sequence[int]) -> PiecesView:
        """Say which segments' proofs are here, and learn how the others are and which to prove next."""
        ...

    def proofs(self, digest: Digest) -> list[bytes]:
        """What a helper handed in."""
        ...

    def wait(self, seconds: float) -> None:
        """Sleep; raises if the task is to end."""
        ...


@dataclass(frozen=True)
class CircuitFiles:
    """What a circuit is rebuilt from. The keys are not fetched: the worker makes them, and compares the vk."""

    model: Path
    settings: Path
    srs: Path


@dataclass(frozen=True)
class Task:
    """What a tier's prover works with.

    Attributes
    ----------
    dataset
        The task's encrypted records with their place in the dataset's tree, or the whole dataset, of which they are
        ``start … start+count-1``. Of rung ``zk-onsite`` the worker's own.
    open_circuit
        Fetches and prepares the keys; costly.
    commit
        Hands a statement in and returns the challenge's commitment (tier ``sampled``).
    board
        Where others are found that prove a part; None to prove all.
    keep
        Keeps what it takes to answer for a statement about these outputs, before anybody gets it; raises if it would be
        false.
    """

    lease: Lease
    account: LocalAccount
    dataset: Shard | Dataset | PrivateDataset
    executor: Executor
    open_circuit: Callable[[], RecordProver]
    proofs: ProofCache
    commit: Callable[[Statement], Commitment]
    at: OnStage
    board: Board | None = None
    keep: Callable[[Statement, Integers | Floats], None] = lambda statement, outputs: None

    @property
    def request(self) -> JobRequest:
        """The signed request."""
        return self.lease.request

    @property
    def records(self) -> Floats:
        """The task's own records."""
        if isinstance(self.dataset, Shard):
            return self.dataset.records
        return self.dataset.records[self.lease.start : self.lease.start + self.lease.count]

    @property
    def circuit_inputs(self) -> Integers:
        """What goes into the circuit, a row a record: its fixed-point values, and its salt if it is private."""
        start, count = self.lease.start, self.lease.count
        rows = quantise(self.records, self.request.circuit.input_scale).reshape(count, -1)
        if isinstance(self.dataset, PrivateDataset):
            return salted(rows, self.dataset.secrets[start : start + count])
        return rows

    def trees(self, outputs: Floats | Integers) -> TaskTrees:
        """The task's trees over these outputs."""
        policy, circuit, data = self.request.policy, self.request.circuit, self.dataset
        if isinstance(data, Shard):
            return TaskTrees(
                policy.tier, circuit, data.records, data.salts, data.start, outputs, size=data.size, around=data.around
            )
        return TaskTrees(policy.tier, circuit, data.committed, data.leaf_salts, self.lease.start, outputs)

    def statement(self, output_root: Digest) -> Statement:
        """The statement about these outputs."""
        return statement_for(
            self.request,
            self.lease.domain,
            start=self.lease.start,
            count=self.lease.count,
            output_root=output_root,
            worker=address_of(self.account),
            nonce=self.lease.nonce,
        )

    def evidence(
        self,
        statement: Statement,
        outputs_digest: Digest,
        trees: TaskTrees,
        proofs: list[RecordProof],
        measured: Measured,
    ) -> Evidence:
        """Signed evidence that opens each proved record. Of private ones it says nothing that was measured."""
        if isinstance(self.dataset, PrivateDataset):
            measured = Measured.nothing(measured.provider)
        return Evidence(
            statement=statement,
            signature=sign_digest(self.account, self.lease.domain.digest(statement)),
            outputs_digest=outputs_digest,
            openings=[trees.open(proof.index) for proof in proofs],
            proofs=proofs,
            measured=measured,
        )


def check_lease(lease: Lease, domain: Domain) -> None:
    """The lease follows from a request that its requester signed, on the chain that this worker pinned.

    Raises
    ------
    ConflictError
        A range that is no shard of the job, or a plan that is not the request's; or see :func:`check_request`.
    SignatureError
        See :func:`check_request`.
    """
    check_request(lease, domain)
    trains = lease.request if isinstance(lease.request, TrainingRequest) else None
    pinned = (lease.request.kind == Kind.TRAINING, trains.plan_digest if trains else None)
    if pinned != (lease.plan is not None, lease.plan.digest if lease.plan else None):
        raise ConflictError("the plan is not the one of the request", field="plan")
    if (lease.start, lease.count) not in lease.request.shards():
        raise ConflictError(f"records {lease.start} + {lease.count} are not a shard of the job", field="start")


def check_request(given: Lease | Piece, domain: Domain) -> None:
    """A lease or piece is of a job that its requester signed, on the chain that this worker pinned.

    Raises
    ------
    ConflictError
        Another chain or EvidenceLog than `domain`.
    SignatureError
        The request is not signed by its requester.
    """
    request = given.request
    if given.domain != domain:
        raise ConflictError(
            f"the task is for chain {given.domain.chain_id}, EvidenceLog {given.domain.verifying_contract}; "
            f"this worker works on chain {domain.chain_id}, {domain.verifying_contract}",
            field="domain",
        )
    require_signer(request.job_id(domain), given.request_signature, request.requester, "the job request")


def read_shard(blob: bytes, lease: Lease) -> Shard:
    """Parse the records of a task, and show that the root that the requester signed has them at the task's place.

    Raises
    ------
    TensorError
        Not a shard of that many records.
    MalformedError, DigestMismatchError, MerkleError
        The records do not fit the circuit, or are not the ones of the request.
    """
    request = lease.request
    tier, circuit = request.policy.tier, request.circuit
    shard = Shard.from_bytes(blob, start=lease.start, count=lease.count, size=request.input_size)
    if tier != Tier.COMMIT and (fault := shard.misfit(circuit)) is not None:
        raise MalformedError(fault)
    found = shard.root(tier, circuit)
    if found != request.input_root:
        raise DigestMismatchError(f"the records lead to root {found}, the request says {request.input_root}")
    return shard


def read_dataset(path: Path, request: JobRequest) -> Dataset:
    """Parse a dataset and rebuild the input root that the requester signed.

    Raises
    ------
    TensorError
        Not a dataset.
    MalformedError, DigestMismatchError
        Its size, record length or root is not the request's.
    """
    dataset = Dataset.from_bytes(require_digest(path.read_bytes(), request.dataset_digest, "dataset"))
    require_requested(dataset, request)
    return dataset


def require_requested(dataset: Dataset | PrivateDataset, request: JobRequest) -> None:
    """Compare a dataset with what the requester signed.

    Raises
    ------
    MalformedError, DigestMismatchError
        Its size, records or root are not the request's.
    """
    if len(dataset) != request.input_size:
        raise MalformedError(f"the dataset has {len(dataset)} records, the request says {request.input_size}")
    tier, circuit = request.policy.tier, request.circuit
    if circuit != NO_CIRCUIT and (fault := dataset.misfit(circuit)) is not None:
        raise MalformedError(fault)
    found = input_root(tier, circuit, dataset.committed, dataset.leaf_salts)
    if found != request.input_root:
        raise DigestMismatchError(f"the dataset's root is {found}, the request says {request.input_root}")
