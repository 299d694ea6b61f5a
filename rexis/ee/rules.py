"""How each ONNX operator meets keys. An operator without a rule is refused.

A rule answers three questions about its operator, in this order:

``plan``     which axes share a key, and which groups commute with the operator?
``absorbs``  may the value it reads carry an offset, or would that change what it computes?
``fold``     what do its constants become, so that encrypted values in give encrypted values out?

Linear parts of keys are planned over the whole graph; offsets follow the data: each value has one (often zero), and
an operator with a constant to add can replace it by a fresh one. To add an operator, write a rule here; to add a group,
write it in :mod:`rexis.ee.groups` and name it in the rules of the operators it commutes with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from rexis.ee.graph import Constant, Graph, Node
from rexis.ee.groups import AxisKey, PermutationScaleKey, draw_offset
from rexis.ee.plan import Axis, Plan
from rexis.ee.stream import Floats, SecretStream
from rexis.protocol.errors import EncryptionError

POSITIVELY_HOMOGENEOUS = frozenset({PermutationScaleKey})


class Folding:
    """The state while constants are being folded.

    Parameters
    ----------
    plan
        A finished plan.
    accepts
        For each value, whether all its readers accept an offset on it.
    seed
        Root secret that keys are drawn from.
    """

    def __init__(self, plan: Plan, accepts: Mapping[str, bool], seed: bytes) -> None:
        self.graph = plan.graph
        self._plan = plan
        self._accepts = accepts
        self._seed = seed
        self._drawn: dict[str, AxisKey] = {}
        self.keys: dict[str, AxisKey] = {}
        self.folded: dict[str, NDArray[np.float32]] = {}

    def linear(self, axis: Axis, size: int) -> AxisKey:
        """The key of an axis, without its offset."""
        label = self._plan.label(axis)
        if label not in self._drawn:
            self._drawn[label] = self._plan.draw(axis, size, self._seed)
        return self._drawn[label]

    def value_key(self, name: str) -> AxisKey:
        """The key of a computed value's last axis, still without offset."""
        shape = self.graph.shape(name)
        if not shape or shape[-1] is None:
            raise EncryptionError(f"the width of {name!r} is not known")
        return self.linear(Axis(name, len(shape) - 1), shape[-1])

    def fresh_offset(self, name: str) -> Floats:
        """A random offset for a value whose readers accept one, else zero."""
        size = self.value_key(name).size
        if not self._accepts[name]:
            return np.zeros(size)
        return draw_offset(SecretStream(self._seed, f"offset/{name}"), size)

    def settle(self, name: str, offset: Floats) -> None:
        """Record the final key of a computed value."""
        self.keys[name] = self.value_key(name).moved(offset)

    def store(self, node: Node, constant: Constant, value: Floats) -> None:
        """Exchange a constant. Where nodes share it, they must agree on its new value."""
        with np.errstate(over="ignore"):
            rounded = constant.stored(value).astype(np.float32)
        if not bool(np.isfinite(rounded).all()):
            raise node.refuse(f"constant {constant.root!r} would overflow float32")
        earlier = self.folded.setdefault(constant.root, rounded)
        if not np.array_equal(earlier, rounded):
            raise node.refuse(
                f"constant {constant.root!r} is shared with a node that needs another value for it",
                hint="export the model with separate constants",
            )


class Rule(ABC):
    """What the compiler must know about one operator."""

    @abstractmethod
    def plan(self, node: Node, plan: Plan) -> None:
        """State the constraints on the keys of the node's axes, or refuse the node."""

    @abstractmethod
    def absorbs(self, node: Node, graph: Graph, output_accepts: bool) -> bool:
        """Whether computed inputs may carry any offset, given whether the output may."""

    @abstractmethod
    def fold(self, node: Node, folding: Folding) -> None:
        """Exchange the node's constants and settle the key of its output."""


RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[type[Rule]], type[Rule]]:
    """Register a rule for ONNX operators of the default domain."""

    def register(kind: type[Rule]) -> type[Rule]:
        RULES.update((operator, kind()) for operator in operators)
        return kind

    return register


def rule_for(node: Node) -> Rule:
    """The rule of a node's operator.

    Raises
    ------
    EncryptionError
        There is none.
    """
    try:
        return RULES[node.op]
    except KeyError:
        raise node.refuse(
            "no rule says how this operator commutes with keys", hint=f"supported: {', '.join(sorted(RULES))}"
        ) from None


@rule("Relu", "LeakyRelu")
class PositivelyHomogeneousRule(Rule):
    """``f(s x) = s f(x)`` for s > 0, element by element: permutations and positive scales commute, offsets do not."""

    def plan(self, node: Node, plan: Plan) -> None:
        source, target = plan.last_axis(node.inputs[0], node), plan.last_axis(node.output, node)
        plan.join(source, target)
        plan.restrict(source, POSITIVELY_HOMOGENEOUS, node)

    def absorbs(self, node: Node, graph: Graph, output_accepts: bool) -> bool:
        return False

    def fold(self, node: Node, folding: Folding) -> None:
        folding.settle(node.output, folding.keys[node.inputs[0]].offset)


@rule("Identity", "Flatten")
class RelayRule(Rule):
    """The output is the input; Flatten only where its input is flat already."""

    def plan(self, node: Node, plan: Plan) -> None:
        source, target = plan.last_axis(node.inputs[0], node), plan.last_axis(node.output, node)
        if node.op == "Flatten" and (node.attributes.get("axis", 1) not in (1, -1) or source.position != 1):
            raise node.refuse("only flattening what is [batch, n] already is supported")
        plan.join(source, target)

    def absorbs(self, node: Node, graph: Graph, output_accepts: bool) -> bool:
        return output_accepts

    def fold(self, node: Node, folding: Folding) -> None:
        folding.settle(node.output, folding.keys[node.inputs[0]].offset)


@rule("Gemm", "MatMul")
class LinearRule(Rule):
    """``y = α x W + β c``. With keys x' = A x + a and y' = K y + k: ``W' = A⁻¹-folded, K-folded W`` and
    ``c' = K c + (k − α a W') / β``. Without a bias of its own the node passes ``α a W'`` on as offset.
    """

    def plan(self, node: Node, plan: Plan) -> None:
        graph = plan.graph
        if graph.constant(node.inputs[0]) is not None:
            raise node.refuse("the left operand is a constant", hint="write the layer as records @ weight")
        weight = graph.constant(node.inputs[1])
        if weight is None:
            raise node.refuse("both operands are computed; that needs a pair of dual keys, which is not supported")
        if weight.value.ndim != 2:
            raise node.refuse(f"the weight has {weight.value.ndim} axes; 2 are supported")
        if node.attributes.get("transA", 0):
            raise node.refuse("transA would multiply over the batch axis")
        if node.attributes.get("alpha", 1.0) == 0.0 or node.attributes.get("beta", 1.0) == 0.0:
            raise node.refuse("alpha or beta is 0", hint="remove the operand that has no effect")
        incoming, outgoing = self._weight_axes(node)
        target = plan.last_axis(node.output, node)
        plan.join(Axis(weight.root, weight.order[incoming]), plan.last_axis(node.inputs[0], node))
        plan.join(Axis(weight.root, weight.order[outgoing]), target)
        bias = self._bias(node, graph)
        if bias is not None:
            axis = _bias_axis(bias, weight.value.shape[outgoing], node)
            plan.join(Axis(bias.root, bias.order[axis]), target)

    def absorbs(self, node: Node, graph: Graph, output_accepts: bool) -> bool:
        bias = self._bias(node, graph)
        return output_accepts or (bias is not None and graph.uses(bias.root) == 1)

    def fold(self, node: Node, folding: Folding) -> None:
        graph = folding.graph
        source = folding.keys[node.inputs[0]]
        target = folding.value_key(node.output)
        weight = graph.constant(node.inputs[1])
        assert weight is not None  # noqa: S101 - plan() has refused it
        incoming, outgoing = self._weight_axes(node)
        folded = target.fold_outgoing(source.fold_incoming(weight.value, incoming), outgoing)
        folding.store(node, weight, folded)
        alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
        passed_on = alpha * np.tensordot(source.offset, folded, axes=(0, incoming))
        bias = self._bias(node, graph)
        if bias is None:
            folding.settle(node.output, passed_on)
            return
        shifted = target.fold_outgoing(bias.value, _bias_axis(bias, target.size, node))
        if graph.uses(bias.root) > 1:  # must fold to one value for all its users: leave offsets out of it
            folding.store(node, bias, shifted)
            folding.settle(node.output, passed_on)
            return
        offset = folding.fresh_offset(node.output)
        folding.store(node, bias, shifted + (offset - passed_on) / beta)
        folding.settle(node.output, offset)

    @staticmethod
    def _weight_axes(node: Node) -> tuple[int, int]:
        """The weight's axes for what comes in and what goes out."""
        return (1, 0) if node.attributes.get("transB", 0) else (0, 1)

    @staticmethod
    def _bias(node: Node, graph: Graph) -> Constant | None:
        if len(node.inputs) < 3 or not node.inputs[2]:
            return None
        bias = graph.constant(node.inputs[2])
        if bias is None:
            raise node.refuse("the bias is computed", hint="add it with an Add node")
        return bias


