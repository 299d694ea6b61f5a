"""One module per tier: how its outputs are computed and its evidence is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from provers.task import Task
from provers.tiers.commit import CommitProver
from provers.tiers.computed import Computed
from provers.tiers.sampled import SampledProver
from provers.tiers.zk import ZkProver
from rexis.protocol.evidence import Evidence
from rexis.protocol.policy import Tier


class TierProver(Protocol):
    """One task at one tier, in three steps. Each may raise any :class:`~rexis.protocol.errors.RexisError`."""

    def prepare(self) -> None:
        """Make ready what the records do not matter for: keys, a prover's process."""
        ...

    def compute(self) -> Computed:
        """The outputs of all the task's records."""
        ...

    def evidence(self, computed: Computed) -> Evidence:
        """Claim these outputs, and show what the tier asks for."""
        ...


MakeProver = Callable[[Task], TierProver]

TIERS: dict[Tier, MakeProver] = {Tier.COMMIT: CommitProver, Tier.SAMPLED: SampledProver, Tier.ZK: ZkProver}
