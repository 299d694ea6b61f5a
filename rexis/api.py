"""The documents of the coordinator's HTTP API, shared by server, client and worker.

All are strict (``rexis.protocol.parsing.Strict``): camelCase, no unknown fields. Errors are RFC 9457 problems.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, FailFast, Field

from rexis.protocol.certificate import MAX_VKA_WORDS, Commitment, Contracts
from rexis.protocol.circuit import Circuit
from rexis.protocol.evidence import MAX_SEGMENTS
from rexis.protocol.parsing import AddressField, DigestField, HexBytes, Strict, UInt32, UInt64
from rexis.protocol.policy import MAX_SHARD, TierField
from rexis.protocol.rung import SignedRungClaim
from rexis.protocol.statement import JobRequest, Statement
from rexis.protocol.typed_data import Domain

ShortText = Annotated[str, Field(min_length=1, max_length=200)]
# RFC 3339 UTC, whole seconds.
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
LeaseId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


# A VKA has hundreds of words; it grows with the circuit's columns.
Vka = Annotated[list[DigestField], Field(max_length=MAX_VKA_WORDS), FailFast()]
Tiers = Annotated[list[TierField], Field(max_length=8)]


class Problem(Strict):
    """RFC 9457 problem details, with our extensions."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    hint: str | None = None
    retryable: bool = False
    request_id: str


class Info(Strict):
    """``GET /v1/info``: what a client must know before it signs anything.

    Attributes
    ----------
    rpc_url
        A chain endpoint that the operator suggests. Who does not trust the coordinator uses their own.
    tiers
        Tiers whose evidence this coordinator can check.
    """

    version: str
    domain: Domain
    contracts: Contracts
    coordinator: AddressField
    rpc_url: str | None
    tiers: Tiers
    max_blob_bytes: UInt64


class LoginRequest(Strict):
    """``POST /v1/auth/challenge``."""

    address: AddressField


class LoginChallenge(Strict):
    """The EIP-4361 message to sign."""

    message: str
    expires_at: Time


class TokenRequest(Strict):
    """``POST /v1/auth/token``."""

    message: Annotated[str, Field(max_length=4096)]
    signature: HexBytes


class Token(Strict):
    """A bearer token for one wallet address."""

    token: str
    address: AddressField
    expires_at: Time


class BlobView(Strict):
    """``PUT /v1/blobs/{digest}``."""

    digest: DigestField
    size: UInt64


class WorkerRegistration(Strict):
    """``POST /v1/workers``; idempotent by the token's address.

    Attributes
    ----------
    provider
        ONNX Runtime execution provider, for example ``CUDAExecutionProvider``.
    tiers
        Tiers that this worker can prove.
    memory_bytes
        Memory that it will use for set-up and proofs.
    datasets
        Hashed datasets whose records the worker has (rung ``zk-onsite``); if there are any it gets tasks of these only.
    requester
        Whose jobs on these it does. Default: those of its own address.
    """

    name: ShortText
    provider: ShortText
    tiers: Annotated[list[TierField], Field(min_length=1, max_length=8)]
    memory_bytes: UInt64
    datasets: Annotated[list[DigestField], Field(max_length=64, default_factory=list)]
    requester: AddressField | None = None


class WorkerView(Strict):
    """A worker as the coordinator knows it."""

    address: AddressField
    name: str
    provider: str
    tiers: Tiers
    memory_bytes: UInt64
    last_seen: Time
    faults: UInt32


class ModelRegistration(Strict):
    """``POST /v1/models``: make a model that is registered on chain known here.

    The blobs named by the digests (model; with a circuit also settings, vk and SRS) must have been uploaded.

    Attributes
    ----------
    rung_claim
        The owner's claim that jobs of rung ``ee-private-weights`` need. Without one an earlier one stays.
    """

    model_digest: DigestField
    key_epoch: UInt64
    circuit: Circuit
    vka: Vka
    rung_claim: SignedRungClaim | None = None


class ModelView(Strict):
    """A registered model."""

    model_digest: DigestField
    key_epoch: UInt64
    owner: AddressField
    circuit: Circuit
    vka: Vka
    rung_claim: SignedRungClaim | None = None


class DatasetRegistration(Strict):
    """``POST /v1/datasets``: make an uploaded blob known as a dataset."""

    digest: DigestField


class DatasetView(Strict):
    """A registered dataset. `shape` is that of its records, or of their hashes: a coordinator knows no more of them."""

    digest: DigestField
    owner: AddressField
    shape: list[UInt64]


class JobSubmission(Strict):
    """``POST /v1/jobs``. The job's id is the request's EIP-712 digest, so a retry is the same job."""

    request: JobRequest
    signature: HexBytes


class JobState(StrEnum):
    """Life of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    ANCHORING = "anchoring"
    CERTIFIED = "certified"
    FAILED = "failed"


class TaskState(StrEnum):
    """Life of a task."""

    PENDING = "pending"
    LEASED = "leased"
    ACCEPTED = "accepted"
    ANCHORED = "anchored"
    FAILED = "failed"


class Stage(StrEnum):
    """What a worker is doing with its lease."""

    FETCH = "fetch"
    SETUP = "setup"
    COMPUTE = "compute"
    COMMIT = "commit"
    PROVE = "prove"
    UPLOAD = "upload"


JobStateField = Annotated[JobState, BeforeValidator(JobState)]
TaskStateField = Annotated[TaskState, BeforeValidator(TaskState)]
StageField = Annotated[Stage, BeforeValidator(Stage)]


class PieceState(StrEnum):
    """Life of a piece: one segment of one task's proved records."""

    OPEN = "open"
    HELD = "held"
    DONE = "done"


