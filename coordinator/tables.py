"""The tables. Digests and addresses stand in their text form, documents as canonical JSON, times in milliseconds."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import BigInteger, Index, Integer, Text, UniqueConstraint, false, text
from sqlmodel import Field, SQLModel

from rexis.api import JobState, PieceState, TaskState


class Outcome(StrEnum):
    """How a lease ended, or ``open``."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    GAVE_UP = "gave-up"
    RETURNED = "returned"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class EvidenceState(StrEnum):
    """Life of the evidence that a lease's worker handed in."""

    RECEIVED = "received"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class AnchorState(StrEnum):
    """Life of an anchor."""

    PLANNED = "planned"
    SENT = "sent"
    MINED = "mined"
    FINAL = "final"


# Conditions of partial indices. A query must have them word for word, not with a parameter, to use the index.
TASK_WAITS = text("task.state = 'pending'")
TASK_TRIED = text("task.state = 'pending' AND task.ready_at > 0")
LEASE_OPEN = text("lease.outcome = 'open'")
JOB_OPEN = text("job.state IN ('queued', 'running')")


def _partial(name: str, *columns: str, where: str) -> Index:
    """An index of the rows that meet a condition; `where` is one of the above without its table."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


# SQLite numbers rows by itself only where the key is an INTEGER, which has 64 bits there.
_Counting = BigInteger().with_variant(Integer, "sqlite")


class EventRow(SQLModel, table=True):
    """One change of state, by :mod:`coordinator.states`.

    `job` is a number made of the job's id, `start` the task's first record; without `start` the event is about the job
    itself, or about all `count` rows of it that were in the state `before`. `subject` is the lease, piece or anchor,
    `actor` the address on whose behalf, None for the coordinator itself.
    """

    __tablename__ = "event"
    __table_args__ = (Index("ix_event_job", "job", "id"), Index("ix_event_task", "job", "start", "id"))
    id: int | None = Field(default=None, primary_key=True, sa_type=_Counting)
    entity: str
    job: int | None = Field(default=None, sa_type=BigInteger)
    start: int | None = Field(default=None, sa_type=BigInteger)
    count: int = Field(default=1, sa_type=BigInteger)
    subject: str | None = None
    before: str | None = None
    after: str
    at: int = Field(sa_type=BigInteger)
    actor: str | None = None
    reason: str = Field(sa_type=Text)


class SchemaRow(SQLModel, table=True):
    """What coordinators of before the migrations look at: they refuse a database that says more than 7."""

    __tablename__ = "schema_version"
    version: int = Field(primary_key=True)


class SecretRow(SQLModel, table=True):
    """A random value that outlives a restart."""

    __tablename__ = "secret"
    name: str = Field(primary_key=True)
    value: str


class LoginRow(SQLModel, table=True):
    """A sign-in message that was used; it is kept until it would be too old anyway."""

    __tablename__ = "login"
    message_digest: str = Field(primary_key=True)
    expires_at: int = Field(sa_type=BigInteger, index=True)


class TokenRow(SQLModel, table=True):
    """A bearer token, by its SHA-256 only."""

    __tablename__ = "token"
    token_digest: str = Field(primary_key=True)
    address: str = Field(index=True)
    expires_at: int = Field(sa_type=BigInteger, index=True)


class MemberRow(SQLModel, table=True):
    """What an operator said of an address. `roles` is a space-separated list, which counts beside the settings'."""

    __tablename__ = "member"
    address: str = Field(primary_key=True)
    roles: str = ""
    revoked: bool = False
    changed_at: int = Field(sa_type=BigInteger)


class NoticeRow(SQLModel, table=True):
    """An entry for the audit log that has no place in the chain yet."""

    __tablename__ = "audit_notice"
    id: int | None = Field(default=None, primary_key=True, sa_type=_Counting)
    at: int = Field(sa_type=BigInteger)
    actor: str
    action: str
    object: str = Field(sa_type=Text)
    outcome: str = Field(sa_type=Text)


class AuditRow(SQLModel, table=True):
    """An entry of the audit log, as the document that its digest is taken over (:mod:`rexis.auditlog`)."""

    __tablename__ = "audit"
    position: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    entry: str = Field(sa_type=Text)


class DailyRow(SQLModel, table=True):
    """Records of the jobs that an address submitted on one day (days since 1970, UTC)."""

    __tablename__ = "daily_records"
    address: str = Field(primary_key=True)
    day: int = Field(primary_key=True)
    records: int = Field(default=0, sa_type=BigInteger)


