"""The EE compiler on a transformer of 108 M parameters, and records through a dense input key.

``python -m bench.ee_compile`` prints both and writes JSON to ``bench/out/ee_compile.json``. Each part runs in a fresh
process. The compiler runs twice: on a model in memory, and on one whose constants lie in a file of their own. Memory
traffic of records is what is read and written once, 8 bytes a value; beside it the same number of bytes copied by
NumPy, as the machine's own speed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rexis.ee import encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.ee.container import ConstantsFile

_SPLIT = "transformer-split.onnx"
DEFAULT_OUT = Path(__file__).parent / "out" / "ee_compile.json"
LAYERS, WIDTH, HIDDEN, HEADS, TOKENS, VOCABULARY = 12, 768, 3072, 12, 128, 30_000
RECORDS, FEATURES = 200_000, 256
_ROUNDS = 9


class _Sketch:
    """Collects nodes and random constants."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int) -> str:
        return self.constant(self.random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[0])))

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def linear(self, value: str, rows: int, columns: int) -> str:
        return self.node("Add", self.node("MatMul", value, self.weight(rows, columns)), self.weight(columns))

    def norm(self, value: str) -> str:
        return self.node("LayerNormalization", value, self.weight(WIDTH), self.weight(WIDTH), axis=-1)


def transformer() -> bytes:
    """A pre-norm encoder with embeddings, of BERT-base's sizes."""
    s = _Sketch()
    heads = s.constant(np.array([-1, TOKENS, HEADS, WIDTH // HEADS]))
    merged = s.constant(np.array([-1, TOKENS, WIDTH]))
    root, one, half, scale = (s.constant(np.float32(value)) for value in (2**0.5, 1.0, 0.5, 8.0))
    x = s.node("Gather", s.weight(VOCABULARY, WIDTH), s.node("Cast", "records", to=TensorProto.INT64))
    x = s.node("Add", x, s.weight(TOKENS, WIDTH))
    for _ in range(LAYERS):
        h = s.norm(x)
        made = (s.node("Reshape", s.linear(h, WIDTH, WIDTH), heads) for _ in range(3))
        q, k, v = (s.node("Transpose", each, perm=[0, 2, 1, 3]) for each in made)
        scores = s.node("Div", s.node("MatMul", q, s.node("Transpose", k, perm=[0, 1, 3, 2])), scale)
        mixed = s.node("Transpose", s.node("MatMul", s.node("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        x = s.node("Add", x, s.linear(s.node("Reshape", mixed, merged), WIDTH, WIDTH))
        h = s.linear(s.norm(x), WIDTH, HIDDEN)
        gate = s.node("Add", s.node("Erf", s.node("Div", h, root)), one)
        x = s.node("Add", x, s.linear(s.node("Mul", s.node("Mul", h, gate), half), HIDDEN, WIDTH))
    y = s.linear(s.node("ReduceMean", s.norm(x), axes=[1], keepdims=0), WIDTH, 10)
    graph = helper.make_graph(
        s.nodes,
        "transformer",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["batch", TOKENS])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["batch", 10])],
        s.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def _write(path: Path) -> dict[str, float]:
    return {"bytes": path.write_bytes(transformer())}


def _compile(path: Path) -> dict[str, float]:
    data = path.read_bytes()
    return _measured(len(data), lambda: encrypt_model(data, epoch=1))


def _split(path: Path) -> dict[str, float]:
    """The same model with its constants in a file of their own."""
    split = path.with_name(_SPLIT)
    onnx.save(onnx.load(path), split, save_as_external_data=True, location=f"{_SPLIT}.data")
    return {"bytes": split.stat().st_size}


def _compile_streamed(path: Path) -> dict[str, float]:
    """From a file of constants to another."""
    split = path.with_name(_SPLIT)
    with (
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
        ConstantsFile(Path(folder, "encrypted.data"), "encrypted.data") as file,
    ):
        return _measured(path.stat().st_size, lambda: encrypt_model(split, epoch=1, file=file))


def _measured(size: int, work: Callable[[], object]) -> dict[str, float]:
    with _Memory() as memory:
        started, busy = time.perf_counter(), time.process_time()
        made = work()
        seconds, cpu = time.perf_counter() - started, time.process_time() - busy
    del made
    return {
        "model_mb": size / 1e6,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_over_model": memory.grown / size,
        "peak_anonymous_over_model": memory.anonymous / size,
    }


class _Memory:
    """How many bytes the resident set grows by while this is open; and without the pages of mapped files."""

    def __enter__(self) -> Self:
        self._start = _resident()
        self.grown = self.anonymous = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            grown, anonymous = (now - then for now, then in zip(_resident(), self._start, strict=True))
            self.grown, self.anonymous = max(self.grown, grown), max(self.anonymous, anonymous)


def _resident() -> tuple[int, int]:
    """Bytes of this process in memory: all, and those that are no file's (Linux: proc(5), status)."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    everything, anonymous = (int(fields[name].split()[0]) << 10 for name in ("VmRSS", "RssAnon"))
    return everything, anonymous


def _records(_: Path) -> dict[str, float]:
    weight = numpy_helper.from_array(np.ones((FEATURES, 2), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["records", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [weight],
    )
    key = encrypt_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), epoch=1
    ).key
    records = np.random.default_rng(0).standard_normal((RECORDS, FEATURES), dtype=np.float32)
    encrypt_records(key, records[:1000])
    rounds: list[list[float]] = []
    for _ in range(_ROUNDS):
        rounds.append([])
        for work in (lambda: encrypt_records(key, records), records.copy):
            started = time.perf_counter()
            work()
            rounds[-1].append(time.perf_counter() - started)
    times = np.median(rounds, axis=0)
    return {
        "records": RECORDS,
        "features": FEATURES,
        "gb_per_second": 2 * records.nbytes / float(times[0]) / 1e9,
        "slowest_gb_per_second": 2 * records.nbytes / max(taken for taken, _ in rounds) / 1e9,
        "copy_gb_per_second": 2 * records.nbytes / float(times[1]) / 1e9,
    }


_STAGES = {
    "transformer": _write,
    "compile": _compile,
    "split": _split,
    "compile_streamed": _compile_streamed,
    "records": _records,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    out: Path = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_name("transformer.onnx")
    report = {}
    try:
        for name, work in _STAGES.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                report[name] = pool.apply(work, (path,))
    finally:
        for name in (path.name, _SPLIT, f"{_SPLIT}.data"):
            path.with_name(name).unlink(missing_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n")
    for name, figures in report.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
