"""How much one address may have: bytes, unfinished jobs, records a day. Counted in SQL, for all processes together."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from coordinator.tables import DailyRow, JobRow, ReaderRow
from rexis.api import JobState
from rexis.protocol.errors import QuotaError
from rexis.protocol.parsing import Address

_DAY_MS = 24 * 3600 * 1000
_UNFINISHED = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class Quotas:
    """What an operator decided; the names are those of the settings.

    Attributes
    ----------
    max_stored_bytes
        Bytes of the blobs that an address has uploaded.
    max_unfinished_jobs
        Jobs of a requester that wait or run.
    max_daily_records
        Records of the jobs that a requester submits on one day (UTC).
    """

    max_stored_bytes: int
    max_unfinished_jobs: int
    max_daily_records: int

    def require_room(self, session: Session, address: Address, size: int) -> None:
        """Refuse a blob that is too much for its uploader.

        Raises
        ------
        QuotaError
            Names the rule.
        """
        total = select(func.coalesce(func.sum(ReaderRow.stored), 0)).where(col(ReaderRow.address) == address)
        held = session.exec(total).one()
        _require("max_stored_bytes", "bytes stored", held, size, self.max_stored_bytes)

    def take_job(self, session: Session, requester: Address, records: int, now: int) -> None:
        """Count a new job, in the transaction that takes it.

        Raises
        ------
        QuotaError
            Names the rule.
        """
        mine = select(func.count()).select_from(JobRow).where(col(JobRow.requester) == requester)
        unfinished = session.exec(mine.where(col(JobRow.state).in_(_UNFINISHED))).one()
        _require("max_unfinished_jobs", "unfinished jobs", unfinished, 1, self.max_unfinished_jobs)
        day = now // _DAY_MS
        row = session.get(DailyRow, (requester, day), with_for_update=True) or DailyRow(address=requester, day=day)
        _require("max_daily_records", "records today", row.records, records, self.max_daily_records)
        row.records += records
        session.add(row)


def _require(rule: str, what: str, held: int, more: int, most: int) -> None:
    if held + more > most:
        raise QuotaError(
            f"{held} {what}, and {more} more: an address may have {most}",
            field=f"REXIS_{rule.upper()}",
            hint="the operator sets this limit",
        )
