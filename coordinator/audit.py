"""The audit log: who did what to what, in an order that cannot be changed unseen (:mod:`rexis.auditlog`).

What happens is noted in the transaction that does it, without waiting for anybody else's. One duty then puts the notes
in order. A note that waits (a second, normally) can be removed by who writes to the database; after that, it cannot be
without a trace for whoever has kept a later head.
"""

from __future__ import annotations

import logging

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, delete, select

from coordinator.store import Store
from coordinator.tables import AuditRow, NoticeRow
from rexis.api import AuditEntry, AuditHead
from rexis.auditlog import START, head_of, next_entry

OURSELVES = "coordinator"
_AT_A_TIME = 1000
_LONGEST = 500
_log = logging.getLogger(__name__)


def record(session: Session, at: int, actor: str, action: str, object: str, outcome: str = "done") -> None:
    """Note an action in the transaction that does it.

    Parameters
    ----------
    actor
        An address, or :data:`OURSELVES`.
    action
        ``subject.verb``.
    object, outcome
        What it was done to, and how it ended or why. No secret.
    """
    session.add(NoticeRow(at=at, actor=actor, action=action, object=object[:_LONGEST], outcome=outcome[:_LONGEST]))


class Audit:
    """The chain."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def chain(self) -> int:
        """Put the notes that wait into the chain, in the order in which they came; returns how many."""
        done = 0
        try:
            while count := self._chain_some():
                done += count
        except IntegrityError:  # another process gave the same position: its entries stand
            _log.debug("another process chains the audit log")
        return done

    def head(self) -> AuditHead:
        """The last entry."""
        self.chain()
        with self._store.reading() as session:
            return _head(session)

    def after(self, position: int, most: int = _AT_A_TIME) -> list[AuditEntry]:
        """Entries that follow a position, at most `most`."""
        self.chain()
        found = select(AuditRow.entry).where(col(AuditRow.position) > position).order_by(col(AuditRow.position))
        with self._store.reading() as session:
            return [AuditEntry.from_json(entry.encode()) for entry in session.exec(found.limit(most))]

    def _chain_some(self) -> int:
        with self._store.reading() as session:
            if session.exec(select(NoticeRow.id).limit(1)).first() is None:
                return 0
        with self._store.writing() as session:
            # The head first: who chains the same notes meanwhile takes the next position, and one of us fails on it.
            head = _head(session)
            notices = session.exec(select(NoticeRow).order_by(col(NoticeRow.id)).limit(_AT_A_TIME)).all()
            for notice in notices:
                entry = next_entry(head, **notice.model_dump(exclude={"id"}))
                session.add(AuditRow(position=entry.position, entry=entry.to_json().decode()))
                head = head_of(entry)
            session.exec(delete(NoticeRow).where(col(NoticeRow.id).in_([notice.id for notice in notices])))
            return len(notices)


def _head(session: Session) -> AuditHead:
    last = session.exec(select(AuditRow.entry).order_by(col(AuditRow.position).desc()).limit(1)).first()
    return START if last is None else head_of(AuditEntry.from_json(last.encode()))
