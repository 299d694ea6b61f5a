"""Checkpoints of trainings: each is taken once, in order, with a state that the next worker can go on from."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sqlmodel import Session

from coordinator.access import Access, add_readers
from coordinator.blobs import Blobs
from coordinator.inventory import require_kept
from coordinator.leases import Leases, Terms, require_open
from coordinator.store import Store
from coordinator.tables import CheckpointRow, JobBlobRow, JobRow, LeaseRow, TaskRow, TrainingRow
from coordinator.times import Clock
from coordinator.transcripts import last_of, plan_of, read, task_of, transcript_of
from coordinator.views import own
from rexis.api import Progress, Stage, TranscriptView
from rexis.protocol.digests import ZERO_DIGEST, Digest
from rexis.protocol.errors import ConflictError, EvidenceError, MalformedError, NotFoundError
from rexis.protocol.parsing import Address
from rexis.protocol.tensors import tensor_shapes
from rexis.protocol.training import TrainingPlan, loss_e9
from rexis.protocol.transcript import (
    MAX_STATE_HEADER,
    Checkpoint,
    SignedCheckpoint,
    check_next,
    losses_of,
    state_root_of,
    unpack_state,
)
from rexis.protocol.typed_data import Domain

# States are read whole, and looked at.
_STATES_AT_ONCE = 2
_HEADER = 8 << 10


@dataclass(frozen=True)
class _Case:
    """A checkpoint with what it is checked against; `first_state` is the blob of the first one's."""

    signed: SignedCheckpoint
    plan: TrainingPlan
    task: Digest
    initial_root: Digest
    state_bytes: int
    previous: Checkpoint | None
    first_state: Digest | None


