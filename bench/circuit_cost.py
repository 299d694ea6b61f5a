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
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench._processes import cpu_seconds, peak_bytes
from circuits import cost
from circuits.artefacts import read_vka
from circuits.build import make_settings
from circuits.cost import Columns, columns_of, estimate_of, smaller
from circuits.field import instances_from
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile, profile_for, rewrites_for, tuned_models
from circuits.rewrites import rewrite
from circuits.settings import CircuitSettings
from circuits.srs import ensure_development_srs
from contracts.evm import LocalVerifier
from models.zoo import held_out, load_model_bytes, names
from rexis.ee import encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.protocol.errors import CircuitError
from rexis.protocol.records import quantise

DEFAULT_OUT = Path(__file__).parent / "out" / "circuit_cost.json"
_BASES = {2: (500, 1000, 2000, 4000, 8000), 3: (128, 256, 512), 4: (64, 128)}
_ACTIVATIONS = (("Relu",), ("Relu",), ("Sigmoid",), ("Relu", "Sigmoid"), ("Tanh", "Sigmoid"))
_SORTING = ("Softmax", "ReduceMax", "TopK", "ArgMax")
_REACHES = (512, 2048, 4096, 16384, 32768)
_MAX_COLUMNS = 40
_WITNESSES = 5


@dataclass(frozen=True)
class Measured:
    """One circuit: its layout, and what it took."""

    columns: Columns
    key_bytes: int
    setup_bytes: int
    peak_bytes: int
    setup_seconds: float
    witness_seconds: float
    cpu_seconds: float
    proof_bytes: int
    gas: int
    vk_bytes: int
    vka_bytes: int


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
            setup, setup_cpu = peak_bytes(ezkl.pid), cpu_seconds(ezkl.pid)
        call = {part: paths[part] for part in ("compiled", "pk", "vk", "settings")}
        call |= {"srs": str(srs.path), "scale": settings.input_scale, "record": list(record)}  # type: ignore[dict-item]
        with EzklProcess() as ezkl:
            ezkl.call("prove", **call)
            before = cpu_seconds(ezkl.pid)
            ezkl.call("witness", compiled=paths["compiled"], scale=settings.input_scale, records=[record] * _WITNESSES)
            witness, before = (cpu_seconds(ezkl.pid) - before) / _WITNESSES, cpu_seconds(ezkl.pid)
            made = ezkl.call("prove", **call)
            proof = bytes.fromhex(made["proof"])
            return Measured(
                columns_of(settings),
                (folder / "pk").stat().st_size,
                setup,
                peak_bytes(ezkl.pid),
                setup_cpu,
                witness,
                cpu_seconds(ezkl.pid) - before,
                len(proof),
                _gas(folder / "vka", proof, instances_from(record, made["outputs"])),
                (folder / "vk").stat().st_size,
                (folder / "vka").stat().st_size - 8,
            )


def _gas(vka: Path, proof: bytes, instances: list[int]) -> int:
    answer = LocalVerifier(read_vka(vka.read_bytes())).verify(proof, instances)
    assert answer.accepted
    return answer.gas


@dataclass(frozen=True)
class Shape:
    """A random network: an embedding or none, dense layers, and an operator on their outputs or none.

    Attributes
    ----------
    sizes
        Of the record and of each dense layer.
    entries, width
        Of the embedding's table, which the record's values index; no entries for no embedding.
    last
        ``Softmax``, ``ReduceMax`` and ``TopK`` sort, ``ArgMax`` sorts and looks up by index.
    """

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    entries: int
    width: int
    last: str | None


