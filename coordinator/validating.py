"""Writes validators' verdicts on chain: one aggregate signature a statement, once enough stake has signed.

Anybody may write a verdict down, so somebody else's transaction is as good as ours. Every step can be taken again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement
from sqlmodel import Session, col, exists, select

from contracts.accountability import Accountability
from contracts.accountable import RecordedVerdict, Validator
from contracts.node import RevertError
from coordinator.chain import Ledger
from coordinator.leases import fail_job
from coordinator.outbox import Outbox
from coordinator.places import Places
from coordinator.standing import Rules, note_fault
from coordinator.store import Store
from coordinator.tables import (
    FaultRow,
    JobRow,
    LeaseRow,
    Outcome,
    Purpose,
    TaskRow,
    TransactionRow,
    TransactionStatus,
    ValidationRow,
    ValidatorSignatureRow,
)
from coordinator.times import Clock
from coordinator.validation import settled
from rexis.api import JobState
from rexis.protocol.bls import aggregate_signatures
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import parse_hex
from rexis.protocol.validation import Finding

_BPS = 10_000
_LEFT_TO_OTHERS = 8  # places in the outbox that anchors and commitments find free
# How often the chain is asked about a statement of which nothing new came: others may write, and stakes change.
_LOOK_MS = 10_000
REFUTED = "refuted-by-validators"


@dataclass(frozen=True)
class _Side:
    """Those who signed one verdict on a statement and whom the quorum counts, with what they have at stake."""

    finding: Finding
    rows: Sequence[ValidatorSignatureRow]
    stake: int

    def exceeds(self, bps: int, active: int) -> bool:
        """Whether it is more than a part of the active stake, by the contract's own arithmetic."""
        return self.stake * _BPS > active * bps