class Checkpoints:
    """Takes checkpoints, and shows transcripts."""

    def __init__(
        self, store: Store, blobs: Blobs, access: Access, clock: Clock, leases: Leases, domain: Domain, terms: Terms
    ) -> None:
        self._store, self._blobs, self._access, self._clock = store, blobs, access, clock
        self._leases, self._domain, self._terms = leases, domain, terms
        self._room = threading.BoundedSemaphore(_STATES_AT_ONCE)

    def most_bytes(self, lease_id: str, worker: Address) -> int:
        """Before a checkpoint is read: how many bytes it may have.

        Raises
        ------
        LeaseError
            The lease is lost.
        ConflictError
            It is of no training.
        """
        self._leases.expire()
        with self._store.reading() as session:
            _, task = _open(session, lease_id, worker)
            plan = _plan(session, task)
        return _HEADER + 8 * plan.checkpoint_interval

    def add(self, lease_id: str, worker: Address, signed: SignedCheckpoint) -> None:
        """Take the next checkpoint of a task, and keep the lease. The same again changes nothing.

        Raises
        ------
        LeaseError
            The lease is lost.
        EvidenceError, SignatureError, TensorError
            It does not follow from the one before it and the plan, or its state is not what it says.
        MalformedError
            The state, or the last one's model, has not been uploaded.
        ConflictError
            Another checkpoint is there in its place.
        """
        self._leases.expire()
        with self._store.reading() as session:
            _, task = _open(session, lease_id, worker)
            if _is_there(session, task, signed):
                return
            case = self._case(session, task, signed)
        if signed.checkpoint.worker != worker:
            raise EvidenceError(f"is {signed.checkpoint.worker}'s, the lease is {worker}'s", field="checkpoint.worker")
        check_next(signed, case.previous, case.plan, case.task, self._domain)
        self._check_state(worker, case)
        with self._store.writing() as session:
            lease, task = _open(session, lease_id, worker)
            if not _is_there(session, task, signed):
                self._write(session, lease, task, case)

    def transcript(self, caller: Address, job_id: Digest, *, anybodys: bool = False) -> TranscriptView:
        """The checkpoints so far of a training of the caller's, or of anybody's.

        Raises
        ------
        NotFoundError, ForbiddenError
            No such training, or somebody else's.
        """
        with self._store.reading() as session:
            row = own(session, caller, job_id, anybodys=anybodys)
            plan = plan_of(session, row.job_id)
            if plan is None:
                raise NotFoundError("the job is no training: it has no transcript")
            return TranscriptView(plan=plan, checkpoints=transcript_of(session, task_of(session, row.job_id)))

    def _case(self, session: Session, task: TaskRow, signed: SignedCheckpoint) -> _Case:
        row, last = session.get_one(TrainingRow, task.job_id), last_of(session, task.task_id)
        first = session.get(CheckpointRow, (task.task_id, 0))
        return _Case(
            signed,
            _plan(session, task),
            Digest.parse(task.task_id),
            Digest.parse(row.initial_root),
            row.state_bytes,
            None if last is None else read(last.document).checkpoint,
            None if first is None else Digest.parse(first.state_digest),
        )

    def _check_state(self, worker: Address, case: _Case) -> None:
        """The state is here, and is the one that the root is of: who takes the task over must be able to go on."""
        here, digest = case.signed.checkpoint, case.signed.state_digest
        if here.index == 0 and here.state_root != case.initial_root:
            raise EvidenceError(
                f"begins at state {here.state_root}, the base model's is {case.initial_root}",
                field="checkpoint.stateRoot",
            )
        self._require_held(worker, digest, "stateDigest", "the state")
        if here.model_digest != ZERO_DIGEST:
            self._require_held(worker, here.model_digest, "checkpoint.modelDigest", "the trained model")
        size = self._blobs.size(digest) or 0
        if not case.state_bytes < size <= case.state_bytes + MAX_STATE_HEADER:
            raise EvidenceError(
                f"the state's blob has {size} bytes, its tensors have {case.state_bytes}", field="stateDigest"
            )
        with self._room:
            state = unpack_state(self._blobs.read(digest, "state"), case.plan)
            root = state_root_of(here.step, here.cursor, state)
        if root != here.state_root:
            raise EvidenceError(f"the state has root {root}, not {here.state_root}", field="checkpoint.stateRoot")
        if case.first_state is not None:
            shapes = tensor_shapes(*self._blobs.reader(case.first_state, "the first state"))
            for name, value in sorted(state.items()):
                if value.shape != shapes[name]:
                    raise EvidenceError(f"{name} has shape {list(value.shape)}, not the model's", field="stateDigest")

    def _require_held(self, worker: Address, digest: Digest, field: str, what: str) -> None:
        if not self._access.holds(worker, digest):
            raise MalformedError(
                f"{what} {digest} has not been uploaded",
                field=field,
                hint=f"PUT /v1/blobs/{digest} first, then send the checkpoint again",
            )

    def _write(self, session: Session, lease: LeaseRow, task: TaskRow, case: _Case) -> None:
        here, now, losses = case.signed.checkpoint, self._clock(), losses_of(case.signed)
        named = {case.signed.state_digest} | ({here.model_digest} - {ZERO_DIGEST})
        if (gone := require_kept(session, sorted(named), now)) is not None:
            raise MalformedError(f"blob {gone} is not here any more", hint=f"PUT /v1/blobs/{gone} again")
        loss = loss_e9(float(losses[-1])) if len(losses) else None
        session.add(
            CheckpointRow(
                task_id=task.task_id,
                number=here.index,
                document=case.signed.to_json().decode(),
                state_digest=str(case.signed.state_digest),
                worker=here.worker,
                step=here.step,
                loss_e9=loss,
                at=now,
            )
        )
        job = session.get_one(JobRow, task.job_id)
        for digest in named:
            if session.get(JobBlobRow, (job.job_id, str(digest))) is None:
                session.add(JobBlobRow(job_id=job.job_id, digest=str(digest)))
        add_readers(session, Address.parse(job.requester), named)
        lease.progressed_at, lease.expires_at = now, now + self._terms.lease_ms
        progress = Progress(stage=Stage.COMPUTE, done=here.step, total=case.plan.steps, loss_e9=loss)
        lease.progress = progress.to_json().decode()


def _open(session: Session, lease_id: str, worker: Address) -> tuple[LeaseRow, TaskRow]:
    lease = require_open(session, lease_id, worker)
    return lease, session.get_one(TaskRow, lease.task_id)


def _plan(session: Session, task: TaskRow) -> TrainingPlan:
    plan = plan_of(session, task.job_id)
    if plan is None:
        raise ConflictError("the task is no training: it has no checkpoints", hint="hand the evidence in")
    return plan


def _is_there(session: Session, task: TaskRow, signed: SignedCheckpoint) -> bool:
    """Whether this checkpoint was taken before."""
    row = session.get(CheckpointRow, (task.task_id, signed.checkpoint.index))
    if row is not None and row.document.encode() != signed.to_json():
        raise ConflictError(
            f"checkpoint {row.number} of worker {row.worker} is there already, and is another one",
            field="checkpoint.index",
            hint="go on from the last one that is there; a new lease has them all",
        )
    return row is not None
