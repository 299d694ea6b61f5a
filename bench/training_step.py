"""What proving a step of gradient descent costs: ``python -m bench.training_step``.

For networks of growing size: rows of the circuit, set-up, two consecutive steps proved and checked together, proof
bytes, memory of the child, and how far the proved steps lie from the same steps in float32, as a part of their way.
Set-up and proof are processor time, so that other work on the machine disturbs little. JSON goes to
``bench/out/training_step.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench._processes import cpu_seconds, peak_bytes
from circuits.artefacts import CircuitCache
from circuits.build import build_circuit, make_settings
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile
from circuits.srs import ensure_development_srs
from circuits.training_step import check_steps, flat_tensors, prove_steps, step_model
from rexis.protocol.digests import sha256
from rexis.protocol.training import Optimiser, Schedule, TrainingPlan
from rexis.protocol.training_kinds import LossKind, OptimiserKind
from rexis.training.exporting import initial_weights
from rexis.training.session import Trainer

DEFAULT_OUT = Path(__file__).parent / "out" / "training_step.json"
_SIZES = ((4, 0, 1), (4, 3, 2), (8, 8, 2), (16, 16, 2))
_SCALE, _BASE, _BATCH, _RECORDS = 10, 4096, 4, 32


@dataclass(frozen=True)
class Measured:
    """Two steps of one network.

    Attributes
    ----------
    setup_s, prove_step_s
        Processor time of ezkl's process.
    verify_step_s, float_step_s
        Wall time.
    distance
        From the same steps in float32, as a part of their way.
    """

    network: str
    parameters: int
    rows: int
    logrows: int
    setup_s: float
    prove_step_s: float
    verify_step_s: float
    proof_bytes: int
    memory_bytes: int
    float_step_s: float
    distance: float


def network(inputs: int, hidden: int, outputs: int) -> bytes:
    """A network with one hidden layer, or with none if `hidden` is 0."""
    rng = np.random.default_rng(inputs)
    sizes = [inputs, hidden, outputs] if hidden else [inputs, outputs]
    nodes, tensors, value = [], [], "input"
    for place, (wide, narrow) in enumerate(itertools.pairwise(sizes), 1):
        weight = rng.standard_normal((wide, narrow)).astype(np.float32) / np.float32(np.sqrt(wide))
        tensors += [numpy_helper.from_array(weight, f"w{place}")]
        tensors += [numpy_helper.from_array(np.zeros(narrow, np.float32), f"b{place}")]
        last = place == len(sizes) - 1
        made = "output" if last else f"z{place}"
        nodes.append(helper.make_node("Gemm", [value, f"w{place}", f"b{place}"], [made]))
        if not last:
            nodes.append(helper.make_node("Relu", [made], [f"a{place}"]))
            value = f"a{place}"
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", inputs])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", outputs])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def measure(inputs: int, hidden: int, outputs: int, folder: Path) -> Measured:
    """Prove and check two steps of a network."""
    base = network(inputs, hidden, outputs)
    plan = TrainingPlan(
        format="rexis-training-plan-v1",
        loss=LossKind.SQUARED,
        optimiser=Optimiser(kind=OptimiserKind.SGD, learning_rate_e9=125_000_000),
        schedule=Schedule(),
        input_shape=[inputs],
        target_shape=[outputs],
        steps=2,
        batch_size=_BATCH,
        checkpoint_interval=2,
        order_seed=sha256(b"bench: order"),
        trainable=sorted(["b1", "w1", *(("b2", "w2") if hidden else ())]),
        powers=[],
    )
    rng = np.random.default_rng(1)
    records = rng.uniform(-1, 1, (_RECORDS, inputs + outputs)).astype(np.float32)
    model, weights = step_model(base, plan, 0), initial_weights(base, plan.trainable)
    trainer = Trainer(base, plan, records)
    start = time.perf_counter()
    trainer.advance(2)
    float_step = (time.perf_counter() - start) / 2
    with EzklProcess() as ezkl:
        profile = CircuitProfile(
            input_scale=_SCALE, param_scale=_SCALE, decomposition_base=_BASE, decomposition_legs=2,
            inner_columns=2, logrows=13, disable_freivalds=True,
        )  # fmt: skip
        settings = make_settings(model, profile, ezkl)
        srs = ensure_development_srs(profile.logrows, folder)
        circuit = build_circuit(model, profile, srs, CircuitCache(folder / "cache"), ezkl)
        setup = cpu_seconds(ezkl.pid)
        proved = prove_steps([circuit, circuit], plan, records, 0, weights, ezkl)
        prove = (cpu_seconds(ezkl.pid) - setup) / 2
        memory = peak_bytes(ezkl.pid)
    start = time.perf_counter()
    end = check_steps([circuit.artefacts] * 2, plan, records, weights, proved, srs)
    verify = (time.perf_counter() - start) / 2
    after = {name: trainer.state()[f"weight/{name}"] for name in plan.trainable}
    exact, first = (flat_tensors(plan, tensors, 30) / 2.0**30 for tensors in (after, weights))
    distance = float(np.linalg.norm(end / 2.0**_SCALE - exact) / np.linalg.norm(exact - first))
    return Measured(
        network="-".join(str(size) for size in (inputs, hidden, outputs) if size),
        parameters=len(first),
        rows=settings.rows,
        logrows=profile.logrows,
        setup_s=setup,
        prove_step_s=prove,
        verify_step_s=verify,
        proof_bytes=len(proved.proofs[0]),
        memory_bytes=memory,
        float_step_s=float_step,
        distance=distance,
    )


def main() -> None:
    """Measure all sizes, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    out: Path = parser.parse_args().out
    found: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="rexis-steps-") as folder:
        for size in _SIZES:
            made = measure(*size, Path(folder))
            found.append(made)
            print(
                f"{made.network}: {made.parameters} parameters, batch {_BATCH}, {made.rows} rows: "
                f"set-up {made.setup_s:.1f} s, step {made.prove_step_s:.2f} s, {made.proof_bytes} B, "
                f"check {made.verify_step_s:.2f} s, {made.memory_bytes / 2**20:.0f} MiB, "
                f"{made.distance:.3g} of the way; in torch {made.float_step_s * 1e3:.2f} ms"
            )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
