"""An ONNX model as the compiler sees it: nodes, shapes, and constants that can be exchanged in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rexis.ee.container import Constant, ConstantsFile, Container, Model, parsed
from rexis.ee.shapes import OF_SHAPES, Shape, hollow, infer
from rexis.ee.stream import Floats
from rexis.protocol.digests import Digest
from rexis.protocol.errors import EncryptionError, MalformedError, UnavailableError

try:
    import onnx
    from onnx import numpy_helper
except ImportError as error:
    raise UnavailableError("compiling a model needs onnx", hint="pip install 'rexis[ee]'") from error

# Opset 7 gave Gemm and Add their NumPy broadcasting; the rules rely on it.
MIN_OPSET = 7
_ONNX_DOMAINS = ("", "ai.onnx")
_FLOATS = (onnx.TensorProto.FLOAT,)
_INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
_OTHER_FLOATS = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
# Nodes that carry a constant from where it is stored to where it is used, in another shape.
_ENCRYPTED = "encrypted"
_RELAYS = ("Identity", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten")


@dataclass(frozen=True)
class Node:
    """One operator call. `name` is for messages, and made up where the file has none."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.op})"

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]

    def input(self, position: int) -> str | None:
        """An optional input; None if it is left out."""
        return self.inputs[position] or None if position < len(self.inputs) else None

    def refuse(self, reason: str, hint: str | None = None) -> EncryptionError:
        """The error for a node that no rule can transform."""
        return EncryptionError(f"{self}: {reason}", field=self.name, hint=hint)


@dataclass(frozen=True)
class View:
    """A stored constant as one node sees it, through relays.

    Attributes
    ----------
    root
        Name of the stored tensor: an initializer, or the output of a Constant node.
    steps
        From storage to user: ``("transpose", permutation)`` or ``("reshape", shape before, shape after)``.
    """

    root: str
    steps: tuple[tuple[Any, ...], ...] = ()

    def seen(self, stored: Floats) -> Floats:
        """The stored value as the user sees it."""
        for kind, *how in self.steps:
            stored = np.transpose(stored, how[0]) if kind == "transpose" else stored.reshape(how[1])
        return stored

    def stored(self, seen: Floats) -> Floats:
        """What has to be stored so that the user sees this."""
        for kind, *how in reversed(self.steps):
            seen = np.transpose(seen, np.argsort(how[0])) if kind == "transpose" else seen.reshape(how[0])
        return seen