PieceStateField = Annotated[PieceState, BeforeValidator(PieceState)]


class Progress(Strict):
    """How far a lease is; units are records, in stage ``setup`` segments of the circuit, in stage ``prove`` proofs."""

    stage: StageField
    done: UInt64
    total: UInt64


class Fault(Strict):
    """A refused piece of evidence or a failure, with its reason."""

    worker: AddressField
    at: Time
    code: str
    detail: str


class TaskView(Strict):
    """One task.

    Attributes
    ----------
    waiting
        Why a pending task is not placed, for a person.
    faults
        The last ones.
    fault_count
        How many there are in all.
    """

    task_id: DigestField
    job_id: DigestField
    start: UInt64
    count: UInt64
    state: TaskStateField
    worker: AddressField | None
    progress: Progress | None
    waiting: str | None
    faults: list[Fault]
    fault_count: UInt32 = 0


class JobView(Strict):
    """One job with its tasks."""

    job_id: DigestField
    state: JobStateField
    submitted_at: Time
    request: JobRequest
    tasks: list[TaskView]
    reason: str | None
    certificate_digest: DigestField | None


class JobSummary(Strict):
    """One job without its tasks."""

    job_id: DigestField
    state: JobStateField
    submitted_at: Time
    request: JobRequest
    task_count: UInt32
    tasks_done: UInt32
    reason: str | None
    certificate_digest: DigestField | None


class JobList(Strict):
    """``GET /v1/jobs``: the caller's jobs, newest first."""

    jobs: list[JobSummary]


class LeaseRequest(Strict):
    """``POST /v1/leases``: long-poll for work.

    Attributes
    ----------
    wait_seconds
        How long the server may hold the request; 204 if nothing came.
    """

    wait_seconds: Annotated[UInt32, Field(le=30)]


class Lease(Strict):
    """The time-bounded right to do one task.

    Attributes
    ----------
    nonce
        Goes into the statement.
    heartbeat_seconds
        Send a heartbeat at least this often.
    vka
        Words of the model's VKA (empty for tier ``commit``).
    """

    lease_id: LeaseId
    nonce: DigestField
    expires_at: Time
    heartbeat_seconds: UInt32
    domain: Domain
    request: JobRequest
    request_signature: HexBytes
    start: UInt64
    count: UInt64
    vka: Vka


class Heartbeat(Strict):
    """``POST /v1/leases/{id}/heartbeat``."""

    progress: Progress


class LeaseExtended(Strict):
    """A heartbeat's answer."""

    expires_at: Time


class CommitmentSubmission(Strict):
    """``POST /v1/leases/{id}/commitment`` (tier ``sampled``): idempotent for the same statement."""

    statement: Statement
    signature: HexBytes


class Challenge(Strict):
    """``GET /v1/leases/{id}/challenge``: where the commitment stands and the block hash that chooses the records."""

    commitment: Commitment


class Failure(Strict):
    """``POST /v1/leases/{id}/fail``: the worker gives up, and why."""

    code: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
    detail: Annotated[str, Field(max_length=2000)]


class PieceOffer(Strict):
    """``POST /v1/leases/{id}/pieces``: others may prove segments of this task; idempotent for the same values.

    Attributes
    ----------
    values
        SHA-256 of the blob with each segment's inputs and outputs (:func:`rexis.protocol.tensors.pack_values`).
    """

    segments: Annotated[UInt32, Field(ge=2, le=MAX_SEGMENTS)]
    values: DigestField


class PieceTurn(Strict):
    """``POST /v1/leases/{id}/pieces/turn``: what the lead needs no others for any more, and its next piece.

    Attributes
    ----------
    finished
        Segments whose proofs the lead has.
    """

    finished: Annotated[list[UInt32], Field(max_length=MAX_SEGMENTS)]


class PieceView(Strict):
    """A piece, as its lead sees it.

    Attributes
    ----------
    proofs
        SHA-256 of the blob with the proofs that a helper handed in (:class:`PieceProofs`).
    reason
        Why its last holder left it.
    """

    segment: UInt32
    state: PieceStateField
    worker: AddressField | None
    proofs: DigestField | None
    reason: str | None


class PiecesView(Strict):
    """All pieces of a task, and the one that the lead is to prove now."""

    yours: UInt32 | None
    pieces: Annotated[list[PieceView], Field(max_length=MAX_SEGMENTS)]


class Piece(Strict):
    """``POST /v1/pieces``: the time-bounded right to prove one segment of another worker's task.

    Attributes
    ----------
    records
        How many proofs it takes.
    values
        SHA-256 of the blob with each segment's inputs and outputs for these records.
    vka
        Words of the model's VKA.
    """

    piece_id: LeaseId
    expires_at: Time
    heartbeat_seconds: UInt32
    domain: Domain
    request: JobRequest
    request_signature: HexBytes
    segment: Annotated[UInt32, Field(lt=MAX_SEGMENTS)]
    records: Annotated[UInt64, Field(ge=1, le=MAX_SHARD)]
    values: DigestField
    vka: Vka


class PieceProofs(Strict):
    """``POST /v1/pieces/{id}/proofs``: a proof for each record, in their order."""

    proofs: Annotated[
        list[Annotated[HexBytes, Field(min_length=1)]], Field(min_length=1, max_length=MAX_SHARD), FailFast()
    ]


class StepView(Strict):
    """One step of a verdict."""

    number: UInt32
    name: str
    status: Literal["ok", "failed", "unchecked", "skipped"]
    detail: str


class VerdictView(Strict):
    """``POST /v1/leases/{id}/evidence``: what the coordinator's own check found."""

    task_id: DigestField
    accepted: bool
    steps: list[StepView]
