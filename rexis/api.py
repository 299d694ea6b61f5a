"""The documents of the coordinator's HTTP API, shared by server, client and worker.

All are strict (``rexis.protocol.parsing.Strict``): camelCase, no unknown fields. Errors are RFC 9457 problems.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, FailFast, Field

from rexis.protocol.certificate import MAX_VKA_WORDS, Commitment, Contracts
from rexis.protocol.circuit import Circuit
from rexis.protocol.evidence import MAX_SEGMENTS, Evidence
from rexis.protocol.parsing import AddressField, DigestField, HexBytes, Strict, UInt8, UInt32, UInt64
from rexis.protocol.policy import MAX_SHARD, TierField
from rexis.protocol.rung import SignedRungClaim
from rexis.protocol.statement import Statement
from rexis.protocol.training import MAX_SEGMENTS as MAX_CHECKPOINTS
from rexis.protocol.training import RequestField, TrainingPlan
from rexis.protocol.transcript import SignedCheckpoint
from rexis.protocol.typed_data import Domain
from rexis.protocol.validation import FindingField

ShortText = Annotated[str, Field(min_length=1, max_length=200)]
# RFC 3339 UTC, whole seconds.
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
TraceParent = Annotated[str, Field(pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]
LeaseId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


# A VKA has hundreds of words; it grows with the circuit's columns.
Vka = Annotated[list[DigestField], Field(max_length=MAX_VKA_WORDS), FailFast()]
Tiers = Annotated[list[TierField], Field(max_length=8)]
# Leases of one request, and at most of one worker at a time.
MAX_LEASES = 256
# Anchors of one answer, and statements of one anchor.
MAX_ANCHORS = 1000
MAX_LEAVES = 1 << 14
Modality = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
# Verdicts in one request, and statements of one job that validators are asked about.
MAX_VERDICTS = 1024
Priority = Annotated[int, Field(strict=True, ge=-10, le=10)]


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
    trains
        Those in which it can check trainings.
    quorum
        The ValidatorQuorum whose verdicts jobs may ask for, if there is one.
    escrow
        The JobEscrow by which jobs may be paid, if there is one.
    """

    version: str
    domain: Domain
    contracts: Contracts
    coordinator: AddressField
    rpc_url: str | None
    tiers: Tiers
    max_blob_bytes: UInt64
    trains: Tiers = Field(default_factory=list)
    quorum: AddressField | None = None
    escrow: AddressField | None = None


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


class Role(StrEnum):
    """What somebody may do at a coordinator; which routes a role opens is in the OpenAPI document (``x-roles``)."""

    REQUESTER = "requester"
    MODEL_OWNER = "model-owner"
    WORKER = "worker"
    VALIDATOR = "validator"
    AUDITOR = "auditor"
    OPERATOR = "operator"


RoleField = Annotated[Role, BeforeValidator(Role)]
Roles = Annotated[list[RoleField], Field(max_length=len(Role))]


class MemberChange(Strict):
    """``PUT /v1/members/{address}``: the roles that an operator gives; they replace those given before."""

    roles: Annotated[Roles, Field(min_length=1)]


class MemberView(Strict):
    """Somebody whose roles are not just those of everybody.

    Attributes
    ----------
    roles
        What the address may be now.
    named
        Roles that the coordinator's settings name it for; only a restart with others takes them back.
    revoked
        An operator has shut the address out.
    changed_at
        When an operator last changed it here.
    """

    address: AddressField
    roles: Roles
    named: Roles
    revoked: bool
    changed_at: Time | None


class MemberList(Strict):
    """``GET /v1/members``.

    Attributes
    ----------
    everybody
        Roles that any address has; empty at a closed coordinator.
    """

    everybody: Roles
    members: list[MemberView]


class AuditEntry(Strict):
    """One entry of the audit log (:mod:`rexis.auditlog`).

    Attributes
    ----------
    position
        From 1, without gaps.
    at
        Milliseconds since 1970.
    actor
        An address, or ``coordinator``.
    action, object, outcome
        What was done, to what, and how it ended.
    previous, digest
        Digest of the entry before, and of this one.
    """

    position: UInt64
    at: UInt64
    actor: str
    action: str
    object: str
    outcome: str
    previous: DigestField
    digest: DigestField