def network(shape: Shape, seed: int) -> bytes:
    """An ONNX file with random weights."""
    numbers = np.random.default_rng(seed)
    nodes: list[Any] = []
    constants: list[Any] = []
    value, sizes = "x", list(shape.sizes)

    def add(operator: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [f"v{len(nodes)}_{place}" for place in range(outputs)]
        nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0]

    def constant(array: Any) -> str:
        constants.append(numpy_helper.from_array(array, f"c{len(constants)}"))
        return str(constants[-1].name)

    def normal(*of: int) -> Any:
        return numbers.standard_normal(of).astype(np.float32)

    if shape.entries:
        index = add("Cast", value, to=TensorProto.INT64)
        found = add("Gather", constant(normal(shape.entries, shape.width)), index, axis=0)
        sizes[0] *= shape.width
        value = add("Reshape", found, constant(np.array([-1, sizes[0]])))
    for layer, (a, b) in enumerate(itertools.pairwise(sizes)):
        value = add("Gemm", value, constant(normal(a, b) / np.float32(np.sqrt(a))), constant(normal(b) / 10))
        if layer < len(sizes) - 2:
            value = add(shape.activations[layer % len(shape.activations)], value)
    outputs = sizes[-1]
    if shape.last == "Softmax":
        value = add("Softmax", value, axis=1)
    elif shape.last == "TopK":
        outputs = 1
        value = add("TopK", value, constant(np.array([1])), axis=1, outputs=2)
    elif shape.last is not None:
        outputs, axes = 1, {"axis": 1} if shape.last == "ArgMax" else {"axes": [1]}
        value = add(shape.last, value, keepdims=1, **axes)
        value = add("Cast", value, to=TensorProto.FLOAT) if shape.last == "ArgMax" else value
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("x", shape.sizes[0]), (value, outputs))
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
        legs, logrows = choose.choice((2, 3, 4)), choose.choice((9, 9, 10, 10, 11, 11, 12, 13, 14))
        reach = choose.choice([each for each in _REACHES if each <= 4 << logrows])
        low, high = choose.choice(((5, 5), (6, 6), (7, 7), (7, 8), (6, 8)))
        middle = [choose.choice((8, 16, 32, 64))] + ([choose.choice((8, 32))] if choose.random() < 0.5 else [])
        shape = Shape(
            (choose.choice((4, 16, 30)), *middle, choose.choice((1, 2, 5))),
            choose.choice(_ACTIVATIONS),
            entries=choose.choice((0, 0, 0, 16, 100)),
            width=choose.choice((2, 6)),
            last=choose.choice((None, None, None, None, *_SORTING)),
        )
        profile = CircuitProfile(
            input_scale=0 if shape.entries else low,  # ezkl looks an index up as it is, whatever its scale
            param_scale=high,
            decomposition_base=choose.choice(_BASES[legs]),
            decomposition_legs=legs,
            disable_freivalds=True,
            inner_columns=choose.choice((1, 1, 2, 3, 4)),
            logrows=logrows,
            lookup_low=-reach,
            lookup_high=reach,
        )
        model, numbers = network(shape, seed), np.random.default_rng(seed)
        within = (0, shape.entries) if shape.entries else (-(1 << low), 1 << low)
        record = numbers.integers(*within, shape.sizes[0]).tolist()
        try:
            with EzklProcess() as ezkl:
                settings = make_settings(model, profile, ezkl)
            columns = columns_of(settings)
            if columns.advice > _MAX_COLUMNS or columns.tables > _MAX_COLUMNS:
                continue
            found.append(measure(model, settings, record, folder))
        except CircuitError:  # a random network may leave its range, or have no layout
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


