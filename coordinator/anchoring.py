"""Anchoring: accepted statements, in batches, under Merkle roots on chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal
from sqlalchemy import select as sql_select
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, exists, insert, or_, select, update

from coordinator.chain import Ledger
from coordinator.outbox import Outbox
from coordinator.places import leaf_digests
from coordinator.states import change, change_many, create
from coordinator.store import Store
from coordinator.tables import (
    AnchorRow,
    AnchorState,
    JobRow,
    LeafRow,
    Purpose,
    TaskRow,
    TransactionRow,
    TransactionStatus,
)
from coordinator.times import Clock
from rexis.api import MAX_LEAVES, JobState, TaskState
from rexis.protocol.digests import Digest
from rexis.protocol.errors import MerkleError, UnavailableError
from rexis.protocol.merkle import MerkleTree

_PART = 2000
_UNSENT = (AnchorState.PLANNED, AnchorState.SENT)
_NOT_FINAL = tuple(status for status in TransactionStatus if status != TransactionStatus.FINAL)
_NOWHERE: dict[str, Any] = {"anchor_id": None, "block": None, "block_hash": None, "tx_hash": None}


class Anchoring:
    """Plans a batch in one transaction, hands its root to the outbox, and follows it until it is final.

    There is one batch at a time that no block has. What is accepted meanwhile makes up the next one, so that a busy
    coordinator writes one root a block, whatever the number of jobs.

    Parameters
    ----------
    patience_ms
        How long an accepted statement of an unfinished job may wait.
    interval_ms
        Shortest time between two batches.
    """

    def __init__(
        self,
        store: Store,
        chain: Callable[[], Ledger],
        outbox: Outbox,
        clock: Clock,
        patience_ms: int,
        interval_ms: int,
    ) -> None:
        self._store, self._chain, self._outbox, self._clock = store, chain, outbox, clock
        self._patience_ms, self._interval_ms = patience_ms, interval_ms

    def due(self) -> bool:
        """Whether there is something to anchor, or to follow."""
        with self._store.reading() as session:
            return bool(self._unsettled(session)) or self._ready(session)

    def run(self) -> bool:
        """Follow the batches that are under way; plan one, if there is none that waits for its block.

        Returns whether anything changed.

        Raises
        ------
        UnavailableError, ChainError
            The chain cannot be reached, or refuses: call again later.
        """
        self._outbox.advance()
        changed = self._follow()
        with self._store.reading() as session:
            wanted = select(AnchorRow).where(col(AnchorRow.state).in_(_UNSENT)).order_by(col(AnchorRow.id))
            batch = session.exec(wanted).first()
            ready = batch is None and self._ready(session)
        if ready:
            batch = self._plan(self._chain().block_number())
        if batch is not None and batch.state == AnchorState.PLANNED:
            self._send(batch)
            self._outbox.advance()
            self._follow()
            changed = True
        complaint = self._outbox.complaint(Purpose.ANCHOR)
        if complaint is not None:
            raise UnavailableError(complaint, hint="see `The chain` in docs/operations.md")
        return changed

    def affected(self) -> list[str]:
        """Jobs that wait for an anchor."""
        with self._store.looking() as session:
            accepted = select(TaskRow.job_id).where(col(TaskRow.state) == TaskState.ACCEPTED).distinct()
            return list(session.exec(accepted))

    # --- planning -----------------------------------------------------------------------------------------------

    def _ready(self, session: Session) -> bool:
        """A job is complete, or a statement has waited long enough; and the last batch is not too young."""
        latest = session.exec(select(func.max(AnchorRow.planned_at))).one()
        if latest is not None and self._clock() - latest < self._interval_ms:
            return False
        overdue = self._clock() - self._patience_ms
        pressing = or_(col(JobRow.state) == JobState.ANCHORING, col(TaskRow.accepted_at) <= overdue)
        found = select(TaskRow.task_id).join(JobRow, col(JobRow.job_id) == col(TaskRow.job_id))
        return session.exec(found.where(_waiting(), pressing).limit(1)).first() is not None

    def _plan(self, since_block: int) -> AnchorRow | None:
        """Give every statement that waits a leaf of one tree. None if another process has just done so.

        Only the digests leave the database: a batch is a few statements of SQL, whatever its size.
        """
        batch = AnchorRow(root="", size=0, since_block=since_block, planned_at=self._clock())
        try:
            with self._store.writing() as session:
                create(session, batch, reason="statements wait", at=self._clock())
                columns = ("task_id", "anchor", "leaf_index", "statement_digest")
                session.execute(insert(LeafRow).from_select(columns, _leaves(batch)))
                digests = leaf_digests(session, _id(batch))
                batch.root, batch.size = str(MerkleTree(digests).root), len(digests)
                session.add(batch)
        except (IntegrityError, MerkleError):  # one of them has a leaf by now; none waits any more
            return None
        return batch

    # --- sending and following ----------------------------------------------------------------------------------

    def _send(self, batch: AnchorRow) -> None:
        """Hand the root to the outbox, unless the event log has it: written by a run that this database forgot."""
        chain, root = self._chain(), Digest.parse(batch.root)
        self._outbox.require_complete()
        found = chain.find_anchor(root, batch.size, batch.since_block)

        def sent(session: Session, transaction: TransactionRow) -> None:
            row = session.get_one(AnchorRow, batch.id)
            if row.state == AnchorState.PLANNED:
                reason = f"transaction {transaction.tx_hash}, nonce {transaction.nonce}"
                change(session, row, AnchorState.SENT, reason=reason, at=self._clock(), transaction=transaction.id)

        if found is not None:
            self._outbox.adopt(Purpose.ANCHOR, str(batch.id), found[1], sent)
        else:
            self._outbox.post(Purpose.ANCHOR, str(batch.id), chain.anchoring(root, batch.size), sent)

    def _follow(self) -> bool:
        """Bring each batch to where its transaction is; whether one moved."""
        with self._store.reading() as session:
            pairs = self._unsettled(session)
        before = [(batch.state, batch.block_hash) for batch, _ in pairs]
        for batch, transaction in pairs:
            self._bring(batch, transaction)
        return before != [(batch.state, batch.block_hash) for batch, _ in pairs]

    def _unsettled(self, session: Session) -> list[tuple[AnchorRow, TransactionRow | None]]:
        """Batches that are not final, and final ones whose transaction is not where it was, with their transactions."""
        sent = col(TransactionRow.id) == col(AnchorRow.transaction)
        joined = select(AnchorRow, TransactionRow).order_by(col(AnchorRow.id))
        under_way = joined.join(TransactionRow, sent, isouter=True).where(col(AnchorRow.state) != AnchorState.FINAL)
        # Statuses of few rows come first: final transactions are many.
        moved = or_(
            col(TransactionRow.status).in_(_NOT_FINAL),
            col(TransactionRow.watched).is_(True) & (col(TransactionRow.block_hash) != col(AnchorRow.block_hash)),
        )
        dropped = joined.join(TransactionRow, sent).where(col(AnchorRow.state) == AnchorState.FINAL, moved)
        return [*session.exec(under_way), *session.exec(dropped)]

    def _bring(self, batch: AnchorRow, transaction: TransactionRow | None) -> None:
        if transaction is None:
            return
        match transaction.status:
            case TransactionStatus.LOST | TransactionStatus.FAILED:
                self._move(batch, AnchorState.PLANNED, f"its transaction is {transaction.status}", transaction=None)
            case TransactionStatus.OPEN if batch.state != AnchorState.SENT:
                self._move(batch, AnchorState.SENT, f"the chain dropped block {batch.block}", **_NOWHERE)
            case TransactionStatus.MINED | TransactionStatus.FINAL if not transaction.reverted:
                if batch.state == AnchorState.FINAL and transaction.block_hash != batch.block_hash:
                    self._move(batch, AnchorState.SENT, f"the chain dropped block {batch.block}", **_NOWHERE)
                if transaction.block_hash != batch.block_hash:
                    made = self._chain().anchored_in(Digest.parse(transaction.tx_hash))
                    self._move(
                        batch,
                        AnchorState.MINED,
                        f"in block {transaction.block}, as anchor {made.anchor_id}",
                        anchor_id=made.anchor_id,
                        block=transaction.block,
                        block_hash=transaction.block_hash,
                        tx_hash=transaction.tx_hash,
                    )
                if transaction.status == TransactionStatus.FINAL and batch.state == AnchorState.MINED:
                    self._move(batch, AnchorState.FINAL, f"enough blocks follow block {transaction.block}")

    def _move(self, batch: AnchorRow, to: AnchorState, reason: str, **also: Any) -> None:
        """Change a batch's state, and its tasks' and jobs' with it: they are anchored when it is final, not before."""
        now = self._clock()
        if to == AnchorState.FINAL:
            self._mark(batch, now)
        tasks = _tasks_of(batch)
        with self._store.writing() as session:
            row = session.get_one(AnchorRow, batch.id)
            if row.state != batch.state:
                return  # another process was first
            change(session, row, to, reason=reason, at=now, **also)
            if to in _UNSENT:
                change_many(session, TaskState.ANCHORED, TaskState.ACCEPTED, tasks, reason=reason, at=now)
                jobs = select(TaskRow.job_id).where(tasks).distinct()
                certified = (col(JobRow.job_id).in_(jobs), col(JobRow.state) == JobState.CERTIFIED)
                for job in session.exec(select(JobRow).where(*certified)):
                    change(session, job, JobState.ANCHORING, reason=reason, at=now, certificate_digest=None)
                drafts = update(JobRow).where(col(JobRow.job_id).in_(jobs), col(JobRow.draft_digest).is_not(None))
                session.exec(drafts.values(draft_digest=None).execution_options(synchronize_session=False))
        for name, value in {"state": to, **also}.items():
            setattr(batch, name, value)

    def _mark(self, batch: AnchorRow, now: int) -> None:
        """Note of the tasks of a batch that they are anchored, so many at a time: other writers wait for each part."""
        why = f"anchor {batch.anchor_id}"
        for first in range(0, batch.size, _PART):
            with self._store.writing() as session:
                if session.get_one(AnchorRow, batch.id).state != batch.state:
                    return
                part = _tasks_of(batch, first, first + _PART)
                change_many(session, TaskState.ACCEPTED, TaskState.ANCHORED, part, reason=why, at=now)