class AuditPage(Strict):
    """``GET /v1/audit?after=POSITION``: the entries that follow, some at a time."""

    entries: list[AuditEntry]


class AuditHead(Strict):
    """``GET /v1/audit/head``: the last entry. Who keeps it can show later that the log was changed."""

    position: UInt64
    digest: DigestField


class LogKey(Strict):
    """``GET /v1/log``: with what key the log of anchors is signed.

    Attributes
    ----------
    key
        Name, id and Ed25519 key, as notes have it (c2sp.org/signed-note).
    signature
        The coordinator's, over :func:`rexis.exports.anchor_log.key_text` (EIP-191).
    """

    key: ShortText
    signature: HexBytes


class LoggedAnchor(Strict):
    """An anchor that is final, as the log has it.

    Attributes
    ----------
    index
        Its place in the log.
    root, size
        The tree of statements.
    anchor_id, block_number, transaction
        Where the EvidenceLog has it, as the coordinator last saw it.
    """

    index: UInt64
    root: DigestField
    size: Annotated[UInt64, Field(ge=1)]
    anchor_id: UInt64
    block_number: UInt64
    transaction: DigestField


class AnchorPage(Strict):
    """``GET /v1/anchors?start=INDEX``: anchors from that place of the log on, some at a time."""

    anchors: Annotated[list[LoggedAnchor], Field(max_length=MAX_ANCHORS), FailFast()]