def zoo(folder: Path, memory: int, only: Sequence[str]) -> dict[str, Any]:
    """Predicted and measured, for zoo models and cut-down transformers; for those that do not fit, what they need.

    Parameters
    ----------
    only
        Names; all if there are none.
    """
    report: dict[str, Any] = {}
    for name, model, records, profile in (*_zoo_models(only or names()), *_cut_down(only or _CUT_DOWN)):
        with EzklProcess() as ezkl:
            settings = make_settings(model, profile, ezkl)
            fitting = smaller(settings, memory)
            if fitting is not None and name not in tuned_models():
                layout = {"logrows": fitting.columns.logrows, "inner_columns": fitting.columns.inner}
                settings = make_settings(model, profile.model_copy(update=layout), ezkl)
        said = estimate_of(settings)
        print(name, said.columns, flush=True)
        if said.needed_bytes > memory:
            report[name] = {"rows": settings.rows, "neededBytes": said.needed_bytes}
            continue
        record = quantise(records, settings.input_scale)[0].reshape(-1).tolist()
        seen = measure(model, settings, record, folder)
        report[name] = {"columns": asdict(said.columns)} | {
            field: {
                "predicted": (predicted := getattr(said, field)),
                "measured": (measured := getattr(seen, field)),
                "off": round(predicted / measured - 1, 3),
            }
            for field in _COMPARED
        }
        print(name, {field: each["off"] for field, each in report[name].items() if "off" in each}, flush=True)
    return report


_Circuit = tuple[str, bytes, Any, CircuitProfile]
# For models without a tuned profile: any that has a witness, in the layout that the cost model takes for the cheapest.
_UNTUNED = CircuitProfile(
    input_scale=7,
    param_scale=7,
    decomposition_base=4000,
    decomposition_legs=2,
    inner_columns=2,
    logrows=14,
    lookup_low=-8000,
    lookup_high=8000,
    disable_freivalds=True,
)
_INDICES = ("dna", "peptide")  # records that are indices, which have no scale


def _zoo_models(only: Collection[str]) -> Iterator[_Circuit]:
    """Encrypted, with a record."""
    for name in sorted(set(names()).intersection(only)):
        plain = load_model_bytes(name)
        plain = rewrite(plain, rewrites_for(name)) if name in tuned_models() else plain
        encrypted = encrypt_model(plain, epoch=1, seed=bytes(32))
        records = encrypt_records(encrypted.key, held_out(name)[0][:1])
        untuned = _UNTUNED.model_copy(update={"input_scale": 0}) if name in _INDICES else _UNTUNED
        yield name, encrypted.model, records, profile_for(name) if name in tuned_models() else untuned


_CUT_DOWN = {"ecg-cut": (4, True), "vit-cut": (3, False)}  # tokens, and whether with rotary positions


def _cut_down(only: Collection[str]) -> Iterator[_Circuit]:
    """The blocks of the zoo's transformers, too narrow to be of use and small enough for one circuit."""
    import torch
    from torch import nn

    from models.layers import MLP, Attention, Block, GatedMLP, RMSNorm
    from models.training import export_onnx

    torch.manual_seed(0)
    width, heads = 8, 2
    for name, (tokens, rotary) in _CUT_DOWN.items():
        if name not in only:
            continue
        mlp, norms = MLP(width, 2 * width), (nn.LayerNorm(width), nn.LayerNorm(width))
        if rotary:
            mlp, norms = GatedMLP(width, 2 * width), (RMSNorm(width), RMSNorm(width))
        block = Block(Attention(tokens, width, heads, rotary=rotary), mlp, norms)
        network = nn.Sequential(block, nn.Flatten(), nn.Linear(tokens * width, 3))
        record = torch.randn(1, tokens, width).numpy()
        yield name, export_onnx(network, (tokens, width)), record, _UNTUNED


_COMPARED = tuple(field.name for field in fields(Measured) if field.name != "columns")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--circuits", type=int, default=60)
    parser.add_argument("--zoo", nargs="*", metavar="NAME", help="compare for zoo models")
    parser.add_argument("--memory", type=int, default=8192, metavar="MIB", help="with --zoo: skip what needs more")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if options.zoo is not None:
            report = zoo(Path(folder), options.memory << 20, options.zoo)
        else:
            circuits = random_circuits(options.circuits, Path(folder))
            report = fitted(circuits) | {"circuits": [asdict(each) for each in circuits]}
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    for name, figures in report.items():
        if name != "circuits":
            print(name, json.dumps(figures))


if __name__ == "__main__":
    main()
