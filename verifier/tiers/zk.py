"""Tier ``zk``: a proof for every record of the task."""

from __future__ import annotations

from rexis.protocol.digests import Digest
from rexis.protocol.policy import Policy
from rexis.protocol.statement import Statement

PROVES = True


def required_count(statement: Statement, policy: Policy, block_hash: Digest | None) -> int:
    """How many :func:`required_indices` gives."""
    return statement.record_count


def required_indices(
    statement: Statement, policy: Policy, statement_digest: Digest, block_hash: Digest | None
) -> list[int]:
    """All."""
    return list(range(statement.record_start, statement.record_start + statement.record_count))


def shows(statement: Statement, policy: Policy, attempt: int) -> str:
    """The claim."""
    return f"all {statement.record_count} outputs are what the registered circuit computes"
