"""An ONNX graph in torch, with gradients. The bytes of a model say what is computed; no code of theirs is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.protocol.errors import MalformedError, TrainingError, UnavailableError

try:
    import onnx
    import torch
    from onnx import helper, numpy_helper
except ImportError as error:
    raise UnavailableError("training needs torch and onnx", hint="pip install 'rexis[training]'") from error

from rexis.training.faults import refusing
from rexis.training.fusing import fused
from rexis.training.operators import ON_HOST, Call, Node, call_of, is_known

ARITHMETIC = 1
"""Raised with every change here that changes a bit of a result: then this is another platform."""

_ONNX_DOMAINS = ("", "ai.onnx")
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
_PLAIN = (
    onnx.AttributeProto.FLOAT,
    onnx.AttributeProto.FLOATS,
    onnx.AttributeProto.INT,
    onnx.AttributeProto.INTS,
    onnx.AttributeProto.STRING,
    onnx.AttributeProto.STRINGS,
    onnx.AttributeProto.TENSOR,
)


@dataclass(frozen=True)
class _Step:
    """A call with the slots that it reads, writes, and is the last to read."""

    call: Call
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    done_with: tuple[int, ...]


class Graph:
    """A model with one input and one output, ready to run.

    Parameters
    ----------
    model
        ONNX bytes, without external data.
    trainable
        Initialisers that get gradients, float32 and used by the graph; None for every float constant of more than one
        element.
    floats
        What float32 is computed in: float64 for a reference.
    device
        Where.
    fusing
        As training does (:mod:`rexis.training.fusing`). Without, every value of the graph can be had.

    Attributes
    ----------
    input, output
        Names.
    integer_input
        Whether the input takes integers as such.
    nodes
        In the order of the file, without Constants.
    constants
        Stored tensors by name.
    weights
        Those of `trainable`, leaves with gradients.

    Raises
    ------
    MalformedError
        Not an ONNX model.
    TrainingError
        An operator that is not known here, more inputs or outputs than one, or nothing trainable of that name.
    MemoryError
        A constant takes more than there is.
    """

    def __init__(
        self,
        model: bytes,
        trainable: Collection[str] | None = None,
        *,
        floats: torch.dtype = torch.float32,
        device: str = "cpu",
        fusing: bool = True,
    ) -> None:
        with refusing("cannot be read"):
            self._read(*_parsed(model), trainable, floats, device, fusing)

    def _read(
        self,
        graph: onnx.GraphProto,
        opset: int,
        trainable: Collection[str] | None,
        floats: torch.dtype,
        device: str,
        fusing: bool,
    ) -> None:
        stored = _stored(graph)
        _require_one_of_each_name(graph)
        given = [value for value in graph.input if value.name not in stored]
        if len(given) != 1 or len(graph.output) != 1:
            raise TrainingError("only models with one input and one output can be trained", field="model")
        self.input, self.output = given[0].name, graph.output[0].name
        self.integer_input = given[0].type.tensor_type.elem_type not in _FLOATS
        self.floats, self.device = floats, torch.device(device)
        self.nodes: list[onnx.NodeProto] = [node for node in graph.node if node.op_type != "Constant"]
        _require_known(self.nodes)
        if not any(self.output in node.output for node in self.nodes):
            raise TrainingError(f"no operator gives the output {self.output!r}", field="model")
        chosen = _chosen(stored, trainable, {each.name for each in graph.initializer}, self.nodes)
        self.constants = {name: self._tensor(array) for name, array in stored.items()}
        self.weights = {name: self.constants[name].to(self.device).requires_grad_() for name in chosen}
        self.constants |= self.weights
        self._slots: dict[str, int] = {}
        self._first: list[torch.Tensor | None] = []
        nodes = [_node(node, opset, floats) for node in self.nodes]
        self._steps = self._program(fused(nodes, self.constants, self.output) if fusing else nodes)
        self._fusing = fusing

    def __call__(self, records: torch.Tensor) -> torch.Tensor:
        """Outputs of a batch."""
        values = list(self._first)
        values[self._slots[self.input]] = records
        for step in self._steps:
            found = step.call(*[values[slot] for slot in step.inputs])
            if len(step.outputs) == 1:
                values[step.outputs[0]] = found
            else:
                for slot, each in zip(step.outputs, found, strict=True):
                    values[slot] = each
            for slot in step.done_with:
                values[slot] = None
        output = values[self._slots[self.output]]
        assert output is not None  # noqa: S101
        return output

    def values(self, records: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every value by name, on a batch of records. Of a graph without fusing."""
        assert not self._fusing  # noqa: S101
        values = list(self._first)
        values[self._slots[self.input]] = records
        for step in self._steps:
            found = step.call(*[values[slot] for slot in step.inputs])
            for slot, each in zip(step.outputs, (found,) if len(step.outputs) == 1 else found, strict=True):
                values[slot] = each
        return {name: value for name, slot in self._slots.items() if (value := values[slot]) is not None}

    def run(self, node: onnx.NodeProto, values: Mapping[str, torch.Tensor]) -> Any:
        """One operator of a graph without fusing, on other values."""
        slot = self._slots[node.output[0]]
        step = next(each for each in self._steps if slot in each.outputs)
        return step.call(*[values[name] if name else None for name in node.input])

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        """A constant. Integers are sizes, places or indices, and stay on the host until a tensor meets them."""
        found = torch.from_numpy(np.array(array))
        return found.to(self.device, self.floats) if found.is_floating_point() else found

    def _slot(self, name: str) -> int:
        if name not in self._slots:
            self._slots[name] = len(self._first)
            self._first.append(self.constants.get(name))
        return self._slots[name]

    def _program(self, nodes: list[Node]) -> list[_Step]:
        """Steps for what depends on records or trainable weights; what does not is computed here, once."""
        known = {name: value for name, value in self.constants.items() if not value.requires_grad}
        host = {name for name, value in known.items() if not value.is_floating_point()}
        self._slot(self.input)
        nothing = self._slot("")
        made: list[tuple[Call, tuple[int, ...], tuple[int, ...]]] = []
        for node in nodes:
            node = replace(node, known=[known.get(name) for name in node.inputs])
            call = call_of(node)
            on_host = ON_HOST.get(node.op, ())
            if node.op in ("Shape", "Size") or all(name in host for name in node.inputs if name):
                host.update(node.outputs)
            else:
                moving = tuple(p for p, name in enumerate(node.inputs) if name in host and p not in on_host)
                call = self._moving(call, moving)
            if all(name in known for name in node.inputs if name):
                with torch.no_grad():
                    found = call(*[known.get(name) for name in node.inputs])
                made_known = dict(zip(node.outputs, (found,) if len(node.outputs) == 1 else found, strict=True))
                known |= made_known
                self.constants |= made_known
                continue
            inputs = tuple(self._slot(name) if name else nothing for name in node.inputs)
            made.append((call, inputs, tuple(self._slot(name) for name in node.outputs)))
        keep = {slot for name, slot in self._slots.items() if name in self.constants or name == ""}
        keep.add(self._slot(self.output))
        last = {slot: place for place, (_, inputs, _) in enumerate(made) for slot in inputs if slot not in keep}
        ends: dict[int, list[int]] = {}
        for slot, place in last.items():
            ends.setdefault(place, []).append(slot)
        return [_Step(*step, tuple(ends.get(place, ()))) for place, step in enumerate(made)]

    def _moving(self, call: Call, places: tuple[int, ...]) -> Call:
        if not places or self.device.type == "cpu":
            return call

        def moved(*given: torch.Tensor) -> Any:
            return call(*[each.to(self.device) if p in places else each for p, each in enumerate(given)])

        return moved


