"""Tier ``zk``: a proof for every record of the task."""

from __future__ import annotations

from provers.tiers.circuit import CircuitProver
from provers.tiers.computed import Computed
from rexis.protocol.evidence import Evidence


class ZkProver(CircuitProver):
    """See :class:`provers.tiers.TierProver`."""

    def evidence(self, computed: Computed) -> Evidence:
        """Prove all."""
        lease = self._task.lease
        trees, statement = self.claim(computed)
        return self.prove(computed, trees, statement, list(range(lease.start, lease.start + lease.count)))
