"""The outbox: every transaction is written down, signed, before it is sent.

A row holds an account's nonce, what the transaction is for, and its signed bytes. So whoever comes after a crash sends
the very same transaction again, and two processes cannot send two for one purpose: SQL lets one row in.

=========  ===============================================================================================
status     meaning
=========  ===============================================================================================
`open`     signed; sent, or about to be. Sent again from time to time, and dearer if no block takes it
`mined`    in a block that may still be dropped. If it is, `open` again
`final`    `confirmations` blocks follow. Looked at for a while longer; dropped after all, it is `open` again
`failed`   final, and reverted
`lost`     its nonce was used by another transaction, as deep in the chain. It can never be mined
=========  ===============================================================================================

Before something is written that an earlier row may have written, the caller asks the chain's event log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, or_, select

from contracts.sending import Call, Fees, Receipt, Signed, dearer
from coordinator.chain import Ledger
from coordinator.store import Store
from coordinator.tables import LIVE, Purpose, SignedRow, TransactionRow, TransactionStatus
from coordinator.times import Clock
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ChainError, UnavailableError
from rexis.protocol.parsing import Address, parse_hex, to_hex

_RESEND_MS = 10_000  # a node that was restarted has forgotten what it did not mine
_MOST_OPEN = 32  # nodes keep few waiting transactions of one account (geth: 64)
_WATCHED_BLOCKS = 64  # of a final transaction; two epochs of Ethereum
_RECHECK_BLOCKS = 16  # how often final ones are looked at
_LOST_DEPTH = 2  # one endpoint may be a block or two ahead of another
_FILLER_GAS = 21_000
_TRIES = 5
_GWEI = 10**9
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """When a transaction counts as settled, and when as stuck.

    Attributes
    ----------
    confirmations
        Blocks that must follow the one that it is in.
    stuck_ms
        How long no block takes it before more is offered.
    """

    confirmations: int
    stuck_ms: int


class Outbox:
    """Transactions of one account, from their signature until they are final.

    Any number of processes may work on the same rows: every step is right whoever takes it, and in whatever order.

    Parameters
    ----------
    account
        Whose transactions they are.
    """

    def __init__(
        self, store: Store, chain: Callable[[], Ledger], clock: Clock, account: Address, patience: Patience
    ) -> None:
        self._store, self._chain, self._clock = store, chain, clock
        self._account, self._patience = account, patience
        self._posting, self._advancing = threading.Lock(), threading.Lock()
        # Caches: what was seen at the last look, so that a look at the same chain costs one question.
        self._seen: object = None
        self._rechecked = 0

    def room(self) -> int:
        """How many more transactions may wait to be mined."""
        with self._store.reading() as session:
            return max(0, _MOST_OPEN - len(self._rows(session, TransactionStatus.OPEN)))

    def require_complete(self) -> None:
        """Raise if the node knows of a waiting transaction of this account that is not here.

        What the event log has not got may be in it: of a run that this database forgot, since it was restored.
        """
        mined, pending = self._chain().nonces()
        with self._store.reading() as session:
            self._require_ours(self._taken(session, mined), mined, pending)

    def post(
        self,
        purpose: Purpose,
        subject: str,
        call: Call,
        note: Callable[[Session, TransactionRow], None],
    ) -> None:
        """Sign a transaction, write it down, then send it. Nothing, if there is one for this purpose and subject.

        Parameters
        ----------
        subject
            What is anchored, committed …: with the purpose it says what this transaction is for.
        note
            Written in the same database transaction as the row.

        Raises
        ------
        RevertError
            The contract would refuse it; nothing was signed.
        UnavailableError
            The chain cannot be reached, or a transaction of this account that is not in this database waits there. What
            was written down is sent later.
        """
        with self._store.reading() as session:
            if self._live(session, purpose, subject) is not None:
                return
        chain = self._chain()
        gas, fees = chain.gas(call), chain.fees()
        with self._posting:
            row = self._sign(chain, purpose, subject, call, gas, fees, note)
        if row is not None:
            self._send(chain, row)

    def adopt(
        self, purpose: Purpose, subject: str, tx_hash: Digest, note: Callable[[Session, TransactionRow], None]
    ) -> None:
        """Take up a mined transaction that the event log has and no live row knows: after a restored backup, say."""
        chain = self._chain()
        nonce = chain.nonce_of(tx_hash)
        with self._store.writing() as session:
            known = session.get(SignedRow, str(tx_hash))
            if known is not None:
                row = session.get_one(TransactionRow, known.transaction)
                row.status = TransactionStatus.OPEN
            else:
                row = self._row(purpose, subject, nonce, None)
                session.add(row)
                session.flush()
                session.add(_signed_row(row, tx_hash, Fees(0, 0)))
            note(session, row)
        self._seen = None

    def advance(self) -> bool:
        """Look what has become of every transaction under way, and help those that are stuck; whether any changed.

        Raises
        ------
        UnavailableError
            The chain cannot be reached.
        """
        if not self._advancing.acquire(blocking=False):
            return False  # another thread is at it
        try:
            return self._advance()
        finally:
            self._advancing.release()

    def unsettled(self, purpose: Purpose, subject: str) -> bool:
        """Whether a transaction for this is under way: signed, and not final."""
        with self._store.reading() as session:
            row = self._live(session, purpose, subject)
        return row is not None and row.status != TransactionStatus.FINAL

    def complaint(self, purpose: Purpose) -> str | None:
        """Why a transaction of this purpose is not mined although it should be; None if all is well."""
        overdue = self._clock() - 2 * self._patience.stuck_ms
        with self._store.reading() as session:
            for row in self._rows(session, TransactionStatus.OPEN):
                if row.purpose == purpose and (row.trouble or row.created_at <= overdue):
                    return f"transaction {row.tx_hash} waits to be mined" + (f": {row.trouble}" if row.trouble else "")
        return None

    # --- writing down -------------------------------------------------------------------------------------------

    def _sign(
        self,
        chain: Ledger,
        purpose: Purpose,
        subject: str,
        call: Call,
        gas: int,
        fees: Fees,
        note: Callable[[Session, TransactionRow], None],
    ) -> TransactionRow | None:
        for _ in range(_TRIES):
            mined, pending = chain.nonces()
            try:
                with self._store.writing() as session:
                    if self._live(session, purpose, subject) is not None:
                        return None
                    nonce = self._next_nonce(session, mined, pending)
                    signed = chain.sign(call, gas, nonce, fees)
                    row = self._row(purpose, subject, nonce, signed)
                    session.add(row)
                    session.flush()
                    session.add(_signed_row(row, signed.hash, fees))
                    note(session, row)
            except IntegrityError:  # another process took the nonce, or does the same
                continue
            else:
                return row
        raise UnavailableError("other processes of this account sign all the time", hint="it is tried again")

    def _next_nonce(self, session: Session, mined: int, pending: int) -> int:
        """The lowest nonce that nothing here and nothing at the node has."""
        taken = self._taken(session, mined)
        self._require_ours(taken, mined, pending)
        return next(nonce for nonce in range(mined, mined + len(taken) + 1) if nonce not in taken)

    def _taken(self, session: Session, mined: int) -> set[int]:
        rows = select(TransactionRow.nonce).where(
            col(TransactionRow.account) == self._account,
            col(TransactionRow.status).in_(LIVE),
            col(TransactionRow.nonce) >= mined,
        )
        return set(session.exec(rows))

    def _require_ours(self, taken: set[int], mined: int, pending: int) -> None:
        for nonce in range(mined, pending):
            if nonce not in taken:
                raise UnavailableError(
                    f"a transaction of {self._account} with nonce {nonce} waits to be mined that is not ours",
                    hint="is the wallet used elsewhere? cancel it there, or wait",
                )

    def _row(self, purpose: Purpose, subject: str, nonce: int, signed: Signed | None) -> TransactionRow:
        now = self._clock()
        return TransactionRow(
            account=self._account,
            nonce=nonce,
            purpose=purpose,
            subject=subject,
            raw=to_hex(signed.raw) if signed else None,
            tx_hash=str(signed.hash) if signed else None,
            created_at=now,
            signed_at=now,
        )

    # --- looking ------------------------------------------------------------------------------------------------

    def _advance(self) -> bool:
        with self._store.reading() as session:
            if not self._any(session):
                return False
            opened = self._rows(session, TransactionStatus.OPEN)
        chain = self._chain()
        head, digest = chain.newest()
        seen = digest, tuple(row.id for row in opened)
        changed = False
        if seen != self._seen:
            mined, pending = chain.nonces()
            for row in opened:
                changed |= row.nonce < mined and self._look_for(chain, row, head)
            changed |= self._check_blocks(chain, head)
            self._fill_gap(chain, opened, mined, pending)
            self._seen = seen
        with self._store.reading() as session:
            opened = self._rows(session, TransactionStatus.OPEN)
        self._urge(chain, opened)
        return changed

    def _look_for(self, chain: Ledger, row: TransactionRow, head: int) -> bool:
        """Something with this nonce is mined: one of the transactions that were signed, or another one."""
        with self._store.reading() as session:
            hashes = self._hashes(session, row)
        for digest in hashes:
            receipt = chain.receipt(digest)
            if receipt is not None:
                return self._mined(row, receipt)
        depth = max(self._patience.confirmations, _LOST_DEPTH)
        if chain.nonces_at(head - depth) <= row.nonce:
            return False
        _log.warning("transaction %s is lost: nonce %d was used by another", row.tx_hash, row.nonce)
        return self._change(row, TransactionStatus.OPEN, TransactionStatus.LOST, raw=None)

    def _mined(self, row: TransactionRow, receipt: Receipt) -> bool:
        return self._change(
            row,
            TransactionStatus.OPEN,
            TransactionStatus.MINED,
            tx_hash=str(receipt.hash),
            block=receipt.block,
            block_hash=str(receipt.block_hash),
            gas_used=receipt.gas_used,
            cost_gwei=receipt.cost // _GWEI,
            reverted=not receipt.succeeded,
            trouble=None,
        )

    def _check_blocks(self, chain: Ledger, head: int) -> bool:
        """Whether the blocks of mined transactions are still the chain's, and how deep they are.

        A node that has not come so far says nothing of a block.
        """
        changed, hashes = False, dict[int, str]()
        recheck = not 0 <= head - self._rechecked < _RECHECK_BLOCKS
        statuses = [TransactionStatus.MINED] + [TransactionStatus.FINAL] * recheck
        with self._store.reading() as session:
            rows = self._rows(session, *statuses)
        for row in rows:
            if row.block is None or row.block > head:
                continue
            if row.block not in hashes:
                hashes[row.block] = str(chain.block_hash(row.block))
            if hashes[row.block] != row.block_hash:
                changed |= self._reopen(chain, row)
            elif row.status == TransactionStatus.MINED and row.block + self._patience.confirmations <= head:
                ends = TransactionStatus.FAILED if row.reverted else TransactionStatus.FINAL
                changed |= self._change(row, TransactionStatus.MINED, ends)
            elif row.status == TransactionStatus.FINAL and row.block + self._deep <= head:
                self._change(row, TransactionStatus.FINAL, TransactionStatus.FINAL, raw=None, watched=False)
        if recheck:
            self._rechecked = head
        return changed

    @property
    def _deep(self) -> int:
        return self._patience.confirmations + _WATCHED_BLOCKS

    def _reopen(self, chain: Ledger, row: TransactionRow) -> bool:
        """The chain dropped the block that a transaction was in: nodes put it back to those that wait, mostly."""
        _log.warning("the chain dropped block %s with transaction %s", row.block, row.tx_hash)
        before = TransactionStatus(row.status)
        done = self._change(
            row,
            before,
            TransactionStatus.OPEN,
            block=None,
            block_hash=None,
            gas_used=None,
            cost_gwei=None,
            reverted=False,
            signed_at=self._clock(),
        )
        if done:
            self._send(chain, row)
            self._seen = None
        return done

    # --- helping ------------------------------------------------------------------------------------------------

    def _urge(self, chain: Ledger, opened: list[TransactionRow]) -> None:
        """Send again what may be forgotten; offer more for what no block takes."""
        now = self._clock()
        late = [row for row in opened if now - row.signed_at >= self._patience.stuck_ms]
        mined, base = (chain.nonces()[0], chain.base_fee()) if late else (0, 0)
        for row in opened:
            if row in late and (row.nonce == mined or self._fees_of(row).most < base):
                self._offer_more(chain, row)
            elif row.sent_at is None or now - row.sent_at >= _RESEND_MS:
                self._send(chain, row)

    def _offer_more(self, chain: Ledger, row: TransactionRow) -> None:
        if row.raw is None:
            return
        try:
            fees = dearer(self._fees_of(row), chain.fees(), chain.fee_cap)
        except (ChainError, UnavailableError) as error:  # the cap: nothing to do but say so, and send it again
            self._send(chain, row, str(error))
            return
        signed = chain.sign_again(parse_hex(row.raw), fees)
        with self._store.writing() as session:
            current = session.get_one(TransactionRow, row.id)
            if current.status != TransactionStatus.OPEN or current.raw != row.raw:
                return  # another process was first
            session.add(_signed_row(row, signed.hash, fees))
            current.raw, current.tx_hash, current.signed_at = to_hex(signed.raw), str(signed.hash), self._clock()
            session.add(current)
        _log.info("transaction %s replaces %s, for %d wei per gas", signed.hash, row.tx_hash, fees.most)
        self._send(chain, current)

    def _fill_gap(self, chain: Ledger, opened: list[TransactionRow], mined: int, pending: int) -> None:
        """A nonce below ours that nobody has any more holds ours up: use it for nothing."""
        if not opened:
            return
        lowest = min(opened, key=lambda row: row.nonce)
        waits = self._clock() - lowest.signed_at >= self._patience.stuck_ms
        if waits and mined == pending and lowest.nonce > mined:
            _log.warning("nonce %d is missing below transaction %s: filled", mined, lowest.tx_hash)
            with self._posting:
                row = self._sign(
                    chain,
                    Purpose.FILLER,
                    str(mined),
                    chain.nothing(),
                    _FILLER_GAS,
                    chain.fees(),
                    lambda session, row: None,
                )
            if row is not None:
                self._send(chain, row)

    def _send(self, chain: Ledger, row: TransactionRow, trouble: str | None = None) -> None:
        """Hand a transaction to the node. Where the node refuses it, say so: it stays open, and is tried again."""
        if row.raw is None:
            return
        try:
            chain.broadcast(parse_hex(row.raw))
        except ChainError as error:
            self._seen = None  # look again at once: its nonce may be used
            if "nonce too low" not in str(error):
                trouble = trouble or str(error)[:500]
                _log.warning("transaction %s is not taken: %s", row.tx_hash, trouble)
        self._change(row, TransactionStatus.OPEN, TransactionStatus.OPEN, sent_at=self._clock(), trouble=trouble)

    # --- rows ---------------------------------------------------------------------------------------------------

    def _any(self, session: Session) -> bool:
        """Whether there is anything to look at."""
        of_account = (col(TransactionRow.account) == self._account, col(TransactionRow.status).in_(LIVE))
        wanted = select(TransactionRow.id).where(*of_account, col(TransactionRow.watched).is_(True))
        return session.exec(wanted.limit(1)).first() is not None

    def _rows(self, session: Session, *statuses: TransactionStatus) -> list[TransactionRow]:
        """Those of these statuses by nonce; of the final ones, those that are still watched."""
        status = col(TransactionRow.status)
        wanted = select(TransactionRow).where(
            col(TransactionRow.account) == self._account,
            status.in_(statuses),
            or_(status != TransactionStatus.FINAL, col(TransactionRow.watched).is_(True)),
        )
        return list(session.exec(wanted.order_by(col(TransactionRow.nonce))))

    def _live(self, session: Session, purpose: Purpose, subject: str) -> TransactionRow | None:
        wanted = (
            col(TransactionRow.account) == self._account,
            col(TransactionRow.purpose) == purpose,
            col(TransactionRow.subject) == subject,
            col(TransactionRow.status).in_(LIVE),
        )
        return session.exec(select(TransactionRow).where(*wanted)).first()

    def _hashes(self, session: Session, row: TransactionRow) -> list[Digest]:
        """All transactions that were signed for a row, the newest first."""
        wanted = select(SignedRow.tx_hash).where(col(SignedRow.transaction) == row.id)
        return [Digest.parse(one) for one in session.exec(wanted.order_by(col(SignedRow.max_fee).desc()))]

    def _fees_of(self, row: TransactionRow) -> Fees:
        with self._store.reading() as session:
            signed = session.get_one(SignedRow, row.tx_hash)
            return Fees(signed.max_fee, signed.priority_fee)

    def _change(
        self, row: TransactionRow, before: TransactionStatus, after: TransactionStatus, **values: object
    ) -> bool:
        """Change a row, if it still has the status that it had; `row` becomes what it is now."""
        with self._store.writing() as session:
            current = session.get_one(TransactionRow, row.id)
            if current.status != before:
                return False
            current.status = after
            for name, value in values.items():
                setattr(current, name, value)
            session.add(current)
        for name in ("status", *values):
            setattr(row, name, getattr(current, name))
        return True


def _signed_row(row: TransactionRow, digest: Digest, fees: Fees) -> SignedRow:
    if row.id is None:
        raise RuntimeError("the database gave the transaction no id")
    return SignedRow(tx_hash=str(digest), transaction=row.id, max_fee=fees.most, priority_fee=fees.priority)
