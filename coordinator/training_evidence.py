"""Intake of evidence of trainings. Who took a wrong step answers for it, and not who took the task over later."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from sqlmodel import Session

from coordinator import metrics
from coordinator.accepting import accepted_before
from coordinator.access import add_readers
from coordinator.blobs import Blobs
from coordinator.commitments import Commitments, job_of
from coordinator.inspection import Inspection
from coordinator.judging import HEADER, fault_of, require_decided, view_of_verdict
from coordinator.leases import Leases, require_open
from coordinator.placement import service_of
from coordinator.standing import note_accepted
from coordinator.states import change
from coordinator.store import Store
from coordinator.tables import CommitmentRow, EvidenceState, JobRow, LeaseRow, Outcome, TaskRow
from coordinator.times import Clock
from coordinator.transcripts import plan_of, transcript_of
from rexis.api import JobState, TaskState, VerdictView
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, EvidenceError, MalformedError, NotFoundError, UnavailableError
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Tier
from rexis.protocol.training import TrainingPlan, TrainingRequest
from rexis.protocol.transcript import MAX_EVIDENCE_BYTES, SignedCheckpoint, TrainingEvidence
from rexis.protocol.typed_data import Domain
from rexis.telemetry import logs, traces
from verifier.report import StepFailed, Verdict
from verifier.training import SEGMENTS, STATEMENT, TRAINED_MODEL, TRANSCRIPT, TrainingContext, walk_training

_STEPS = {STATEMENT: "statement", TRANSCRIPT: "transcript", TRAINED_MODEL: "trained-model", SEGMENTS: "segments"}
# Of a checkpoint: its document without the losses.
_CHECKPOINT = 2 << 10
# What a step says is wrong with one checkpoint.
_OF_CHECKPOINT = re.compile(r"transcript\.(\d+)\.")


@dataclass(frozen=True)
class _Case:
    """Evidence with what it is checked against; `stored` are the checkpoints that are here."""

    evidence: TrainingEvidence
    context: TrainingContext
    stored: list[SignedCheckpoint]
    committed: Digest | None


class _Files:
    """Blobs, as the verifier asks for them."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def read(self, what: str, digest: Digest) -> bytes:
        """See :class:`verifier.training.Files`."""
        try:
            return self._blobs.read(digest, what)
        except NotFoundError as error:
            raise UnavailableError(error.message) from None


