"""Anchoring: accepted statements, in batches, under Merkle roots on chain."""

from __future__ import annotations

from collections.abc import Callable

from sqlmodel import Session, col, select

from coordinator.chain import Ledger
from coordinator.store import Store
from coordinator.tables import AnchorRow, JobRow, LeafRow, TaskRow
from coordinator.times import Clock
from rexis.api import JobState, TaskState
from rexis.protocol.digests import Digest
from rexis.protocol.merkle import MerkleTree

_MAX_BATCH = 1 << 16


class Anchoring:
    """Plans a batch in one transaction, writes its root, and records where it stands. Each step can be taken again.

    Parameters
    ----------
    patience_ms
        How long an accepted statement of an unfinished job may wait.
    """

    def __init__(self, store: Store, chain: Callable[[], Ledger], clock: Clock, patience_ms: int) -> None:
        self._store, self._chain, self._clock, self._patience_ms = store, chain, clock, patience_ms

    def due(self) -> bool:
        """Whether there is something to anchor now."""
        with self._store.reading() as session:
            return _unfinished(session) is not None or bool(self._waiting(session))

    def run(self) -> None:
        """Finish the batch that is under way, or plan one and write it.

        Raises
        ------
        UnavailableError, ChainError
            The chain cannot be reached, or refuses: call again later.
        """
        with self._store.reading() as session:
            batch = _unfinished(session)
        if batch is not None:
            self._write(batch, resumed=True)
            return
        head = self._chain().block_number()
        batch = self._plan(head)
        if batch is not None:
            self._write(batch, resumed=False)

    def affected(self) -> list[str]:
        """Jobs that wait for an anchor."""
        with self._store.reading() as session:
            accepted = select(TaskRow.job_id).where(col(TaskRow.state) == TaskState.ACCEPTED).distinct()
            return list(session.exec(accepted))

    def _plan(self, head: int) -> AnchorRow | None:
        with self._store.writing() as session:
            tasks = self._waiting(session)
            if not tasks:
                return None
            tree = MerkleTree(Digest.parse(task.statement_digest) for task in tasks)
            batch = AnchorRow(root=str(tree.root), size=len(tree), since_block=head)
            session.add(batch)
            session.flush()
            if batch.id is None:
                raise RuntimeError("the database gave the anchor no id")
            for index, task in enumerate(tasks):
                path = " ".join(str(node) for node in tree.path(index))
                session.add(LeafRow(task_id=task.task_id, anchor=batch.id, leaf_index=index, path=path))
            return batch

    def _write(self, batch: AnchorRow, *, resumed: bool) -> None:
        chain, root = self._chain(), Digest.parse(batch.root)
        found = chain.find_anchor(root, batch.size, batch.since_block) if resumed else None
        if found is None:
            if resumed:
                chain.require_settled()
            anchored, transaction = chain.anchor(root, batch.size)
            found = anchored, transaction.hash
        made, tx_hash = found
        with self._store.writing() as session:
            row = session.get_one(AnchorRow, batch.id)
            row.anchor_id, row.block, row.tx_hash = made.anchor_id, made.block, str(tx_hash)
            session.add(row)
            leaves = select(LeafRow.task_id).where(col(LeafRow.anchor) == row.id)
            for task in session.exec(select(TaskRow).where(col(TaskRow.task_id).in_(leaves))):
                task.state = TaskState.ANCHORED
                session.add(task)

    def _waiting(self, session: Session) -> list[TaskRow]:
        """Accepted statements without an anchor, if a job is complete or one of them has waited long enough."""
        failed = select(JobRow.job_id).where(col(JobRow.state) == JobState.FAILED)
        tasks = list(
            session.exec(
                select(TaskRow)
                .where(
                    col(TaskRow.state) == TaskState.ACCEPTED,
                    col(TaskRow.task_id).not_in(select(LeafRow.task_id)),
                    col(TaskRow.job_id).not_in(failed),
                )
                .order_by(col(TaskRow.submitted_at), col(TaskRow.job_id), col(TaskRow.start))
                .limit(_MAX_BATCH)
            )
        )
        complete = set(session.exec(select(JobRow.job_id).where(col(JobRow.state) == JobState.ANCHORING)))
        overdue = self._clock() - self._patience_ms
        if any(task.job_id in complete or (task.accepted_at or 0) <= overdue for task in tasks):
            return tasks
        return []


def _unfinished(session: Session) -> AnchorRow | None:
    """The oldest batch whose place on chain is not known."""
    return session.exec(select(AnchorRow).where(col(AnchorRow.block).is_(None)).order_by(col(AnchorRow.id))).first()
