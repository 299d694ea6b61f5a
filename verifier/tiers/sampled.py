"""Tier ``sampled``: proofs of records that were drawn after the outputs had been committed on chain."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from rexis.protocol.challenge import challenge_indices
from rexis.protocol.digests import Digest
from rexis.protocol.errors import EvidenceError
from rexis.protocol.policy import Policy
from rexis.protocol.sampling import altered_records, job_log_survival, survival
from rexis.protocol.statement import JobRequest, Statement

PROVES = True
# Fractions of altered records that the claim gives figures for.
_SHARES = (Fraction(1, 100), Fraction(1, 10), Fraction(1, 2))


def required_count(statement: Statement, policy: Policy, block_hash: Digest | None) -> int:
    """How many :func:`required_indices` gives."""
    return min(policy.sample_size, statement.record_count)


def required_indices(
    statement: Statement, policy: Policy, statement_digest: Digest, block_hash: Digest | None
) -> list[int]:
    """The challenge."""
    if block_hash is None:
        raise EvidenceError("no commitment: a sample needs a block that came after it", field="commitment")
    return challenge_indices(
        statement_digest, block_hash, statement.record_start, statement.record_count, policy.sample_size
    )


def shows(statement: Statement, policy: Policy, attempt: int) -> str:
    """The claim: how likely altered outputs would have come this far, exactly, for a few numbers of them."""
    count = statement.record_count
    k = min(policy.sample_size, count)
    if k == count:
        return f"all {count} outputs are what the registered circuit computes"
    examples = chances(count, lambda altered: survival(count, altered, k, attempt), attempt)
    return f"{k} of {count} outputs are right; {examples}"


def shows_of_job(request: JobRequest, attempt: int) -> str:
    """What the tasks' samples show together, wherever altered records would lie.

    Parameters
    ----------
    attempt
        The largest of the tasks' attempts.
    """
    policy = request.policy
    examples = chances(
        request.record_count,
        lambda altered: math.exp(
            job_log_survival(request.record_count, policy.shard_size, altered, policy.sample_size, attempt)
        ),
        attempt,
    )
    return f"all tasks together, {request.record_count} outputs: {examples}"


def chances(count: int, chance: Callable[[int], float], attempt: int, *, also: int | None = None) -> str:
    """How likely a few numbers of altered ones, out of `count`, and `also` this, would have passed, in the attempts."""
    altered = sorted({altered_records(count, share) for share in _SHARES} | ({also} if also else set()))
    parts = ", ".join(f"{number} with {_at_most(chance(number))}" for number in altered)
    return f"altered ones would have passed with a probability of at most: {parts}{_tries(attempt)}"


def _at_most(probability: float) -> str:
    """Two digits, rounded up, so that nothing is claimed that does not hold."""
    if probability <= 0.0:
        return "0"
    digits = 1 - math.floor(math.log10(probability))
    return f"{math.ceil(round(probability * 10**digits, 6)) / 10**digits:.2g}" if digits < 300 else "1e-300"


def _tries(attempt: int) -> str:
    return "" if attempt == 1 else f" (in {attempt} attempts)"
