"""An ONNX model as the compiler sees it: nodes, shapes, and constants that can be exchanged in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.ee.stream import Floats
from rexis.protocol.errors import EncryptionError, MalformedError, UnavailableError

try:
    import onnx
    from onnx import numpy_helper
except ImportError as error:
    raise UnavailableError("compiling a model needs onnx", hint="pip install 'rexis[ee]'") from error

# Opset 7 gave Gemm and Add their NumPy broadcasting; the rules rely on it.
MIN_OPSET = 7
_ONNX_DOMAINS = ("", "ai.onnx")
_RELAYS = ("Identity", "Transpose")  # nodes that only carry a constant from its storage to its user


@dataclass(frozen=True)
class Node:
    """One operator call. `name` is for messages, and made up where the file has none."""

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(repr=False)

    def refuse(self, reason: str, hint: str | None = None) -> EncryptionError:
        """The error for a node that no rule can transform."""
        return EncryptionError(f"node {self.name!r} ({self.op}): {reason}", field=self.name, hint=hint)


@dataclass(frozen=True)
class Constant:
    """A constant as one node sees it.

    Attributes
    ----------
    root
        Name of the stored tensor: an initializer, or the output of a Constant node.
    value
        Float64, axes in the order the node sees them.
    order
        Axis i of `value` is axis ``order[i]`` of the stored tensor.
    """

    root: str
    value: Floats = field(repr=False)
    order: tuple[int, ...]

    def stored(self, value: Floats) -> Floats:
        """A new value, with its axes back in the order of storage."""
        return np.transpose(value, np.argsort(self.order))


class Graph:
    """A checked ONNX model with one float32 input ``[batch, d]`` and one float32 output ``[batch, m]``.

    Raises
    ------
    MalformedError
        The bytes are not a valid ONNX model.
    EncryptionError
        The model is valid, but has another form than the one above.
    """

    def __init__(self, model: onnx.ModelProto | bytes) -> None:
        self._model = _parsed(model)
        graph = self._model.graph
        self._tensors = _stored_tensors(graph)
        self.nodes = [_node(node, index) for index, node in enumerate(graph.node)]
        self._shapes = _shapes(self._model)
        self._constants: dict[str, Constant] = {}
        for name, tensor in self._tensors.items():
            array = numpy_helper.to_array(tensor)
            if array.dtype.kind == "f":
                self._constants[name] = Constant(name, array.astype(np.float64), tuple(range(array.ndim)))
        self.computing = [node for node in self.nodes if not self._carries_constant(node)]
        self.input = self._boundary([v for v in graph.input if v.name not in self._tensors], "input")
        self.output = self._boundary(list(graph.output), "output")

    def constant(self, name: str) -> Constant | None:
        """The constant of that name, through Identity and Transpose nodes; None for a computed value."""
        return self._constants.get(name)

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Shape of a value, None for open axes; None if it cannot be inferred."""
        return self._shapes.get(name)

    def consumers(self, name: str) -> list[Node]:
        """Computing nodes that read a value."""
        return [node for node in self.computing if name in node.inputs]

    def uses(self, root: str) -> int:
        """How many operands of computing nodes come from one stored constant."""
        seen = (self._constants.get(name) for node in self.computing for name in node.inputs)
        return sum(1 for constant in seen if constant is not None and constant.root == root)

    def roots(self) -> list[str]:
        """Names of all stored floating-point constants."""
        return [name for name, constant in self._constants.items() if constant.root == name]

    def dtype(self, root: str) -> np.dtype[Any]:
        """The dtype a constant is stored in."""
        found: np.dtype[Any] = numpy_helper.to_array(self._tensors[root]).dtype
        return found

    def exchanged(self, values: Mapping[str, NDArray[np.float32]]) -> bytes:
        """The same model with other constants, without doc strings and metadata, as bytes.

        Nodes, their order, all names, shapes and dtypes stay. The result has passed ``onnx.checker``.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for name, tensor in _stored_tensors(model.graph).items():
            if name in values:
                tensor.CopyFrom(numpy_helper.from_array(values[name], tensor.name))
        _strip(model)
        onnx.checker.check_model(model, full_check=True)
        encoded: bytes = model.SerializeToString(deterministic=True)
        return encoded

    def _carries_constant(self, node: Node) -> bool:
        """Whether a node only stores or relays a constant; registers what it carries."""
        if node.op == "Constant":
            return True
        source = self._constants.get(node.inputs[0]) if node.inputs else None
        if node.op not in _RELAYS or source is None:
            return False
        axes = tuple(range(source.value.ndim))
        turn = tuple(node.attributes.get("perm", axes[::-1])) if node.op == "Transpose" else axes
        order = tuple(source.order[axis] for axis in turn)
        self._constants[node.output] = Constant(source.root, np.transpose(source.value, turn), order)
        return True

    def _boundary(self, values: list[onnx.ValueInfoProto], what: str) -> str:
        if len(values) != 1:
            raise EncryptionError(f"the model has {len(values)} {what}s; one is supported", field=what)
        name: str = values[0].name
        if values[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            raise EncryptionError(f"the {what} {name!r} is not float32", field=what)
        shape = self.shape(name)
        if shape is None or len(shape) != 2 or not shape[1]:
            raise EncryptionError(
                f"the {what} {name!r} has shape {_written(shape)}; a batch of flat records [batch, n] is supported",
                field=what,
            )
        return name


def _parsed(model: onnx.ModelProto | bytes) -> onnx.ModelProto:
    if isinstance(model, bytes):
        try:
            model = onnx.load_model_from_string(model)
        except Exception as error:  # protobuf's DecodeError, which onnx does not re-export
            raise MalformedError("these bytes are not an ONNX model", field="model") from error
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise MalformedError(f"not a valid ONNX model: {error}", field="model") from error
    for opset in model.opset_import:
        if opset.domain in _ONNX_DOMAINS and opset.version < MIN_OPSET:
            raise EncryptionError(f"opset {opset.version} is too old", hint=f"export with opset {MIN_OPSET} or later")
    extras = {
        "local functions": model.functions,
        "training info": model.training_info,
        "sparse initializers": model.graph.sparse_initializer,
        "quantisation annotations": model.graph.quantization_annotation,
    }
    for what, present in extras.items():
        if present:
            raise EncryptionError(f"models with {what} are not supported", field="model")
    return model


def _stored_tensors(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Initializers and the tensors of Constant nodes, by the name that nodes read them by."""
    found: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in _ONNX_DOMAINS:
            (attribute,) = node.attribute
            if attribute.name != "value":
                raise EncryptionError(
                    f"node {node.name!r} (Constant): a constant given as {attribute.name!r} cannot be exchanged",
                    field=node.name or node.output[0],
                    hint="store it as a tensor ('value') or as an initializer",
                )
            found[node.output[0]] = attribute.t
    for name, tensor in found.items():
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise EncryptionError(f"constant {name!r} lies in another file", hint="save the model as one file")
    return found


def _node(node: onnx.NodeProto, index: int) -> Node:
    domain = "" if node.domain in _ONNX_DOMAINS else f"{node.domain}."
    name = node.name or (node.output[0] if node.output else f"node {index}")
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    found = Node(name, domain + node.op_type, tuple(node.input), node.output[0], attributes)
    if len(node.output) != 1:
        raise found.refuse(f"{len(node.output)} outputs; one is supported")
    return found


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise MalformedError(f"the shapes of the model contradict each other: {error}", field="model") from error
    shapes: dict[str, tuple[int | None, ...]] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
    return shapes


def _strip(model: onnx.ModelProto) -> None:
    """Drop free text, which may name people, paths or features."""
    graph = model.graph
    for part in (
        *(model, graph, *graph.node, *graph.initializer),
        *(*graph.input, *graph.output, *graph.value_info, *_stored_tensors(graph).values()),
    ):
        part.ClearField("doc_string")
        if "metadata_props" in part.DESCRIPTOR.fields_by_name:
            part.ClearField("metadata_props")


def _written(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "unknown"
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"
