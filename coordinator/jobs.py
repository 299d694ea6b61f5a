"""Jobs: what is checked before one is taken, and how one looks from outside."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session, col, func, select

from coordinator.access import Access, add_readers
from coordinator.blobs import Blobs
from coordinator.catalogue import Catalogue
from coordinator.leases import fail_job
from coordinator.placement import Candidate, waiting_reason
from coordinator.standing import Rules, last_attempt
from coordinator.store import Store
from coordinator.tables import FaultRow, JobBlobRow, JobRow, LeaseRow, ModelRow, TaskRow
from coordinator.times import Clock, rfc3339
from coordinator.workers import Workers
from rexis.api import Fault, JobState, JobSubmission, JobSummary, JobView, Progress, TaskState, TaskView
from rexis.protocol.circuit import NO_CIRCUIT, Circuit, Visibility
from rexis.protocol.digests import Digest
from rexis.protocol.errors import (
    ConflictError,
    ForbiddenError,
    MalformedError,
    NotFoundError,
    ResourceError,
)
from rexis.protocol.parsing import Address, enum_name, to_hex
from rexis.protocol.policy import Rung, Tier
from rexis.protocol.signing import require_signer
from rexis.protocol.statement import JobRequest, Kind, task_id
from rexis.protocol.tensors import pack_outputs, unpack_outputs
from rexis.protocol.typed_data import Domain

MAX_TASKS = 10_000
_MAX_LISTED = 100
_SHOWN_FAULTS = 10
_FINISHED = (JobState.ANCHORING, JobState.CERTIFIED)


@dataclass(frozen=True)
class Place:
    """What this coordinator is: the domain that it serves, its own address, and the tiers that it can check."""

    domain: Domain
    address: Address
    tiers: Collection[Tier]


@dataclass(frozen=True)
class Limits:
    """What one job may ask for.

    Attributes
    ----------
    certified_records
        Records that the Certifier contract is to check, a transaction each.
    """

    certified_records: int


class Jobs:
    """Submission and views.

    Parameters
    ----------
    troubles
        Why a job waits, by job id, where it isn't for a worker.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        access: Access,
        catalogue: Catalogue,
        workers: Workers,
        place: Place,
        limits: Limits,
        rules: Rules,
        troubles: Mapping[str, str],
    ) -> None:
        self._store, self._blobs, self._clock = store, blobs, clock
        self._catalogue, self._workers, self._place = catalogue, workers, place
        self._access = access
        self._limits, self._rules, self._troubles = limits, rules, troubles

    def submit(self, caller: Address, submission: JobSubmission) -> tuple[JobView, bool]:
        """Take a job; returns it and whether it is new. The same request is the same job.

        Raises
        ------
        SignatureError, ForbiddenError, MalformedError, ResourceError
            Names the field of the request that cannot be served, and what to do.
        """
        request = submission.request
        job_id = request.job_id(self._place.domain)
        require_signer(job_id, submission.signature, request.requester, "request")
        if request.requester != caller:
            raise ForbiddenError(
                f"the request is {request.requester}'s, the token {caller}'s", field="request.requester"
            )
        with self._store.reading() as session:
            known = session.get(JobRow, str(job_id)) is not None
        if not known:
            width = self._check(request)
            known = not self._insert(job_id, submission, width)
        return self.view(caller, job_id), not known

    def view(self, caller: Address, job_id: Digest) -> JobView:
        """A job of the caller's.

        Raises
        ------
        NotFoundError, ForbiddenError
            No such job, or somebody else's.
        """
        with self._store.reading() as session:
            row = self._own(session, caller, job_id)
            return self._views(session, [row])[0]

    def listed(self, caller: Address) -> list[JobSummary]:
        """The caller's newest jobs, newest first."""
        with self._store.reading() as session:
            rows = session.exec(
                select(JobRow)
                .where(col(JobRow.requester) == caller)
                .order_by(col(JobRow.submitted_at).desc(), col(JobRow.job_id))
                .limit(_MAX_LISTED)
            ).all()
            counts: dict[str, Counter[bool]] = defaultdict(Counter)
            counted = select(TaskRow.job_id, TaskRow.state, func.count()).where(
                col(TaskRow.job_id).in_([row.job_id for row in rows])
            )
            for job, state, count in session.exec(counted.group_by(col(TaskRow.job_id), col(TaskRow.state))):
                counts[job][state in (TaskState.ACCEPTED, TaskState.ANCHORED)] += count
        return [
            JobSummary(task_count=counts[row.job_id].total(), tasks_done=counts[row.job_id][True], **self._head(row))
            for row in rows
        ]

    def cancel(self, caller: Address, job_id: Digest) -> JobView:
        """End a job of the caller's that is not finished.

        Raises
        ------
        NotFoundError, ForbiddenError
            No such job, or somebody else's.
        ConflictError
            It has its certificate.
        """
        with self._store.writing() as session:
            row = self._own(session, caller, job_id)
            if row.state == JobState.CERTIFIED:
                raise ConflictError("the job is certified already")
            fail_job(session, row, "cancelled by its requester")
        return self.view(caller, job_id)

    def task(self, caller: Address, identity: Digest) -> TaskView:
        """One task, for its requester and for the workers that had it."""
        with self._store.reading() as session:
            task = session.get(TaskRow, str(identity))
            if task is None:
                raise NotFoundError(f"no task {identity}")
            job = session.get_one(JobRow, task.job_id)
            leased = select(LeaseRow.lease_id).where(
                col(LeaseRow.task_id) == task.task_id, col(LeaseRow.worker) == caller
            )
            if caller != job.requester and session.exec(leased).first() is None:
                raise ForbiddenError("the task is of somebody else's job")
            return self._task_views(session, [task])[job.job_id][0]

    def certificate(self, caller: Address, job_id: Digest) -> bytes:
        """Canonical bytes of a finished job's certificate."""
        with self._store.reading() as session:
            row = self._own(session, caller, job_id)
        if row.certificate_digest is None:
            raise ConflictError(f"the job is {JobState(row.state)}: it has no certificate", hint=row.reason)
        return self._blobs.read(Digest.parse(row.certificate_digest), "certificate")

    def outputs(self, caller: Address, job_id: Digest) -> bytes:
        """A job's encrypted outputs, one blob over all its records in their order."""
        with self._store.reading() as session:
            row = self._own(session, caller, job_id)
            tasks = _tasks(session, [row.job_id])
        if row.state not in _FINISHED:
            raise ConflictError(f"the job is {JobState(row.state)}: its outputs are not complete", hint=row.reason)
        fixed = JobRequest.from_json(row.request.encode()).policy.tier != Tier.COMMIT
        parts: list[NDArray[Any]] = [
            unpack_outputs(
                self._blobs.read(Digest.parse(task.outputs_digest, "outputsDigest"), "outputs"),
                count=task.count,
                fixed=fixed,
            )
            for task in tasks
        ]
        if any(part.shape[1:] != parts[0].shape[1:] for part in parts):  # as many values, arranged otherwise
            parts = [part.reshape(len(part), -1) for part in parts]
        return pack_outputs(np.concatenate(parts))

    def _check(self, request: JobRequest) -> int | None:
        """Refuse what cannot be served; returns how wide a record's output is, if the model's circuit says so."""
        place = self._place
        if request.coordinator != place.address:
            raise MalformedError(
                f"names coordinator {request.coordinator}, this is {place.address}",
                field="request.coordinator",
                hint="take the address from /v1/info",
            )
        if request.kind != Kind.EVALUATION:
            raise MalformedError(
                f"kind {enum_name(request.kind)} is not served", field="request.kind", hint="use evaluation"
            )
        tier = request.policy.tier
        if tier not in place.tiers:
            able = ", ".join(enum_name(one) for one in place.tiers)
            raise MalformedError(
                f"this coordinator cannot check tier {enum_name(tier)}",
                field="request.policy.tier",
                hint=f"use {able}, or a coordinator with ezkl installed",
            )
        count = -(-request.record_count // request.policy.shard_size)
        if count > MAX_TASKS:
            raise ResourceError(
                f"the job has {count} tasks, at most {MAX_TASKS} are allowed",
                field="request.policy.shardSize",
                hint="use larger shards",
            )
        if request.policy.certify_on_chain and request.record_count > self._limits.certified_records:
            raise ResourceError(
                f"the job has {request.record_count} records, at most {self._limits.certified_records} of a job are "
                "certified on chain",
                field="request.recordCount",
                hint="each takes a transaction; split the job, or leave certifyOnChain out",
            )
        width = self._check_model(request)
        self._check_dataset(request)
        return width

    def _check_model(self, request: JobRequest) -> int | None:
        model = self._catalogue.model(request.model_digest, request.key_epoch)
        if model is None:
            raise MalformedError(
                f"model {request.model_digest} with key epoch {request.key_epoch} is not known here",
                field="request.modelDigest",
                hint="its owner registers it here: POST /v1/models",
            )
        circuit: Circuit | None = None
        if request.policy.tier != Tier.COMMIT:
            circuit = request.circuit
            if circuit != model.circuit:
                raise MalformedError(
                    "is not the circuit that the model is registered with",
                    field="request.circuit",
                    hint=f"take it from /v1/models/{request.model_digest}/{request.key_epoch}",
                )
            if request.policy.certify_on_chain and self._catalogue.boundaries(circuit):
                raise MalformedError(
                    "the circuit has several segments, and the Certifier contract checks proofs of one",
                    field="request.policy.certifyOnChain",
                    hint="leave it out: the statement is anchored, and anybody can check the certificate",
                )
        self._catalogue.require_active(request.model_digest, request.key_epoch, circuit, "request.")
        if request.policy.rung == Rung.EE_PRIVATE_WEIGHTS and model.rung_claim is None:
            raise MalformedError(
                f"its owner {model.owner} has not claimed rung ee-private-weights for model {request.model_digest}",
                field="request.policy.rung",
                hint="use ee-outsourced, or have the owner register the model again with its leakage card",
            )
        return model.circuit.output_length if model.circuit != NO_CIRCUIT else None

    def _check_dataset(self, request: JobRequest) -> None:
        if self._catalogue.dataset_view(request.requester, request.dataset_digest) is None:
            raise MalformedError(
                f"dataset {request.dataset_digest} is not known here",
                field="request.datasetDigest",
                hint="upload it, then POST /v1/datasets",
            )
        dataset = self._catalogue.dataset(request.dataset_digest)
        tier, circuit = request.policy.tier, request.circuit
        if request.input_size != len(dataset):
            raise MalformedError(
                f"says {request.input_size}, the dataset has {len(dataset)} records", field="request.inputSize"
            )
        if tier != Tier.COMMIT and (fault := dataset.misfit(circuit)) is not None:
            raise MalformedError(fault, field="request.datasetDigest", hint="the records are of another model")
        root = self._catalogue.inputs(request.dataset_digest, tier, circuit).root
        if root != request.input_root:
            raise MalformedError(
                f"says {request.input_root}, the dataset's records have root {root}",
                field="request.inputRoot",
                hint=f"the root for tier {enum_name(tier)} is taken over the records as that tier encodes them",
            )

    def _insert(self, job_id: Digest, submission: JobSubmission, width: int | None = None) -> bool:
        request, now = submission.request, self._clock()
        with self._store.writing() as session:
            if session.get(JobRow, str(job_id)) is not None:
                return False
            model = session.get_one(ModelRow, (str(request.model_digest), request.key_epoch))
            session.add(
                JobRow(
                    job_id=str(job_id),
                    requester=request.requester,
                    submitted_at=now,
                    state=JobState.QUEUED,
                    request=request.to_json().decode(),
                    signature=to_hex(submission.signature),
                    rung_claim=model.rung_claim if request.policy.rung == Rung.EE_PRIVATE_WEIGHTS else None,
                    certifying=request.policy.certify_on_chain,
                    output_width=width,
                )
            )
            session.flush()
            circuit = request.circuit
            private = circuit.visibility == Visibility.HASHED
            memory = model.needed_bytes if circuit != NO_CIRCUIT else 0
            needed = {request.model_digest, request.dataset_digest}
            if circuit != NO_CIRCUIT:
                needed |= {circuit.settings_digest, circuit.vk_digest, circuit.srs_digest}
            session.add_all(JobBlobRow(job_id=str(job_id), digest=str(digest)) for digest in needed)
            add_readers(session, request.requester, needed)
            for start, count in request.shards():
                session.add(
                    TaskRow(
                        task_id=str(task_id(job_id, start, count)),
                        job_id=str(job_id),
                        start=start,
                        count=count,
                        tier=enum_name(request.policy.tier),
                        needed_bytes=memory,
                        max_attempts=request.policy.max_attempts,
                        private_dataset=str(request.dataset_digest) if private else None,
                        submitted_at=now,
                        state=TaskState.PENDING,
                    )
                )
        return True

    def _own(self, session: Session, caller: Address, job_id: Digest) -> JobRow:
        row = session.get(JobRow, str(job_id))
        if row is None:
            raise NotFoundError(f"no job {job_id}")
        if row.requester != caller:
            raise ForbiddenError("the job is somebody else's")
        return row

    def _views(self, session: Session, rows: Iterable[JobRow]) -> list[JobView]:
        rows = list(rows)
        tasks = self._task_views(session, _tasks(session, [row.job_id for row in rows]))
        return [JobView(tasks=tasks[row.job_id], **self._head(row)) for row in rows]

    def _head(self, row: JobRow) -> dict[str, Any]:
        """What a job's documents have in common."""
        return {
            "job_id": Digest.parse(row.job_id),
            "state": JobState(row.state),
            "submitted_at": rfc3339(row.submitted_at),
            "request": JobRequest.from_json(row.request.encode()),
            "reason": row.reason or self._troubles.get(row.job_id),
            "certificate_digest": Digest.parse(row.certificate_digest) if row.certificate_digest else None,
        }

    def _task_views(self, session: Session, tasks: Iterable[TaskRow]) -> dict[str, list[TaskView]]:
        tasks = list(tasks)
        jobs = {task.job_id for task in tasks}
        mine = select(TaskRow.task_id).where(col(TaskRow.job_id).in_(jobs))
        leases = {row.lease_id: row for row in session.exec(select(LeaseRow).where(col(LeaseRow.task_id).in_(mine)))}
        faults: dict[str, list[FaultRow]] = defaultdict(list)
        for fault in session.exec(select(FaultRow).where(col(FaultRow.task_id).in_(mine)).order_by(col(FaultRow.id))):
            faults[fault.task_id].append(fault)
        candidates = self._workers.candidates(session)
        last = set(
            session.exec(
                select(TaskRow.task_id).where(
                    col(TaskRow.job_id).in_(jobs),
                    col(TaskRow.state) == TaskState.PENDING,
                    last_attempt(self._rules),
                )
            )
        )
        views: dict[str, list[TaskView]] = defaultdict(list)
        for task in tasks:
            lease = leases.get(task.lease_id) if task.lease_id else None
            views[task.job_id].append(
                _task_view(task, lease, faults[task.task_id], candidates, last=task.task_id in last)
            )
        return views


def _tasks(session: Session, jobs: Collection[str]) -> list[TaskRow]:
    return list(session.exec(select(TaskRow).where(col(TaskRow.job_id).in_(jobs)).order_by(col(TaskRow.start))))


def _task_view(
    task: TaskRow, lease: LeaseRow | None, faults: list[FaultRow], workers: list[Candidate], *, last: bool
) -> TaskView:
    waiting = None
    if task.state == TaskState.PENDING:
        failed, private = {fault.worker for fault in faults}, task.private_dataset
        waiting = waiting_reason(task.tier, task.needed_bytes, workers, failed, last=last, private=private)
    return TaskView(
        task_id=Digest.parse(task.task_id),
        job_id=Digest.parse(task.job_id),
        start=task.start,
        count=task.count,
        state=TaskState(task.state),
        worker=Address.parse(lease.worker) if lease else None,
        progress=Progress.from_json(lease.progress.encode()) if lease and lease.progress else None,
        waiting=waiting,
        faults=[
            Fault(worker=Address.parse(fault.worker), at=rfc3339(fault.at), code=fault.code, detail=fault.detail)
            for fault in faults[-_SHOWN_FAULTS:]
        ],
        fault_count=len(faults),
    )