class AnchorLeaves(Strict):
    """``GET /v1/anchors/{index}``: what stands under an anchor's root.

    Attributes
    ----------
    statements
        Digests, in the tree's order.
    workers
        Of each, the worker that it names. The coordinator's word: a digest names nobody.
    """

    statements: Annotated[list[DigestField], Field(max_length=MAX_LEAVES), FailFast()]
    workers: Annotated[list[AddressField], Field(max_length=MAX_LEAVES), FailFast()]


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
    trains
        Tiers in which it does training tasks; none if it does not train.
    memory_bytes
        Memory that it will use for set-up and proofs.
    datasets
        Hashed datasets whose records the worker has (rung ``zk-onsite``); if there are any it gets tasks of these only.
    requester
        Whose jobs on these it does. Default: those of its own address.
    gpu_memory_bytes
        Memory of its largest GPU; 0 without one.
    modalities
        Kinds of data that it takes (`JobSubmission.modality`); everything if there are none.
    slots
        Leases that it wants at a time; the coordinator has a limit of its own.
    """

    name: ShortText
    provider: ShortText
    tiers: Annotated[list[TierField], Field(min_length=1, max_length=8)]
    memory_bytes: UInt64
    datasets: Annotated[list[DigestField], Field(max_length=64, default_factory=list)]
    requester: AddressField | None = None
    gpu_memory_bytes: UInt64 = 0
    modalities: Annotated[list[Modality], Field(max_length=64, default_factory=list)]
    slots: Annotated[UInt32, Field(ge=1, le=MAX_LEASES)] | None = None
    trains: Annotated[list[TierField], Field(max_length=8, default_factory=list)]


class WorkerView(Strict):
    """A worker as the coordinator knows it.

    Attributes
    ----------
    accepted
        Tasks whose evidence was accepted.
    faults
        Evidence and proofs that were refused.
    penalty
        What its faults weigh; that fades with time and with each accepted task.
    barred_until
        It gets nothing until then: the penalty had become too heavy.
    """

    address: AddressField
    name: str
    provider: str
    tiers: Tiers
    memory_bytes: UInt64
    last_seen: Time
    faults: UInt32
    gpu_memory_bytes: UInt64 = 0
    modalities: list[str] = Field(default_factory=list)
    accepted: UInt64 = 0
    penalty: UInt32 = 0
    barred_until: Time | None = None
    trains: Tiers = Field(default_factory=list)
    quorum: AddressField | None = None


class WorkerList(Strict):
    """``GET /v1/workers``: all workers, by name."""

    workers: list[WorkerView]


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
    """A registered model.

    Attributes
    ----------
    owner
        Who registered this key epoch on chain, and claims its rung. Whose the model is now, the chain knows.
    """

    model_digest: DigestField
    key_epoch: UInt64
    owner: AddressField
    circuit: Circuit
    vka: Vka
    rung_claim: SignedRungClaim | None = None


class Origin(Strict):
    """A certified training that gave a model.

    Attributes
    ----------
    model_digest, base_digest
        The model that came out, and the one that it was trained from.
    dataset_digest, input_root
        What it was trained on.
    transcript_root
        Root over the checkpoints.
    """

    model_digest: DigestField
    key_epoch: UInt64
    base_digest: DigestField
    dataset_digest: DigestField
    input_root: DigestField
    plan_digest: DigestField
    transcript_root: DigestField
    job_id: DigestField
    certificate_digest: DigestField


MAX_ORIGINS = 64


class Lineage(Strict):
    """``GET /v1/models/{digest}/{epoch}/lineage``: the trainings that led to a model, the last one first.

    The base model of the last one listed was trained by nobody here. What each one claims, its certificate shows.
    """

    origins: Annotated[list[Origin], Field(max_length=MAX_ORIGINS)]


class DatasetRegistration(Strict):
    """``POST /v1/datasets``: make an uploaded blob known as a dataset."""

    digest: DigestField


class DatasetView(Strict):
    """A registered dataset. `shape` is that of its records, or of their hashes: a coordinator knows no more of them."""

    digest: DigestField
    owner: AddressField
    shape: list[UInt64]


class PaymentOffer(Strict):
    """Who pays a job, and by which escrow: tasks are given out once the chain says that they have paid it in."""

    payer: AddressField
    escrow: AddressField


class PaymentView(Strict):
    """How the payment of a job stands.

    Attributes
    ----------
    funded
        Whether it was paid in: until then no task is given out.
    paid, lost
        Tasks whose payment is their worker's; tasks whose payment no statement gets.
    reason
        Why one of the others is not paid yet.
    """

    payer: AddressField
    escrow: AddressField | None
    funded: bool
    paid: UInt32
    lost: UInt32
    reason: str | None


class JobSubmission(Strict):
    """``POST /v1/jobs``. The job's id is the request's EIP-712 digest, so sending it again is the same job.

    What is beside the signed request says how it is scheduled, and changes nothing that is claimed; of a job that is
    there already it is not looked at.

    Attributes
    ----------
    plan
        Of a training job, and of no other: the plan whose digest the request has.
    priority
        Among the requester's own jobs; between requesters there is a fair share. A higher one goes first, and waiting
        counts, too: a low one is not put off for ever.
    deadline
        The job fails if evidence of all its tasks is not accepted by then.
    gpu_memory_bytes
        Only workers whose GPU has so much memory get its tasks.
    modality
        Only workers that take this kind of data get its tasks.
    quorum
        Of a job whose policy wants validators: the ValidatorQuorum that the requester means.
    payment
        Of a job that is paid. Without it no escrow is looked at.
    """

    request: RequestField
    signature: HexBytes
    plan: TrainingPlan | None = None
    priority: Priority = 0
    deadline: Time | None = None
    gpu_memory_bytes: UInt64 = 0
    modality: Modality | None = None
    quorum: AddressField | None = None
    payment: PaymentOffer | None = None


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
    QUARANTINED = "quarantined"


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
    """How far a lease is; units are records, in stage ``setup`` segments of the circuit, in stage ``prove`` proofs.

    Of a training they are steps.

    Attributes
    ----------
    loss_e9
        Loss of the last step, in units of 10⁻⁹; only of a training.
    """

    stage: StageField
    done: UInt64
    total: UInt64
    loss_e9: UInt64 | None = None


class Fault(Strict):
    """A refused piece of evidence or a failure, with its reason."""

    worker: AddressField
    at: Time
    code: str
    detail: str


class TaskCounts(Strict):
    """How many of a job's tasks are in each state. Of a job with very many it may be some seconds old."""

    pending: UInt64 = 0
    leased: UInt64 = 0
    accepted: UInt64 = 0
    anchored: UInt64 = 0
    failed: UInt64 = 0
    quarantined: UInt64 = 0

    @property
    def total(self) -> int:
        """All tasks."""
        return sum(getattr(self, state.value) for state in TaskState)

    @property
    def done(self) -> int:
        """Tasks whose evidence was accepted."""
        return self.accepted + self.anchored


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


