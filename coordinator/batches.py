"""Intake of evidence by the batch: each piece is judged by itself, and what holds is recorded in one transaction.

For tier ``commit`` and small outputs only, where the check takes less time than a request and a commit do. Nothing is
checked less than by :mod:`coordinator.evidence`: the judge is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlmodel import Session, col, select

from coordinator.accepting import Rows, accept, accepted_before, rows_of
from coordinator.blobs import Blobs
from coordinator.judging import Case, Judge, Judged, require_evaluation
from coordinator.leases import Leases, request_of, require_open
from coordinator.states import OvertakenError
from coordinator.store import Store
from coordinator.tables import JobRow, ReaderRow, TaskRow
from coordinator.times import Clock
from rexis.api import EvidenceBatch, TaskEvidence, VerdictView
from rexis.protocol.digests import Digest, require_digest, sha256
from rexis.protocol.errors import ConflictError, MalformedError, RexisError
from rexis.protocol.evidence import Evidence
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Tier
from rexis.protocol.typed_data import Domain
from verifier.evidence import TaskContext

# A remote store answers each piece after some milliseconds.
_STORING_AT_ONCE = 8

Answer = VerdictView | RexisError


@dataclass(frozen=True)
class _Known:
    """What the database says about the leases of a batch, read at one time."""

    rows: Rows
    tasks: dict[str, TaskRow]
    jobs: dict[str, JobRow]
    held: frozenset[str]


class BatchIntake:
    """Checks many pieces of small evidence at a time, and records what came out."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock, leases: Leases, judge: Judge, domain: Domain) -> None:
        self._store, self._blobs, self._clock = store, blobs, clock
        self._leases, self._judge, self._domain = leases, judge, domain
        self._storing = ThreadPoolExecutor(_STORING_AT_ONCE, "storing")

    def close(self) -> None:
        """Release threads."""
        self._storing.shutdown(cancel_futures=True)

    def check(self, worker: Address, batch: EvidenceBatch) -> list[Answer]:
        """Check a batch; returns the verdict on each item that was accepted, and the error that each other one met.

        Sent again, what was accepted before has the same verdict.

        Raises
        ------
        MalformedError
            It names a lease twice.
        """
        items = batch.items
        if len({item.lease_id for item in items}) < len(items):
            raise MalformedError("a lease is named twice", field="items")
        self._leases.expire()
        answers: dict[str, Answer] = {}
        cases: list[Case] = []
        with self._store.reading() as session:
            known = _known(session, worker, items)
            for item in items:
                found = self._case(session, known, worker, item)
                if isinstance(found, Case):
                    cases.append(found)
                else:
                    answers[item.lease_id] = found
        holds: list[Judged] = []
        for judged in map(self._judge.judge, cases):
            error = self._error(judged, worker)
            if error is None:
                holds.append(judged)
            else:
                answers[judged.case.lease_id] = error
        answers |= self._record(worker, holds, known.rows)
        return [answers[item.lease_id] for item in items]

    def check_one(self, worker: Address, lease_id: str, evidence: Evidence) -> VerdictView:
        """Check one piece, whose outputs were uploaded before.

        Raises
        ------
        RexisError
            It is not accepted, and why.
        """
        (answer,) = self.check(worker, EvidenceBatch(items=[TaskEvidence(lease_id=lease_id, evidence=evidence)]))
        if isinstance(answer, RexisError):
            raise answer
        return answer

    def _case(self, session: Session, known: _Known, worker: Address, item: TaskEvidence) -> Case | Answer:
        """What an item is checked against; or the answer, where that is known without a check."""
        evidence = item.evidence
        stored = evidence.to_json()
        digest = sha256(stored)
        try:
            before = accepted_before(session, item.lease_id, worker, str(digest))
            if before is not None:
                return before
            lease = require_open(session, item.lease_id, worker)
            task = known.tasks[lease.task_id]
            job = known.jobs[task.job_id]
            request = request_of(job)
            require_evaluation(request)
            if request.policy.tier != Tier.COMMIT:
                raise ConflictError(
                    "only evidence of tier commit comes in batches", hint=f"POST /v1/leases/{item.lease_id}/evidence"
                )
            if item.outputs is not None:
                require_digest(item.outputs, evidence.outputs_digest, "outputs")
            elif str(evidence.outputs_digest) not in known.held:
                raise MalformedError(
                    f"the outputs {evidence.outputs_digest} have not been uploaded",
                    field="outputsDigest",
                    hint=f"send them along, or PUT /v1/blobs/{evidence.outputs_digest} first",
                )
        except RexisError as error:
            return error
        context = TaskContext(
            domain=self._domain,
            request=request,
            start=task.start,
            count=task.count,
            worker=worker,
            nonce=Digest.parse(lease.nonce),
            block_hash=None,
            material=None,
            srs=None,
        )
        return Case(item.lease_id, evidence, digest, context, None, job.output_width, item.outputs, stored)

    def _error(self, judged: Judged, worker: Address) -> RexisError | None:
        """Why a case is not recorded as accepted. Evidence that does not hold is recorded as its worker's fault."""
        try:
            judged.require_decided()
            fault = judged.fault()
            if fault is not None:
                self._leases.receive(judged.case.lease_id, worker)
                self._leases.refuse(judged.case.lease_id, worker, fault.message)
        except RexisError as error:
            return error
        return fault

    def _record(self, worker: Address, holds: Sequence[Judged], rows: Rows) -> dict[str, Answer]:
        if not holds:
            return {}
        blobs = [one.case.stored for one in holds]
        blobs += [one.case.outputs for one in holds if one.case.outputs is not None]
        self._blobs.put_all(blobs, self._storing)  # before the rows that name them
        try:
            with self._store.writing() as session:
                answers = accept(session, holds, rows, worker, self._clock())
        except OvertakenError:
            with self._store.writing() as session:
                rows = rows_of(session, [one.case.lease_id for one in holds])
                answers = accept(session, holds, rows, worker, self._clock())
        return {one.case.lease_id: answer for one, answer in zip(holds, answers, strict=True)}


def _known(session: Session, worker: Address, items: Sequence[TaskEvidence]) -> _Known:
    rows = rows_of(session, [item.lease_id for item in items])
    uploaded = {str(item.evidence.outputs_digest) for item in items if item.outputs is None}
    held: Sequence[str] = ()
    if uploaded:
        by_worker = select(ReaderRow.digest).where(col(ReaderRow.address) == worker)
        held = session.exec(by_worker.where(col(ReaderRow.digest).in_(uploaded))).all()
    return _Known(
        rows,
        {task.task_id: task for _, task, _ in rows},
        {job.job_id: job for _, _, job in rows},
        frozenset(held),
    )