class Graph:
    """A checked ONNX model with inputs and one float32 output, whose first axes count records.

    Attributes
    ----------
    inputs
        Names of the inputs, in the order of the file.
    output
        Name of the output.

    Parameters
    ----------
    model
        Not changed.
    file
        Where large constants go once they are exchanged, if not into memory.

    Raises
    ------
    MalformedError
        The bytes are not a valid ONNX model.
    EncryptionError
        The model is valid, but has another form than the one above.
    """

    def __init__(self, model: Model, file: ConstantsFile | None = None) -> None:
        self._container = Container(model, file)
        self._model = self._container.message
        _check(self._model)
        graph = self._model.graph
        self.opset = max(each.version for each in self._model.opset_import if each.domain in _ONNX_DOMAINS)
        self._tensors = _stored_tensors(graph)
        self._types, shapes, self.integers = infer(self._model)
        self._shapes: dict[str, Shape | None] = dict(shapes)
        self.nodes = [_node(node, index) for index, node in enumerate(graph.node)]
        given = [value.name for value in graph.input if value.name not in self._tensors]
        if not given:
            raise EncryptionError("the model has no inputs", field="input")
        if len(graph.output) != 1:
            raise EncryptionError(f"the model has {len(graph.output)} outputs; one is supported", field="output")
        self.inputs = tuple(self._boundary(name, "input") for name in given)
        self._require_one_batch()
        self.output = self._boundary(graph.output[0].name, "output")
        if self._types[self.output] != onnx.TensorProto.FLOAT:
            raise EncryptionError(f"the output {self.output!r} is not float32", field="output")
        self._views: dict[str, View] = {}
        for name, tensor in self._tensors.items():
            if tensor.data_type in _FLOATS:
                self._views[name] = View(name)
                self._shapes[name] = tuple(tensor.dims)
            elif tensor.data_type in _OTHER_FLOATS:
                kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name
                raise EncryptionError(f"constant {name!r} is {kind}, not float32", field=name)
            elif tensor.data_type not in _INTEGERS:
                kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
                raise EncryptionError(f"constant {name!r} is {kind} and would stay readable", field=name)
            else:
                self.integers[name] = numpy_helper.to_array(tensor)
                self._shapes[name] = tuple(tensor.dims)
        self._computed: set[str] = set(self.inputs)
        self._derived: set[str] = set()
        self.computing = [node for node in self.nodes if self._is_computing(node)]
        self._consumers: dict[str, list[Node]] = {}
        self._producers = {name: node for node in self.computing for name in node.outputs}
        for node in self.computing:
            for name in dict.fromkeys(node.inputs):
                self._consumers.setdefault(name, []).append(node)

    def shape(self, name: str) -> Shape | None:
        """Shape of a value, None for open axes; None if it cannot be inferred."""
        return self._shapes.get(name)

    def is_float(self, name: str) -> bool:
        """Whether a value holds float32."""
        return name in self._views or self._types.get(name) in _FLOATS

    def element(self, name: str) -> str:
        """The NumPy name of a value's element type."""
        return str(onnx.helper.tensor_dtype_to_np_dtype(self._types[name]).name)

    def is_computed(self, name: str) -> bool:
        """Whether a value depends on the records."""
        return name in self._computed

    def view(self, name: str) -> View | None:
        """The stored float constant that a name shows; None for anything else."""
        return self._views.get(name)

    def raw(self, root: str) -> Constant:
        """A stored constant as it is stored: float32, read-only."""
        found = self._container.constants.get(root)
        if found is not None:
            return found
        try:
            small: Constant = numpy_helper.to_array(self._tensors[root])
        except ValueError:
            raise MalformedError(f"constant {root!r} has another size than its shape says", field=root) from None
        return small

    def stored(self, root: str) -> Floats:
        """A stored constant, float64."""
        return self.raw(root).astype(np.float64)

    def seen(self, name: str) -> Floats:
        """A stored constant as a node sees it, float64."""
        return self._views[name].seen(self.stored(self._views[name].root))

    def require_used(self) -> None:
        """Refuse stored tensors that no node reads: nothing would encrypt them. And inputs, which would only leak."""
        read = {name for node in self.nodes for name in node.inputs}
        for name in self.inputs:
            if name not in read:
                raise EncryptionError(
                    f"the input {name!r} is read by no operator", field=name, hint="export the model without it"
                )
        for name in self._tensors:
            if name not in read:
                raise EncryptionError(
                    f"constant {name!r} is used by no operator and would stay readable",
                    field=name,
                    hint="remove unused initializers",
                )

    def roots(self) -> list[str]:
        """Names of all stored float constants."""
        return [name for name, view in self._views.items() if view.root == name]

    def consumers(self, name: str) -> list[Node]:
        """Computing nodes that read a value."""
        return self._consumers.get(name, [])

    def producer(self, name: str) -> Node | None:
        """The computing node that a value comes from."""
        return self._producers.get(name)

    def uses(self, name: str) -> int:
        """How many operands of computing nodes come from the constant that `name` shows. Relays do not count."""
        root = self._views[name].root
        views = [view for view in self._views if self._views[view].root == root]
        return sum(
            node.inputs.count(view) for view in views for node in self.consumers(view) if node.output not in self._views
        )

    def exchange(self, root: str, value: Constant, *, plain: bool = False) -> None:
        """Put another value in the place of a stored constant, of the same shape and dtype. The old value is gone.

        Parameters
        ----------
        plain
            The value is no ciphertext yet, and will be exchanged again.
        """
        tensor = self._tensors[root]
        if tuple(tensor.dims) != value.shape or value.dtype != np.float32:
            raise EncryptionError(f"constant {root!r} would change its shape or dtype", field=root)
        self._container.exchange(root, tensor, value, plain=plain)

    def encoded(self, name: str = _ENCRYPTED) -> bytes:
        """The model as bytes, without doc strings and metadata. Nodes, their order, names, shapes and dtypes stay.

        Parameters
        ----------
        name
            Of the graph: by default what :func:`is_encrypted` looks for.
        """
        _strip(self._model)
        self._model.graph.name = name
        onnx.checker.check_model(hollow(self._model), full_check=True)
        return self._container.encoded()

    def digest(self, encoded: bytes) -> Digest:
        """The model's digest, given what :meth:`encoded` gave."""
        return self._container.digest(encoded)

    def _is_computing(self, node: Node) -> bool:
        """Whether a node handles values or float constants. Notes what its outputs are."""
        if node.op == "Constant":
            return False
        given = [name for name in node.inputs if name]
        if any(name in self._computed for name in given) and node.op not in OF_SHAPES:
            self._computed.update(node.outputs)
            return True
        if any(name in self._views or name in self._derived for name in given) and node.output not in self.integers:
            self._relay(node)
            self._derived.update(node.outputs)
            return True
        return False  # it depends on shapes and constants alone

    def _relay(self, node: Node) -> None:
        """Note a constant's view behind a relay."""
        source = self._views.get(node.inputs[0])
        before, after = self.shape(node.inputs[0]), self.shape(node.output)
        if node.op not in _RELAYS or source is None or before is None or after is None or None in after:
            return
        if node.op == "Transpose":
            turn = tuple(node.attributes.get("perm", range(len(before))[::-1]))
            step: tuple[Any, ...] = ("transpose", turn)
        else:
            step = ("reshape", before, after)
        self._views[node.output] = View(source.root, (*source.steps, step))

    def _boundary(self, name: str, what: str) -> str:
        shape = self.shape(name)
        if shape is None or len(shape) < 2 or any(not size for size in shape[1:]):
            raise EncryptionError(
                f"the {what} {name!r} has shape {written(shape)}; [batch, …] with fixed sizes is supported",
                field=name,
                hint=f"the first axis of every {what} counts records",
            )
        if self._types.get(name) not in (*_FLOATS, *_INTEGERS):
            raise EncryptionError(
                f"the {what} {name!r} is not float32", field=name, hint="inputs may also be int64, int32 or bool"
            )
        return name

    def _require_one_batch(self) -> None:
        """All inputs count records with their first axis: open in all of them, or of one size."""
        firsts = {name: (self.shape(name) or (None,))[0] for name in self.inputs}
        if len(set(firsts.values())) < 2:
            return
        name = next(name for name, size in firsts.items() if size is not None)
        listed = ", ".join(f"{each!r} {written(self.shape(each))}" for each in firsts)
        raise EncryptionError(
            f"the first axes of the inputs do not all count records: {listed}",
            field=name,
            hint="give every input the same batch axis, [batch, …]; a table that all records share is a constant",
        )


