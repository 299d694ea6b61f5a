"""A coordinator, a circuit and a chain in memory, behind the worker's real interfaces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from eth_account.signers.local import LocalAccount
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from circuits.field import instances_from
from circuits.proving import SegmentProof
from contracts.onchain import Deployment
from rexis.api import (
    Challenge,
    Info,
    Lease,
    LeaseExtended,
    Piece,
    PieceProofs,
    PieceState,
    PiecesView,
    PieceView,
    Progress,
    Stage,
    StepView,
    VerdictView,
    WorkerRegistration,
)
from rexis.protocol.certificate import Commitment, Contracts
from rexis.protocol.circuit import NO_CIRCUIT, Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import LeaseError, NotFoundError, RexisError
from rexis.protocol.evidence import Evidence
from rexis.protocol.onsite import PrivateDataset
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.records import dequantise, encode_inputs, input_format, input_root, quantise
from rexis.protocol.signing import address_of, sign_digest
from rexis.protocol.statement import JobRequest, Kind, Statement
from rexis.protocol.tensors import Dataset, Shard

WIDTH, CLASSES = 3, 2
DEPLOYMENT = Deployment.on(31337)
DOMAIN = DEPLOYMENT.domain
WEIGHTS = np.array([[1, -2], [0.5, 0.25], [-1, 3]], dtype=np.float32)
INPUT_SCALE, OUTPUT_SCALE = 7, 14
CIRCUIT = Circuit(
    vk_digest=sha256(b"vk"),
    vka_digest=sha256(b"vka"),
    srs_digest=sha256(b"srs"),
    settings_digest=sha256(b"settings"),
    visibility=Visibility.PUBLIC,
    input_scale=INPUT_SCALE,
    output_scale=OUTPUT_SCALE,
    input_length=WIDTH,
    output_length=CLASSES,
)


def linear_model(weights: NDArray[np.float32] = WEIGHTS, batch: str | int = "batch") -> bytes:
    """``records @ weights`` as ONNX."""
    width, classes = weights.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["records", "weights"], ["outputs"])],
        "linear",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, [batch, width])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def make_dataset(count: int) -> Dataset:
    """Random records and salts."""
    rng = np.random.default_rng(1)
    salts = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    return Dataset(rng.normal(size=(count, WIDTH)).astype(np.float32), salts)


def make_lease(
    tier: Tier,
    dataset: Dataset | PrivateDataset,
    requester: LocalAccount,
    *,
    circuit: Circuit = CIRCUIT,
    sample_size: int = 2,
    shard: int = 8,
    **changes: Any,
) -> Lease:
    """A lease of the first shard of a signed job over the whole dataset."""
    circuit = NO_CIRCUIT if tier == Tier.COMMIT else circuit
    policy = Policy(
        tier=tier,
        sample_size=0 if tier == Tier.ZK else sample_size,
        shard_size=shard,
        max_attempts=3,
        abs_tolerance_e9=10**6,
        rel_tolerance_e9=0,
        rung=Rung.ZK_ONSITE if circuit.visibility == Visibility.HASHED else Rung.EE_OUTSOURCED,
        validators=0,
        certify_on_chain=False,
    )
    request = JobRequest(
        kind=Kind.EVALUATION,
        model_digest=sha256(linear_model()),
        key_epoch=1,
        circuit=circuit,
        dataset_digest=dataset.digest,
        input_root=input_root(tier, circuit, dataset.committed, dataset.leaf_salts),
        input_size=len(dataset),
        record_start=0,
        record_count=len(dataset),
        policy=policy,
        requester=address_of(requester),
        coordinator=Address.from_bytes(bytes(19) + b"\2"),
        nonce=sha256(b"job"),
    )
    lease = Lease(
        lease_id="0" * 32,
        nonce=sha256(b"lease"),
        expires_at="2030-01-01T00:00:00Z",
        heartbeat_seconds=1,
        domain=DOMAIN,
        request=request,
        request_signature=sign_digest(requester, request.job_id(DOMAIN)),
        start=0,
        count=min(shard, len(dataset)),
        vka=[],
    )
    return lease.model_copy(update=changes)


class FakeBoard:
    """The pieces of one task, as a coordinator keeps them.

    Attributes
    ----------
    helps
        Called at the beginning of each of the lead's turns: what helpers do meanwhile.
    offered
        The values, once they are.
    """

    def __init__(self) -> None:
        self.helps: Callable[[FakeBoard], None] = lambda board: None
        self.refuses: RexisError | None = None
        self.offered: list[NDArray[np.int64]] = []
        self.states: list[PieceState] = []
        self.mine: set[int] = set()
        self.made: dict[int, list[bytes]] = {}
        self.waits = 0

    def offer(self, values: Sequence[NDArray[np.int64]]) -> None:
        """See :class:`provers.task.Board`."""
        assert len(values) > 2, "a circuit of one segment has no pieces"
        if self.refuses is not None:
            raise self.refuses
        self.offered = list(values)
        self.states = [PieceState.OPEN] * (len(values) - 1)

    def hold(self, segment: int) -> None:
        """A helper takes a piece."""
        self.states[segment] = PieceState.HELD

    def make(self, segment: int, proofs: list[bytes]) -> None:
        """A helper hands proofs in."""
        self.states[segment], self.made[segment] = PieceState.DONE, proofs

    def turn(self, finished: Sequence[int]) -> PiecesView:
        """See :class:`provers.task.Board`."""
        self.helps(self)
        for segment in finished:
            self.states[segment] = PieceState.DONE
        yours = next((one for one in sorted(self.mine) if self.states[one] == PieceState.HELD), None)
        if yours is None and PieceState.OPEN in self.states:
            yours = self.states.index(PieceState.OPEN)
            self.states[yours] = PieceState.HELD
            self.mine.add(yours)
        return PiecesView(
            yours=yours,
            pieces=[
                PieceView(
                    segment=segment,
                    state=state,
                    worker=None,
                    proofs=sha256(bytes([segment])) if segment in self.made else None,
                    reason=None,
                )
                for segment, state in enumerate(self.states)
            ],
        )

    def proofs(self, digest: Digest) -> list[bytes]:
        """See :class:`provers.task.Board`."""
        return next(proofs for segment, proofs in self.made.items() if sha256(bytes([segment])) == digest)

    def wait(self, seconds: float) -> None:
        """See :class:`provers.task.Board`."""
        self.waits += 1
        assert self.waits < 1000, "waits for ever"


class FakeCircuit:
    """The linear model in fixed point, as one segment; proofs are readable text."""

    at_once = 1

    def __init__(self) -> None:
        self.proved: list[NDArray[np.int64]] = []

    def outputs(self, records: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rounded in the output scale."""
        return quantise(dequantise(records, INPUT_SCALE) @ WEIGHTS, OUTPUT_SCALE)

    def trace(self, records: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """There are no boundaries."""
        return [self.outputs(records)]

    def prove_segment(self, segment: int, inputs: NDArray[np.int64]) -> SegmentProof:
        """Names what it is about."""
        assert segment == 0
        self.proved.append(inputs)
        outputs = self.outputs(inputs[np.newaxis])[0]
        given, found = tuple(inputs.tolist()), tuple(outputs.tolist())
        return SegmentProof(proof_text(inputs, outputs), given, found, tuple(instances_from(given, found)))

    def check_segment(
        self, segment: int, proofs: Sequence[bytes], inputs: NDArray[np.int64], outputs: NDArray[np.int64]
    ) -> list[str | None]:
        """What the text says."""
        wanted = [proof_text(*row) for row in zip(inputs, outputs, strict=True)]
        return [None if proof == text else "another text" for proof, text in zip(proofs, wanted, strict=True)]


class FakeChain(FakeCircuit):
    """The same in three segments: one that doubles, one that halves, and the model."""

    def trace(self, records: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Boundaries and outputs."""
        return [records * 2, records, self.outputs(records)]

    def run_segment(self, segment: int, inputs: NDArray[np.int64]) -> NDArray[np.int64]:
        """What one segment gives."""
        return (inputs * 2, inputs // 2, self.outputs(inputs))[segment]

    def prove_segment(self, segment: int, inputs: NDArray[np.int64]) -> SegmentProof:
        """Names what it is about."""
        self.proved.append(inputs)
        outputs = self.run_segment(segment, inputs[np.newaxis])[0]
        given, found = tuple(inputs.tolist()), tuple(outputs.tolist())
        return SegmentProof(proof_text(inputs, outputs), given, found, tuple(instances_from(given, found)))


def proof_text(inputs: NDArray[Any], outputs: NDArray[Any]) -> bytes:
    """The fake proof of an (inputs, outputs) pair."""
    return f"proof of {inputs.tolist()} -> {outputs.tolist()}".encode()


@dataclass
class FakeCoordinator:
    """What a worker sees of a coordinator. Hands out `queue` in order, then calls `when_idle`."""

    account: LocalAccount
    blobs: dict[Digest, bytes]
    queue: list[Lease | RexisError] = field(default_factory=list)
    when_idle: Callable[[], None] = lambda: None
    lost: bool = False
    on_heartbeat: Callable[[Progress], None] = lambda progress: None
    accepts: bool = True
    registered: list[WorkerRegistration] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    handed_in: list[Evidence] = field(default_factory=list)
    uploaded: dict[Digest, bytes] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    challenges_before_answer: int = 1
    pieces: list[Piece] = field(default_factory=list)
    handed_in_pieces: list[PieceProofs] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    refuses_pieces: RexisError | None = None
    url: str = "http://coordinator.test"
    leased: dict[str, Lease] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> Address:
        return address_of(self.account)

    def info(self) -> Info:
        zero = Address.from_bytes(bytes(20))
        return Info(
            version="0",
            domain=DOMAIN,
            contracts=Contracts(model_registry=DEPLOYMENT.model_registry, certifier=DEPLOYMENT.certifier),
            coordinator=zero,
            rpc_url=None,
            tiers=list(Tier),
            max_blob_bytes=1 << 30,
        )

    def register_worker(self, registration: WorkerRegistration) -> None:
        self.registered.append(registration)

    def lease(self, wait_seconds: int) -> Lease | None:
        if not self.queue:
            if not self.pieces:
                self.when_idle()
            return None
        found = self.queue.pop(0)
        if isinstance(found, RexisError):
            raise found
        self.leased[found.lease_id] = found
        return found

    def shard(self, lease_id: str) -> bytes:
        lease = self.leased[lease_id]
        request = lease.request
        data = Dataset.from_bytes(self.blobs[request.dataset_digest])
        tier, circuit = request.policy.tier, request.circuit
        tree = input_format(tier, circuit).tree(encode_inputs(tier, circuit, data.records), data.salts)
        mine = slice(lease.start, lease.start + lease.count)
        around = tree.around(lease.start, lease.count)
        return Shard(data.records[mine], data.salts[mine], lease.start, len(data), around).to_bytes()

    def leases(self, most: int, wait_seconds: int) -> list[Lease]:
        found = self.lease(wait_seconds)
        given = [] if found is None else [found]
        while given and len(given) < most and self.queue and isinstance(self.queue[0], Lease):
            given += self.leases(1, wait_seconds)
        return given

    def piece(self) -> Piece | None:
        return self.pieces.pop(0) if self.pieces else None

    def piece_heartbeat(self, piece_id: str, progress: Progress) -> LeaseExtended:
        return self.heartbeat(piece_id, progress)

    def hand_piece_in(self, piece_id: str, proofs: PieceProofs) -> None:
        self.handed_in_pieces.append(proofs)
        if self.refuses_pieces is not None:
            raise self.refuses_pieces

    def leave_piece(self, piece_id: str, code: str, detail: str) -> None:
        self.left.append((code, detail))

    def heartbeat(self, lease_id: str, progress: Progress) -> LeaseExtended:
        self.progress.append(progress)
        self.on_heartbeat(progress)
        if self.lost:
            raise LeaseError("given to another worker")
        return LeaseExtended(expires_at="2030-01-01T00:00:00Z")

    def download_blob(self, digest: Digest, to: Path) -> Path:
        if digest not in self.blobs:
            raise NotFoundError(f"no blob {digest}")
        to.write_bytes(self.blobs[digest])
        return to

    def upload_blob(self, source: bytes) -> Digest:
        self.uploaded[sha256(source)] = source
        return sha256(source)

    def commitment(self, lease_id: str, statement: Statement) -> None:
        self.statements.append(statement)

    def challenge(self, lease_id: str, wait_seconds: float) -> Challenge | None:
        if self.challenges_before_answer:
            self.challenges_before_answer -= 1
            return None
        return Challenge(commitment=make_commitment())

    def evidence(self, lease_id: str, evidence: Evidence) -> VerdictView:
        self.handed_in.append(evidence)
        status = "ok" if self.accepts else "failed"
        step = StepView(number=10, name="proofs", status=status, detail="because")
        return VerdictView(task_id=evidence.statement.task_id, accepted=self.accepts, steps=[step])

    def fail(self, lease_id: str, code: str, detail: str) -> None:
        self.failures.append((code, detail))

    def release(self, lease_id: str) -> None:
        self.released.append(lease_id)


def make_commitment() -> Commitment:
    """The first attempt, in block 7."""
    return Commitment(
        attempt=1, block_number=7, challenge_block_hash=sha256(b"block 8"), transaction=sha256(b"transaction")
    )


class NoDisplay:
    """Remembers the stages."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    def stage(self, task: str, stage: Stage, done: int, total: int) -> None:
        self.stages.append(stage)

    def done(self, task: str) -> None:
        pass
