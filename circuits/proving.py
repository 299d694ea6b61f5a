"""Witnesses and proofs of single records, in a warm child process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.build import ProvingCircuit, ProvingSegment
from circuits.process import Calls
from circuits.srs import Srs
from circuits.verifying import check_segment, links_of
from rexis.protocol.circuit import Visibility
from rexis.protocol.errors import TensorError

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class SegmentProof:
    """A proof of one segment for one record.

    Attributes
    ----------
    data
        Raw proof bytes, as both ezkl and the Solidity verifier read them.
    inputs, outputs
        Fixed-point integers, flattened; of hashed inputs with their salt values, which are nobody else's business.
    instances
        Public instances as field elements: the inputs or their hash, then the outputs.
    """

    data: bytes
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    instances: tuple[int, ...]


@dataclass(frozen=True)
class Proof:
    """Proofs of all segments for one record: each one's outputs are the next one's inputs."""

    segments: tuple[SegmentProof, ...]

    @property
    def proofs(self) -> list[bytes]:
        """The proofs' bytes, one a segment. With :attr:`boundaries` all that a worker sends."""
        return [segment.data for segment in self.segments]

    @property
    def boundaries(self) -> list[tuple[int, ...]]:
        """The values between the segments."""
        return [segment.outputs for segment in self.segments[:-1]]

    @property
    def inputs(self) -> tuple[int, ...]:
        """Of the circuit."""
        return self.segments[0].inputs

    @property
    def outputs(self) -> tuple[int, ...]:
        """Of the circuit."""
        return self.segments[-1].outputs


class SegmentProver:
    """Proves one segment of a circuit.

    Parameters
    ----------
    segment
        From :func:`circuits.build.prepare_segment`, or one of a :class:`~circuits.build.ProvingCircuit`.
    ezkl
        The child, or children, to use; they stay the caller's to close.
    at_once
        Use no more than so many of the children, for example for want of memory.
    """

    def __init__(self, segment: ProvingSegment, srs: Srs, ezkl: Calls, at_once: int | None = None) -> None:
        self._settings, self._arguments, self._ezkl = segment.settings, _arguments(segment, srs), ezkl
        self._at_once = at_once or ezkl.size

    @property
    def at_once(self) -> int:
        """How many calls are worth making at a time."""
        return self._at_once

    def outputs(self, inputs: Integers) -> Integers:
        """Exact outputs ``[n, output_length]`` for fixed-point inputs ``[n, witness_length]``.

        Raises
        ------
        CircuitError
            Activations that leave the circuit's range.
        TensorError
            Wrong shape or dtype.
        """
        self._require(inputs, (len(inputs), self._settings.witness_length))
        rows = self._ezkl.call("witness", **_of(self._arguments, _WITNESS), records=inputs.tolist())
        return np.array(rows, dtype=np.int64).reshape(len(inputs), self._settings.output_length)

    def prove(self, inputs: Integers) -> SegmentProof:
        """Prove the segment for one record's inputs; the proof has been verified before it is returned.

        Raises
        ------
        CircuitError, TensorError
            As :meth:`outputs`; or ezkl failed.
        """
        self._require(inputs, (self._settings.witness_length,))
        row = inputs.tolist()
        made = self._ezkl.call("prove", **self._arguments, record=row)
        given, outputs, instances = (tuple(values) for values in (row, made["outputs"], made["instances"]))
        return SegmentProof(bytes.fromhex(made["proof"]), given, outputs, instances)

    def _require(self, inputs: Integers, shape: tuple[int, ...]) -> None:
        if inputs.dtype != np.int64 or inputs.shape != shape:
            raise TensorError(
                f"the segment takes int64 {list(shape)}, not {inputs.dtype} {list(inputs.shape)}", field="inputs"
            )


class Prover:
    """Proves records of one circuit, for as many threads at a time as there are children.

    Parameters
    ----------
    circuit
        From :func:`circuits.build.prepare_keys`.
    ezkl
        The child, or children, to use; they stay the caller's to close.
    at_once
        Use no more than so many of the children, for example for want of memory.
    """

    def __init__(self, circuit: ProvingCircuit, ezkl: Calls, at_once: int | None = None) -> None:
        self._circuit, self._at_once = circuit, at_once or ezkl.size
        self._settings = circuit.artefacts.parsed
        self._segments = [SegmentProver(segment, circuit.srs, ezkl) for segment in circuit.segments]

    @property
    def at_once(self) -> int:
        """How many calls are worth making at a time."""
        return self._at_once

    def outputs(self, records: Integers) -> Integers:
        """Exact outputs of the circuit, ``[n, output_length]``, for fixed-point records ``[n, input_length]``.

        Where the circuit hashes its inputs, rows are :func:`rexis.protocol.onsite.salted` ones. About 30 ms a record
        for the breast cancer model.

        Raises
        ------
        CircuitError
            A record whose activations leave the circuit's range.
        TensorError
            Wrong shape or dtype.
        """
        return self.trace(records)[-1]

    def trace(self, records: Integers) -> list[Integers]:
        """As :meth:`outputs`, but what every segment gives: the boundaries' values, then the outputs."""
        values, found = self._flat(records), []
        for segment in self._segments:
            values = segment.outputs(values)
            found.append(values)
        return found

    def prove(self, record: Integers) -> Proof:
        """Prove one fixed-point record ``[input_length]``. The proofs have been verified before they are returned.

        Raises
        ------
        CircuitError
            No witness (the record leaves the circuit's range), or ezkl failed.
        TensorError
            Wrong shape or dtype.
        """
        values, made = self._flat(np.asarray(record)[np.newaxis])[0], []
        for segment in self._segments:
            made.append(segment.prove(values))
            values = np.array(made[-1].outputs, dtype=np.int64)
        return Proof(tuple(made))

    def prove_segment(self, segment: int, inputs: Integers) -> SegmentProof:
        """Prove one segment for one record, given what the segments before it made of the record.

        Raises
        ------
        CircuitError, TensorError
            As :meth:`prove`.
        """
        return self._segments[segment].prove(inputs)

    def check_segment(
        self, segment: int, proofs: Sequence[bytes], inputs: Integers, outputs: Integers
    ) -> list[str | None]:
        """Check proofs of one segment that somebody else made: None for each that holds, else why not.

        Parameters
        ----------
        inputs, outputs
            ``[n, …]``, what the n proofs must be about.
        """
        circuit = self._circuit
        return check_segment(circuit.artefacts, segment, links_of(proofs, inputs, outputs), circuit.srs)

    def _flat(self, records: Integers) -> Integers:
        if records.dtype != np.int64:
            raise TensorError(f"a circuit takes int64 records, not {records.dtype}", hint="quantise them first")
        if records.ndim < 2 or records[0:1].size != self._settings.witness_length * min(len(records), 1):
            raise TensorError(
                f"shape {list(records.shape)} does not fit the circuit",
                hint=f"expected [n, {self._settings.witness_length}]",
            )
        return records.reshape(len(records), self._settings.witness_length)


_WITNESS = ("compiled", "scale")


def _arguments(segment: ProvingSegment, srs: Srs) -> dict[str, Any]:
    """Of the child's operation ``prove``."""
    folder = segment.folder
    return {
        "compiled": str(folder / "model.compiled"),
        "scale": segment.settings.input_scale,
        "pk": str(folder / "pk"),
        "vk": str(folder / "vk"),
        "settings": str(folder / "settings.json"),
        "srs": str(srs.path),
        "hashed": segment.settings.visibility == Visibility.HASHED,
    }


def _of(arguments: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: arguments[name] for name in names}