def is_encrypted(model: Model) -> bool:
    """Whether a model says by its graph's name that the compiler wrote it. Nothing stops anybody from renaming it."""
    return bool(parsed(model).graph.name == _ENCRYPTED)


def written(shape: Shape | None) -> str:
    """A shape for people."""
    if shape is None:
        return "unknown"
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _check(model: onnx.ModelProto) -> None:
    """Refuse what is not valid, and what nothing here would encrypt."""
    try:
        onnx.checker.check_model(hollow(model))
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
    return found


def _node(node: onnx.NodeProto, index: int) -> Node:
    domain = "" if node.domain in _ONNX_DOMAINS else f"{node.domain}."
    name = node.name or (node.output[0] if node.output else f"node {index}")
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if any(isinstance(value, onnx.GraphProto) for value in attributes.values()):
        raise EncryptionError(f"node {name!r} ({node.op_type}): graphs inside nodes are not supported", field=name)
    return Node(name, domain + node.op_type, tuple(node.input), tuple(o for o in node.output if o), attributes)


def _strip(message: Any) -> None:
    """Drop free text wherever it stands, for it may name people or places; and fields that onnx does not know."""
    message.DiscardUnknownFields()
    if isinstance(message, onnx.TensorProto):  # its fields are data, and large
        message.ClearField("doc_string")
        message.ClearField("metadata_props")
        return
    for described, value in message.ListFields():
        if described.name in _FREE_TEXT:
            message.ClearField(described.name)
        elif described.message_type is not None and described.type == described.TYPE_MESSAGE:
            for part in value if isinstance(value, Iterable) else (value,):
                _strip(part)


_FREE_TEXT = ("doc_string", "metadata_props", "denotation", "producer_name", "producer_version")