class WorkerRow(SQLModel, table=True):
    """A worker.

    `tiers` is a space-separated list of services (:func:`coordinator.placement.service_of`), `datasets` one of the
    private records that it holds, `modalities` one of what it takes, empty for everything; `slots` how many leases
    it wants at a time. `penalty` is what its faults weigh, as of `penalty_at`: it fades; until `barred_until` it
    gets nothing.
    """

    __tablename__ = "worker"
    address: str = Field(primary_key=True)
    name: str
    provider: str
    tiers: str
    datasets: str = Field(default="", sa_type=Text)
    memory_bytes: int = Field(sa_type=BigInteger)
    gpu_bytes: int = Field(default=0, sa_type=BigInteger)
    modalities: str = Field(default="", sa_type=Text)
    slots: int | None = None
    last_seen: int = Field(sa_type=BigInteger)
    penalty: int = Field(default=0, sa_type=BigInteger)
    penalty_at: int = Field(default=0, sa_type=BigInteger)
    barred_until: int = Field(default=0, sa_type=BigInteger)


class StandingRow(SQLModel, table=True):
    """What a worker has done in one tier: tasks accepted, faults, and evidence that was refused, pieces' too."""

    __tablename__ = "standing"
    worker: str = Field(primary_key=True)
    tier: str = Field(primary_key=True)
    accepted: int = Field(default=0, sa_type=BigInteger)
    failed: int = Field(default=0, sa_type=BigInteger)
    refused: int = Field(default=0, sa_type=BigInteger)


class ShareRow(SQLModel, table=True):
    """A requester's turn, in units of work handed out: where its last turn began, and where that ended.

    A row whose end lies before everybody's last beginning says nothing, and may be missing.
    """

    __tablename__ = "share"
    __table_args__ = (Index("ix_share_turn", "finished", "requester"),)
    requester: str = Field(primary_key=True)
    began: int = Field(default=0, sa_type=BigInteger, index=True)
    finished: int = Field(default=0, sa_type=BigInteger)


class ModelRow(SQLModel, table=True):
    """A model that is registered on chain. `circuit` is a document, `vka` a space-separated list of words.

    `owner` is who registered this key epoch on chain, whoever owns the model now.
    `needed_bytes` is what set-up and proofs of the circuit take by the estimate, 0 without one. `rung_claim` is its
    owner's signed claim of rung ``ee-private-weights``, a document.
    """

    __tablename__ = "model"
    model_digest: str = Field(primary_key=True)
    key_epoch: int = Field(sa_type=BigInteger, primary_key=True)
    owner: str
    circuit: str = Field(sa_type=Text)
    vka: str = Field(sa_type=Text)
    needed_bytes: int = Field(default=0, sa_type=BigInteger)
    rung_claim: str | None = Field(default=None, sa_type=Text)


class DatasetRow(SQLModel, table=True):
    """A blob that is a dataset. `shape` is that of its records, space-separated."""

    __tablename__ = "dataset"
    digest: str = Field(primary_key=True)
    owner: str
    shape: str


class BlobState(StrEnum):
    """Whether a blob stays."""

    LIVE = "live"
    CONDEMNED = "condemned"
    REMOVING = "removing"


class BlobRow(SQLModel, table=True):
    """A blob that the coordinator keeps, or is about to. `size` is there once it is known.

    `used_at` is when it was uploaded or last seen to be needed, `changed_at` when it was condemned or claimed.
    """

    __tablename__ = "blob"
    digest: str = Field(primary_key=True)
    size: int | None = Field(default=None, sa_type=BigInteger)
    used_at: int = Field(sa_type=BigInteger, index=True)
    fate: BlobState = Field(default=BlobState.LIVE, sa_type=Text, index=True)
    changed_at: int = Field(default=0, sa_type=BigInteger)


class UploadRow(SQLModel, table=True):
    """An unfinished upload in parts. `received` bytes of it are stored; it ends at `expires_at` if no more come."""

    __tablename__ = "upload"
    __table_args__ = (UniqueConstraint("owner", "digest", name="upload_owner_digest"),)
    upload_id: str = Field(primary_key=True)
    owner: str = Field(index=True)
    digest: str
    size: int = Field(sa_type=BigInteger)
    received: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger, index=True)


class UploadPartRow(SQLModel, table=True):
    """A stored part of an upload, and its name in the blob store."""

    __tablename__ = "upload_part"
    upload_id: str = Field(primary_key=True, foreign_key="upload.upload_id")
    start: int = Field(sa_type=BigInteger, primary_key=True)
    size: int = Field(sa_type=BigInteger)
    name: str


