"""A dataset larger than memory has room for: encrypted, uploaded, evaluated, fetched; the peak of each process.

``python -m bench.large_data --gib 0.25 5`` runs the sizes one after the other on one stack of real processes (chain,
coordinator, worker, and one command a step). What a process held at most, as the kernel says, must not grow with the
dataset. Every size needs three times itself on disk, for a while.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.lib import format as npy_format
from onnx import TensorProto, helper, numpy_helper

from bench._processes import peak_bytes
from rexis.cli.stack import Stack
from rexis.interpreter import python
from rexis.protocol.digests import sha256

MIB, GIB = 1 << 20, 1 << 30
WIDTH, HIDDEN, OUTPUTS = 512, 64, 128
SHARD = 8192
_BLOCK = 4096
_REXIS = python("-c", "from rexis.cli.main import run; run()")
# Float32 sums of 512 products, in another order and through a key of the same dimension.
_TOLERANCE = 2e-3


@dataclass
class Run:
    """One size.

    Attributes
    ----------
    peaks
        MiB by process. Of the coordinator and the worker since they started, the others are new each time.
    seconds
        Wall time by step.
    """

    gib: float
    records: int
    dataset_bytes: int = 0
    outputs_bytes: int = 0
    peaks: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    largest_error: float = 0.0


def main(arguments: list[str] | None = None) -> int:
    """Run the sizes and print a table; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, nargs="+", default=[0.125, 0.5])
    parser.add_argument("--folder", type=Path, help="where; default: a temporary folder, removed afterwards")
    parser.add_argument("--blob-url", help="REXIS_BLOB_URL of the coordinator")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args(arguments)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="rexis-large-"))
    try:
        runs = measure(folder, given.gib, given.blob_url)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(runs))
    if given.out:
        given.out.write_text(json.dumps([vars(run) for run in runs], indent=2) + "\n")
    return int(any(run.largest_error > _TOLERANCE for run in runs))


def measure(folder: Path, sizes: list[float], blob_url: str | None = None) -> list[Run]:
    """Run sizes, in ascending order, on one stack in a folder that is not there yet or empty."""
    settings = {"REXIS_MAX_BLOB_BYTES": str(int((max(sizes) + 1) * GIB))}
    if blob_url is not None:
        settings["REXIS_BLOB_URL"] = blob_url
    with Stack(folder / "stack", settings) as stack:
        stack.start()
        bench = _Bench(folder, stack)
        bench.publish()
        worker = stack.start_worker("worker")
        return [bench.run(gib, worker) for gib in sorted(sizes)]


