"""An ONNX model that is being rewritten: its nodes, its constants by name, and who makes and who uses a value."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rexis.protocol.errors import TensorError

Array = NDArray[Any]
Shape = tuple[int | str, ...]

_NO_OPS = ("Identity", "Dropout")
_TRAINING = 3  # inputs: a Dropout with its third may drop something


class Rewritten:
    """A model to change in place; :meth:`to_bytes` writes it down, the same bytes for the same changes.

    Constants lie in :attr:`constants`, wherever the file had them, and what follows from constants alone is one.

    Raises
    ------
    TensorError
        It is no ONNX file, has no single input and output, or shapes that cannot be inferred.
    """

    def __init__(self, model: bytes) -> None:
        try:
            proto = onnx.load_from_string(model)
            self._shapes = _shapes_of(proto)
        except Exception as error:  # protobuf's DecodeError is not exported by onnx
            raise TensorError(f"the model cannot be rewritten: {error}", field="model") from None
        graph = proto.graph
        if any(each.HasField("g") or each.graphs for node in graph.node for each in node.attribute):
            raise TensorError("models with control flow are not rewritten", field="model")
        self.constants: dict[str, Array] = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        inputs = [value.name for value in graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise TensorError("only models with one input and one output are rewritten", field="model")
        self.input, self.output = inputs[0], graph.output[0].name
        self.nodes = list(graph.node)
        self.opset = max(each.version for each in proto.opset_import if each.domain in ("", "ai.onnx"))
        self._model, self._made = proto, 0
        self._tidy()

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a value; None for the input and for constants."""
        return next((node for node in self.nodes if name in node.output), None)

    def users(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a value, once for each time they do."""
        return [node for node in self.nodes for each in node.input if each == name]

    def only_for(self, name: str, count: int = 1) -> bool:
        """Whether nobody reads a value beyond `count` times: not the model's caller either."""
        return name != self.output and len(self.users(name)) == count

    def shape(self, name: str) -> Shape | None:
        """Sizes, a name for an axis that is open; None if unknown."""
        return self.constants[name].shape if name in self.constants else self._shapes.get(name)

    def scalar(self, name: str) -> float | None:
        """The value of a constant with one element."""
        value = self.constants.get(name)
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def constant(self, value: Array) -> str:
        """Store a constant and return its name."""
        name = self._fresh("constant")
        self.constants[name] = value
        return name

    def insert(self, op: str, inputs: list[str], shape: Shape | None, output: str | None = None, **how: Any) -> str:
        """Append a node and return its output's name: a new one, or `output`, which nothing else may make."""
        name = output or self._fresh(op.lower())
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **how))
        if shape is not None:
            self._shapes[name] = shape
        return name

    def remove(self, *nodes: onnx.NodeProto) -> None:
        """Take nodes out; whoever reads their outputs must get them from elsewhere."""
        self.nodes = [node for node in self.nodes if all(node is not each for each in nodes)]

    def rename(self, old: str, new: str) -> None:
        """Have every reader of `old` read `new`."""
        for node in self.nodes:
            for place, each in enumerate(node.input):
                if each == old:
                    node.input[place] = new

    def to_bytes(self) -> bytes:
        """The model: nodes in order of need, those that nothing needs left out."""
        self._drop_unused()
        graph = self._model.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._ordered())
        used = {name for node in graph.node for name in node.input}
        for name, value in self.constants.items():
            if name in used:
                graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        kept = [value for value in graph.input if value.name == self.input]  # old files list constants as inputs
        del graph.input[:]
        graph.input.extend(kept)
        onnx.checker.check_model(self._model, full_check=True)
        data: bytes = self._model.SerializeToString(deterministic=True)
        return data

    def _tidy(self) -> None:
        """Constants in one place, and no node that copies its input or computes with constants only."""
        for node in list(self.nodes):
            if node.op_type in _NO_OPS and len(node.input) < _TRAINING and node.input[0] not in self.constants:
                self._bypass(node)
            elif node.output and all(not name or name in self.constants for name in node.input):
                given = {name: self.constants[name] for name in node.input if name}
                self.constants |= dict(zip(node.output, self._run(node, given), strict=True))
                self.remove(node)
        for node in list(self.nodes):
            if node.op_type == "Div" and node.input[1] in self.constants:
                divisor = self.constants[node.input[1]]
                if divisor.dtype.kind == "f" and np.all(divisor):
                    node.op_type = "Mul"
                    node.input[1] = self.constant((1 / divisor).astype(divisor.dtype))

    def _bypass(self, node: onnx.NodeProto) -> None:
        if node.output[0] == self.output or any(self.users(name) for name in node.output[1:]):
            return
        self.rename(node.output[0], node.input[0])
        self.remove(node)

    def _run(self, node: onnx.NodeProto, given: dict[str, Array]) -> list[Array]:
        inputs = [onnx.ValueInfoProto(name=name) for name in given]
        graph = helper.make_graph([node], "one", inputs, [onnx.ValueInfoProto(name=name) for name in node.output])
        model = helper.make_model(graph, opset_imports=self._model.opset_import)
        found: list[Array] = ReferenceEvaluator(model).run(None, given)
        return found

    def _drop_unused(self) -> None:
        while True:
            used = {self.output, *(name for node in self.nodes for name in node.input)}
            kept = [node for node in self.nodes if any(name in used for name in node.output)]
            if len(kept) == len(self.nodes):
                return
            self.nodes = kept

    def _ordered(self) -> list[onnx.NodeProto]:
        known, waiting, ordered = {"", self.input, *self.constants}, list(self.nodes), []
        while waiting:
            ready = next(node for node in waiting if all(name in known for name in node.input))
            waiting.remove(ready)
            ordered.append(ready)
            known.update(ready.output)
        return ordered

    def _fresh(self, kind: str) -> str:
        taken = self._shapes.keys() | self.constants.keys() | {name for node in self.nodes for name in node.output}
        while True:
            self._made += 1
            if (name := f"rewritten_{kind}_{self._made}") not in taken:
                return name


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """A node's attribute, or the default where it has none."""
    found = next((each for each in node.attribute if each.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _shapes_of(proto: onnx.ModelProto) -> dict[str, Shape]:
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in value.type.tensor_type.shape.dim
        )
        for value in values
        if value.type.tensor_type.HasField("shape")
    }
