"""What everybody may know of the anchors: the log of those that are final, its signed checkpoint, and their leaves."""

from __future__ import annotations

import threading

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from eth_account.signers.local import LocalAccount
from sqlalchemy import ColumnElement, func, true
from sqlmodel import Session, col, select

from coordinator.store import Store
from coordinator.tables import AnchorRow, AnchorState, LeafRow, LeaseRow, TaskRow
from rexis.api import MAX_ANCHORS, AnchorLeaves, AnchorPage, LoggedAnchor, LogKey
from rexis.exports.anchor_log import key_text, log_entry, origin_of
from rexis.exports.note import NoteKey, sign_note
from rexis.exports.tlog import LogProof, TreeHead
from rexis.protocol.digests import Digest
from rexis.protocol.errors import NotFoundError
from rexis.protocol.merkle import GrowingTree, MerkleTree
from rexis.protocol.parsing import Address
from rexis.protocol.signing import address_of, sign_text
from rexis.protocol.typed_data import Domain


class AnchorLog:
    """The log of this coordinator's anchors, over its database.

    It ends before the first anchor that is not final, and rows of anchors are never deleted: what was signed once stays
    a part of what is signed later. Only a chain that drops a final block makes it shorter, for a while.

    Parameters
    ----------
    account
        The wallet: the log's Ed25519 key follows from it, and it signs that key.
    """

    def __init__(self, store: Store, domain: Domain, account: LocalAccount) -> None:
        self._store = store
        self._origin = origin_of(domain, address_of(account))
        self._private = _derived(bytes(account.key), self._origin)
        key = NoteKey.of(self._origin, self._private)
        self._key = LogKey(key=str(key), signature=sign_text(account, key_text(key)))
        self._lock = threading.Lock()
        self._grown = GrowingTree()
        self._tree: MerkleTree | None = None

    def key(self) -> LogKey:
        """Who signs the checkpoints."""
        return self._key

    def page(self, start: int) -> AnchorPage:
        """Anchors from a place on."""
        with self._store.reading() as session:
            rows = self._rows(session, start, MAX_ANCHORS)
        return AnchorPage(anchors=[_view(start + offset, row) for offset, row in enumerate(rows)])

    def leaves(self, index: int) -> AnchorLeaves:
        """The statements under an anchor's root.

        Raises
        ------
        NotFoundError
            The log is not so long.
        """
        with self._store.reading() as session:
            anchor = self._at(session, index).id
            found = (
                select(LeafRow.statement_digest, LeaseRow.worker)
                .join(TaskRow, col(TaskRow.task_id) == col(LeafRow.task_id))
                .join(LeaseRow, col(LeaseRow.lease_id) == col(TaskRow.lease_id))
                .where(col(LeafRow.anchor) == anchor)
                .order_by(col(LeafRow.leaf_index))
            )
            rows = session.exec(found).all()
        return AnchorLeaves(
            statements=[Digest.parse(digest) for digest, _ in rows], workers=[Address.parse(each) for _, each in rows]
        )

    def checkpoint(self) -> str:
        """The log's head, signed (c2sp.org/tlog-checkpoint)."""
        with self._store.reading() as session, self._lock:
            size = self._size(session)
            if size < self._grown.size:
                self._grown = GrowingTree()
            self._grown.extend(self._entries(session, self._grown.size))
            return self._signed(self._grown.size, self._grown.root)

    def proof(self, index: int) -> str:
        """That an anchor is in the log (c2sp.org/tlog-proof).

        Raises
        ------
        NotFoundError
            The log is not so long.
        """
        with self._store.reading() as session, self._lock:
            self._at(session, index)
            if self._tree is None or len(self._tree) != self._size(session):
                self._tree = MerkleTree(self._entries(session, 0))
            tree = self._tree
        return LogProof(index, tree.path(index), self._signed(len(tree), tree.root)).text()

    def _signed(self, size: int, root: Digest) -> str:
        return sign_note(TreeHead(self._origin, size, root).text(), self._origin, self._private)

    def _size(self, session: Session) -> int:
        return session.exec(select(func.count()).select_from(AnchorRow).where(_logged(session))).one()

    def _entries(self, session: Session, start: int) -> list[bytes]:
        return [log_entry(Digest.parse(row.root), row.size) for row in self._rows(session, start)]

    def _rows(self, session: Session, start: int, most: int | None = None) -> list[AnchorRow]:
        found = select(AnchorRow).where(_logged(session)).order_by(col(AnchorRow.id)).offset(start).limit(most)
        return list(session.exec(found))

    def _at(self, session: Session, index: int) -> AnchorRow:
        for row in self._rows(session, index, 1):
            return row
        raise NotFoundError(f"the log has no anchor {index}", field="index")


def _logged(session: Session) -> ColumnElement[bool]:
    """Condition on anchors: final, and all before them, too."""
    unsettled = col(AnchorRow.state) != AnchorState.FINAL
    first = session.exec(select(func.min(AnchorRow.id)).where(unsettled)).one()
    return true() if first is None else col(AnchorRow.id) < first


def _view(index: int, row: AnchorRow) -> LoggedAnchor:
    return LoggedAnchor(
        index=index,
        root=Digest.parse(row.root),
        size=row.size,
        anchor_id=row.anchor_id,
        block_number=row.block,
        transaction=Digest.parse(row.tx_hash),
    )


def _derived(secret: bytes, origin: str) -> Ed25519PrivateKey:
    """The log's key, which says nothing of the wallet's: HKDF-SHA256 (RFC 5869)."""
    derive = HKDF(SHA256(), 32, salt=None, info=b"rexis anchor log key v1\0" + origin.encode())
    return Ed25519PrivateKey.from_private_bytes(derive.derive(secret))
