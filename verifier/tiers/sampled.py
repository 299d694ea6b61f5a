"""Tier ``sampled``: proofs of records that were drawn after the outputs had been committed on chain."""

from __future__ import annotations

from rexis.protocol.challenge import challenge_indices
from rexis.protocol.digests import Digest
from rexis.protocol.errors import EvidenceError
from rexis.protocol.policy import Policy
from rexis.protocol.statement import Statement

PROVES = True


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
    """The claim."""
    k = min(policy.sample_size, statement.record_count)
    tries = "" if attempt == 1 else f", times {attempt} for its {attempt} commitments"
    claim = f"{k} of {statement.record_count} outputs are right; altering a fraction f survived with at most (1-f)^{k}"
    return claim + tries
