"""Which axes of a graph can be made longer without a change to what it computes, by rules about operators.

The records' axis, where linear operators alone read it; and hidden axes between linear operators, on whose elements
nothing in between acts but one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from rexis.ee.graph import Graph, Node
from rexis.ee.rules.elementwise import ELEMENTWISE
from rexis.protocol.errors import EncryptionError

_LINEAR = ("MatMul", "Gemm", "Conv", "ConvTranspose")


class Part(NamedTuple):
    """A stored constant, and which of its axes has one entry for each feature."""

    constant: str
    axis: int


@dataclass(frozen=True)
class HiddenAxis:
    """Neurons: made by linear operators, changed one by one, read by linear operators.

    Attributes
    ----------
    value
        The first value that holds them.
    size
        How many there are.
    made, along, read
        Constants with an entry for each neuron: weights that make them, parameters that act on them (biases, gains,
        slopes), weights that read them.
    """

    value: str
    size: int
    made: tuple[Part, ...]
    along: tuple[Part, ...]
    read: tuple[Part, ...]


class _Linear(NamedTuple):
    """A linear operator with a stored weight: the weight's axes, and where the features are in input and output."""

    weight: str
    into: int
    out: int
    source_axis: int
    output_axis: int


def input_axis(graph: Graph) -> tuple[int, tuple[Part, ...]]:
    """The axis of the records that linear operators contract, and their weights.

    Raises
    ------
    EncryptionError
        Something else reads the records, or weights are shared; names the node. Or there are several inputs.
    """
    if len(graph.inputs) > 1:
        raise EncryptionError(
            f"the model has {len(graph.inputs)} inputs, {', '.join(graph.inputs)}; decoy inputs are for one input",
            field="inputs",
            hint="leave decoy inputs out for this model; decoy neurons work with several inputs",
        )
    (records,) = graph.inputs
    axes: set[int] = set()
    parts = []
    for node in graph.consumers(records):
        linear = _linear(node, graph)
        if linear is None or node.inputs[0] != records or node.inputs.count(records) > 1:
            raise node.refuse(
                "it reads the records, and is no linear operator with a stored weight: decoy inputs would change it",
                hint="leave decoy inputs out for this model",
            )
        _require_own(node, graph, linear.weight)
        axes.add(linear.source_axis)
        if len(axes) > 1:
            raise node.refuse("it contracts another axis of the records than the node before")
        parts.append(Part(linear.weight, linear.into))
    return axes.pop(), tuple(parts)


def hidden_axes(graph: Graph) -> tuple[list[HiddenAxis], dict[str, str]]:
    """All hidden axes that can be widened; and for each other value that a linear operator makes, why not."""
    found: list[HiddenAxis] = []
    left_out: dict[str, str] = {}
    done: set[str] = set()
    for node in graph.computing:
        linear = _linear(node, graph)
        if linear is None or node.output in done:
            continue
        growth = _Growth(graph)
        try:
            growth.grow(node.output, linear.output_axis)
        except EncryptionError as reason:
            left_out[node.output] = reason.message
            continue
        done.update(growth.axes)
        found.append(HiddenAxis(node.output, growth.size, tuple(growth.made), tuple(growth.along), tuple(growth.read)))
    return found, left_out


