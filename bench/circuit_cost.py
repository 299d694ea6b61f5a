"""Fit the cost model of :mod:`circuits.cost` to random circuits, and say how far its predictions are off.

``python -m bench.circuit_cost`` builds random networks with random profiles, makes their keys, proves a record with
each, and prints the least-squares coefficients beside the errors of those in the code; JSON goes to
``bench/out/circuit_cost.json``. ``--zoo`` instead compares predictions and measurements for zoo models under their
tuned profiles, which the coefficients were not fitted to. Times are processor time, so that other work on the machine
disturbs little; memory is the child's high-water mark.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench._processes import cpu_seconds, peak_bytes
from circuits import cost
from circuits.build import make_settings
from circuits.cost import Columns, columns_of, estimate
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile, profile_for, rewrites_for, tuned_models
from circuits.rewrites import rewrite
from circuits.settings import CircuitSettings
from circuits.srs import ensure_development_srs
from models.zoo import held_out, load_model_bytes
from rexis.ee import encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.protocol.errors import CircuitError
from rexis.protocol.records import quantise

DEFAULT_OUT = Path(__file__).parent / "out" / "circuit_cost.json"
_BASES = {2: (500, 1000, 2000, 4000, 8000), 3: (128, 256, 512), 4: (64, 128)}
_ACTIVATIONS = (("Relu",), ("Relu",), ("Sigmoid",), ("Relu", "Sigmoid"), ("Tanh", "Sigmoid"))
_MAX_COLUMNS = 40


@dataclass(frozen=True)
class Measured:
    """One circuit: its layout, and what it took."""

    columns: Columns
    rows: int
    key_bytes: int
    setup_bytes: int
    peak_bytes: int
    cpu_seconds: float
    proof_bytes: int


def measure(model: bytes, settings: CircuitSettings, record: Sequence[int], srs_folder: Path) -> Measured:
    """Make keys and a warm proof."""
    srs = ensure_development_srs(settings.logrows, srs_folder)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model").write_bytes(model)
        (folder / "settings").write_bytes(settings.data)
        paths = {part: str(folder / part) for part in ("model", "settings", "compiled", "vk", "pk", "vka")}
        with EzklProcess() as ezkl:
            ezkl.call("keys", srs=str(srs.path), **paths)
            setup = peak_bytes(ezkl.pid)
        call = {part: paths[part] for part in ("compiled", "pk", "vk", "settings")}
        call |= {"srs": str(srs.path), "scale": settings.input_scale, "record": list(record)}  # type: ignore[dict-item]
        with EzklProcess() as ezkl:
            ezkl.call("prove", **call)
            before = cpu_seconds(ezkl.pid)
            proof = ezkl.call("prove", **call)["proof"]
            return Measured(
                columns_of(settings),
                settings.rows,
                (folder / "pk").stat().st_size,
                setup,
                peak_bytes(ezkl.pid),
                cpu_seconds(ezkl.pid) - before,
                len(proof) // 2,
            )


def network(sizes: Sequence[int], activations: Sequence[str], seed: int) -> bytes:
    """A dense network with random weights."""
    numbers = np.random.default_rng(seed)
    nodes, constants, value = [], [], "x"
    for layer, (a, b) in enumerate(itertools.pairwise(sizes)):
        weight = numbers.standard_normal((a, b)).astype(np.float32) / np.float32(np.sqrt(a))
        constants += [numpy_helper.from_array(weight, f"w{layer}")]
        constants += [numpy_helper.from_array(numbers.standard_normal(b).astype(np.float32) / 10, f"b{layer}")]
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [f"g{layer}"]))
        value = f"g{layer}"
        if layer < len(sizes) - 2:
            nodes.append(helper.make_node(activations[layer % len(activations)], [value], [f"a{layer}"]))
            value = f"a{layer}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("x", sizes[0]), (value, sizes[-1]))
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def random_circuits(count: int, folder: Path) -> list[Measured]:
    """Circuits that vary in everything that the cost model looks at."""
    choose, found, seed = random.Random(5), [], 0
    while len(found) < count:
        seed += 1
        legs, reach = choose.choice((2, 3, 4)), choose.choice((512, 2048, 4096, 16384, 32768))
        low, high = choose.choice(((5, 5), (6, 6), (7, 7), (7, 8), (6, 8)))
        profile = CircuitProfile(
            input_scale=low,
            param_scale=high,
            decomposition_base=choose.choice(_BASES[legs]),
            decomposition_legs=legs,
            inner_columns=choose.choice((1, 1, 2, 3, 4)),
            logrows=choose.choice((9, 10, 11, 12, 12, 13)),
            lookup_low=-reach,
            lookup_high=reach,
        )
        middle = [choose.choice((8, 16, 32, 64))] + ([choose.choice((8, 32))] if choose.random() < 0.5 else [])
        sizes = [choose.choice((4, 16, 30)), *middle, choose.choice((1, 2, 5))]
        model = network(sizes, choose.choice(_ACTIVATIONS), seed)
        with EzklProcess() as ezkl:
            settings = make_settings(model, profile, ezkl)
        columns = columns_of(settings)
        if columns.inner * columns.blocks > _MAX_COLUMNS // 2 or columns.tables > _MAX_COLUMNS:
            continue
        record = np.random.default_rng(seed).integers(-(1 << low), 1 << low, sizes[0]).tolist()
        try:
            found.append(measure(model, settings, record, folder))
        except CircuitError:  # a random network may leave its range
            continue
        print(f"\r{len(found)} of {count}", end="", flush=True)
    print()
    return found


def fitted(circuits: Sequence[Measured]) -> dict[str, Any]:
    """Coefficients by least squares of relative errors, and the errors of the code's own."""
    report: dict[str, Any] = {}
    for name, (features, target) in cost.FEATURES.items():
        rows = np.array([[1.0, *features(each.columns)] for each in circuits])
        wanted = np.array([target(each) for each in circuits])
        found, *_ = np.linalg.lstsq(rows / wanted[:, None], np.ones(len(wanted)), rcond=None)
        report[name] = {
            "coefficients": [float(f"{value:.4g}") for value in found],
            "fitted": _errors(rows @ found, wanted),
            "inTheCode": _errors(rows @ np.array(cost.COEFFICIENTS[name]), wanted),
        }
    return report