class ReaderRow(SQLModel, table=True):
    """Who may read a blob at any time. `stored` are its bytes, if the address has uploaded it and they count as its."""

    __tablename__ = "reader"
    __table_args__ = (Index("ix_reader_stored", "address", "stored"),)
    digest: str = Field(primary_key=True)
    address: str = Field(primary_key=True)
    stored: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})


class JobRow(SQLModel, table=True):
    """A job.

    `certifying` says that there are records for the Certifier contract; `output_width` is how many values a record's
    output has, once that is known. `rung_claim` is the model's claim as it was when the job was taken, if its rung
    needs one. `trace` is the W3C ``traceparent`` of its submission.

    What its tasks need of a worker: `tier`, a service (:func:`coordinator.placement.service_of`), memory
    (`needed_bytes` by the estimate, `gpu_bytes` and `modality` as asked for), and `private_records` if only a
    worker that holds them for the requester can do them. `cost` is what a task counts for in the requester's share,
    `rank` the job's place among the requester's own: smaller is first. `planned` is the record from which tasks are
    still to be made, None once there are all. `retried_at` is when the requester last had it tried again: what
    workers failed before that does not count against its tasks. `validators` are the verdicts that it wants on each
    statement, `draft_digest` is the certificate that validators are shown before there is one. `payer` pays it in at
    the escrow; its tasks wait while it is `unfunded`.
    """

    __tablename__ = "job"
    __table_args__ = (
        _partial("ix_job_open", "requester", "rank", where="state IN ('queued', 'running')"),
        _partial("ix_job_deadline", "deadline", where="deadline IS NOT NULL AND state IN ('queued', 'running')"),
        _partial("ix_job_planned", "planned", where="planned IS NOT NULL"),
        _partial("ix_job_payer", "payer", where="payer IS NOT NULL"),
        _partial("ix_job_certificate_digest", "certificate_digest", where="certificate_digest IS NOT NULL"),
    )
    job_id: str = Field(primary_key=True)
    requester: str = Field(index=True)
    submitted_at: int = Field(sa_type=BigInteger, index=True)
    state: JobState = Field(default=JobState.QUEUED, sa_type=Text, index=True)
    request: str = Field(sa_type=Text)
    signature: str
    rung_claim: str | None = Field(default=None, sa_type=Text)
    certifying: bool = False
    output_width: int | None = None
    reason: str | None = Field(default=None, sa_type=Text)
    certificate_digest: str | None = None
    tier: str = ""
    needed_bytes: int = Field(default=0, sa_type=BigInteger)
    gpu_bytes: int = Field(default=0, sa_type=BigInteger)
    modality: str | None = None
    private_records: str | None = None
    cost: int = Field(default=1, sa_type=BigInteger)
    priority: int = 0
    rank: int = Field(default=0, sa_type=BigInteger)
    deadline: int | None = Field(default=None, sa_type=BigInteger)
    planned: int | None = Field(default=None, sa_type=BigInteger)
    retried_at: int = Field(default=0, sa_type=BigInteger)
    trace: str | None = None
    validators: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    draft_digest: str | None = None
    payer: str | None = None
    unfunded: bool = Field(default=False, sa_column_kwargs={"server_default": false()})


class TrainingRow(SQLModel, table=True):
    """What belongs to a job of kind training.

    `plan` is the document whose digest the request has, `steps` its steps, `initial_root` the root of the state before
    the first one, `state_bytes` how many bytes a state's tensors have.
    """

    __tablename__ = "training"
    job_id: str = Field(primary_key=True, foreign_key="job.job_id")
    plan: str = Field(sa_type=Text)
    steps: int = Field(sa_type=BigInteger)
    initial_root: str
    state_bytes: int = Field(sa_type=BigInteger)


class CheckpointRow(SQLModel, table=True):
    """A checkpoint that a worker signed and whose state is here. `number` is its index in the transcript.

    `document` is the signed checkpoint, `loss_e9` the last of its losses in units of 10⁻⁹.
    """

    __tablename__ = "checkpoint"
    task_id: str = Field(primary_key=True, foreign_key="task.task_id")
    number: int = Field(primary_key=True)
    document: str = Field(sa_type=Text)
    state_digest: str
    worker: str
    step: int = Field(sa_type=BigInteger)
    loss_e9: int | None = Field(default=None, sa_type=BigInteger)
    at: int = Field(sa_type=BigInteger)


