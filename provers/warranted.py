"""A worker's own warranties: what it said on chain about its float32 outputs, and that it keeps to it before it signs.

A circuit's fixed point may lie far from the float32 model on records that nobody tried before, and whoever sends such a
record can challenge it. So every record of a task is run through the circuit's integers first: that takes no proof.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contracts.accountable import AccountableChain
from contracts.warranties import Warranty
from provers.cache import make_private_folder
from provers.side_by_side import side_by_side
from provers.task import RecordProver
from rexis.files import read_file, write_file
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest
from rexis.protocol.errors import CircuitError, NotFoundError
from rexis.protocol.records import Floats, distance, quantise
from rexis.protocol.statement import Statement

_CIRCUIT, _SETTINGS, _SRS = "circuit.json", "settings.json", "srs"
_MAX_CIRCUIT = 64 << 10
_WITNESS_BATCH = 32


@dataclass(frozen=True)
class WarrantedCircuit:
    """A circuit that a warranty is about, and what it is rebuilt from beside the model."""

    circuit: Circuit
    settings: Path
    srs: Path


class WarrantedCircuits:
    """Circuits of warranties, in a folder of the worker's caches: kept when the warranty is given.

    Parameters
    ----------
    folder
        Of the caches; workers that share it share this.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = make_private_folder(folder / "warranted")

    def keep(self, circuit: Circuit, settings: bytes, srs: Path) -> None:
        """Keep a circuit's files; again changes nothing."""
        place = make_private_folder(self._folder / Digest(circuit.hash_struct()).hex())
        if not (place / _SRS).exists():
            part = place / f"{_SRS}.part"
            part.unlink(missing_ok=True)
            try:
                os.link(srs, part)
            except OSError:  # another file system, or one without links
                shutil.copyfile(srs, part)
            part.replace(place / _SRS)
        write_file(place / _SETTINGS, settings, private=True, overwrite=True)
        write_file(place / _CIRCUIT, circuit.to_json(), private=True, overwrite=True)

    def get(self, circuit_hash: Digest) -> WarrantedCircuit:
        """A circuit by its hash.

        Raises
        ------
        NotFoundError
            It is not kept here.
        """
        place = self._folder / circuit_hash.hex()
        if not (place / _CIRCUIT).is_file():
            raise NotFoundError(
                f"the circuit {circuit_hash} of this worker's warranty is not in its cache: nothing is signed unlooked",
                hint="rexis disputes warrant, with the worker's --cache, puts it there",
            )
        circuit = Circuit.from_json(read_file(place / _CIRCUIT, "warranted circuit", max_bytes=_MAX_CIRCUIT))
        return WarrantedCircuit(circuit, place / _SETTINGS, place / _SRS)


class Warranties:
    """What this worker has warranted, as the chain has it.

    Parameters
    ----------
    connect
        Gives a node as the worker, attached to a deployment of disputes; called when it is first needed.
    """

    def __init__(self, connect: Callable[[], AccountableChain], circuits: WarrantedCircuits) -> None:
        self._connect, self.circuits = connect, circuits
        self._chain: AccountableChain | None = None
        self._lock = threading.Lock()

    def about(self, statement: Statement) -> tuple[Warranty, Digest] | None:
        """The warranty that will cover a statement once it is anchored, and the hash of its circuit; None without one.

        One that has been ended covers no later anchor.
        """
        with self._lock:
            self._chain = chain = self._chain or self._connect()
            circuit_hash = chain.registration(statement.model_digest, statement.key_epoch).circuit_hash
            found = chain.warranty_of(chain.address, statement.model_digest, circuit_hash)
        return None if found is None or found.until is not None else (found, circuit_hash)


def require_near(
    prover: RecordProver,
    circuit: Circuit,
    records: Floats,
    outputs: Floats,
    tolerance: int,
    *,
    start: int = 0,
    at: Callable[[int], None] = lambda done: None,
) -> int:
    """Compare float32 outputs ``[n, …]`` with what the circuit gives of the records ``[n, …]``.

    Parameters
    ----------
    start
        Index of the first record, for messages.
    at
        Told how many records have been looked at; may raise.

    Returns
    -------
    int
        The largest distance, in units of 2^-outputScale.

    Raises
    ------
    CircuitError
        A record's output lies further away than the tolerance, or the circuit gives none.
    TensorError
        A record is too large for fixed point.
    """
    rows = quantise(records, circuit.input_scale).reshape(len(records), -1)
    starts = range(0, len(rows), _WITNESS_BATCH)
    parts = side_by_side(
        lambda first: prover.outputs(rows[first : first + _WITNESS_BATCH]),
        starts,
        prover.at_once,
        lambda place: at(starts[place]),
    )
    largest, index = 0, start
    for part in parts:
        for row in part:
            apart = distance(outputs[index - start], row, circuit.output_scale)
            if apart > tolerance:
                raise CircuitError(
                    f"the output of record {index} lies {apart} units of 2^-{circuit.output_scale} from what the "
                    f"circuit gives, and {tolerance} are warranted"
                )
            largest, index = max(largest, apart), index + 1
    return largest
