"""Trainings in the database: plans, and the checkpoints so far."""

from __future__ import annotations

from sqlmodel import Session, col, delete, func, select

from coordinator.tables import CheckpointRow, TaskRow, TrainingRow
from rexis.api import TrainingView
from rexis.protocol.training import TrainingPlan
from rexis.protocol.transcript import SignedCheckpoint


def plan_of(session: Session, job_id: str) -> TrainingPlan | None:
    """The plan of a training; None for a job of another kind."""
    row = session.get(TrainingRow, job_id)
    return None if row is None else TrainingPlan.from_json(row.plan.encode())


def task_of(session: Session, job_id: str) -> str:
    """The one task of a training."""
    return session.exec(select(TaskRow.task_id).where(col(TaskRow.job_id) == job_id)).one()


def transcript_of(session: Session, task_id: str) -> list[SignedCheckpoint]:
    """The checkpoints that are there, in order."""
    wanted = select(CheckpointRow.document).where(col(CheckpointRow.task_id) == task_id)
    return [read(document) for document in session.exec(wanted.order_by(col(CheckpointRow.number)))]


def resumed(session: Session, task: TaskRow, worker: str) -> list[SignedCheckpoint]:
    """The checkpoints from which a worker goes on, who has just been given the task.

    The statement is made by who reached the last one: if all are there and that was another worker, the last is taken
    back, and this one reaches it again.
    """
    found = transcript_of(session, task.task_id)
    plan = plan_of(session, task.job_id)
    if plan is not None and len(found) > plan.segments and found[-1].checkpoint.worker != worker:
        forget_from(session, task.task_id, plan.segments)
        found.pop()
    return found


def last_of(session: Session, task_id: str) -> CheckpointRow | None:
    """The last checkpoint that is there."""
    wanted = select(CheckpointRow).where(col(CheckpointRow.task_id) == task_id)
    return session.exec(wanted.order_by(col(CheckpointRow.number).desc()).limit(1)).first()


def read(document: str) -> SignedCheckpoint:
    """A stored checkpoint."""
    return SignedCheckpoint.from_json(document.encode())


def reached_at(session: Session, task_id: str) -> int:
    """When the last checkpoint came; 0 before the first."""
    latest = select(func.max(CheckpointRow.at)).where(col(CheckpointRow.task_id) == task_id)
    return session.exec(latest).one() or 0


def forget_from(session: Session, task_id: str, number: int) -> None:
    """Take checkpoint `number` and all after it back: what they rest on turned out wrong."""
    wrong = (col(CheckpointRow.task_id) == task_id, col(CheckpointRow.number) >= number)
    session.exec(delete(CheckpointRow).where(*wrong))


def progress_of(session: Session, job_id: str) -> TrainingView | None:
    """How far a training is; None for a job of another kind."""
    row = session.get(TrainingRow, job_id)
    if row is None:
        return None
    last = last_of(session, task_of(session, job_id))
    step, loss = (0, None) if last is None else (last.step, last.loss_e9)
    return TrainingView(step=step, steps=row.steps, loss_e9=loss)