class JobBlobRow(SQLModel, table=True):
    """A blob that a job's workers need: of a training also the states of its checkpoints."""

    __tablename__ = "job_blob"
    job_id: str = Field(primary_key=True, foreign_key="job.job_id")
    digest: str = Field(primary_key=True, index=True)


class TaskRow(SQLModel, table=True):
    """One shard of a job. `lease_id` is the open lease, or the one whose evidence was accepted.

    `max_attempts` is the policy's: commitments that the chain may count for it. `ready_at` is when it may be handed
    out, 0 if nothing went wrong with it so far: such tasks come first. `needed_bytes` and `private_records` are the
    job's.
    """

    __tablename__ = "task"
    __table_args__ = (
        Index("ix_task_place", "job_id", "start"),
        Index("ix_task_job_state", "job_id", "state", "start"),
        _partial("ix_task_waits", "job_id", "ready_at", "start", where="state = 'pending'"),
        _partial("ix_task_tried", "ready_at", where="state = 'pending' AND ready_at > 0"),
        _partial("ix_task_accepted", "submitted_at", "job_id", "start", where="state = 'accepted'"),
        _partial("ix_task_evidence_digest", "evidence_digest", where="evidence_digest IS NOT NULL"),
        _partial("ix_task_outputs_digest", "outputs_digest", where="outputs_digest IS NOT NULL"),
    )
    task_id: str = Field(primary_key=True)
    job_id: str = Field(foreign_key="job.job_id")
    start: int = Field(sa_type=BigInteger)
    count: int = Field(sa_type=BigInteger)
    tier: str
    needed_bytes: int = Field(default=0, sa_type=BigInteger)
    max_attempts: int
    private_records: str | None = None
    submitted_at: int = Field(sa_type=BigInteger)
    state: TaskState = Field(default=TaskState.PENDING, sa_type=Text)
    ready_at: int = Field(default=0, sa_type=BigInteger)
    lease_id: str | None = None
    statement_digest: str | None = None
    evidence_digest: str | None = None
    outputs_digest: str | None = None
    verdict: str | None = Field(default=None, sa_type=Text)
    accepted_at: int | None = Field(default=None, sa_type=BigInteger)


class LeaseRow(SQLModel, table=True):
    """The right of one worker to one task.

    `progressed_at` is when a heartbeat last told of progress, `evidence` what became of the evidence, once some came.
    """

    __tablename__ = "lease"
    __table_args__ = (
        _partial("ix_lease_open", "expires_at", where="outcome = 'open'"),
        _partial("ix_lease_held", "worker", where="outcome = 'open'"),
    )
    lease_id: str = Field(primary_key=True)
    task_id: str = Field(foreign_key="task.task_id", index=True)
    worker: str
    nonce: str
    granted_at: int = Field(sa_type=BigInteger)
    progressed_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
    outcome: Outcome = Field(default=Outcome.OPEN, sa_type=Text)
    evidence: EvidenceState | None = Field(default=None, sa_type=Text)
    progress: str | None = None


class FaultRow(SQLModel, table=True):
    """What went wrong with a task at one worker.

    `outcome` is how the lease ended; `committed` says that it cost one of the task's attempts. A worker with a fault
    doesn't get the task again. `helping` says that it had only a piece of it, whose lead went on: such a fault does not
    count as one of the task's. `forgiven` says that the requester had the task tried again since.
    """

    __tablename__ = "fault"
    __table_args__ = (Index("ix_fault_task", "task_id", "worker"),)
    id: int | None = Field(default=None, primary_key=True)
    task_id: str = Field(foreign_key="task.task_id")
    worker: str
    at: int = Field(sa_type=BigInteger)
    outcome: Outcome = Field(sa_type=Text)
    code: str
    detail: str = Field(sa_type=Text)
    committed: bool = False
    helping: bool = False
    forgiven: bool = False


class PieceRow(SQLModel, table=True):
    """One segment of one leased task's proved records, which ends with the lease.

    `needed_bytes` is the memory that it takes by the estimate. `worker` holds it or has made it: with `proofs_digest`,
    a helper whose proofs were checked; without, the task's lead, whose piece has no time of its own. `left_by` is a
    space-separated list of helpers that had it and did not make it, `reason` why the last one did not.
    """

    __tablename__ = "piece"
    piece_id: str = Field(primary_key=True)
    lease_id: str = Field(foreign_key="lease.lease_id", index=True)
    segment: int
    records: int = Field(sa_type=BigInteger)
    needed_bytes: int = Field(sa_type=BigInteger)
    values_digest: str
    state: PieceState = Field(default=PieceState.OPEN, sa_type=Text, index=True)
    worker: str | None = Field(default=None, index=True)
    progressed_at: int = Field(default=0, sa_type=BigInteger)
    expires_at: int | None = Field(default=None, sa_type=BigInteger)
    progress: str | None = None
    proofs_digest: str | None = None
    left_by: str = Field(default="", sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)


