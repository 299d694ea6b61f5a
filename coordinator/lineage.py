"""Where a model comes from: the certified trainings that led to it."""

from __future__ import annotations

from sqlmodel import Session, col, select

from coordinator.store import Store
from coordinator.tables import JobRow, TaskRow, TrainingRow
from coordinator.transcripts import transcript_of
from rexis.api import MAX_ORIGINS, JobState, Lineage, Origin
from rexis.protocol.digests import Digest
from rexis.protocol.training import TrainingRequest
from rexis.protocol.transcript import transcript_tree


class Lineages:
    """Follows models back. A training's task has its model's digest as that of its outputs, so nothing else is kept."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, digest: Digest, epoch: int) -> Lineage:
        """The trainings that led to a model, the last one first; none for a model that was not trained here."""
        origins: list[Origin] = []
        with self._store.reading() as session:
            while len(origins) < MAX_ORIGINS and (found := _origin(session, digest, epoch)) is not None:
                origins.append(found)
                digest = found.base_digest
                if any(one.model_digest == digest for one in origins):  # trained until it was as it had been
                    break
        return Lineage(origins=origins)


def _origin(session: Session, digest: Digest, epoch: int) -> Origin | None:
    """The first certified training that gave a model; the model keeps its base's key."""
    made = (
        select(JobRow, TaskRow.task_id)
        .join(TaskRow, col(TaskRow.job_id) == col(JobRow.job_id))
        .join(TrainingRow, col(TrainingRow.job_id) == col(JobRow.job_id))
        .where(
            col(TaskRow.outputs_digest) == str(digest),
            col(TaskRow.outputs_digest).is_not(None),
            col(JobRow.state) == JobState.CERTIFIED,
        )
        .order_by(col(JobRow.submitted_at), col(JobRow.job_id))
    )
    for job, task_id in session.exec(made):
        request = TrainingRequest.from_json(job.request.encode())
        if request.key_epoch == epoch:
            checkpoints = [signed.checkpoint for signed in transcript_of(session, task_id)]
            return Origin(
                model_digest=digest,
                key_epoch=epoch,
                base_digest=request.model_digest,
                dataset_digest=request.dataset_digest,
                input_root=request.input_root,
                plan_digest=request.plan_digest,
                transcript_root=transcript_tree(checkpoints).root,
                job_id=Digest.parse(job.job_id),
                certificate_digest=Digest.parse(job.certificate_digest),
            )
    return None
