"""How many provers with how many threads each: records proved a minute, side by side.

``python -m bench.prover_pool`` proves the same records with one process that has all cores, with two that share them,
and so on, in turns, and writes ``bench/out/prover_pool.json``. Keys are built once; each process has proved before the
clock starts. Memory is that of all processes together, at its peak.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from circuits.artefacts import CircuitCache
from circuits.build import build_circuit
from circuits.pool import EzklPool
from circuits.process import EzklProcess
from circuits.profile import profile_for, rewrites_for
from circuits.proving import Prover
from circuits.rewrites import rewrite
from circuits.srs import ensure_development_srs
from models.zoo import held_out, load_model_bytes
from rexis.ee import encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.protocol.records import Integers, quantise

DEFAULT_OUT = Path(__file__).parent / "out" / "prover_pool.json"
_SAMPLE_S = 0.02


@dataclass(frozen=True)
class Row:
    """One way to share the cores out.

    Attributes
    ----------
    seconds
        Wall time of all records, one value a round.
    ratio
        Records a minute against one process with all cores, median over the rounds.
    """

    processes: int
    threads: int
    records: int
    seconds: list[float]
    ratio: float
    peak_bytes: int


def proved(prover: Prover, records: Integers) -> float:
    """Seconds for all records, as many at a time as there are processes."""
    start = time.perf_counter()
    with ThreadPoolExecutor(prover.at_once) as threads:
        list(threads.map(prover.prove, records))
    return time.perf_counter() - start


class Peak:
    """Resident memory of this process's children, sampled from a thread."""

    def __init__(self) -> None:
        self.bytes = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._end.wait(_SAMPLE_S):
            total = 0
            for child in own.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.bytes = max(self.bytes, total)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="breast_cancer")
    options.add_argument("--records", type=int, default=16)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--out", type=Path, default=DEFAULT_OUT)
    given = options.parse_args()
    cores = os.cpu_count() or 1
    sizes = sorted({1, *(size for size in (2, 4, 8, 16, 32) if size <= 2 * cores)})
    plain, profile = rewrite(load_model_bytes(given.model), rewrites_for(given.model)), profile_for(given.model)
    encrypted = encrypt_model(plain, epoch=1)
    records = quantise(
        encrypt_records(encrypted.key, held_out(given.model)[0][: given.records]), profile.input_scale
    ).reshape(given.records, -1)
    with tempfile.TemporaryDirectory(prefix="rexis-bench-") as name:
        srs = ensure_development_srs(profile.logrows, Path(name))
        with EzklProcess() as one:
            circuit = build_circuit(encrypted.model, profile, srs, CircuitCache(Path(name, "keys")), one)
        seconds: dict[int, list[float]] = {size: [] for size in sizes}
        peaks = dict.fromkeys(sizes, 0)
        for round_number in range(given.rounds + 1):
            for size in sizes:
                with EzklPool(size) as pool, Peak() as peak:
                    prover = Prover(circuit, pool)
                    proved(prover, records[:size])
                    taken = proved(prover, records)
                peaks[size] = max(peaks[size], peak.bytes)
                if round_number:
                    seconds[size].append(taken)
    rows = [
        Row(
            size,
            max(1, cores // size),
            given.records,
            seconds[size],
            statistics.median(a / b for a, b in zip(seconds[1], seconds[size], strict=True)),
            peaks[size],
        )
        for size in sizes
    ]
    for row in rows:
        rate = 60 * row.records / statistics.median(row.seconds)
        print(
            f"{row.processes} × {row.threads} threads: {rate:.0f} records a minute, {row.ratio:.2f} times one process, "
            f"{row.peak_bytes >> 20} MiB"
        )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"cores": cores, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
