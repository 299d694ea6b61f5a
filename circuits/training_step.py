"""One step of gradient descent as a circuit: forward, backward and update, for a small model.

The escalation for a disputed step: who took it proves it, and nobody has to trust anybody's torch. The circuit is of an
ONNX model that follows from the base model, the plan and the step's learning rate; its record is the trained tensors
before the step and the step's batch, its output the tensors after it. Inputs and outputs have the same scale, so that
the outputs of one step are, as integers, inputs of the next: :func:`check_steps` takes them as both.

What can be put into it: a chain of ``Gemm`` and ``Relu``, with squared error or binary cross-entropy, and gradient
descent without momentum, decay or clipping. Numbers are fixed point, so that a proved step lies as far from the same
step in float32 as the scale allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from circuits.artefacts import CircuitArtefacts
from circuits.build import ProvingCircuit
from circuits.onnx_model import parsed, require_plain_model
from circuits.process import Calls
from circuits.proving import Prover
from circuits.srs import Srs
from circuits.verifying import Link, check_segment
from rexis.protocol.errors import CircuitError
from rexis.protocol.records import Floats, Integers, quantise
from rexis.protocol.training import TrainingPlan, batch_records
from rexis.protocol.training_kinds import LossKind, OptimiserKind

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

_ROW, _UPDATED = "rexis.step.row", "rexis.step.after"
_OPSET, _IR_VERSION = 17, 8


@dataclass(frozen=True)
class StepProofs:
    """Consecutive steps, proved.

    Attributes
    ----------
    start
        The first step, counted from 0.
    proofs
        One a step.
    states
        Trained tensors in fixed point before the first step, between the steps, and after the last one.
    """

    start: int
    proofs: list[bytes]
    states: list[Integers]


def step_model(base: bytes, plan: TrainingPlan, step: int) -> bytes:
    """A step as an ONNX model: ``[1, tensors and batch]`` to ``[1, tensors]``.

    Raises
    ------
    CircuitError
        A model, loss or optimiser that cannot be put into it.
    TensorError
        Not an ONNX model, or one with external data or control flow.
    """
    require_plain_model(base)
    _require_plain_descent(plan)
    return _StepGraph(base, plan, plan.learning_rate(step)).model()


def flat_tensors(plan: TrainingPlan, weights: Mapping[str, NDArray[np.float32]], scale: int) -> Integers:
    """Trained tensors as one row of fixed-point integers."""
    return quantise(np.concatenate([weights[name].reshape(-1) for name in plan.trainable]), scale)


def prove_steps(
    circuits: Sequence[ProvingCircuit],
    plan: TrainingPlan,
    records: Floats,
    start: int,
    weights: Mapping[str, NDArray[np.float32]],
    ezkl: Calls,
) -> StepProofs:
    """Prove steps from `start` on, one a circuit.

    Parameters
    ----------
    circuits
        Of :func:`step_model` for each step; the same one as long as the learning rate is.
    records
        The whole dataset, ``[n, row]``.
    weights
        Trained tensors before the first step.

    Raises
    ------
    CircuitError
        Numbers that leave the circuit's range.
    """
    scale = _scale(circuits[0].artefacts)
    states, proofs = [flat_tensors(plan, weights, scale)], []
    for step, circuit in enumerate(circuits, start):
        made = Prover(circuit, ezkl).prove(_row(plan, records, step, states[-1], scale))
        proofs += made.proofs
        states.append(np.array(made.outputs, dtype=np.int64))
    return StepProofs(start, proofs, states)


def check_steps(
    circuits: Sequence[CircuitArtefacts],
    plan: TrainingPlan,
    records: Floats,
    weights: Mapping[str, NDArray[np.float32]],
    shown: StepProofs,
    srs: Srs,
) -> Integers:
    """Check steps that a stranger proved; returns the trained tensors after them, in fixed point.

    The first state is made of `weights` and the batches of `records`, here. Nothing is believed of the states between:
    each is what one proof must have as outputs and the next one as inputs.

    Parameters
    ----------
    circuits
        Made here, or compared with what was made here: of :func:`step_model` for each step.
    records
        The whole dataset, which has been compared with its committed root.
    weights
        Trained tensors before the first step, which have been compared with the committed state.

    Raises
    ------
    CircuitError
        A step's proof does not hold, by its number; or there are more or fewer than circuits.
    """
    if not len(circuits) == len(shown.proofs) == len(shown.states) - 1:
        raise CircuitError(f"{len(shown.proofs)} proofs and {len(shown.states)} states for {len(circuits)} steps")
    scale = _scale(circuits[0])
    states = [flat_tensors(plan, weights, scale), *shown.states[1:]]
    for place, (artefacts, proof) in enumerate(zip(circuits, shown.proofs, strict=True)):
        inputs = _row(plan, records, shown.start + place, states[place], _scale(artefacts))
        link = Link(proof, inputs.tolist(), states[place + 1].tolist())
        (reason,) = check_segment(artefacts, 0, [link], srs)
        if reason is not None:
            raise CircuitError(f"the proof of step {shown.start + place} does not hold: {reason}", field="proofs")
    return states[-1]


def _scale(artefacts: CircuitArtefacts) -> int:
    (settings,) = artefacts.parsed.segments
    if settings.input_scale != settings.output_scale:
        raise CircuitError(
            f"steps do not join: inputs have scale {settings.input_scale}, outputs {settings.output_scale}",
            hint="a profile whose input and parameter scales are the same",
        )
    return settings.input_scale


def _row(plan: TrainingPlan, records: Floats, step: int, state: Integers, scale: int) -> Integers:
    batch = records[batch_records(plan, len(records), step)]
    inputs, targets = np.split(batch, [math.prod(plan.input_shape)], axis=1)
    return np.concatenate([state, quantise(inputs.reshape(-1), scale), quantise(targets.reshape(-1), scale)])


def _require_plain_descent(plan: TrainingPlan) -> None:
    how = plan.optimiser
    if how.kind != OptimiserKind.SGD or how.momentum_e9 or how.weight_decay_e9 or how.clip_norm_e9:
        raise CircuitError(
            "only gradient descent without momentum, decay and clipping is proved", field="plan.optimiser"
        )
    if plan.loss == LossKind.CROSS_ENTROPY:
        raise CircuitError("only squared error and binary cross-entropy are proved", field="plan.loss")


class _StepGraph:
    """Builds the graph, node by node."""

    def __init__(self, base: bytes, plan: TrainingPlan, rate: float) -> None:
        from onnx import numpy_helper

        graph = parsed(base).graph
        self._plan, self._rate = plan, rate
        self._stored = {each.name: numpy_helper.to_array(each).astype(np.float32) for each in graph.initializer}
        self._layers = list(graph.node)
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._place = 0
        missing = set(plan.trainable) - self._stored.keys()
        if missing:
            raise CircuitError(f"the model has no initialiser {min(missing)!r}", field="plan.trainable")

    def model(self) -> bytes:
        import onnx
        from onnx import TensorProto, helper

        plan, batch = self._plan, self._plan.batch_size
        tensors = {name: self._cut(self._stored[name].shape) for name in plan.trainable}
        length = self._place
        inputs = self._cut((batch, math.prod(plan.input_shape)))
        targets = self._cut((batch, math.prod(plan.target_shape)))
        gradients = self._backward(inputs, targets, tensors)
        after = []
        for name in plan.trainable:
            moved = self._node("Sub", tensors[name], gradients[name])
            after.append(self._reshaped(moved, (1, self._stored[name].size)))
        self._nodes.append(helper.make_node("Concat", after, [_UPDATED], axis=1))
        made = helper.make_model(
            helper.make_graph(
                self._nodes,
                "step",
                [helper.make_tensor_value_info(_ROW, TensorProto.FLOAT, [1, self._place])],
                [helper.make_tensor_value_info(_UPDATED, TensorProto.FLOAT, [1, length])],
                self._constants,
            ),
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
        )
        onnx.checker.check_model(made, full_check=True)
        return bytes(made.SerializeToString(deterministic=True))

    def _backward(self, inputs: str, targets: str, tensors: Mapping[str, str]) -> dict[str, str]:
        """What each trained tensor is moved by, times −1."""
        value, known = inputs, []
        for layer in self._layers:
            known.append(value)
            value = self._forward(layer, value, tensors)
        if self._plan.loss == LossKind.BINARY:
            value = self._node("Sigmoid", value)
        elements = self._plan.batch_size * math.prod(self._plan.target_shape)
        factor = self._rate * (2 if self._plan.loss == LossKind.SQUARED else 1) / elements
        # The rate is brought in once, at the start: all that follows is linear in it.
        gap = self._node("Mul", self._node("Sub", value, targets), self._constant(np.float32(factor)))
        found: dict[str, str] = {}
        for layer, before in zip(reversed(self._layers), reversed(known), strict=True):
            if layer.op_type == "Relu":
                passes = self._node("Greater", before, self._constant(np.float32(0)))
                gap = self._node("Mul", gap, self._node("Cast", passes, to=1))
                continue
            weight, turned = layer.input[1], _turned(layer)
            if weight in tensors:
                pair = (gap, before) if turned else (before, gap)
                found[weight] = self._node("MatMul", self._node("Transpose", pair[0], perm=[1, 0]), pair[1])
            if len(layer.input) > 2 and layer.input[2] in tensors:
                bias = layer.input[2]
                summed = self._node("ReduceSum", gap, self._constant(np.array([0])), keepdims=0)
                found[bias] = self._reshaped(summed, self._stored[bias].shape)
            if before != inputs:
                held = self._tensor(weight, tensors)
                gap = self._node("MatMul", gap, held if turned else self._node("Transpose", held, perm=[1, 0]))
        return found

    def _forward(self, layer: NodeProto, value: str, tensors: Mapping[str, str]) -> str:
        if layer.op_type == "Relu":
            return self._node("Relu", value)
        if layer.op_type != "Gemm" or not _is_plain(layer):
            raise CircuitError(
                f"only Gemm, without factors, and Relu are proved; this model has {layer.op_type}", field="model"
            )
        weight = self._tensor(layer.input[1], tensors)
        product = self._node(
            "MatMul", value, self._node("Transpose", weight, perm=[1, 0]) if _turned(layer) else weight
        )
        if len(layer.input) == 2:
            return product
        return self._node("Add", product, self._tensor(layer.input[2], tensors))

    def _tensor(self, name: str, tensors: Mapping[str, str]) -> str:
        return tensors[name] if name in tensors else self._constant(self._stored[name])

    def _cut(self, shape: tuple[int, ...]) -> str:
        """The next values of the row, in this shape."""
        start, self._place = self._place, self._place + math.prod(shape)
        ends = [self._constant(np.array([each])) for each in (start, self._place, 1)]
        return self._reshaped(self._node("Slice", _ROW, *ends), shape)

    def _reshaped(self, value: str, shape: tuple[int, ...]) -> str:
        return self._node("Reshape", value, self._constant(np.array(shape, dtype=np.int64)))

    def _node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"rexis.step.{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def _constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"rexis.step.constant.{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _turned(layer: NodeProto) -> bool:
    return any(each.name == "transB" and each.i for each in layer.attribute)


def _is_plain(layer: NodeProto) -> bool:
    factors = {"alpha", "beta"}
    for each in layer.attribute:
        if (each.name in factors and each.f == 1) or each.name == "transB" or (each.name == "transA" and not each.i):
            continue
        return False
    return True
