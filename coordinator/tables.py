"""The tables. Digests and addresses stand in their text form, documents as canonical JSON, times in milliseconds."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import BigInteger, Text
from sqlmodel import Field, SQLModel

from rexis.api import JobState, PieceState, TaskState

SCHEMA_VERSION = 7


class Outcome(StrEnum):
    """How a lease ended, or ``open``."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    GAVE_UP = "gave-up"
    RETURNED = "returned"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class SchemaRow(SQLModel, table=True):
    """Which version of these tables a database holds."""

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
    address: str
    expires_at: int = Field(sa_type=BigInteger, index=True)


class WorkerRow(SQLModel, table=True):
    """A worker. `tiers` is a space-separated list of names, `datasets` one of the private records that it holds."""

    __tablename__ = "worker"
    address: str = Field(primary_key=True)
    name: str
    provider: str
    tiers: str
    datasets: str = Field(default="", sa_type=Text)
    memory_bytes: int = Field(sa_type=BigInteger)
    last_seen: int = Field(sa_type=BigInteger)


class ModelRow(SQLModel, table=True):
    """A model that is registered on chain. `circuit` is a document, `vka` a space-separated list of words.

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


class ReaderRow(SQLModel, table=True):
    """Who may read a blob at any time."""

    __tablename__ = "reader"
    digest: str = Field(primary_key=True)
    address: str = Field(primary_key=True)


class JobRow(SQLModel, table=True):
    """A job.

    `certifying` says that there are records for the Certifier contract; `output_width` is how many values a record's
    output has, once that is known. `rung_claim` is the model's claim as it was when the job was taken, if its rung
    needs one.
    """

    __tablename__ = "job"
    job_id: str = Field(primary_key=True)
    requester: str = Field(index=True)
    submitted_at: int = Field(sa_type=BigInteger, index=True)
    state: JobState = Field(sa_type=Text, index=True)
    request: str = Field(sa_type=Text)
    signature: str
    rung_claim: str | None = Field(default=None, sa_type=Text)
    certifying: bool = False
    output_width: int | None = None
    reason: str | None = Field(default=None, sa_type=Text)
    certificate_digest: str | None = None


class JobBlobRow(SQLModel, table=True):
    """A blob that a job's workers need."""

    __tablename__ = "job_blob"
    job_id: str = Field(primary_key=True, foreign_key="job.job_id")
    digest: str = Field(primary_key=True, index=True)


class TaskRow(SQLModel, table=True):
    """One shard of a job. `lease_id` is the open lease, or the one whose evidence was accepted.

    `needed_bytes` is the memory that its proofs take by the estimate: no worker with less gets it. `max_attempts` is
    the policy's: commitments that the chain may count for it. `private_records` is there if only a worker that holds
    them for the job's requester can do the task.
    """

    __tablename__ = "task"
    task_id: str = Field(primary_key=True)
    job_id: str = Field(foreign_key="job.job_id", index=True)
    start: int = Field(sa_type=BigInteger)
    count: int = Field(sa_type=BigInteger)
    tier: str
    needed_bytes: int = Field(default=0, sa_type=BigInteger)
    max_attempts: int
    private_records: str | None = None
    submitted_at: int = Field(sa_type=BigInteger)
    state: TaskState = Field(sa_type=Text, index=True)
    lease_id: str | None = None
    statement_digest: str | None = None
    evidence_digest: str | None = None
    outputs_digest: str | None = None
    verdict: str | None = Field(default=None, sa_type=Text)
    accepted_at: int | None = Field(default=None, sa_type=BigInteger)


class LeaseRow(SQLModel, table=True):
    """The right of one worker to one task. `progressed_at` is when a heartbeat last told of progress."""

    __tablename__ = "lease"
    lease_id: str = Field(primary_key=True)
    task_id: str = Field(foreign_key="task.task_id", index=True)
    worker: str = Field(index=True)
    nonce: str
    granted_at: int = Field(sa_type=BigInteger)
    progressed_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger, index=True)
    outcome: Outcome = Field(default=Outcome.OPEN, sa_type=Text, index=True)
    progress: str | None = None


class FaultRow(SQLModel, table=True):
    """What went wrong with a task at one worker.

    `outcome` is how the lease ended; `committed` says that it cost one of the task's attempts. A worker with a fault
    doesn't get the task again. `helping` says that it had only a piece of it, whose lead went on: such a fault does not
    count as one of the task's.
    """

    __tablename__ = "fault"
    id: int | None = Field(default=None, primary_key=True)
    task_id: str = Field(foreign_key="task.task_id", index=True)
    worker: str = Field(index=True)
    at: int = Field(sa_type=BigInteger)
    outcome: Outcome = Field(sa_type=Text)
    code: str
    detail: str = Field(sa_type=Text)
    committed: bool = False
    helping: bool = False


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


class CommitmentRow(SQLModel, table=True):
    """Intent to commit a statement on chain; what the chain made of it, once that is known.

    `since_block` is the chain's head when the intent was written: the transaction, if it was ever sent, comes later.
    """

    __tablename__ = "commitment"
    lease_id: str = Field(primary_key=True, foreign_key="lease.lease_id")
    task_id: str = Field(foreign_key="task.task_id", index=True)
    statement_digest: str
    since_block: int | None = Field(default=None, sa_type=BigInteger)
    attempt: int | None = None
    block: int | None = Field(default=None, sa_type=BigInteger)
    tx_hash: str | None = None
    challenge_block_hash: str | None = None


class AnchorRow(SQLModel, table=True):
    """Intent to anchor a tree of statements; the chain's entry, once that is known."""

    __tablename__ = "anchor"
    id: int | None = Field(default=None, primary_key=True)
    root: str
    size: int
    since_block: int = Field(sa_type=BigInteger)
    anchor_id: int | None = Field(default=None, sa_type=BigInteger)
    block: int | None = Field(default=None, sa_type=BigInteger)
    tx_hash: str | None = None


class LeafRow(SQLModel, table=True):
    """A task's place in an anchored tree. `path` is a space-separated list of nodes."""

    __tablename__ = "anchor_leaf"
    task_id: str = Field(primary_key=True, foreign_key="task.task_id")
    anchor: int = Field(foreign_key="anchor.id", index=True)
    leaf_index: int
    path: str = Field(sa_type=Text)


class CertifiedRow(SQLModel, table=True):
    """Intent to have the Certifier check a record; the transaction in which it accepted it, once that is known."""

    __tablename__ = "certified_record"
    task_id: str = Field(primary_key=True, foreign_key="task.task_id")
    record_index: int = Field(sa_type=BigInteger, primary_key=True)
    tx_hash: str | None = None