class TrainingView(Strict):
    """How far a training is: the steps up to its last checkpoint, of all, and the loss of the last one.

    Attributes
    ----------
    loss_e9
        In units of 10⁻⁹; None before the first step.
    """

    step: UInt64
    steps: UInt64
    loss_e9: UInt64 | None


class TranscriptView(Strict):
    """``GET /v1/jobs/{id}/transcript``: a training's plan, and its checkpoints so far, with the losses."""

    plan: TrainingPlan
    checkpoints: Annotated[list[SignedCheckpoint], Field(max_length=MAX_CHECKPOINTS + 1), FailFast()]


class ValidatorView(Strict):
    """What one validator has done about a job.

    Attributes
    ----------
    valid, invalid
        Statements that it signed as such.
    abstains
        Why it signs nothing, as it says.
    """

    account: AddressField
    valid: UInt32
    invalid: UInt32
    abstains: str | None


class ValidationView(Strict):
    """How far validators are with a job whose policy wants them.

    Attributes
    ----------
    wanted
        How many must have signed the verdict on each statement.
    statements, settled
        How many there are, and on how many of them there is a verdict on chain.
    share, threshold
        Of the statement that is furthest from one: the part of the active stake that has signed, and the part that must
        be exceeded, in 1/10,000.
    """

    quorum: AddressField | None
    wanted: UInt32
    statements: UInt32
    settled: UInt32
    share: UInt32
    threshold: UInt32
    validators: list[ValidatorView]


class JobView(Strict):
    """One job with its first tasks; ``GET /v1/jobs/{id}/tasks`` has them all, in pages."""

    job_id: DigestField
    state: JobStateField
    submitted_at: Time
    request: RequestField
    tasks: list[TaskView]
    reason: str | None
    certificate_digest: DigestField | None
    counts: TaskCounts = Field(default_factory=TaskCounts)
    priority: Priority = 0
    deadline: Time | None = None
    training: TrainingView | None = None
    validation: ValidationView | None = None
    payment: PaymentView | None = None


class TaskPage(Strict):
    """``GET /v1/jobs/{id}/tasks``: tasks in the order of their records.

    Attributes
    ----------
    next
        Give it as `after` to get the next page; None after the last one.
    """

    tasks: list[TaskView]
    next: UInt64 | None


class Event(Strict):
    """One change of state.

    Attributes
    ----------
    entity
        Whose: ``job``, ``task``, ``lease``, ``evidence``, ``piece``.
    start
        The task's first record; None for the job itself, and for a change of all `count` tasks or leases of the job
        that were in the state `before`.
    subject
        The lease or piece.
    actor
        On whose behalf; None for the coordinator itself.
    """

    at: Time
    entity: str
    start: UInt64 | None
    count: UInt64
    subject: str | None
    before: str | None
    after: str
    actor: AddressField | None
    reason: str


class EventPage(Strict):
    """``GET /v1/jobs/{id}/history``: what became of a job and its tasks, oldest first.

    Attributes
    ----------
    next
        Give it as `after` to get what came later; None if nothing did so far.
    """

    events: list[Event]
    next: UInt64 | None


class WaitingGroup(Strict):
    """Tasks that wait for the same reason; `starts` are the first records of some of them."""

    reason: str
    count: UInt64
    starts: list[UInt64]


class Waiting(Strict):
    """``GET /v1/jobs/{id}/waiting``: why tasks of a job are not being worked on, the most frequent reason first."""

    groups: list[WaitingGroup]


class JobSummary(Strict):
    """One job without its tasks."""

    job_id: DigestField
    state: JobStateField
    submitted_at: Time
    request: RequestField
    task_count: UInt32
    tasks_done: UInt32
    reason: str | None
    certificate_digest: DigestField | None
    priority: Priority = 0
    deadline: Time | None = None


class JobChange(Strict):
    """Event ``change`` of ``GET /v1/jobs/{id}/events``: the job, or a part of it, went from a state to another.

    Attributes
    ----------
    entity
        What changed: ``job``, ``task``, ``lease`` …
    start
        First record of the task that it is about; None for the job itself, or for all `count` that were in `before`.
    before
        None for what was made.
    """

    entity: str
    start: UInt64 | None
    count: UInt64
    before: str | None
    after: str
    at: Time
    reason: str


