"""Cutting a model at tensor boundaries, so that each segment is a circuit of its own.

A *cut* is a position in the graph's list of nodes, which ONNX keeps in topological order: the nodes before it are one
side, the nodes from it on the other. The *boundary* is what one side computes and the other uses, flattened and joined
to one tensor ``[1, n]``, in the order in which it was computed; residual branches cross it together. A segment is the
nodes between two cuts, with the boundary before them as its input and the boundary after them as its output.

The same model and cuts give the same bytes on every machine, so that whoever holds the encrypted model makes each
segment's keys again. The batch axis is fixed to 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from circuits.onnx_model import parsed, require_free_names
from rexis.protocol.errors import CircuitError, TensorError
from rexis.protocol.evidence import MAX_SEGMENTS

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

_FLOAT32 = 1  # TensorProto.DataType
_PREFIX = "rexis.boundary"
_CONSTANT = "Constant"


@dataclass(frozen=True)
class Crossing:
    """A tensor on a boundary, with its shape at batch size 1."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


class Sliceable:
    """A model that is going to be cut.

    Parameters
    ----------
    onnx_bytes
        All in one file, without control flow (:func:`circuits.onnx_model.require_plain_model`), one input and output.

    Raises
    ------
    TensorError
        Shapes that ONNX cannot infer, symbolic axes besides the batch, or names of ours.
    """

    def __init__(self, onnx_bytes: bytes) -> None:
        import onnx

        model = parsed(onnx_bytes)
        require_free_names(model, _PREFIX)
        _fix_batch(model.graph)
        try:
            self._model: ModelProto = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        except Exception as error:  # InferenceError is not exported by every release
            raise TensorError(f"shapes of the model cannot be inferred: {error}", field="model") from None
        graph = self._model.graph
        stored = {tensor.name for tensor in graph.initializer}
        self._inputs = [value.name for value in graph.input if value.name not in stored]
        self._outputs = [value.name for value in graph.output]
        if len(self._inputs) != 1 or len(self._outputs) != 1:
            raise TensorError("a model that is cut has one input and one output", field="model")
        self._constants = {node.output[0]: node for node in graph.node if node.op_type == _CONSTANT}
        self._initializers: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self._shapes = dict(_shapes(graph))
        self._made = dict.fromkeys(self._inputs, -1)
        self._made |= {
            name: place
            for place, node in enumerate(graph.node)
            if node.op_type != _CONSTANT
            for name in node.output
            if name
        }
        self._last_use = {name: place for place, node in enumerate(graph.node) for name in node.input}
        self._last_use |= {name: len(graph.node) for name in self._outputs}

    @property
    def nodes(self) -> Sequence[NodeProto]:
        """The nodes, constants among them: positions count all."""
        return list(self._model.graph.node)

    def boundary(self, cut: int) -> list[Crossing] | None:
        """What crosses a cut; None if something does that no boundary can carry (integers, unknown shapes)."""
        names = [name for name, made in self._made.items() if made < cut <= self._last_use.get(name, -1)]
        if not names or any(name not in self._shapes for name in names):
            return None
        return [Crossing(name, self._shapes[name]) for name in names]

    def segment(self, start: int, end: int) -> bytes:
        """The nodes ``start … end-1`` as a model.

        Raises
        ------
        CircuitError
            No cut is possible at an end that is inside the model.
        """
        import onnx
        from onnx import helper

        graph = self._model.graph
        body = [node for node in graph.node[start:end] if node.op_type != _CONSTANT]
        if not body:
            raise CircuitError(f"no nodes from {start} to {end}", field="cuts")
        before: list[NodeProto] = []
        after: list[NodeProto] = []
        extra: list[TensorProto] = []
        inputs, outputs = list(graph.input), list(graph.output)
        if start > 0:
            inputs, before, extra = _unpacked(self._crossing(start))
        if end < len(graph.node):
            outputs, after, stored = _packed(self._crossing(end))
            extra += stored
        used = {name for node in body for name in node.input}
        # A boundary may pass a constant on to nobody: only nodes name constants.
        nodes = [self._constants[name] for name in sorted(used & self._constants.keys())]
        stored_tensors = [self._initializers[name] for name in sorted(used & self._initializers.keys())]
        inputs = [value for value in inputs if value.name not in self._initializers]
        made = helper.make_model(
            helper.make_graph(
                [*nodes, *before, *body, *after], "segment", inputs, outputs, initializer=[*stored_tensors, *extra]
            ),
            opset_imports=self._model.opset_import,
            ir_version=self._model.ir_version,
            functions=self._model.functions,
        )
        try:
            onnx.checker.check_model(made)
        except onnx.checker.ValidationError as error:
            raise CircuitError(f"nodes {start} to {end - 1} are no model: {error}", field="cuts") from None
        data: bytes = made.SerializeToString(deterministic=True)
        return data

    def _crossing(self, cut: int) -> list[Crossing]:
        found = self.boundary(cut)
        if found is None:
            raise CircuitError(
                f"the model cannot be cut before node {cut}: what crosses there is not float32 of a known shape",
                field="cuts",
                hint="choose another node; `rexis circuits cut` finds some",
            )
        return found