class _Growth:
    """All values that share one feature axis, from one of them on, and the constants along it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.axes: dict[str, int] = {}
        self.size = 0
        self.made: list[Part] = []
        self.along: list[Part] = []
        self.read: list[Part] = []
        self._makers = {name: node for node in graph.computing for name in node.outputs}

    def grow(self, value: str, axis: int) -> None:
        self.size = (self.graph.shape(value) or ())[axis] or 0
        pending = [(value, axis)]
        while pending:
            name, place = pending.pop()
            if name in self.axes:
                if self.axes[name] != place:
                    raise self._makers[name].refuse("two of its axes would be one")
                continue
            self.axes[name] = place
            if name == self.graph.output:
                raise self._makers[name].refuse("it makes the model's output")
            if name in self.graph.inputs:
                raise EncryptionError("the axis reaches the records", field=name)
            for node in (self._makers[name], *self.graph.consumers(name)):
                pending += self._visit(node, name)

    def _visit(self, node: Node, name: str) -> Iterator[tuple[str, int]]:
        """The other values that have the axis because `name` has it, and `node` makes or reads that."""
        linear, axis = _linear(node, self.graph), self.axes[name]
        if linear is not None and name == node.output and axis == linear.output_axis:
            self._note(node, self.made, linear.weight, linear.out)
            if len(node.inputs) > 2 and node.inputs[2]:
                self._parameter(node, node.inputs[2], -1)
        elif linear is not None and name == node.inputs[0] and axis == linear.source_axis:
            self._note(node, self.read, linear.weight, linear.into)
        elif node.op in ELEMENTWISE:
            yield from self._one_by_one(node, axis - self._rank(name))
        elif node.op == "MatMul" and axis == self._rank(name) - 1 and name in (node.output, node.inputs[1]):
            # A product from the left mixes places, and each feature by itself.
            for other in (node.output, node.inputs[1]):
                if not self.graph.is_computed(other):
                    raise node.refuse("it mixes features with a stored weight of more than two axes")
                yield other, self._rank(other) - 1
        elif node.op == "BatchNormalization" and axis == 1:
            for parameter in node.inputs[1:]:
                self._note(node, self.along, parameter, 0)
            yield node.inputs[0], 1
            yield node.output, 1
        else:
            raise node.refuse("it does not act on neurons one by one")

    def _one_by_one(self, node: Node, from_end: int) -> Iterator[tuple[str, int]]:
        yield node.output, self._rank(node.output) + from_end
        for operand in dict.fromkeys(name for name in node.inputs if name):
            shape = self.graph.shape(operand)
            if not self.graph.is_computed(operand):
                self._parameter(node, operand, from_end)
            elif shape is not None and -from_end <= len(shape) and shape[from_end] == self.size:
                yield operand, len(shape) + from_end
            elif shape is None or (-from_end <= len(shape) and shape[from_end] != 1):
                raise node.refuse(f"the shape of {operand!r} is not known")

    def _parameter(self, node: Node, name: str, from_end: int) -> None:
        """A constant operand: its entries for each neuron, or one for all."""
        shape = self.graph.shape(name) or ()
        if -from_end <= len(shape) and shape[from_end] not in (1, None):
            self._note(node, self.along, name, len(shape) + from_end)

    def _note(self, node: Node, parts: list[Part], name: str, axis: int) -> None:
        _require_own(node, self.graph, name)
        if Part(name, axis) not in parts:
            parts.append(Part(name, axis))

    def _rank(self, name: str) -> int:
        return len(self.graph.shape(name) or ())


def _linear(node: Node, graph: Graph) -> _Linear | None:
    if node.op not in _LINEAR or not graph.is_computed(node.inputs[0]) or graph.view(node.inputs[1]) is None:
        return None
    source, weight = (len(graph.shape(name) or ()) for name in node.inputs[:2])
    if node.op == "MatMul":
        return _Linear(node.inputs[1], 0, 1, source - 1, source - 1) if weight == 2 else None
    if node.op == "Gemm":
        into, out = (1, 0) if node.attributes.get("transB", 0) else (0, 1)
        return None if node.attributes.get("transA", 0) else _Linear(node.inputs[1], into, out, 1, 1)
    into, out = (1, 0) if node.op == "Conv" else (0, 1)
    return _Linear(node.inputs[1], into, out, 1, 1) if node.attributes.get("group", 1) == 1 else None


def _require_own(node: Node, graph: Graph, name: str) -> None:
    view = graph.view(name)
    if view is None or view.steps or view.root != name or graph.uses(name) != 1:
        raise node.refuse(
            f"{name!r} is shared, or reaches it through other nodes, and cannot be made longer",
            hint="export the model with separate constants, and with constant folding",
        )
