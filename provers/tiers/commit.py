"""Tier ``commit``: float32 outputs and a signed Merkle commitment to them."""

from __future__ import annotations

import time

from provers.task import Task
from provers.tiers.computed import Computed, milliseconds_since
from rexis.api import Stage
from rexis.protocol.digests import sha256
from rexis.protocol.evidence import Evidence
from rexis.protocol.tensors import pack_outputs


class CommitProver:
    """See :class:`provers.tiers.TierProver`."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def prepare(self) -> None:
        """Nothing to prepare."""

    def compute(self) -> Computed:
        """The model's own outputs."""
        task = self._task
        task.at(Stage.COMPUTE, 0, task.lease.count)
        begun = time.perf_counter()
        outputs = task.executor.run(task.records)
        return Computed(outputs, task.executor.provider, milliseconds_since(begun))

    def evidence(self, computed: Computed) -> Evidence:
        """A statement and its signature."""
        task = self._task
        task.at(Stage.COMMIT, 0, task.lease.count)
        trees = task.trees(computed.outputs)
        statement = task.statement(trees.output_root)
        task.keep(statement, computed.outputs)
        return task.evidence(statement, sha256(pack_outputs(computed.outputs)), trees, [], computed.measured())
