"""Steps of gradient descent in a circuit: what they compute, that they join, and what does not pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from circuits.artefacts import CircuitCache
from circuits.build import ProvingCircuit
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile
from circuits.srs import Srs
from circuits.training_step import StepProofs, check_steps, prove_steps, step_model
from rexis.protocol.digests import sha256
from rexis.protocol.errors import CircuitError, EvidenceError
from rexis.protocol.records import Floats
from rexis.protocol.training import Optimiser, Schedule, TrainingPlan, batch_records
from rexis.protocol.training_kinds import LossKind, OptimiserKind, ScheduleKind
from rexis.protocol.transcript import State, weights_of
from rexis.training.exporting import initial_weights
from rexis.training.session import Trainer
from tests.integration.circuits.tiny_circuit import TINY
from tests.vectors.certificates.issuer import network
from verifier.disputed import check_disputed_segment, step_circuits

SCALE = 7
PROFILE = CircuitProfile(
    input_scale=SCALE,
    param_scale=SCALE,
    decomposition_base=512,
    decomposition_legs=2,
    inner_columns=2,
    logrows=TINY.logrows,
    disable_freivalds=True,
)
BASE = network(21)
PLAN = TrainingPlan(
    format="rexis-training-plan-v1",
    loss=LossKind.SQUARED,
    optimiser=Optimiser(kind=OptimiserKind.SGD, learning_rate_e9=250_000_000),
    schedule=Schedule(),
    input_shape=[4],
    target_shape=[2],
    steps=4,
    batch_size=1,
    checkpoint_interval=2,
    order_seed=sha256(b"order"),
    trainable=["b1", "b2", "w1", "w2"],
    powers=[],
)
RECORDS = np.random.default_rng(0).uniform(-1, 1, (8, 6)).astype(np.float32)
# What two steps at seven bits behind the point cost, of their way.
_FIXED_POINT = 0.2


def _flat(plan: TrainingPlan, state: State) -> Floats:
    weights = weights_of(state)
    return np.concatenate([weights[name].reshape(-1) for name in plan.trainable])


def _turned() -> bytes:
    """One layer, as PyTorch exports it: the weight is turned."""
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["input", "w1", "b1"], ["output"], transB=1)],
        "line",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(2, 4) / 8, "w1"),
            numpy_helper.from_array(np.array([0.5, -0.5], np.float32), "b1"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("loss", [LossKind.SQUARED, LossKind.BINARY])
@pytest.mark.parametrize(
    ("base", "trainable"), [(BASE, PLAN.trainable), (BASE, ["w2"]), (BASE, ["b1", "w1"]), (_turned(), ["b1", "w1"])]
)
def test_the_graph_is_the_step(base: bytes, trainable: list[str], loss: LossKind) -> None:
    schedule = Schedule(kind=ScheduleKind.LINEAR)
    plan = PLAN.model_copy(update={"trainable": trainable, "loss": loss, "batch_size": 3, "schedule": schedule})
    records = RECORDS if loss == LossKind.SQUARED else np.hstack([RECORDS[:, :4], RECORDS[:, 4:] > 0]).astype("f4")
    trainer = Trainer(base, plan, records)
    for step in range(2):
        batch = records[batch_records(plan, len(records), step)]
        row = np.concatenate([_flat(plan, trainer.state()), batch[:, :4].ravel(), batch[:, 4:].ravel()])
        trainer.step()
        session = onnxruntime.InferenceSession(step_model(base, plan, step))
        (found,) = session.run(None, {session.get_inputs()[0].name: row[None]})
        assert np.abs(found[0] - _flat(plan, trainer.state())).max() < 1e-6


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"loss": LossKind.CROSS_ENTROPY}, "binary cross-entropy"),
        ({"optimiser": PLAN.optimiser.model_copy(update={"momentum_e9": 1})}, "without momentum"),
        ({"trainable": ["nothing"]}, "no initialiser 'nothing'"),
    ],
)
def test_what_is_not_proved(changes: dict[str, object], match: str) -> None:
    with pytest.raises(CircuitError, match=match):
        step_model(BASE, PLAN.model_copy(update=changes), 0)


@pytest.fixture(scope="module")
def circuits(work: Path, srs: Srs, ezkl: EzklProcess) -> list[ProvingCircuit]:
    return step_circuits(BASE, PLAN, 0, PROFILE, srs, CircuitCache(work / "steps"), ezkl)


@pytest.fixture(scope="module")
def proved(circuits: list[ProvingCircuit], ezkl: EzklProcess) -> StepProofs:
    return prove_steps(circuits, PLAN, RECORDS, 0, initial_weights(BASE, PLAN.trainable), ezkl)


@pytest.fixture(scope="module")
def states() -> list[State]:
    """Before and after the first segment, in float32."""
    trainer = Trainer(BASE, PLAN, RECORDS)
    before = trainer.state()
    trainer.advance(2)
    return [before, trainer.state()]


def test_two_steps_join_and_settle_a_dispute(
    circuits: list[ProvingCircuit], proved: StepProofs, states: list[State]
) -> None:
    before, end = states
    assert circuits[0] is circuits[1]
    distance = check_disputed_segment(PLAN, RECORDS, 0, before, end, proved, circuits, tolerance=_FIXED_POINT)
    assert 0 < distance < _FIXED_POINT
    skipped = Trainer(BASE, PLAN, RECORDS)
    skipped.step()
    with pytest.raises(EvidenceError, match="of its way from what was proved"):
        check_disputed_segment(PLAN, RECORDS, 0, before, skipped.state(), proved, circuits, tolerance=_FIXED_POINT)
    with pytest.raises(EvidenceError, match="the segment at 2"):
        check_disputed_segment(PLAN, RECORDS, 1, before, end, proved, circuits, tolerance=_FIXED_POINT)


def test_what_does_not_join(circuits: list[ProvingCircuit], proved: StepProofs, srs: Srs) -> None:
    artefacts, weights = [circuit.artefacts for circuit in circuits], initial_weights(BASE, PLAN.trainable)
    between, last = proved.states[1].copy(), proved.states[2].copy()
    between[0] += 1
    last[-1] += 1
    other = RECORDS.copy()
    other[batch_records(PLAN, 8, 1)] += np.float32(0.25)
    moved = {**weights, "b1": weights["b1"] + np.float32(0.25)}
    for step, records, first, shown in (
        (0, RECORDS, weights, replace(proved, proofs=proved.proofs[::-1])),
        (0, RECORDS, weights, replace(proved, states=[proved.states[0], between, proved.states[2]])),
        (1, RECORDS, weights, replace(proved, states=[*proved.states[:2], last])),
        (1, other, weights, proved),
        (0, RECORDS, moved, proved),
        (1, RECORDS, weights, replace(proved, start=1)),
    ):
        with pytest.raises(CircuitError, match=f"proof of step {shown.start if shown.start else step} does not hold"):
            check_steps(artefacts, PLAN, records, first, shown, srs)
    with pytest.raises(CircuitError, match="1 proofs and 3 states for 2 steps"):
        check_steps(artefacts, PLAN, RECORDS, weights, replace(proved, proofs=proved.proofs[:1]), srs)