@rule("Add")
class AddRule(Rule):
    """A bias (constant operand: its offset is free) or a residual (two computed operands: they share a key)."""

    def plan(self, node: Node, plan: Plan) -> None:
        target = plan.last_axis(node.output, node)
        for name in node.inputs:
            constant = plan.graph.constant(name)
            if constant is not None:
                size = plan.graph.shape(node.output)
                axis = _bias_axis(constant, (size or (None,))[-1], node)
                plan.join(Axis(constant.root, constant.order[axis]), target)
            elif plan.graph.shape(name) != plan.graph.shape(node.output):
                raise node.refuse(f"{name!r} is broadcast along axes that carry keys")
            else:
                plan.join(plan.last_axis(name, node), target)

    def absorbs(self, node: Node, graph: Graph, output_accepts: bool) -> bool:
        return output_accepts or self._private_bias(node, graph) is not None

    def fold(self, node: Node, folding: Folding) -> None:
        graph = folding.graph
        target = folding.value_key(node.output)
        incoming: Floats = np.zeros(target.size)
        for name in node.inputs:
            if graph.constant(name) is None:
                incoming = incoming + folding.keys[name].offset
        private = self._private_bias(node, graph)
        offset = folding.fresh_offset(node.output) if private is not None else incoming
        for name in node.inputs:
            constant = graph.constant(name)
            if constant is not None:
                folded = target.fold_outgoing(constant.value, _bias_axis(constant, target.size, node))
                if constant is private:
                    folded = folded + (offset - incoming)
                folding.store(node, constant, folded)
        folding.settle(node.output, offset)

    @staticmethod
    def _private_bias(node: Node, graph: Graph) -> Constant | None:
        """The constant operand, if no other node uses it: only then can it take an offset up."""
        constants = [constant for name in node.inputs if (constant := graph.constant(name)) is not None]
        return next((constant for constant in constants if graph.uses(constant.root) == 1), None)


def _bias_axis(bias: Constant, width: int | None, node: Node) -> int:
    """The axis of a bias that runs along the features; every other axis must have length 1."""
    shape = bias.value.shape
    if not shape or shape[-1] != width or any(size != 1 for size in shape[:-1]):
        raise node.refuse(
            f"the bias {bias.root!r} has shape {list(shape)}, which is not one value per feature",
            hint=f"store it with shape [{width}]",
        )
    return len(shape) - 1
