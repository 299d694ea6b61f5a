"""Where a worker's computing is done: on this machine (:mod:`provers.circuit`), or on others.

What crosses this seam is what any stranger may see: encrypted models, encrypted records, circuits and proofs. The
wallet's key, statements and their signatures, and the coordinator's token stay on the side of the tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from circuits.proving import SegmentProof
from provers.executor import Executor
from provers.task import CircuitFiles, RecordProver
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest
from rexis.protocol.records import Integers


class PieceProver(Protocol):
    """One segment of a circuit, ready to run and prove (:class:`circuits.proving.SegmentProver`)."""

    @property
    def at_once(self) -> int:
        """How many calls are worth making at a time, from as many threads."""
        ...

    def outputs(self, inputs: Integers) -> Integers:
        """Exactly what the segment gives, ``[n, output_length]``."""
        ...

    def prove(self, inputs: Integers) -> SegmentProof:
        """A proof for one record's inputs."""
        ...


class Desk(Protocol):
    """What one task computes with. Whatever happens to it disturbs no other task's."""

    def executor(self, model: Path) -> Executor:
        """Evaluates an encrypted model.

        Raises
        ------
        TensorError
            Not a model that can be run.
        """
        ...

    def open(self, pinned: Circuit, files: CircuitFiles, progress: Callable[[int, int], None]) -> RecordProver:
        """Rebuild the pinned circuit's keys, or find them, and check that they are the pinned ones.

        Parameters
        ----------
        progress
            Called with how many segments' keys are there, and of how many.

        Raises
        ------
        DigestMismatchError
            The encrypted model is not that of the registered circuit.
        CircuitError
            ezkl refused, crashed, or took more memory or time than it may.
        ResourceError
            By the estimate it would take more memory than there is.
        """
        ...

    def open_segment(
        self, pinned: Circuit, files: CircuitFiles, vk: Path, vka: Sequence[Digest], segment: int
    ) -> PieceProver:
        """As :meth:`open`, but one segment: its keys only are made, and compared with its part of `vk` and `vka`.

        Raises
        ------
        DigestMismatchError, CircuitError, ResourceError
            See :meth:`open`.
        """
        ...

    def kill(self) -> None:
        """End what this task has going, from any thread; its calls in progress fail."""
        ...


class Site(Protocol):
    """The machine, or machines."""

    @property
    def provider(self) -> str:
        """The ONNX Runtime provider that models run on."""
        ...

    @property
    def memory_bytes(self) -> int:
        """The largest circuit that can be worked on here, by its estimate; changes with what else is running."""
        ...

    @property
    def gpu_memory_bytes(self) -> int:
        """Memory of the largest GPU that models run on; 0 without one, or where nobody tells."""
        ...

    @property
    def taken_bytes(self) -> int:
        """What the steps under way have taken of the memory here, by their estimates."""
        ...

    @property
    def tasks(self) -> int:
        """How many tasks are worth doing side by side."""
        ...

    def describe(self) -> str:
        """What it is, for a person."""
        ...

    def desk(self, waiting: Callable[[], None]) -> AbstractContextManager[Desk]:
        """A place for one task.

        Parameters
        ----------
        waiting
            Called while something waits for others: memory, a child, keys that another worker makes. May raise.
        """
        ...

    def close(self) -> None:
        """End everything."""
        ...