class LeaseProgress(Strict):
    """How far the task is that begins with record `start`."""

    start: UInt64
    progress: Progress


class JobProgress(Strict):
    """Events ``progress`` and ``end`` of ``GET /v1/jobs/{id}/events``.

    Attributes
    ----------
    tasks, leased, done
        How many there are, how many workers have, and how many have accepted evidence.
    leases
        Some of those that workers have.
    """

    state: JobStateField
    tasks: UInt64
    leased: UInt64
    done: UInt64
    leases: list[LeaseProgress]


class JobList(Strict):
    """``GET /v1/jobs``: the caller's jobs, newest first."""

    jobs: list[JobSummary]


class LeaseRequest(Strict):
    """``POST /v1/leases``: long-poll for work.

    Attributes
    ----------
    wait_seconds
        How long the server may hold the request; 204 if nothing came.
    most
        Tasks that the worker wants now.
    memory_bytes
        Memory that the worker has left for them; None for all that it registered.
    """

    wait_seconds: Annotated[UInt32, Field(le=30)]
    most: Annotated[UInt32, Field(ge=1, le=MAX_LEASES)] = 1
    memory_bytes: UInt64 | None = None


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
    trace
        W3C ``traceparent`` of the job's trace, for the worker's spans. Not signed, and nothing depends on it.
    plan, transcript
        Of a training: its plan, and the checkpoints that are there already. The worker goes on from the last one.
    """

    lease_id: LeaseId
    nonce: DigestField
    expires_at: Time
    heartbeat_seconds: UInt32
    domain: Domain
    request: RequestField
    request_signature: HexBytes
    start: UInt64
    count: UInt64
    vka: Vka
    trace: TraceParent | None = None
    plan: TrainingPlan | None = None
    transcript: Annotated[
        list[SignedCheckpoint], Field(max_length=MAX_CHECKPOINTS + 1, default_factory=list), FailFast()
    ]


class Leases(Strict):
    """``POST /v1/leases``: at least one, at most as many as were asked for."""

    leases: Annotated[list[Lease], Field(min_length=1, max_length=MAX_LEASES)]


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
    request: RequestField
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


# Outputs that travel inside a batch; larger ones are uploaded as blobs first.
MAX_INLINE_OUTPUTS = 16 << 10
MAX_BATCH = 64


class TaskEvidence(Strict):
    """Evidence for one lease, in a batch.

    Attributes
    ----------
    outputs
        The task's outputs blob; None if it was uploaded before.
    """

    lease_id: LeaseId
    evidence: Evidence
    outputs: Annotated[HexBytes, Field(max_length=MAX_INLINE_OUTPUTS)] | None = None


class EvidenceBatch(Strict):
    """``POST /v1/evidence``: evidence for several leases of the caller's, each once."""

    items: Annotated[list[TaskEvidence], Field(min_length=1, max_length=MAX_BATCH), FailFast()]


class EvidenceResult(Strict):
    """What became of one item: a verdict, or the problem that its own request would have met."""

    lease_id: LeaseId
    verdict: VerdictView | None = None
    problem: Problem | None = None


class EvidenceResults(Strict):
    """``POST /v1/evidence``: a result for each item, in their order."""

    results: list[EvidenceResult]


class Validation(Strict):
    """A finished job whose statements wait for the caller's verdict.

    Attributes
    ----------
    certificate_digest
        Of the certificate that it will get if enough validators agree.
    files
        Blobs that checking takes beside it: the encrypted model, or the SRS.
    statements
        Digests of those that the caller has not judged.
    """

    job_id: DigestField
    certificate_digest: DigestField
    files: Annotated[list[DigestField], Field(max_length=4)]
    statements: Annotated[list[DigestField], Field(max_length=MAX_VERDICTS)]


class ValidationList(Strict):
    """``GET /v1/validations``."""

    validations: list[Validation]


class SignedVerdict(Strict):
    """A finding about one statement, with the validator's BLS signature over its digest (256 bytes)."""

    statement: DigestField
    verdict: FindingField
    signature: HexBytes


class VerdictSubmission(Strict):
    """``POST /v1/validations/{job_id}``. `slot`: the caller's, in the quorum."""

    slot: UInt8
    verdicts: Annotated[list[SignedVerdict], Field(min_length=1, max_length=MAX_VERDICTS)]