class Validating:
    """Brings each statement's verdict on chain; ends jobs that validators refuted.

    Parameters
    ----------
    quorum
        The deployment whose validators they are; without one nothing is ever due.
    confirmations
        Blocks that must follow somebody else's transaction before it counts.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        chain: Callable[[], Ledger],
        outbox: Outbox,
        rules: Rules,
        quorum: Accountability | None,
        confirmations: int,
    ) -> None:
        self._store, self._clock, self._chain, self._outbox = store, clock, chain, outbox
        self._rules, self._quorum, self._confirmations = rules, quorum, confirmations
        self._places = Places()
        self._looked: dict[str, tuple[int, int]] = {}  # by task: signatures then, and when

    def due(self) -> list[str]:
        """Jobs that validators are asked about, oldest first."""
        if self._quorum is None:
            return []
        asked = (col(JobRow.state) == JobState.ANCHORING, col(JobRow.validators) > 0)
        with self._store.looking() as session:
            wanted = select(JobRow.job_id).where(*asked, col(JobRow.draft_digest).is_not(None))
            waiting = exists().where(*_open(col(JobRow.job_id)))
            return list(session.exec(wanted.where(waiting).order_by(col(JobRow.submitted_at))))

    def advance(self, job_id: str) -> bool:
        """Take each of a job's statements a step further, where there is one to take; whether anything changed.

        Raises
        ------
        UnavailableError, ChainError
            The chain cannot be reached, or refuses for now: call again later.
        """
        self._outbox.advance()
        with self._store.reading() as session:
            job = session.get_one(JobRow, job_id)
            tasks = session.exec(select(TaskRow).where(*_open(job_id)).order_by(col(TaskRow.start))).all()
        seats: dict[int, Validator | None] = {}
        changed = False
        for task in tasks:
            changed |= self._settle(job, task, seats)
        return changed

    def _settle(self, job: JobRow, task: TaskRow, seats: dict[int, Validator | None]) -> bool:
        with self._store.reading() as session:
            row = session.get(ValidationRow, task.task_id)
            transaction = session.get(TransactionRow, row.transaction) if row and row.transaction is not None else None
            signed = session.exec(
                select(ValidatorSignatureRow).where(col(ValidatorSignatureRow.task_id) == task.task_id)
            ).all()
        status = transaction.status if transaction is not None else None
        if status in (TransactionStatus.OPEN, TransactionStatus.MINED) or not self._is_to_look(
            task, len(signed), status
        ):
            return False
        chain, digest = self._chain(), Digest.parse(task.statement_digest)
        if chain.verdict_on(digest) is not None:
            with self._store.reading() as session:
                since = self._places.of(session, task.task_id).block_number
            depth = 0 if status == TransactionStatus.FINAL else self._confirmations
            found = chain.find_verdict(digest, since, depth)
            return found is not None and self._done(job, task, found)
        side, active = self._leading(chain, signed, seats), chain.active_validator_stake()
        changed = self._note_share(task, side.stake * _BPS // max(active, 1))
        if not self._suffices(side, active, job.validators) or self._outbox.room() < _LEFT_TO_OTHERS:
            return changed
        self._post(chain, task, digest, side)
        return True

    def _is_to_look(self, task: TaskRow, signatures: int, status: str | None) -> bool:
        """Whether the chain is to be asked: something came, a transaction ended, or the last look is long ago."""
        now, seen = self._clock(), self._looked.get(task.task_id)
        if status is None and seen is not None and seen[0] == signatures and now - seen[1] < _LOOK_MS:
            return False
        self._looked[task.task_id] = signatures, now
        return True

    def _leading(
        self, chain: Ledger, signed: Sequence[ValidatorSignatureRow], seats: dict[int, Validator | None]
    ) -> _Side:
        """The verdict with most stake behind it, by the chain as it is now."""
        for slot in {row.slot for row in signed} - seats.keys():
            seats[slot] = chain.validator_in(slot)
        return max((_side(finding, signed, seats) for finding in Finding), key=lambda side: side.stake)

    def _suffices(self, side: _Side, active: int, wanted: int) -> bool:
        enough = side.finding == Finding.INVALID or len(side.rows) >= wanted
        return enough and self._quorum is not None and side.exceeds(self._quorum.terms.threshold_bps, active)

    def _note_share(self, task: TaskRow, share: int) -> bool:
        with self._store.writing() as session:
            row = session.get(ValidationRow, task.task_id) or ValidationRow(task_id=task.task_id)
            changed = row.share != share
            row.share = share
            session.add(row)
        return changed

    def _post(self, chain: Ledger, task: TaskRow, digest: Digest, side: _Side) -> None:
        def note(session: Session, transaction: TransactionRow) -> None:
            row = session.get_one(ValidationRow, task.task_id)
            row.transaction = transaction.id
            session.add(row)

        signature = aggregate_signatures([parse_hex(row.signature) for row in side.rows])
        call = chain.recording(digest, side.finding, [row.slot for row in side.rows], signature)
        try:
            self._outbox.post(Purpose.VERDICT, task.task_id, call, note)
        except RevertError:
            if chain.verdict_on(digest) is None:
                raise
            self._looked.pop(task.task_id, None)  # somebody was first
        self._outbox.advance()

    def _done(self, job: JobRow, task: TaskRow, found: RecordedVerdict) -> bool:
        """Note a verdict that is final, and what follows from it."""
        self._looked.pop(task.task_id, None)
        now = self._clock()
        with self._store.writing() as session:
            row = session.get(ValidationRow, task.task_id) or ValidationRow(task_id=task.task_id)
            row.verdict, row.signers, row.tx_hash = found.finding, len(found.slots), str(found.transaction)
            row.share = found.stake * _BPS // max(found.active, 1)
            session.add(row)
            reason = _against(found, task, job.validators)
            if found.finding == Finding.INVALID:
                self._blame(session, task, f"{len(found.slots)} validators refuted it: {found.transaction}", now)
            if reason is not None:
                fail_job(session, session.get_one(JobRow, job.job_id), reason, at=now)
        return True

    def _blame(self, session: Session, task: TaskRow, detail: str, now: int) -> None:
        """The worker committed to outputs that are not the model's: as if its evidence had been refused."""
        if task.lease_id is None:
            return
        worker = session.get_one(LeaseRow, task.lease_id).worker
        session.add(
            FaultRow(task_id=task.task_id, worker=worker, at=now, outcome=Outcome.REFUSED, code=REFUTED, detail=detail)
        )
        note_fault(session, worker, task.tier, Outcome.REFUSED, now, self._rules)


def _side(finding: Finding, signed: Sequence[ValidatorSignatureRow], seats: dict[int, Validator | None]) -> _Side:
    rows, stake = [], 0
    for row in signed:
        seat = seats[row.slot]
        if (
            row.verdict == finding
            and seat is not None
            and (seat.account, seat.public_key)
            == (
                row.account,
                parse_hex(row.public_key),
            )
        ):
            rows.append(row)
            stake += seat.active
    return _Side(finding, rows, stake)


def _against(found: RecordedVerdict, task: TaskRow, wanted: int) -> str | None:
    """Why a verdict ends its job, if it does."""
    where = f"the statement of records {task.start}–{task.start + task.count - 1}"
    if found.finding == Finding.INVALID:
        return f"validators found {where} not valid: its outputs are not the model's (transaction {found.transaction})"
    if len(found.slots) < wanted:
        return (
            f"the verdict on {where} was written down with {len(found.slots)} signers, the policy wants {wanted}, and "
            f"there is one for good (transaction {found.transaction})"
        )
    return None


def _open(job_id: object) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Conditions on tasks: of this job, and without a verdict on chain."""
    return col(TaskRow.job_id) == job_id, ~settled()
