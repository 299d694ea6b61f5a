"""Evidence that holds, written down: as many pieces as there are, in one transaction and a few statements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import bindparam
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import Session, col, exists, select, update
from sqlmodel.sql.expression import SelectOfScalar

from coordinator import metrics
from coordinator.judging import Judged
from coordinator.leases import require_open
from coordinator.standing import note_accepted
from coordinator.states import OvertakenError, Step, change, change_each, events_at_once
from coordinator.tables import EvidenceState, JobRow, LeaseRow, Outcome, TaskRow
from rexis.api import JobState, TaskState, VerdictView
from rexis.protocol.errors import LeaseError, RexisError, UnavailableError
from rexis.protocol.evidence import Evidence
from rexis.protocol.parsing import Address, enum_name

_DONE = (TaskState.ACCEPTED, TaskState.ANCHORED)
_NOT_DONE = tuple(state for state in TaskState if state not in _DONE)


Rows = list[tuple[LeaseRow, TaskRow, JobRow]]


@dataclass(frozen=True)
class _Held:
    """Evidence that is to be recorded, with its rows and the answer."""

    judged: Judged
    lease: LeaseRow
    task: TaskRow


def accept(
    session: Session, judged: Sequence[Judged], rows: Rows, worker: Address, now: int
) -> list[VerdictView | RexisError]:
    """Record evidence whose every step held; returns what to answer, for each case in its order.

    A case whose lease was lost meanwhile is answered with an error, and keeps no other from being recorded.

    Parameters
    ----------
    rows
        Of the cases; they may have been read before this transaction.

    Raises
    ------
    OvertakenError
        They are not as they were read any more. Roll back, read them again and try again.
    """
    session.add_all(row for three in rows for row in three)
    answers: list[VerdictView | RexisError] = []
    held: list[_Held] = []
    for one in judged:
        try:
            found = _found(session, one, worker)
        except OvertakenError:
            raise
        except RexisError as error:
            answers.append(error)
            continue
        if isinstance(found, VerdictView):
            answers.append(found)
        else:
            held.append(found)
            answers.append(found.judged.view)
    with events_at_once(session):
        _write(session, held, worker, now)
    for job in _complete(session, {job.job_id for _, _, job in rows}):
        change(session, job, JobState.ANCHORING, reason="evidence of every task was accepted", at=now)
    return answers


def _found(session: Session, judged: Judged, worker: Address) -> _Held | VerdictView:
    """What is to be written; or the verdict, if it was before."""
    case = judged.case
    known = accepted_before(session, case.lease_id, worker, str(case.digest))
    if known is not None:
        return known
    lease = require_open(session, case.lease_id, worker)
    task = session.get_one(TaskRow, lease.task_id)
    job = session.get_one(JobRow, task.job_id)
    if job.output_width not in (None, judged.width):
        raise UnavailableError("another task of the job was accepted meanwhile", hint="send it again")
    if job.output_width is None:
        _set_width(session, job, judged.width)
    return _Held(judged, lease, task)


def _set_width(session: Session, job: JobRow, width: int) -> None:
    same = (col(JobRow.job_id) == job.job_id, col(JobRow.output_width).is_(None))
    known = update(JobRow).where(*same).values(output_width=width).execution_options(synchronize_session=False)
    if session.exec(known).rowcount != 1:
        raise OvertakenError("the job's first outputs came meanwhile", hint="send it again")
    set_committed_value(job, "output_width", width)


def _write(session: Session, held: Sequence[_Held], worker: Address, now: int) -> None:
    leases, reason = [one.lease for one in held], "every step of the check held"
    received = Step(EvidenceState.RECEIVED, "handed in", worker)
    steps = Step(EvidenceState.ACCEPTED, reason), Step(Outcome.ACCEPTED, reason, worker)
    fresh = [lease for lease in leases if lease.evidence is None]
    known = [lease for lease in leases if lease.evidence is not None]
    change_each(session, fresh, received, *steps, at=now)
    change_each(session, known, *steps, at=now)
    results = [
        {
            "accepted_at": now,
            "statement_digest": str(one.judged.statement),
            "evidence_digest": str(one.judged.case.digest),
            "outputs_digest": str(one.judged.case.evidence.outputs_digest),
            "verdict": one.judged.written_view,
        }
        for one in held
    ]
    change_each(session, [one.task for one in held], Step(TaskState.ACCEPTED, reason), at=now, also=results)
    for tier, count in Counter(one.task.tier for one in held).items():
        note_accepted(session, worker, tier, count, now)
    for one in held:
        _measure(one.judged.case.evidence)


def _measure(evidence: Evidence) -> None:
    """Count the times that the worker says."""
    tier = enum_name(evidence.statement.tier)
    metrics.COMPUTE_SECONDS.labels(tier).observe(evidence.measured.compute_ms / 1000)
    if evidence.proofs:
        metrics.PROOF_SECONDS.labels(tier).observe(evidence.measured.prove_ms / 1000)


def accepted_before(session: Session, lease_id: str, worker: Address, evidence: str) -> VerdictView | None:
    """The verdict on the same evidence, if it was accepted in this lease.

    Raises
    ------
    LeaseError
        Other evidence was.
    """
    lease = session.get(LeaseRow, lease_id)
    if lease is None or lease.worker != worker or lease.outcome != Outcome.ACCEPTED:
        return None
    task = session.get_one(TaskRow, lease.task_id)
    if task.evidence_digest != evidence or task.verdict is None:
        raise LeaseError("other evidence was accepted in this lease")
    return VerdictView.from_json(task.verdict.encode())


def rows_of(session: Session, leases: Collection[str]) -> Rows:
    """Leases with their tasks and jobs; those that are not there are left out."""
    found = (
        select(LeaseRow, TaskRow)
        .join(TaskRow, col(TaskRow.task_id) == col(LeaseRow.task_id))
        .where(col(LeaseRow.lease_id).in_(leases))
    )
    pairs = session.exec(found).all()
    # Jobs by themselves: many tasks have the same one, whose request is long.
    wanted = select(JobRow).where(col(JobRow.job_id).in_({task.job_id for _, task in pairs}))
    jobs = {job.job_id: job for job in session.exec(wanted)}
    return [(lease, task, jobs[task.job_id]) for lease, task in pairs]


def _complete(session: Session, jobs: Collection[str]) -> list[JobRow]:
    """Running jobs of which no task is open, or still to be made."""
    return list(session.exec(_completed(), params={"jobs": list(jobs)}))


@lru_cache(maxsize=1)
def _completed() -> SelectOfScalar[JobRow]:
    unfinished = exists().where(col(TaskRow.job_id) == col(JobRow.job_id), col(TaskRow.state).in_(_NOT_DONE))
    running = (col(JobRow.state) == JobState.RUNNING, col(JobRow.planned).is_(None))
    of_these = col(JobRow.job_id).in_(bindparam("jobs", expanding=True))
    return select(JobRow).where(of_these, *running, ~unfinished).execution_options(populate_existing=True)
