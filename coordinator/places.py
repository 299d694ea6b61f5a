"""Where a statement stands on chain."""

from __future__ import annotations

from sqlmodel import Session

from coordinator.tables import AnchorRow, LeafRow
from rexis.protocol.certificate import Anchor
from rexis.protocol.digests import Digest
from rexis.protocol.errors import UnavailableError


def anchor_of(session: Session, task_id: str) -> Anchor:
    """A task's place in its anchored tree.

    Raises
    ------
    UnavailableError
        The anchor is not on chain yet.
    """
    leaf = session.get_one(LeafRow, task_id)
    row = session.get_one(AnchorRow, leaf.anchor)
    if row.anchor_id is None or row.block is None:
        raise UnavailableError("the anchor is not on chain yet")
    return Anchor(
        anchor_id=row.anchor_id,
        root=Digest.parse(row.root),
        size=row.size,
        leaf_index=leaf.leaf_index,
        path=[Digest.parse(node) for node in leaf.path.split()],
        block_number=row.block,
        transaction=Digest.parse(row.tx_hash),
    )