class _Bench:
    def __init__(self, folder: Path, stack: Stack) -> None:
        self._folder, self._stack = folder, stack
        self._plain, self._key = folder / "plain.onnx", folder / "ee.key"
        self._model = folder / "encrypted.onnx"

    def publish(self) -> None:
        """Make a model, encrypt it, and register it for tier commit."""
        self._plain.write_bytes(make_model())
        stack = self._stack
        stack.rexis(
            "keygen", "--model", str(self._plain), "--key", str(self._key), "--out", str(self._model), "--epoch", "1"
        )
        stack.rexis(
            "register", "--model", str(self._model), "--epoch", "1", "--rpc", stack.chain_url,
            "--deployment", str(stack.deployment), *self._as("owner"),
        )  # fmt: skip

    def run(self, gib: float, worker: subprocess.Popen[bytes]) -> Run:
        """One size, from plain records to predictions that are compared with the plain model's."""
        folder = self._folder / f"{gib:g}"
        folder.mkdir()
        run = Run(gib, max(2 * SHARD, int(gib * GIB) // (4 * WIDTH)))
        records, dataset, out = folder / "records.npy", folder / "dataset.safetensors", folder / "out"
        kept = write_records(records, run.records)
        self._step(run, "encrypt", "--key", str(self._key), "--records", str(records), "--out", str(dataset))
        records.unlink()
        run.dataset_bytes = dataset.stat().st_size
        view = self._step(
            run, "submit", "--dataset", str(dataset), "--model", str(sha256(self._model.read_bytes())), "--epoch", "1",
            "--tier", "commit", "-k", "1", "--shard-size", str(SHARD), "--json", *self._as("requester"),
        )  # fmt: skip
        job = json.loads(view)["jobId"]
        self._step(run, "status", job, "--wait", *self._as("requester"))
        self._step(run, "fetch", job, "--out", str(out), "--dataset", str(dataset), *self._as("requester"))
        outputs = out / "outputs.safetensors"
        run.outputs_bytes = outputs.stat().st_size
        predictions = folder / "predictions.npy"
        self._step(
            run, "decrypt", "--key", str(self._key), "--outputs", str(outputs), "--dataset", str(dataset),
            "--out", str(predictions),
        )  # fmt: skip
        run.peaks["worker"] = peak_bytes(worker.pid) / MIB
        run.peaks["coordinator"] = peak_bytes(self._stack.coordinator_pid) / MIB
        run.largest_error = self._error(predictions, kept)
        shutil.rmtree(folder)
        return run

    def _step(self, run: Run, *arguments: str) -> str:
        """One command; its output, and what it held at most."""
        begun, peak = time.monotonic(), 0
        log = self._folder / "step.log"
        with log.open("w+") as stream, (self._folder / "step.out").open("w+") as found:
            process = subprocess.Popen(
                [*_REXIS, *arguments], stdin=subprocess.DEVNULL, stdout=found, stderr=stream,
                env=self._stack.environment(),
            )  # fmt: skip
            while process.poll() is None:
                try:
                    peak = max(peak, peak_bytes(process.pid))
                except (OSError, StopIteration):  # it ended
                    continue
                time.sleep(0.02)
            if process.returncode != 0:
                raise RuntimeError(f"`rexis {arguments[0]}` ended with {process.returncode}: {log.read_text()[-2000:]}")
            found.seek(0)
            run.seconds[arguments[0]] = time.monotonic() - begun
            run.peaks[f"rexis {arguments[0]}"] = peak / MIB
            print(f"{run.gib:g} GiB, {arguments[0]}: {run.seconds[arguments[0]]:.1f} s", file=sys.stderr, flush=True)
            return found.read()

    def _error(self, predictions: Path, kept: dict[int, np.ndarray]) -> float:
        """Largest difference from the plain model, relative to its largest output, over the kept blocks."""
        session = ort.InferenceSession(str(self._plain), providers=["CPUExecutionProvider"])
        found = np.load(predictions, mmap_mode="r")
        worst = 0.0
        for start, records in kept.items():
            expected = session.run(None, {"x": records})[0]
            difference = np.abs(found[start : start + len(records)] - expected).max()
            worst = max(worst, float(difference / np.abs(expected).max()))
        return worst

    def _as(self, role: str) -> list[str]:
        return ["--coordinator", self._stack.coordinator_url, "--wallet", str(self._stack.wallet(role))]


def make_model() -> bytes:
    """A multilayer perceptron with random weights, large enough in its input that records are what takes room."""
    rng = np.random.default_rng(5)
    shapes = {"w1": (WIDTH, HIDDEN), "w2": (HIDDEN, OUTPUTS)}
    weights = {name: rng.normal(size=shape).astype(np.float32) / shape[0] ** 0.5 for name, shape in shapes.items()}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w2"], ["y"]),
        ],
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", OUTPUTS])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_records(path: Path, count: int) -> dict[int, np.ndarray]:
    """Random standardised records as ``.npy``; returns the first and the last ones, by their index."""
    kept = {}
    rng = np.random.default_rng(7)
    with path.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, WIDTH)}
        npy_format.write_array_header_1_0(stream, header)
        for start in range(0, count, _BLOCK):
            block = rng.standard_normal((min(_BLOCK, count - start), WIDTH), dtype=np.float32)
            stream.write(block.tobytes())
            if start == 0 or start + _BLOCK >= count:
                kept[start] = block[:200]
    return kept


def table(runs: list[Run]) -> str:
    """The figures, a column a size."""
    shard = SHARD * WIDTH * 4 / MIB
    lines = [f"records of {4 * WIDTH} bytes, {SHARD} a task: a shard has {shard:.0f} MiB"]
    names = [*runs[0].peaks]

    def line(name: str, values: list[str]) -> None:
        lines.append(f"{name:34}" + "".join(f"{value:>12}" for value in values))

    line("dataset, GiB", [f"{run.dataset_bytes / GIB:.3f}" for run in runs])
    line("outputs, GiB", [f"{run.outputs_bytes / GIB:.3f}" for run in runs])
    for name in names:
        line(f"peak resident, {name}, MiB", [f"{run.peaks[name]:.0f}" for run in runs])
    for name in runs[0].seconds:
        line(f"seconds, {name}", [f"{run.seconds[name]:.1f}" for run in runs])
    line("largest relative error", [f"{run.largest_error:.1e}" for run in runs])
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
