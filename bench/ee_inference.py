"""Every zoo model, plain against encrypted, in ONNX Runtime, side by side in one run.

``python -m bench.ee_inference`` prints a table and writes JSON to ``bench/out/ee_inference.json``. Both models are
timed in short alternating blocks, in random order within a pair, so that whatever else the machine does hits both
alike; the ratio is taken pair by pair.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.zoo import held_out, load_model_bytes, names
from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import encrypt_model

BATCHES = (1, 128)
ERROR_RECORDS = 100
BLOCK_SECONDS = 0.004  # long against the clock's step, short against the scheduler's
DEFAULT_OUT = Path(__file__).parent / "out" / "ee_inference.json"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """Times in microseconds per call (median), and the paired ratio encrypted/plain with its spread."""

    batch: int
    pairs: int
    plain_us: float
    encrypted_us: float
    ratio_median: float
    ratio_p25: float
    ratio_p75: float
    ratio_standard_error: float


def session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def block(runner: onnxruntime.InferenceSession, records: Floats, calls: int) -> float:
    """Seconds per call over one block."""
    feed = {runner.get_inputs()[0].name: records}
    start = time.perf_counter()
    for _ in range(calls):
        runner.run(None, feed)
    return (time.perf_counter() - start) / calls


def compare(
    plain: onnxruntime.InferenceSession,
    encrypted: onnxruntime.InferenceSession,
    records: tuple[Floats, Floats],
    pairs: int,
) -> Row:
    """Time `pairs` pairs of blocks."""
    sides = ((plain, records[0]), (encrypted, records[1]))
    calls = max(1, round(BLOCK_SECONDS / min(block(*side, calls=3) for side in sides)))
    times = np.empty((pairs, 2))
    for pair in range(pairs):
        for side in random.sample((0, 1), 2):
            times[pair, side] = block(*sides[side], calls=calls)
    ratios = times[:, 1] / times[:, 0]
    low, median, high = np.percentile(ratios, (25, 50, 75))
    return Row(
        batch=len(records[0]),
        pairs=pairs,
        plain_us=float(np.median(times[:, 0]) * 1e6),
        encrypted_us=float(np.median(times[:, 1]) * 1e6),
        ratio_median=float(median),
        ratio_p25=float(low),
        ratio_p75=float(high),
        # of the median, for roughly normal ratios: 1.2533 sigma / sqrt(n), sigma from the quartiles
        ratio_standard_error=float(1.2533 * (high - low) / 1.349 / np.sqrt(pairs)),
    )


def measured(name: str, pairs: int) -> dict[str, Any]:
    """Encrypt one zoo model with a fresh key; error on its held-out records, times on batches of them."""
    model = load_model_bytes(name)
    records, _ = held_out(name)
    records = records[: max(BATCHES)]
    encrypted_model = encrypt_model(model, epoch=1)
    key = encrypted_model.key
    plain, encrypted = session(model), session(encrypted_model.model)
    sample = records[:ERROR_RECORDS]
    expected = plain.run(None, {plain.get_inputs()[0].name: sample})[0]
    found = encrypted.run(None, {encrypted.get_inputs()[0].name: encrypt_records(key, sample)})[0]
    error = relative_errors(decrypt_outputs(key, found), expected)
    rows = []
    for batch in BATCHES:
        chosen = np.resize(records, (batch, *records.shape[1:]))
        rows.append(asdict(compare(plain, encrypted, (chosen, encrypt_records(key, chosen)), pairs)))
    return {
        "model": name,
        "median_relative_error": float(np.median(error)),
        "max_relative_error": float(error.max()),
        "rows": rows,
    }


def relative_errors(found: Floats, expected: Floats) -> NDArray[np.float64]:
    """L2 error of each record's outputs, relative to their length."""
    difference = (found - expected).reshape(len(expected), -1).astype(np.float64)
    size = np.linalg.norm(expected.reshape(len(expected), -1), axis=1)
    relative: NDArray[np.float64] = np.linalg.norm(difference, axis=1) / size
    return relative


def main() -> None:
    parser = argparse.ArgumentParser(description="Time plain against encrypted inference.")
    parser.add_argument("--model", nargs="*", default=names(), help="zoo models, by default all")
    parser.add_argument("--pairs", type=int, default=100, help="pairs of timed blocks per batch size")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    parser.add_argument("--json", action="store_true", help="print the JSON instead of the table")
    arguments = parser.parse_args()

    models = []
    if not arguments.json:
        print(
            f"{'model':14} {'error':>8} {'batch':>6} {'plain µs':>10} {'encrypted µs':>13} {'ratio':>7} {'± s.e.':>7}"
        )
    for name in arguments.model:
        models.append(measured(name, arguments.pairs))
        for row in models[-1]["rows"] if not arguments.json else ():
            print(
                f"{name:14} {models[-1]['median_relative_error']:>8.1e} {row['batch']:>6} {row['plain_us']:>10.1f} "
                f"{row['encrypted_us']:>13.1f} {row['ratio_median']:>7.3f} {row['ratio_standard_error']:>7.3f}",
                flush=True,
            )
    report = {
        "models": models,
        "median_ratio": float(np.median([row["ratio_median"] for each in models for row in each["rows"]])),
        "machine": {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()},
        "onnxruntime": onnxruntime.__version__,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.json:
        json.dump(report, sys.stdout, indent=2)
        print()
    else:
        print(f"median ratio {report['median_ratio']:.3f}")


if __name__ == "__main__":
    main()
