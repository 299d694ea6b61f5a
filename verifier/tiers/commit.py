"""Tier ``commit``: a signed, anchored Merkle commitment. Nothing is proved; opened records can be re-executed."""

from __future__ import annotations

from rexis.protocol.challenge import challenge_indices
from rexis.protocol.digests import Digest
from rexis.protocol.policy import Policy
from rexis.protocol.statement import Statement

PROVES = False


def required_count(statement: Statement, policy: Policy, block_hash: Digest | None) -> int:
    """How many :func:`required_indices` gives."""
    return 0 if block_hash is None else min(policy.sample_size, statement.record_count)


def required_indices(
    statement: Statement, policy: Policy, statement_digest: Digest, block_hash: Digest | None
) -> list[int]:
    """None before the anchor; afterwards ``sampleSize`` records drawn by the block after it."""
    if block_hash is None or policy.sample_size == 0:
        return []
    return challenge_indices(
        statement_digest, block_hash, statement.record_start, statement.record_count, policy.sample_size
    )


def shows(statement: Statement, policy: Policy, attempt: int) -> str:
    """The claim."""
    return "who claimed these outputs, and when; that they are right only for records that you re-execute"
