"""Who does what coordinators do on their own: of several processes over one database, one at a time has each duty.

A duty is a row with its holder and a time, renewed while the holder lives; when it dies, another process takes the duty
over once the time has passed. Each time that a duty changes hands its *term* grows by one. A holder that was stopped in
between (suspended, swapped out, cut off from the database) may believe for a moment that the duty is still its own;
what must not happen even then is guarded by :meth:`Duties.require` in the transaction that decides it.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlmodel import Session, col, select, update

from coordinator.engine import now_ms
from coordinator.store import Store
from coordinator.tables import DutyRow
from rexis.protocol.errors import UnavailableError

HOLD_S = 6.0
RENEW_S = 2.0
# Held locally for so much less than in the database.
_MARGIN_S = 1.0
_log = logging.getLogger(__name__)


class Duty(StrEnum):
    """What is done by one process at a time.

    All that sends transactions is one duty, so that one process counts the nonces of the wallet.
    """

    EXPIRE = "expire"
    WALLET = "wallet"
    AUDIT = "audit"
    COLLECT = "collect"


@dataclass(frozen=True)
class _Held:
    term: int
    until: float


class Duties:
    """The duties of this process.

    Parameters
    ----------
    hold_s
        How long a duty is held without being renewed; a dead holder's is taken over after so long.
    """

    def __init__(self, store: Store, hold_s: float = HOLD_S) -> None:
        self._store, self._hold_s = store, hold_s
        self._held: dict[Duty, _Held] = {}
        self.holder = secrets.token_hex(8)

    def has(self, duty: Duty) -> bool:
        """Whether work of a duty may begin here now."""
        held = self._held.get(duty)
        return held is not None and time.monotonic() < held.until

    def term(self, duty: Duty) -> int:
        """The term in which this process has a duty: greater than that of every holder before.

        Raises
        ------
        UnavailableError
            It does not have it, or not any more.
        """
        held = self._held.get(duty)
        if held is None or time.monotonic() >= held.until:
            raise _lost(duty)
        return held.term

    def require(self, session: Session, duty: Duty) -> int:
        """The same, by the database: in a transaction that writes, nobody takes the duty over until it ends.

        Raises
        ------
        UnavailableError
            Another process has the duty.
        """
        row = session.get(DutyRow, duty)
        if row is None or row.holder != self.holder:
            self._held.pop(duty, None)
            raise _lost(duty)
        return row.term

    def renew(self) -> bool:
        """Keep the duties that this process has, and take those that nobody has; returns whether it took one."""
        began = time.monotonic()
        with self._store.reading() as session:
            free = self._free(session)
        if not (free or self._held):
            return False
        taken = False
        with self._store.writing() as session:
            now = now_ms(session.connection())
            until, held = now + int(self._hold_s * 1000), {}
            rows = {row.name: row for row in session.exec(select(DutyRow))}
            for duty in Duty:
                row = rows.get(duty) or DutyRow(name=duty, holder="", term=0, until=0)
                if row.holder != self.holder:
                    if row.until > now:
                        continue
                    row.holder, row.term = self.holder, row.term + 1
                    _log.info("this process has duty %s now, term %d", duty, row.term)
                    taken = True
                row.until = until
                session.add(row)
                held[duty] = _Held(row.term, began + self._hold_s - _MARGIN_S)
        self._held = held
        return taken

    def release(self, duties: Sequence[Duty]) -> None:
        """Leave duties to others at once."""
        for duty in duties:
            self._held.pop(duty, None)
        with self._store.writing() as session:
            mine = (col(DutyRow.name).in_(duties), col(DutyRow.holder) == self.holder)
            session.exec(update(DutyRow).where(*mine).values(until=0))

    def _free(self, session: Session) -> bool:
        """Whether somebody should take a duty."""
        now = now_ms(session.connection())
        taken = session.exec(select(DutyRow.name).where(col(DutyRow.until) > now)).all()
        return len(taken) < len(Duty)


def _lost(duty: Duty) -> UnavailableError:
    return UnavailableError(f"another coordinator process has duty {duty}", hint="it goes on there")
