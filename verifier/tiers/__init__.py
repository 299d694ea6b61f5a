"""One module per tier: which records its evidence must open and prove, and what passing shows."""

from __future__ import annotations

from typing import Protocol

from rexis.protocol.digests import Digest
from rexis.protocol.policy import Policy, Tier
from rexis.protocol.statement import Statement
from verifier.tiers import commit, sampled, zk


class TierRule(Protocol):
    """What a tier asks of its evidence."""

    PROVES: bool

    def required_count(self, statement: Statement, policy: Policy, block_hash: Digest | None) -> int:
        """How many records that are; costs nothing."""
        ...

    def required_indices(
        self, statement: Statement, policy: Policy, statement_digest: Digest, block_hash: Digest | None
    ) -> list[int]:
        """Absolute indices of the records that must be opened (and, if ``PROVES``, proved), ascending.

        Parameters
        ----------
        block_hash
            Of the block that chooses them: after the commitment (``sampled``) or the anchor (``commit``).
        """
        ...

    def shows(self, statement: Statement, policy: Policy, attempt: int) -> str:
        """What passing shows, in a sentence that claims no more."""
        ...


TIERS: dict[Tier, TierRule] = {Tier.COMMIT: commit, Tier.SAMPLED: sampled, Tier.ZK: zk}
