"""What is next for the payment of a task: the same question for whoever asks, coordinator, worker or payer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from contracts.accountable import AccountableChain, Claim, ClaimState
from rexis.protocol.digests import Digest
from rexis.protocol.errors import NotFoundError
from rexis.protocol.parsing import Address


class Step(StrEnum):
    """What is next.

    ``claim``, ``settle``: a transaction. ``wait``: the statement can still be challenged, or is. ``paid``, ``lost``:
    nothing any more.
    """

    CLAIM = "claim"
    SETTLE = "settle"
    WAIT = "wait"
    PAID = "paid"
    LOST = "lost"


@dataclass(frozen=True)
class Standing:
    """How the payment of one task stands, and why."""

    task: int
    step: Step
    claim: Claim
    reason: str


def standing_of(chain: AccountableChain, payer: Address, job_id: Digest, record_start: int, digest: Digest) -> Standing:
    """How the payment stands of a job's task with this first record, for the statement with this digest.

    Raises
    ------
    NotFoundError
        The payer has paid nothing in for the job.
    """
    funding = chain.funding_of(job_id, payer)
    if funding is None:
        raise NotFoundError(f"{payer} has paid nothing in for job {job_id}")
    task = funding.task_of(record_start)
    claim = chain.claim_of(job_id, payer, task)
    step, reason = _next(chain, claim, digest, funding.deadline)
    return Standing(task, step, claim, reason)


def _next(chain: AccountableChain, claim: Claim, digest: Digest, deadline: int) -> tuple[Step, str]:
    if claim.state == ClaimState.NONE:
        if chain.tally_of(digest).faulted:
            return Step.LOST, "the statement lost a dispute"
        if chain.block_number() >= deadline:
            return Step.LOST, f"nobody claimed it by block {deadline}"
        return Step.CLAIM, "nobody has claimed it"
    if claim.statement_digest != digest:
        return Step.LOST, f"it went to another statement, {claim.statement_digest}"
    if claim.state == ClaimState.PAID:
        return Step.PAID, f"it is {claim.worker}'s"
    if chain.is_due(claim):
        return Step.SETTLE, "it can be released, or taken back"
    if chain.tally_of(digest).open:
        return Step.WAIT, "a dispute about the statement is open"
    return Step.WAIT, f"the statement can be challenged until block {claim.challengeable_until}"