def _errors(predicted: Any, wanted: Any) -> dict[str, float]:
    off = np.abs(predicted / wanted - 1)
    return {"median": float(np.median(off)), "largest": float(off.max())}


def zoo(folder: Path) -> dict[str, Any]:
    """Predicted and measured, for each zoo model that has a tuned profile."""
    report = {}
    for name in tuned_models():
        plain = rewrite(load_model_bytes(name), rewrites_for(name))
        encrypted, profile = encrypt_model(plain, epoch=1, seed=bytes(32)), profile_for(name)
        with EzklProcess() as ezkl:
            settings = make_settings(encrypted.model, profile, ezkl)
        record = encrypt_records(encrypted.key, held_out(name)[0][:1])
        whole = quantise(record, settings.input_scale).reshape(-1).tolist()
        seen, said = measure(encrypted.model, settings, whole, folder), estimate(columns_of(settings), settings.rows)
        report[name] = {
            field: {"predicted": getattr(said, field), "measured": getattr(seen, field)} for field in _COMPARED
        }
    return report


_COMPARED = ("key_bytes", "setup_bytes", "peak_bytes", "cpu_seconds", "proof_bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--circuits", type=int, default=60)
    parser.add_argument("--zoo", action="store_true")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if options.zoo:
            report = zoo(Path(folder))
        else:
            circuits = random_circuits(options.circuits, Path(folder))
            report = fitted(circuits) | {"circuits": [asdict(each) for each in circuits]}
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    for name, figures in report.items():
        if name != "circuits":
            print(name, json.dumps(figures))


if __name__ == "__main__":
    main()
