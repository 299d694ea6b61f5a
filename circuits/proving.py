"""Witnesses and proofs of single records, in a warm child process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.build import ProvingCircuit
from circuits.process import EzklProcess
from rexis.protocol.circuit import Visibility
from rexis.protocol.errors import TensorError

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Proof:
    """A proof of one record.

    Attributes
    ----------
    data
        Raw proof bytes, as both ezkl and the Solidity verifier read them. All that a worker sends.
    inputs, outputs
        Fixed-point integers, flattened; of hashed inputs with their salt values, which are nobody else's business.
    instances
        Public instances as field elements: the record or its hash, then the outputs.
    """

    data: bytes
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    instances: tuple[int, ...]


class Prover:
    """Proves records of one circuit. Calls are served one at a time.

    Parameters
    ----------
    circuit
        From :func:`circuits.build.prepare_keys`.
    ezkl
        The child to use; it stays the caller's to close.
    """

    def __init__(self, circuit: ProvingCircuit, ezkl: EzklProcess) -> None:
        self._ezkl = ezkl
        self._settings = circuit.artefacts.parsed
        self._witness = {
            "compiled": str(circuit.folder / "model.compiled"),
            "scale": self._settings.input_scale,
        }
        self._prove = {
            **self._witness,
            "pk": str(circuit.folder / "pk"),
            "vk": str(circuit.folder / "vk"),
            "settings": str(circuit.folder / "settings.json"),
            "srs": str(circuit.srs.path),
            "hashed": self._settings.visibility == Visibility.HASHED,
        }

    def outputs(self, records: Integers) -> Integers:
        """Exact outputs of the circuit, ``[n, output_length]``, for fixed-point records ``[n, input_length]``.

        Where the circuit hashes its inputs, rows are :func:`rexis.protocol.onsite.salted` ones.

        About 30 ms a record for the breast cancer model.

        Raises
        ------
        CircuitError
            A record whose activations leave the circuit's range.
        TensorError
            Wrong shape or dtype.
        """
        return self._array(self._ezkl.call("witness", **self._witness, records=self._rows(records)))

    def prove(self, record: Integers) -> Proof:
        """Prove one fixed-point record ``[input_length]``. The proof has been verified before it is returned.

        Raises
        ------
        CircuitError
            No witness (the record leaves the circuit's range), or ezkl failed.
        TensorError
            Wrong shape or dtype.
        """
        row = self._row(record)
        return self._proof(row, self._ezkl.call("prove", **self._prove, record=row))

    def _rows(self, records: Integers) -> list[list[int]]:
        if records.dtype != np.int64:
            raise TensorError(f"a circuit takes int64 records, not {records.dtype}", hint="quantise them first")
        if records.ndim < 2 or records[0:1].size != self._settings.witness_length * min(len(records), 1):
            raise TensorError(
                f"shape {list(records.shape)} does not fit the circuit",
                hint=f"expected [n, {self._settings.witness_length}]",
            )
        rows: list[list[int]] = records.reshape(len(records), -1).tolist()
        return rows

    def _row(self, record: Integers) -> list[int]:
        return self._rows(np.asarray(record)[np.newaxis])[0]

    def _array(self, outputs: Sequence[Sequence[int]]) -> Integers:
        return np.array(outputs, dtype=np.int64).reshape(len(outputs), self._settings.output_length)

    def _proof(self, row: Sequence[int], made: dict[str, Any]) -> Proof:
        return Proof(bytes.fromhex(made["proof"]), tuple(row), tuple(made["outputs"]), tuple(made["instances"]))