class TransactionStatus(StrEnum):
    """Where a transaction of the coordinator stands; see :mod:`coordinator.outbox`."""

    OPEN = "open"
    MINED = "mined"
    FINAL = "final"
    FAILED = "failed"
    LOST = "lost"


# Of these there is one at most for a nonce, and for a purpose and its subject.
LIVE = (TransactionStatus.OPEN, TransactionStatus.MINED, TransactionStatus.FINAL)
_LIVE = text("status IN ('open', 'mined', 'final')")


class Purpose(StrEnum):
    """What a transaction is for."""

    ANCHOR = "anchor"
    COMMIT = "commit"
    REGISTER_VKA = "register-vka"
    CERTIFY = "certify"
    VERDICT = "verdict"
    CLAIM = "claim"
    SETTLE = "settle"
    FILLER = "filler"


class TransactionRow(SQLModel, table=True):
    """A transaction of the coordinator's account, written down before it is sent.

    `subject` says with `purpose` what it is for. `raw` is what was signed last, as long as it may have to be sent
    again; `tx_hash` is that one's, or the mined one's. `created_at` is when it was first signed, `signed_at` and
    `sent_at` when it was last signed and sent. `trouble` is why the node did not take it. `watched` is false once it is
    so deep that nothing more is expected of the chain.
    """

    __tablename__ = "chain_transaction"
    __table_args__ = (
        Index(
            "ix_chain_transaction_nonce",
            "account",
            "nonce",
            unique=True,
            sqlite_where=_LIVE,
            postgresql_where=_LIVE,
        ),
        Index(
            "ix_chain_transaction_subject",
            "account",
            "purpose",
            "subject",
            unique=True,
            sqlite_where=_LIVE,
            postgresql_where=_LIVE,
        ),
    )
    id: int | None = Field(default=None, primary_key=True)
    account: str
    nonce: int = Field(sa_type=BigInteger)
    purpose: Purpose = Field(sa_type=Text)
    subject: str
    status: TransactionStatus = Field(default=TransactionStatus.OPEN, sa_type=Text, index=True)
    raw: str | None = Field(default=None, sa_type=Text)
    tx_hash: str | None = None
    created_at: int = Field(sa_type=BigInteger)
    signed_at: int = Field(sa_type=BigInteger)
    sent_at: int | None = Field(default=None, sa_type=BigInteger)
    trouble: str | None = Field(default=None, sa_type=Text)
    block: int | None = Field(default=None, sa_type=BigInteger)
    block_hash: str | None = None
    gas_used: int | None = Field(default=None, sa_type=BigInteger)
    cost_gwei: int | None = Field(default=None, sa_type=BigInteger)
    reverted: bool = False
    watched: bool = True


class SignedRow(SQLModel, table=True):
    """One signature of a transaction: the first, or a dearer one with the same nonce. Fees in wei per gas."""

    __tablename__ = "signed_transaction"
    tx_hash: str = Field(primary_key=True)
    transaction: int = Field(foreign_key="chain_transaction.id", index=True)
    max_fee: int = Field(sa_type=BigInteger)
    priority_fee: int = Field(sa_type=BigInteger)


class CommitmentRow(SQLModel, table=True):
    """Intent to commit a statement on chain; what the chain made of it, once that is known.

    `since_block` is the chain's head when the transaction was signed: if it is mined, then later.
    """

    __tablename__ = "commitment"
    lease_id: str = Field(primary_key=True, foreign_key="lease.lease_id")
    task_id: str = Field(foreign_key="task.task_id", index=True)
    statement_digest: str
    since_block: int | None = Field(default=None, sa_type=BigInteger)
    transaction: int | None = Field(default=None, foreign_key="chain_transaction.id", index=True)
    attempt: int | None = None
    block: int | None = Field(default=None, sa_type=BigInteger)
    tx_hash: str | None = None
    challenge_block_hash: str | None = None