class TrainingIntake(Inspection):
    """Checks evidence of trainings and records what came out."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        leases: Leases,
        commitments: Commitments,
        domain: Domain,
        checking: Executor,
        keep_every_s: float,
        owner_of: Callable[[Digest], Address],
    ) -> None:
        super().__init__(store, blobs, leases, checking, keep_every_s)
        self._owner_of = owner_of
        self._clock, self._commitments, self._domain, self._files = clock, commitments, domain, _Files(blobs)

    def admit(self, lease_id: str, worker: Address) -> int:
        """Before evidence is read: how many bytes it may have.

        Raises
        ------
        LeaseError
            The lease is lost.
        ConflictError
            It is of no training.
        """
        self._leases.expire()
        with self._store.reading() as session:
            lease = session.get(LeaseRow, lease_id)
            if lease is None or lease.worker != worker or lease.outcome != Outcome.ACCEPTED:
                lease = require_open(session, lease_id, worker)
            _, plan = _plan(session, *job_of(session, lease))
        return min(MAX_EVIDENCE_BYTES, HEADER + 8 * plan.steps + _CHECKPOINT * (plan.segments + 1))

    def _decide(self, lease_id: str, worker: Address, digest: Digest) -> VerdictView:
        data = self._blobs.read(digest, "evidence")
        evidence = TrainingEvidence.from_json(data, max_bytes=MAX_EVIDENCE_BYTES)
        case = self._case(lease_id, worker, evidence)
        verdict, wrong = self._judge(case)
        require_decided(verdict)
        fault = fault_of(verdict)
        if fault is not None:
            self._leases.refuse_training(lease_id, worker, fault.message, wrong)
            raise fault
        owner = self._owner_of(case.context.request.model_digest)  # it may have been handed over since it came here
        with self._store.writing() as session:
            return self._accept(session, lease_id, worker, case, digest, verdict, owner)

    def _case(self, lease_id: str, worker: Address, evidence: TrainingEvidence) -> _Case:
        with self._store.reading() as session:
            lease = require_open(session, lease_id, worker)
            request, plan = _plan(session, *job_of(session, lease))
            row = session.get(CommitmentRow, lease_id)
            stored = transcript_of(session, lease.task_id)
        commitment = self._commitments.settled(row) if row is not None else None
        if request.policy.tier == Tier.SAMPLED and commitment is None:
            raise MalformedError(
                "the challenge is not known yet", field="statement", hint="commit to it, and GET …/challenge first"
            )
        context = TrainingContext(
            domain=self._domain,
            request=request,
            plan=plan,
            worker=worker,
            nonce=Digest.parse(lease.nonce),
            block_hash=commitment.challenge_block_hash if commitment else None,
            files=self._files,
        )
        return _Case(evidence, context, stored, Digest.parse(row.statement_digest) if row else None)

    def _judge(self, case: _Case) -> tuple[Verdict, int | None]:
        """Take every step; returns the verdict, and the checkpoint that is wrong, if it is one."""
        verdict, statement = Verdict(), case.evidence.statement
        service = service_of(statement.kind, statement.tier)
        logs.bind(job_id=str(statement.job_id), task_id=str(statement.task_id))
        with (
            traces.span("check", tier=service, records=statement.record_count),
            metrics.CHECK_SECONDS.labels(service).time(),
        ):
            try:
                self._walk(case, verdict)
            except StepFailed as error:
                metrics.VERIFICATION_FAILURES.labels(_STEPS.get(error.number, "other")).inc()
                cause = error.__cause__
                found = _OF_CHECKPOINT.match((cause.field if isinstance(cause, EvidenceError) else None) or "")
                return verdict, int(found[1]) if found else None
        return verdict, None

    def _walk(self, case: _Case, verdict: Verdict) -> None:
        if case.committed is not None:
            with verdict.step(STATEMENT, "the statement that was committed"):
                found = self._domain.digest(case.evidence.statement)
                if found != case.committed:
                    raise EvidenceError(f"{case.committed} was committed, the evidence is about {found}")
        with verdict.step(TRANSCRIPT, "checkpoints that were handed in"):
            if case.evidence.transcript != case.stored:
                raise EvidenceError("is not the transcript that is here", field="transcript")
        walk_training(case.evidence, case.context, verdict)

    def _accept(
        self,
        session: Session,
        lease_id: str,
        worker: Address,
        case: _Case,
        digest: Digest,
        verdict: Verdict,
        owner: Address,
    ) -> VerdictView:
        known = accepted_before(session, lease_id, worker, str(digest))
        if known is not None:
            return known
        now, reason = self._clock(), "every step of the check held"
        lease = require_open(session, lease_id, worker)
        task = session.get_one(TaskRow, lease.task_id)
        view, statement = view_of_verdict(Digest.parse(task.task_id), verdict), case.evidence.statement
        trained = case.evidence.transcript[-1].checkpoint.model_digest
        change(session, lease, EvidenceState.ACCEPTED, reason=reason, at=now)
        change(session, lease, Outcome.ACCEPTED, reason=reason, at=now, actor=worker)
        change(
            session,
            task,
            TaskState.ACCEPTED,
            reason=reason,
            at=now,
            actor=worker,
            accepted_at=now,
            statement_digest=str(self._domain.digest(statement)),
            evidence_digest=str(digest),
            outputs_digest=str(trained),
            verdict=view.to_json().decode(),
        )
        note_accepted(session, worker, task.tier, 1, now)
        metrics.COMPUTE_SECONDS.labels(task.tier).observe(case.evidence.compute_ms / 1000)
        add_readers(session, owner, {trained})
        job = session.get_one(JobRow, task.job_id)
        change(session, job, JobState.ANCHORING, reason="evidence of the training was accepted", at=now)
        return view


def _plan(session: Session, request: object, task: TaskRow) -> tuple[TrainingRequest, TrainingPlan]:
    plan = plan_of(session, task.job_id)
    if plan is None or not isinstance(request, TrainingRequest):
        raise ConflictError("the task is no training", hint="its evidence goes to /v1/leases/{id}/evidence")
    return request, plan