def _parsed(model: bytes) -> tuple[onnx.GraphProto, int]:
    try:
        message = onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's DecodeError, which onnx does not re-export
        raise MalformedError("these bytes are not an ONNX model", field="model") from error
    if message.functions or message.graph.sparse_initializer:
        raise TrainingError("models with local functions or sparse constants cannot be trained", field="model")
    opset = max((each.version for each in message.opset_import if each.domain in _ONNX_DOMAINS), default=0)
    return message.graph, opset


def _stored(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    tensors = [(each.name, each) for each in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant":
            if len(node.attribute) != 1 or node.attribute[0].type != onnx.AttributeProto.TENSOR:
                found[node.output[0]] = _listed(node)
            else:
                tensors.append((node.output[0], node.attribute[0].t))
    for name, tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise TrainingError(f"constant {name!r} lies in another file", field="model", hint="save it as one file")
        try:
            found[name] = numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise MalformedError(f"constant {name!r} is not what its shape and type say", field="model") from error
    return found


def _listed(node: onnx.NodeProto) -> NDArray[Any]:
    """A Constant that gives a number, or a list of them, in an attribute of its own."""
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64)):
        if name in given:
            return np.array(given[name], dtype=dtype)
    for name in ("value_float", "value_floats"):
        if name in given:
            return np.array(given[name], dtype=np.float32)
    raise TrainingError(f"Constant {node.output[0]!r} is of a kind that is not known here", field="model")


def _require_one_of_each_name(graph: onnx.GraphProto) -> None:
    """Which of two that have one name is meant, every reader decides for itself."""
    names = [each.name for each in graph.initializer] + [name for node in graph.node for name in node.output if name]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise TrainingError(f"two values are called {twice[0]!r}", field="model")


def _require_known(nodes: list[onnx.NodeProto]) -> None:
    unknown = sorted({node.op_type for node in nodes if node.domain not in _ONNX_DOMAINS or not is_known(node.op_type)})
    if unknown:
        raise TrainingError(
            f"no gradient for {', '.join(unknown)} here", field="model", hint="export the model with other operators"
        )


def _chosen(
    stored: Mapping[str, NDArray[Any]],
    trainable: Collection[str] | None,
    initialisers: set[str],
    nodes: list[onnx.NodeProto],
) -> list[str]:
    if trainable is None:
        return [name for name, array in stored.items() if array.dtype.kind == "f" and array.size > 1]
    read = {name for node in nodes for name in node.input}
    for name in trainable:
        if name not in initialisers or stored[name].dtype != np.float32:
            raise TrainingError(f"the model has no float32 initialiser {name!r}", field="plan.trainable")
        if name not in read:
            raise TrainingError(f"initialiser {name!r} is used by no operator", field="plan.trainable")
    return sorted(trainable)


def _node(node: onnx.NodeProto, opset: int, floats: torch.dtype) -> Node:
    for each in node.attribute:
        if each.type not in _PLAIN or each.t.data_location == onnx.TensorProto.EXTERNAL:
            raise TrainingError(
                f"attribute {each.name!r} of {node.op_type} is of a kind that is not known, or lies in another file",
                field="model",
            )
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return Node(node.op_type, tuple(node.input), tuple(node.output), attributes, (), opset, floats)