class AnchorRow(SQLModel, table=True):
    """Intent to anchor a tree of statements; the chain's entry, once that is known.

    `since_block` is the chain's head when it was planned, `planned_at` the time.
    """

    __tablename__ = "anchor"
    id: int | None = Field(default=None, primary_key=True)
    state: AnchorState = Field(default=AnchorState.PLANNED, sa_type=Text, index=True)
    root: str
    size: int
    since_block: int = Field(sa_type=BigInteger)
    planned_at: int = Field(default=0, sa_type=BigInteger)
    transaction: int | None = Field(default=None, foreign_key="chain_transaction.id", index=True)
    anchor_id: int | None = Field(default=None, sa_type=BigInteger)
    block: int | None = Field(default=None, sa_type=BigInteger)
    block_hash: str | None = None
    tx_hash: str | None = None


class LeafRow(SQLModel, table=True):
    """A statement's place in an anchored tree. Paths are computed from all leaves of the tree."""

    __tablename__ = "anchor_leaf"
    task_id: str = Field(primary_key=True, foreign_key="task.task_id")
    anchor: int = Field(foreign_key="anchor.id", index=True)
    leaf_index: int
    statement_digest: str


class CertifiedRow(SQLModel, table=True):
    """Intent to have the Certifier check a record; the transaction in which it accepted it, once that is known."""

    __tablename__ = "certified_record"
    task_id: str = Field(primary_key=True, foreign_key="task.task_id")
    record_index: int = Field(sa_type=BigInteger, primary_key=True)
    transaction: int | None = Field(default=None, foreign_key="chain_transaction.id", index=True)
    tx_hash: str | None = None


class ValidatorSignatureRow(SQLModel, table=True):
    """What a validator signed about a task's statement. `verdict` is a :class:`~rexis.protocol.validation.Finding`.

    Who signs both verdicts has two rows: together they are what ``reportEquivocation`` takes.
    """

    __tablename__ = "validator_signature"
    task_id: str = Field(primary_key=True, foreign_key="task.task_id")
    account: str = Field(primary_key=True)
    verdict: int = Field(primary_key=True)
    slot: int
    public_key: str = Field(sa_type=Text)
    signature: str = Field(sa_type=Text)
    at: int = Field(sa_type=BigInteger)


class AbstentionRow(SQLModel, table=True):
    """Why a validator signs nothing about a job, as it says."""

    __tablename__ = "abstention"
    job_id: str = Field(primary_key=True, foreign_key="job.job_id")
    account: str = Field(primary_key=True)
    reason: str = Field(sa_type=Text)
    at: int = Field(sa_type=BigInteger)


class ValidationRow(SQLModel, table=True):
    """Intent to have a verdict of validators on a task's statement written on chain; what was, once that is final.

    `share` is how much of the active stake was behind the leading verdict at the last look, in 1/10,000. `verdict`,
    `signers` (how many) and `tx_hash` are the chain's.
    """

    __tablename__ = "validation"
    task_id: str = Field(primary_key=True, foreign_key="task.task_id")
    share: int = 0
    transaction: int | None = Field(default=None, foreign_key="chain_transaction.id", index=True)
    verdict: int | None = None
    signers: int | None = None
    tx_hash: str | None = None


class PaymentState(StrEnum):
    """How the payment of a task stands; ``paid`` and ``lost`` are ends."""

    UNDER_WAY = "under-way"
    PAID = "paid"
    LOST = "lost"


class PaymentRow(SQLModel, table=True):
    """The payment of an anchored task, as the chain had it at the last look.

    `look_at` is the block from which there may be news, `reason` why it stands so.
    """

    __tablename__ = "payment"
    task_id: str = Field(primary_key=True, foreign_key="task.task_id")
    state: PaymentState = Field(default=PaymentState.UNDER_WAY, sa_type=Text)
    look_at: int = Field(default=0, sa_type=BigInteger)
    reason: str | None = Field(default=None, sa_type=Text)


class DutyRow(SQLModel, table=True):
    """Which coordinator process has a duty, until when by the database's clock, and how often it changed hands."""

    __tablename__ = "duty"
    name: str = Field(primary_key=True)
    holder: str
    term: int = Field(sa_type=BigInteger)
    until: int = Field(sa_type=BigInteger)


class TroubleRow(SQLModel, table=True):
    """Why a job is held up, as far as it is not its own state: the chain does not answer, for example."""

    __tablename__ = "trouble"
    job_id: str = Field(primary_key=True, foreign_key="job.job_id")
    reason: str = Field(sa_type=Text)
    at: int = Field(sa_type=BigInteger)