def cut_model(onnx_bytes: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The segments of a model, in order; without cuts the model itself.

    Raises
    ------
    CircuitError
        Cuts that are not ascending positions of nodes, or where no cut is possible.
    TensorError
        See :class:`Sliceable`.
    """
    if not cuts:
        return [onnx_bytes]
    model = Sliceable(onnx_bytes)
    ends = [0, *cuts, len(model.nodes)]
    if len(cuts) >= MAX_SEGMENTS or any(a >= b for a, b in itertools.pairwise(ends)):
        raise CircuitError(
            f"cuts are at most {MAX_SEGMENTS - 1} ascending positions from 1 to {len(model.nodes) - 1}", field="cuts"
        )
    return [model.segment(start, end) for start, end in itertools.pairwise(ends)]


def _fix_batch(graph: GraphProto) -> None:
    """Batch size 1: the axis named ``batch``, or whatever the first axis of the input is called."""
    for value in (*graph.input, *graph.output):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if size.HasField("dim_value"):
                continue
            if axis > 0:
                raise TensorError(f"axis {axis} of {value.name!r} has no fixed size", field="model")
            size.dim_value = 1
    del graph.value_info[:]  # they may name the symbolic axis


def _shapes(graph: GraphProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Of float32 tensors whose shape is known."""
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        sizes = [size.dim_value for size in kind.shape.dim]
        if kind.elem_type == _FLOAT32 and kind.HasField("shape") and all(sizes):
            yield value.name, tuple(sizes)


def _unpacked(crossing: Sequence[Crossing]) -> tuple[list[ValueInfoProto], list[NodeProto], list[TensorProto]]:
    """Input ``[1, n]`` of a segment, the nodes that take it apart into the tensors that cross, and their constants."""
    from onnx import TensorProto, helper

    source = f"{_PREFIX}.in"
    nodes: list[NodeProto] = []
    stored: list[TensorProto] = []
    start = 0
    for place, tensor in enumerate(crossing):
        part = source
        if len(crossing) > 1:
            part = f"{source}.{place}"
            ends = [_integers(f"{part}.{name}", [at]) for name, at in (("start", start), ("end", start + tensor.size))]
            axis = _integers(f"{part}.axis", [1])
            stored += [*ends, axis]
            nodes.append(helper.make_node("Slice", [source, ends[0].name, ends[1].name, axis.name], [part], name=part))
        shape = _integers(f"{part}.shape", tensor.shape)
        stored.append(shape)
        nodes.append(helper.make_node("Reshape", [part, shape.name], [tensor.name], name=f"{part}.reshape"))
        start += tensor.size
    return [helper.make_tensor_value_info(source, TensorProto.FLOAT, [1, start])], nodes, stored


def _packed(crossing: Sequence[Crossing]) -> tuple[list[ValueInfoProto], list[NodeProto], list[TensorProto]]:
    """Output ``[1, n]`` of a segment, the nodes that put it together, and their constants."""
    from onnx import TensorProto, helper

    target = f"{_PREFIX}.out"
    nodes: list[NodeProto] = []
    stored: list[TensorProto] = []
    parts = [target] if len(crossing) == 1 else [f"{target}.{place}" for place in range(len(crossing))]
    for tensor, part in zip(crossing, parts, strict=True):
        shape = _integers(f"{part}.shape", [1, tensor.size])
        stored.append(shape)
        nodes.append(helper.make_node("Reshape", [tensor.name, shape.name], [part], name=f"{part}.reshape"))
    if len(parts) > 1:
        nodes.append(helper.make_node("Concat", parts, [target], name=target, axis=1))
    total = sum(tensor.size for tensor in crossing)
    return [helper.make_tensor_value_info(target, TensorProto.FLOAT, [1, total])], nodes, stored


def _integers(name: str, values: Sequence[int]) -> TensorProto:
    from onnx import TensorProto, helper

    return helper.make_tensor(name, TensorProto.INT64, [len(values)], list(values))
