"""What tiers ``sampled`` and ``zk`` share: exact outputs from the circuit, and proofs of chosen records."""

from __future__ import annotations

import time

import numpy as np

from provers.pieces import TaskProofs
from provers.side_by_side import side_by_side
from provers.task import RecordProver, Task
from provers.tiers.computed import Computed, fixed_point_errors, milliseconds_since
from rexis.api import Stage
from rexis.protocol.digests import sha256
from rexis.protocol.errors import CircuitError, TensorError
from rexis.protocol.evidence import Evidence, RecordProof
from rexis.protocol.onsite import PrivateDataset
from rexis.protocol.records import Integers, TaskTrees, boundary_payload
from rexis.protocol.statement import Statement
from rexis.protocol.tensors import pack_outputs

# Records per call of the child: between two calls the worker can stop. About 30 ms a record for a small model.
_WITNESS_BATCH = 32


class CircuitProver:
    """A task's circuit.

    The outputs that the circuit gave are kept apart from those that are claimed (:meth:`evidence`'s argument): a
    proof can only ever be about the former.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._prover: RecordProver | None = None
        self._inputs = task.circuit_inputs
        self._outputs = np.empty((0, task.request.circuit.output_length), dtype=np.int64)

    def prepare(self) -> None:
        """Check or make the keys."""
        self._task.at(Stage.SETUP, 0, self._task.lease.count)
        self._prover = self._task.open_circuit()

    def compute(self) -> Computed:
        """What the circuit outputs for every record, and how far that is from the float32 model."""
        task, circuit, count = self._task, self._task.request.circuit, self._task.lease.count
        begun = time.perf_counter()
        starts = range(0, count, _WITNESS_BATCH)
        parts = side_by_side(
            lambda start: self._ready().outputs(self._inputs[start : start + _WITNESS_BATCH]),
            starts,
            self._ready().at_once,
            lambda place: task.at(Stage.COMPUTE, starts[place], count),
        )
        self._outputs = np.concatenate(parts)
        reference = task.executor.run(task.records)
        if reference.size != self._outputs.size:
            raise TensorError(
                f"the model gives {reference[0].size} values a record, its circuit {circuit.output_length}"
            )
        largest, rms = fixed_point_errors(self._outputs, circuit.output_scale, reference)
        return Computed(self._outputs, task.executor.provider, milliseconds_since(begun), largest, rms)

    def claim(self, computed: Computed) -> tuple[TaskTrees, Statement]:
        """The trees over the claimed outputs, and the statement about them."""
        self._task.at(Stage.COMMIT, 0, self._task.lease.count)
        trees = self._task.trees(computed.outputs)
        statement = self._task.statement(trees.output_root)
        self._task.keep(statement, np.asarray(computed.outputs, dtype=np.int64))
        return trees, statement

    def prove(self, computed: Computed, trees: TaskTrees, statement: Statement, indices: list[int]) -> Evidence:
        """Evidence with a proof for each record in `indices` (absolute, ascending)."""
        task = self._task
        begun = time.perf_counter()
        values = self._values(indices)
        made = TaskProofs(task, self._ready(), values, self._hashes(indices)).all()
        proofs = [
            RecordProof(
                index=index,
                proofs=[segment[row] for segment in made],
                boundaries=[boundary_payload(part[row]) for part in values[1:-1]],
            )
            for row, index in enumerate(indices)
        ]
        measured = computed.measured(milliseconds_since(begun))
        return task.evidence(statement, sha256(pack_outputs(computed.outputs)), trees, proofs, measured)

    def _values(self, indices: list[int]) -> list[Integers]:
        """What goes into each segment for these records, and what comes out of the last: ``[records, width]`` each."""
        task = self._task
        rows = np.array(indices) - task.lease.start
        inputs, parts = self._inputs[rows], []
        for start in range(0, len(rows), _WITNESS_BATCH):
            task.at(Stage.PROVE, 0, len(rows))
            parts.append(self._ready().trace(inputs[start : start + _WITNESS_BATCH]))
        values = [inputs, *(np.concatenate(part) for part in zip(*parts, strict=True))]
        differs = (values[-1] != self._outputs[rows]).any(axis=1)
        if differs.any():
            raise CircuitError(f"record {indices[int(differs.argmax())]} is proved with other outputs than it had")
        return values

    def _hashes(self, indices: list[int]) -> list[int] | None:
        """What stands for private records in their proofs; None if the records stand there themselves."""
        dataset = self._task.dataset
        if not isinstance(dataset, PrivateDataset):
            return None
        return [int.from_bytes(dataset.public.hashes[index].tobytes(), "big") for index in indices]

    def _ready(self) -> RecordProver:
        if self._prover is None:
            raise CircuitError("the circuit is prepared before it is used")
        return self._prover
