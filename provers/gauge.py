"""How fast this machine does what tasks are made of. On a busy machine only ratios within a run say something."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from circuits.artefacts import CircuitCache
from circuits.build import build_circuit
from circuits.cost import estimate_of, total
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile
from circuits.proving import Prover
from circuits.srs import ensure_development_srs
from provers.device import Device
from provers.executor import DEFAULT_BATCH, OnnxExecutor
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats, input_root, quantise

_LEAST_S = 0.3
_HASHED_RECORDS, _HASHED_WIDTH = 4096, 32
_T = TypeVar("_T")


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Attributes
    ----------
    value, unit
        For example 812.0, "records/s".
    beside
        The same by the cost model or on another device, if there is one; a ratio of the two means something also on a
        busy machine.
    """

    what: str
    value: float
    unit: str
    beside: tuple[str, float] | None = None


def hashing() -> Figure:
    """Records put into an input tree, by one thread."""
    records = np.zeros((_HASHED_RECORDS, _HASHED_WIDTH), dtype=np.float32)
    salts = np.zeros((_HASHED_RECORDS, 32), dtype=np.uint8)
    rounds, seconds = _repeated(lambda: input_root(Tier.COMMIT, NO_CIRCUIT, records, salts))
    return Figure(f"commit, {_HASHED_WIDTH} values a record", rounds * _HASHED_RECORDS / seconds, "records/s")


def inference(name: str, model: Path, record: Floats, devices: dict[str, Device]) -> Iterator[Figure]:
    """Records through a model, a batch at a time, on each device in turn; the later ones beside the first."""
    batch = np.repeat(record, DEFAULT_BATCH, axis=0)
    first: tuple[str, float] | None = None
    for label, device in devices.items():
        executor = OnnxExecutor(model, device=device)
        executor.run(batch)  # the first run allocates
        rounds, seconds = _repeated(lambda: executor.run(batch))  # noqa: B023
        rate = rounds * len(batch) / seconds
        yield Figure(f"run {name} on {label}", rate, "records/s", first)
        first = first or (label, rate)


def proof(name: str, model: bytes, profile: CircuitProfile, record: Floats, folder: Path) -> Iterator[Figure]:
    """Keys and one warm proof with a development SRS, beside the cost model's processor time.

    Parameters
    ----------
    folder
        Keys that are there already are not made again, and then not measured.
    """
    srs = ensure_development_srs(profile.logrows, folder / "srs")
    with closing(EzklProcess()) as ezkl:
        begun = time.perf_counter()
        circuit = build_circuit(model, profile, srs, CircuitCache(folder / "keys"), ezkl)
        took = time.perf_counter() - begun
        cost = total([estimate_of(segment) for segment in circuit.artefacts.parsed.segments])
        yield Figure(f"keys of {name}, if they were not there", took, "s")
        prover, row = Prover(circuit, ezkl), quantise(record, profile.input_scale).reshape(1, -1)[0]
        prover.prove(row)  # the first reads the key
        _, seconds = _timed(lambda: prover.prove(row))
        yield Figure(f"proof of {name}", seconds, "s", ("cost model, processor time", cost.cpu_seconds))


def _repeated(call: Callable[[], object]) -> tuple[int, float]:
    """How often, in how many seconds."""
    rounds, begun = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begun) < _LEAST_S or not rounds:
        call()
        rounds += 1
    return rounds, seconds


def _timed(call: Callable[[], _T]) -> tuple[_T, float]:
    begun = time.perf_counter()
    return call(), time.perf_counter() - begun
