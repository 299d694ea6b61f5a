"""Jobs: what is checked before one is taken, and how one looks from outside."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select, update

from coordinator.access import Access, add_readers
from coordinator.blobs import Blobs
from coordinator.catalogue import Catalogue
from coordinator.inventory import require_kept
from coordinator.joined import JoinedOutputs
from coordinator.leases import fail_job
from coordinator.pieces import proved_records
from coordinator.placement import is_training, private_records, service_of
from coordinator.quotas import Quotas
from coordinator.scheduling import enter, rank_of, task_cost
from coordinator.standing import attempts
from coordinator.states import change, change_in_job, create, create_in_job
from coordinator.store import Store
from coordinator.tables import JOB_OPEN, FaultRow, JobBlobRow, JobRow, ModelRow, Outcome, TaskRow
from coordinator.times import Clock, milliseconds_of
from coordinator.training import Prepared, Trainings
from coordinator.validation import is_decided_against
from coordinator.views import Views, own
from rexis.api import JobState, JobSubmission, JobView, TaskState
from rexis.protocol.certificate import MAX_TASKS
from rexis.protocol.circuit import NO_CIRCUIT, Circuit, Visibility
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, ForbiddenError, MalformedError, NotFoundError, ResourceError
from rexis.protocol.parsing import Address, enum_name, to_hex
from rexis.protocol.policy import Rung, Tier
from rexis.protocol.signing import require_signer
from rexis.protocol.statement import JobRequest, Kind, task_id
from rexis.protocol.training import TrainingRequest, read_request
from rexis.protocol.typed_data import Domain

# Tasks that are made in one transaction: others that write wait for it.
_PLANNED_AT_ONCE = 5000
_FINISHED = (JobState.ANCHORING, JobState.CERTIFIED)


@dataclass(frozen=True)
class Place:
    """What this coordinator is: the domain that it serves, its own address, the tiers that it can check, whom it has
    validate, and by which escrow its jobs are paid.
    """

    domain: Domain
    address: Address
    tiers: Collection[Tier]
    quorum: Address | None = None
    escrow: Address | None = None


@dataclass(frozen=True)
class Limits:
    """What one job may ask for.

    Attributes
    ----------
    certified_records
        Records that the Certifier contract is to check, a transaction each.
    validated_statements
        Statements that validators are to be asked about, a transaction each.
    priority_ms
        How much waiting a step of its priority is worth.
    quotas
        What its requester may have in all.
    """

    certified_records: int
    validated_statements: int
    priority_ms: int
    quotas: Quotas


class Jobs:
    """From submission to results."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        access: Access,
        catalogue: Catalogue,
        place: Place,
        limits: Limits,
        views: Views,
        trainings: Trainings,
    ) -> None:
        self._store, self._blobs, self._clock = store, blobs, clock
        self._access, self._catalogue, self._place = access, catalogue, place
        self._limits, self._views, self._trainings = limits, views, trainings

    def submit(self, caller: Address, submission: JobSubmission, trace: str | None = None) -> tuple[JobView, bool]:
        """Take a job; returns it and whether it is new. The same request is the same job.

        Parameters
        ----------
        trace
            W3C ``traceparent`` that the spans of the job's work belong under.

        Raises
        ------
        SignatureError, ForbiddenError, MalformedError, NotFoundError, ResourceError
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
            self._deadline(submission)
            width = self._check(request)
            self._check_validators(submission)
            self._check_payment(submission)
            training = self._training(submission)
            known = not self._insert(job_id, submission, width, trace, training)
        return self._views.job(caller, job_id), not known

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
            row = own(session, caller, job_id)
            if row.state == JobState.CERTIFIED:
                raise ConflictError("the job is certified already")
            fail_job(session, row, "cancelled by its requester", at=self._clock(), actor=caller)
        return self._views.job(caller, job_id)

    def retry(self, caller: Address, job_id: Digest, *, anybodys: bool = False) -> JobView:
        """Have what failed in a job of the caller's, or of anybody's, or was quarantined, tried again.

        What was accepted stays.

        What workers failed so far does not count any more, but for evidence that did not hold and for commitments: the
        chain counts these, and a task has only so many. A deadline that has passed is lifted.

        Raises
        ------
        NotFoundError, ForbiddenError
            No such job, or somebody else's.
        ConflictError
            There is nothing to try again, or no attempt is left.
        """
        now = self._clock()
        with self._store.writing() as session:
            row = own(session, caller, job_id, anybodys=anybodys)
            back = (TaskState.FAILED, TaskState.QUARANTINED)
            of_job = col(TaskRow.job_id) == row.job_id
            waits = (of_job, col(TaskRow.state).in_(back))
            some = session.exec(select(TaskRow.task_id).where(*waits).limit(1)).first() is not None
            if row.state != JobState.FAILED and not some:
                raise ConflictError(f"the job is {JobState(row.state)}: nothing in it is to be tried again")
            spent = (*waits, attempts(col(TaskRow.task_id)) >= col(TaskRow.max_attempts))
            if (start := session.exec(select(TaskRow.start).where(*spent).limit(1)).first()) is not None:
                raise ConflictError(
                    f"the task of record {start} has no attempt left: all that the policy allows were committed to",
                    hint="submit the job anew, under another nonce",
                )
            if is_decided_against(session, row):
                raise ConflictError(
                    "validators decided against it on chain, for good", hint="submit the job anew, under another nonce"
                )
            session.exec(_forgiving(row.job_id))
            reason = "tried again by its requester"
            for state in back:
                change_in_job(
                    session,
                    row.job_id,
                    state,
                    TaskState.PENDING,
                    reason=reason,
                    at=now,
                    actor=caller,
                    lease_id=None,
                    ready_at=0,
                )
            row.retried_at = now
            if row.deadline is not None and row.deadline <= now:
                row.deadline = None
            if row.state == JobState.FAILED:
                self._limits.quotas.take_job(session, Address.parse(row.requester), 0, now)
                to = JobState.QUEUED if some or row.planned is not None else JobState.ANCHORING
                row.reason = None
                change(session, row, to, reason=reason, at=now, actor=caller)
            enter(session, row.requester)
        return self._views.job(caller, job_id, anybodys=anybodys)

    def plan(self) -> int:
        """Make some of the tasks of a job whose tasks are not all there yet; returns how many."""
        with self._store.looking() as session:
            left = select(JobRow).where(col(JobRow.planned).is_not(None), JOB_OPEN)
            row = session.exec(left.order_by(col(JobRow.planned)).limit(1)).first()
        if row is None:
            return 0
        request = read_request(row.request.encode())
        made = _tasks(request, Digest.parse(row.job_id), row.planned or 0)
        with self._store.writing() as session:
            again = session.get_one(JobRow, row.job_id)
            if again.planned != row.planned or again.state not in (JobState.QUEUED, JobState.RUNNING):
                return 0
            _add_tasks(session, again, request, made, self._clock())
        return len(made)

    def certificate(self, caller: Address, job_id: Digest, *, anybodys: bool = False) -> bytes:
        """Canonical bytes of a finished job's certificate, of the caller's or of anybody's."""
        with self._store.reading() as session:
            row = own(session, caller, job_id, anybodys=anybodys)
        if row.certificate_digest is None:
            raise ConflictError(f"the job is {JobState(row.state)}: it has no certificate", hint=row.reason)
        return self._blobs.read(Digest.parse(row.certificate_digest), "certificate")

    def outputs(self, caller: Address, job_id: Digest) -> JoinedOutputs:
        """A job's encrypted outputs, one blob over all its records in their order."""
        with self._store.reading() as session:
            row = own(session, caller, job_id)
            tasks = session.exec(select(TaskRow).where(TaskRow.job_id == row.job_id).order_by(col(TaskRow.start))).all()
        if is_training(row.tier):
            raise ConflictError(
                "a training has no outputs: it has a model", hint="the last checkpoint of its transcript names the blob"
            )
        if row.state not in _FINISHED:
            raise ConflictError(f"the job is {JobState(row.state)}: its outputs are not complete", hint=row.reason)
        return JoinedOutputs(self._blobs, [Digest.parse(task.outputs_digest, "outputsDigest") for task in tasks])

    def _deadline(self, submission: JobSubmission) -> int | None:
        if submission.deadline is None:
            return None
        try:
            found = milliseconds_of(submission.deadline)
        except ValueError:
            raise MalformedError("is no time", field="deadline") from None
        if found <= self._clock():
            raise MalformedError(f"{submission.deadline} has passed", field="deadline")
        return found

    def _check(self, request: JobRequest) -> int | None:
        """Refuse what cannot be served; returns how wide a record's output is, if the model's circuit says so."""
        place = self._place
        if request.coordinator != place.address:
            raise MalformedError(
                f"names coordinator {request.coordinator}, this is {place.address}",
                field="request.coordinator",
                hint="take the address from /v1/info",
            )
        tier = request.policy.tier
        if (request.kind == Kind.TRAINING) != isinstance(request, TrainingRequest):
            raise MalformedError("a training is asked for with its plan", field="request.kind")
        if request.kind == Kind.EVALUATION and tier not in place.tiers:
            able = ", ".join(enum_name(one) for one in place.tiers)
            raise MalformedError(
                f"this coordinator cannot check tier {enum_name(tier)}",
                field="request.policy.tier",
                hint=f"use {able}, or a coordinator with ezkl installed",
            )
        if request.shard_count > MAX_TASKS:
            raise ResourceError(
                f"the job has {request.shard_count} tasks, at most {MAX_TASKS} are allowed",
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

    def _check_validators(self, submission: JobSubmission) -> None:
        """Validators are asked only where the requester means those of this coordinator."""
        request, quorum = submission.request, self._place.quorum
        if request.policy.validators == 0:
            return
        field = "request.policy.validators"
        if quorum is None:
            raise MalformedError(
                "this coordinator knows no validators", field=field, hint="use 0, or one whose /v1/info names a quorum"
            )
        if request.kind != Kind.EVALUATION:
            raise MalformedError(
                "validators do not judge trainings", field=field, hint="use 0: auditors take segments again"
            )
        if submission.quorum != quorum:
            raise MalformedError(
                f"names quorum {submission.quorum}, this coordinator's is {quorum}", field="quorum",
                hint="say whose verdict you want: take it from the manifest of validators that you trust",
            )  # fmt: skip
        if request.shard_count > self._limits.validated_statements:
            raise ResourceError(
                f"the job has {request.shard_count} tasks, validators are asked about "
                f"{self._limits.validated_statements} of a job at most",
                field="request.policy.shardSize",
                hint="use larger shards: each verdict is a transaction",
            )

    def _check_payment(self, submission: JobSubmission) -> None:
        """Payments are looked after where the requester means the escrow of this coordinator."""
        offer, escrow = submission.payment, self._place.escrow
        if offer is None:
            return
        if escrow is None:
            raise MalformedError("this coordinator knows no escrow", field="payment", hint="leave it out")
        if offer.escrow != escrow:
            raise MalformedError(
                f"names escrow {offer.escrow}, this coordinator's is {escrow}", field="payment.escrow",
                hint="take it from the manifest of a deployment that you both trust",
            )  # fmt: skip
        if submission.request.kind != Kind.EVALUATION:
            raise MalformedError("the escrow pays evaluations", field="payment", hint="leave it out for a training")

    def _check_model(self, request: JobRequest) -> int | None:
        model = self._catalogue.model(request.model_digest, request.key_epoch)
        if model is None:
            raise MalformedError(
                f"model {request.model_digest} with key epoch {request.key_epoch} is not known here",
                field="request.modelDigest",
                hint="its owner registers it here: POST /v1/models",
            )
        circuit: Circuit | None = None
        if request.circuit != NO_CIRCUIT:
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
        return model.circuit.output_length if request.kind == Kind.EVALUATION and model.circuit != NO_CIRCUIT else None

    def _training(self, submission: JobSubmission) -> Prepared | None:
        """Look at what a training has beside other jobs; None for one that is none."""
        if isinstance(submission.request, TrainingRequest):
            return self._trainings.prepare(submission.request, submission.plan)
        if submission.plan is not None:
            raise MalformedError("only a training has a plan", field="plan", hint="leave it out")
        return None

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
        if circuit != NO_CIRCUIT and (fault := dataset.misfit(circuit)) is not None:
            raise MalformedError(fault, field="request.datasetDigest", hint="the records are of another model")
        root = self._catalogue.inputs(request.dataset_digest, tier, circuit).root
        if root != request.input_root:
            raise MalformedError(
                f"says {request.input_root}, the dataset's records have root {root}",
                field="request.inputRoot",
                hint=f"the root for tier {enum_name(tier)} is taken over the records as that tier encodes them",
            )

    def _insert(
        self,
        job_id: Digest,
        submission: JobSubmission,
        width: int | None = None,
        trace: str | None = None,
        training: Prepared | None = None,
    ) -> bool:
        request, now = submission.request, self._clock()
        made = _tasks(request, job_id, request.record_start)
        with self._store.writing() as session:
            if session.get(JobRow, str(job_id)) is not None:
                return False
            self._limits.quotas.take_job(session, request.requester, request.record_count, now)
            model = session.get_one(ModelRow, (str(request.model_digest), request.key_epoch))
            circuit, policy = request.circuit, request.policy
            size = _task_size(request)
            cost = task_cost(size, 0 if circuit == NO_CIRCUIT else proved_records(request, size))
            if training is not None:
                cost = task_cost(training.plan.steps * training.plan.batch_size, 0)
            private = None
            if circuit.visibility == Visibility.HASHED:
                private = private_records(request.dataset_digest, request.requester)
            row = JobRow(
                job_id=str(job_id),
                requester=request.requester,
                submitted_at=now,
                request=request.to_json().decode(),
                signature=to_hex(submission.signature),
                rung_claim=model.rung_claim if policy.rung == Rung.EE_PRIVATE_WEIGHTS else None,
                certifying=policy.certify_on_chain,
                validators=policy.validators,
                payer=submission.payment.payer if submission.payment is not None else None,
                unfunded=submission.payment is not None,
                output_width=width,
                tier=service_of(request.kind, policy.tier),
                needed_bytes=model.needed_bytes if circuit != NO_CIRCUIT else 0,
                gpu_bytes=submission.gpu_memory_bytes,
                modality=submission.modality,
                private_records=private,
                cost=cost,
                priority=submission.priority,
                rank=rank_of(now, submission.priority, self._limits.priority_ms),
                deadline=self._deadline(submission),
                planned=request.record_start,
                trace=trace,
            )
            create(session, row, reason="submitted", at=now, actor=request.requester)
            if training is not None:
                session.add(training.row(job_id))
            enter(session, request.requester)
            needed = {request.model_digest, request.dataset_digest}
            if circuit != NO_CIRCUIT:
                needed |= {circuit.settings_digest, circuit.vk_digest, circuit.srs_digest}
            if (gone := require_kept(session, sorted(needed), now)) is not None:
                raise NotFoundError(
                    f"blob {gone} was removed, since nothing used it for long", field="request", hint="upload it again"
                )
            session.add_all(JobBlobRow(job_id=str(job_id), digest=str(digest)) for digest in needed)
            add_readers(session, request.requester, needed)
            _add_tasks(session, row, request, made, now)
        return True


def _tasks(request: JobRequest, job_id: Digest, since: int) -> list[dict[str, object]]:
    """The next tasks of a job, from that of record `since`; as many as are made in one transaction."""
    size, end = _task_size(request), request.record_start + request.record_count
    starts = range(since, end, size)[:_PLANNED_AT_ONCE]
    return [
        {"task_id": str(task_id(job_id, start, count := min(size, end - start))), "start": start, "count": count}
        for start in starts
    ]


def _task_size(request: JobRequest) -> int:
    """Records of a job's first task."""
    return request.shards()[0][1]


def _add_tasks(session: Session, row: JobRow, request: JobRequest, made: Sequence[dict[str, object]], now: int) -> None:
    alike = {
        "job_id": row.job_id,
        "tier": row.tier,
        "needed_bytes": row.needed_bytes,
        "max_attempts": request.policy.max_attempts,
        "private_records": row.private_records,
        "submitted_at": row.submitted_at,
        "ready_at": 0,
    }
    tasks = ({**one, **alike} for one in made)
    create_in_job(session, row.job_id, TaskRow, tasks, reason="submitted", at=now, actor=row.requester)
    since = (row.planned or 0) + len(made) * _task_size(request)
    row.planned = since if since < request.record_start + request.record_count else None


def _forgiving(job_id: str):  # type: ignore[no-untyped-def]  # an Update
    """Forget faults of a job's open tasks, but not those that say that a worker cheats or wastes attempts."""
    again = (TaskState.FAILED, TaskState.QUARANTINED, TaskState.PENDING)
    tasks = select(TaskRow.task_id).where(col(TaskRow.job_id) == job_id, col(TaskRow.state).in_(again))
    passing = (col(FaultRow.outcome) != Outcome.REFUSED, col(FaultRow.committed).is_(False))
    return (
        update(FaultRow)
        .where(col(FaultRow.task_id).in_(tasks), *passing)
        .values(forgiven=True)
        .execution_options(synchronize_session=False)
    )