def _tasks_of(batch: AnchorRow, start: int = 0, end: int = MAX_LEAVES) -> ColumnElement[bool]:
    """Condition on tasks: their statements are among these leaves of a batch."""
    index = col(LeafRow.leaf_index)
    leaves = select(LeafRow.task_id).where(col(LeafRow.anchor) == batch.id, index >= start, index < end)
    return col(TaskRow.task_id).in_(leaves)


def _leaves(batch: AnchorRow) -> Select[Any]:
    """What waits, in order, as leaves of a batch."""
    order = (col(TaskRow.submitted_at), col(TaskRow.job_id), col(TaskRow.start))
    waiting = (
        sql_select(col(TaskRow.task_id), col(TaskRow.statement_digest), *order)
        .join(JobRow, col(JobRow.job_id) == col(TaskRow.job_id))
        .where(_waiting())
        .order_by(*order)
        .limit(MAX_LEAVES)
        .subquery()
    )
    found = waiting.c
    index = func.row_number().over(order_by=(found.submitted_at, found.job_id, found.start)) - 1
    return sql_select(found.task_id, literal(_id(batch)), index, found.statement_digest)


def _id(batch: AnchorRow) -> int:
    if batch.id is None:
        raise RuntimeError("the database gave the anchor no id")
    return batch.id


def _waiting() -> ColumnElement[bool]:
    """Condition on tasks with their jobs: accepted, of a job that goes on, and without a leaf."""
    leaf = exists().where(col(LeafRow.task_id) == col(TaskRow.task_id))
    return (col(TaskRow.state) == TaskState.ACCEPTED) & (col(JobRow.state) != JobState.FAILED) & ~leaf
