"""Tier ``sampled``: commit to all outputs first, then prove the records that a later block chooses."""

from __future__ import annotations

from provers.tiers.circuit import CircuitProver
from provers.tiers.computed import Computed
from rexis.protocol.challenge import challenge_indices
from rexis.protocol.evidence import Evidence


class SampledProver(CircuitProver):
    """See :class:`provers.tiers.TierProver`."""

    def evidence(self, computed: Computed) -> Evidence:
        """Hand the commitment in, wait for its challenge, prove that."""
        task = self._task
        trees, statement = self.claim(computed)
        commitment = task.commit(statement)
        indices = challenge_indices(
            task.lease.domain.digest(statement),
            commitment.challenge_block_hash,
            task.lease.start,
            task.lease.count,
            task.request.policy.sample_size,
        )
        return self.prove(computed, trees, statement, indices)
