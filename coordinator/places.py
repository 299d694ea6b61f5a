"""Where a statement stands on chain."""

from __future__ import annotations

import threading
from collections import OrderedDict

from sqlmodel import Session, col, select

from coordinator.tables import AnchorRow, AnchorState, LeafRow, TaskRow
from rexis.protocol.certificate import Anchor
from rexis.protocol.digests import Digest
from rexis.protocol.errors import UnavailableError
from rexis.protocol.merkle import MerkleTree

_KEPT = 8  # trees of at most 16,384 leaves, 2.5 MB each


class Places:
    """Paths to anchored roots, computed from the leaves. The last trees are kept: jobs of one batch come together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trees: OrderedDict[int, MerkleTree] = OrderedDict()

    def of(self, session: Session, task_id: str) -> Anchor:
        """A task's place in its anchored tree.

        Raises
        ------
        UnavailableError
            The anchor is not final.
        """
        return self._of(session, session.get_one(LeafRow, task_id))

    def of_job(self, session: Session, job_id: str) -> dict[str, Anchor]:
        """The places of all of a job's tasks, in one look.

        Raises
        ------
        UnavailableError
            An anchor is not final.
        """
        mine = select(LeafRow).join(TaskRow, col(TaskRow.task_id) == col(LeafRow.task_id))
        leaves = session.exec(mine.where(col(TaskRow.job_id) == job_id)).all()
        anchors = {leaf.anchor for leaf in leaves}
        held = session.exec(select(AnchorRow).where(col(AnchorRow.id).in_(anchors))).all()
        found = {leaf.task_id: self._of(session, leaf) for leaf in leaves}
        del held  # until here: the session does not ask again for rows that somebody holds
        return found

    def _of(self, session: Session, leaf: LeafRow) -> Anchor:
        row = session.get_one(AnchorRow, leaf.anchor)
        if row.state != AnchorState.FINAL or row.anchor_id is None or row.block is None:
            raise UnavailableError("the anchor is not final on chain yet")
        return Anchor(
            anchor_id=row.anchor_id,
            root=Digest.parse(row.root),
            size=row.size,
            leaf_index=leaf.leaf_index,
            path=self._tree(session, leaf.anchor).path(leaf.leaf_index),
            block_number=row.block,
            transaction=Digest.parse(row.tx_hash),
        )

    def _tree(self, session: Session, anchor: int) -> MerkleTree:
        with self._lock:
            found = self._trees.pop(anchor, None)
        if found is None:
            found = MerkleTree(leaf_digests(session, anchor))
        with self._lock:
            self._trees[anchor] = found
            while len(self._trees) > _KEPT:
                self._trees.popitem(last=False)
        return found


def leaf_digests(session: Session, anchor: int) -> list[Digest]:
    """What stands under an anchored root, in order."""
    leaves = select(LeafRow.statement_digest).where(col(LeafRow.anchor) == anchor).order_by(col(LeafRow.leaf_index))
    return [Digest(bytes.fromhex(digest[2:])) for digest in session.exec(leaves)]
