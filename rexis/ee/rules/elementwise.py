"""Operators that act on each element by itself."""

from __future__ import annotations

import math

import numpy as np

from rexis.ee.graph import Graph, Node
from rexis.ee.groups import FREE, MONOMIAL, NONE, POSITIVE, Power
from rexis.ee.layout import ORDER, Axis, Layout
from rexis.ee.plan import Plan
from rexis.ee.rules.backwards import absorbing, gain_of
from rexis.ee.rules.base import (
    Acceptance,
    Carried,
    Folding,
    OffsetMisfit,
    Rule,
    broadcast,
    keyed,
    layout_of,
    leave_number,
    rule,
    spread_evenly,
)
from rexis.ee.rules.linear import take_up
from rexis.ee.rules.reduce import reduced
from rexis.ee.rules.reshape import length_one_axes

# f(s x) = s f(x) for s > 0; f(-x) = -f(x); and the rest, which permutations alone commute with.
_HOMOGENEOUS = ("Relu", "LeakyRelu", "Abs")
_ODD = ("Tanh", "Erf", "Sin", "Tan", "Asin", "Atan", "Sinh", "Asinh", "Atanh", "Softsign", "Sign")
_ANY = (
    *("Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Gelu", "Mish", "Elu", "Selu", "Celu", "Softplus", "Clip"),
    *("Exp", "Log", "Sqrt", "Reciprocal", "Cos", "Acos", "Cosh", "Acosh", "Floor", "Ceil", "Round", "ThresholdedRelu"),
    *("Shrink", "Not", "IsNaN", "IsInf"),
)
_POWERS = (
    dict.fromkeys(_HOMOGENEOUS, POSITIVE)
    | dict.fromkeys(_ODD, Power.PERMUTE | Power.SIGN)
    | dict.fromkeys(_ANY, Power.PERMUTE)
    | {"Neg": FREE}
)

# Act on the elements of equal places together, and on nothing else.
ELEMENTWISE = (*_POWERS, "Identity", "PRelu", "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Where")


@rule(*_POWERS)
class UnaryRule(Rule):
    """``y = f(x)``. Neg is linear, so every key commutes with it."""

    def magnitude(self, node: Node, folding: Folding) -> float:
        bounded = node.op in ("Sigmoid", "HardSigmoid", "Tanh", "Erf", "Softsign", "Sign", "Sin", "Cos")
        return min(super().magnitude(node, folding), 1.0) if bounded else super().magnitude(node, folding)

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = layout_of(node.inputs[0], node, plan)
        for name in node.inputs[1:]:
            if name and any(plan.size(axis) != 1 for axis in layout_of(name, node, plan)):
                raise node.refuse(f"its bound {name!r} is not a single number", hint="use Min and Max")
            if name:
                leave_number(name, node, plan)
        if _POWERS[node.op] != FREE:
            plan.restrict(keyed(layout), _POWERS[node.op], node)
        plan.layouts[node.output] = layout


@rule("PRelu")
class PReluRule(Rule):
    """A slope for each channel, which moves with it."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout, _ = broadcast(node, plan, node.inputs, {node.inputs[1]: ORDER})
        plan.restrict(keyed(layout), POSITIVE, node)
        plan.layouts[node.output] = layout


@rule("Add", "Sub", "Sum")
class AddRule(Rule):
    """A sum: both operands carry one key. Where one is broadcast, the key must keep constants.

    A bias takes up shifts and offsets; a residual hands them on.
    """

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout, spread = broadcast(node, plan, node.inputs, {})
        spread_evenly(node, plan, spread)
        plan.layouts[node.output] = layout
        value = self._value(node, plan.graph)
        if value is not None and value in plan.gains:
            plan.gains.add(node.output)

    def accepts(self, node: Node, accepts: Acceptance, name: str) -> bool:
        value = self._value(node, accepts.graph)
        takes = value == name and self._takes_up(node, accepts.graph)
        return takes or (self._same_shape(node, accepts.graph) and accepts.of(node.output))

    def takes_gain(self, node: Node, accepts: Acceptance, name: str, *, shifted: bool) -> bool:
        value = self._value(node, accepts.graph)
        return (
            node.op == "Add"
            and value == name
            and self._takes_up(node, accepts.graph)
            and accepts.folds_onwards(node.output, shifted=True)
        )

    @staticmethod
    def _value(node: Node, graph: Graph) -> str | None:
        """The computed operand, if the other one is stored."""
        computed = [name for name in node.inputs if graph.is_computed(name)]
        return computed[0] if len(computed) == 1 and len(node.inputs) == 2 else None

    def _bias(self, node: Node, graph: Graph) -> str:
        return next(name for name in node.inputs if not graph.is_computed(name))

    def _takes_up(self, node: Node, graph: Graph) -> bool:
        if self._value(node, graph) is None or (node.op == "Sub" and graph.is_computed(node.inputs[1])):
            return False
        bias = self._bias(node, graph)
        shape, full = graph.shape(bias), graph.shape(node.output)
        fits = bool(shape) and bool(full) and shape[-1] == full[-1]  # type: ignore[index]
        return fits and graph.view(bias) is not None and graph.uses(bias) == 1

    @staticmethod
    def _same_shape(node: Node, graph: Graph) -> bool:
        return all(graph.shape(name) == graph.shape(node.output) for name in node.inputs if graph.is_computed(name))

    def fold(self, node: Node, folding: Folding) -> None:
        graph = folding.graph
        value = self._value(node, graph)
        if value is None:
            folding.settle(node.output, self._sum(node, folding))
            return
        carried = folding.of(value)
        if carried.gain is not None:
            folding.settle(node.output, self._shifted(node, folding, carried))
        elif self._takes_up(node, graph):
            sign = -1.0 if node.op == "Sub" else 1.0
            folding.settle(
                node.output, take_up(node, folding, carried, self._bias(node, graph), node.output, scale=sign)
            )
        elif node.op == "Sub" and value == node.inputs[1]:
            folding.settle(node.output, carried.moved(np.negative))  # no gain: `takes_gain` is for Add
        else:
            folding.settle(node.output, carried)

    def magnitude(self, node: Node, folding: Folding) -> float:
        return math.hypot(*(folding.magnitude(name) for name in node.inputs))

    def _shifted(self, node: Node, folding: Folding, carried: Carried) -> Carried:
        """The shift of a normalisation: handed on, and replaced by an offset that means nothing."""
        bias = self._bias(node, folding.graph)
        plain = folding.graph.seen(bias)
        rank = len(folding.graph.shape(node.output) or ())
        shift = plain.reshape((1,) * (rank - plain.ndim) + plain.shape)
        drawn = folding.fresh_offset(node.output) if plain.ndim == 1 else None
        folding.store(node, bias, plain * 0.0 if drawn is None else drawn.reshape(plain.shape))
        total = shift if carried.shift is None else carried.shift + shift
        offsets = [each for each in (carried.offset, drawn) if each is not None]
        return Carried(carried.gain, total, np.asarray(sum(offsets)) if offsets else None)

    @staticmethod
    def _sum(node: Node, folding: Folding) -> Carried:
        total = Carried()
        for place, name in enumerate(node.inputs):
            carried = folding.of(name)
            if carried.gain is not None:
                raise OffsetMisfit(f"{node}: input {name!r} carries a gain")
            sign = -1.0 if node.op == "Sub" and place == 1 else 1.0
            shift, offset = (
                theirs if mine is None else mine if theirs is None else mine + theirs
                for mine, theirs in (
                    (total.shift, None if carried.shift is None else sign * carried.shift),
                    (total.offset, None if carried.offset is None else sign * carried.offset),
                )
            )
            total = Carried(None, shift, offset)
        return total


@rule("Mul", "Div")
class MulRule(Rule):
    """A product. With a number, everything commutes; with a parameter, what moves and scales elements one by one.

    A parameter along the last axis, where every reader is linear, is a normalisation's gain: it becomes 1 here and goes
    into the weights behind it, so that dense keys commute. Where one operand has one value for a whole axis, that axis
    is free. A parameter behind a linear operator goes back into its weight. Of two computed operands one is permuted,
    and the other may be scaled too.
    """

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        graph = plan.graph
        first, second = node.inputs
        stored = [name for name in node.inputs if not graph.is_computed(name)]
        if first == second and graph.is_computed(first) and node.op == "Mul":
            square(node, plan, first)
            return
        if self._gain(node, accepts) is not None and first not in plan.gains:
            layout = layout_of(first, node, plan)
            parameter = layout_of(second, node, plan)
            plan.join(parameter[-1], layout[-1], node)
            plan.layouts[node.output] = layout
            plan.gains.add(node.output)
            return
        taken = absorbing(node, graph) if accepts.gains else ()
        if taken:
            value, gain, axis = gain_of(node, graph) or (first, second, -1)
            plan.layouts[node.output] = layout_of(value, node, plan)
            plan.join(layout_of(gain, node, plan)[axis], plan.layouts[node.output][axis], node)
            plan.absorbed[gain] = taken
            return
        before = layout_of(second, node, plan)
        if len(stored) == 1:
            plan.layouts[node.output] = _scaled(node, plan, stored[0])
        else:
            plan.layouts[node.output] = _product(node, plan)
        if node.op == "Div" and graph.is_computed(second):
            plan.restrict(keyed(before), Power.PERMUTE, node)

    def magnitude(self, node: Node, folding: Folding) -> float:
        first, second = (folding.magnitude(name) for name in node.inputs)
        return first * second if node.op == "Mul" else first / max(second, 1e-30)

    @staticmethod
    def _gain(node: Node, accepts: Acceptance) -> str | None:
        """The parameter, if this is the gain of a normalisation that its readers take."""
        graph = accepts.graph
        first, second = node.inputs
        shape, full = graph.shape(second), graph.shape(node.output)
        if node.op != "Mul" or graph.is_computed(second) or not graph.is_computed(first):
            return None
        if graph.view(second) is None or graph.uses(second) != 1 or not shape or not full or shape[-1] != full[-1]:
            return None
        if shape[-1] == 1 or any(size != 1 for size in shape[:-1]):
            return None
        return second if accepts.folds_onwards(node.output, shifted=False) else None

    def fold(self, node: Node, folding: Folding) -> None:
        for name in node.inputs:
            if name in folding.plan.absorbed:
                folding.store(node, name, folding.graph.seen(name))  # 1, with no key
        if node.output not in folding.plan.gains:
            super().fold(node, folding)
            return
        gain = folding.graph.seen(node.inputs[1])
        rank = len(folding.graph.shape(node.output) or ())
        folding.store(node, node.inputs[1], gain * 0.0 + 1.0)
        folding.settle(node.output, Carried(gain.reshape((1,) * (rank - gain.ndim) + gain.shape), None, None))


def _scaled(node: Node, plan: Plan, table: str) -> Layout:
    """The layout of a value times a parameter, which moves with the elements and is not scaled."""
    value = next(name for name in node.inputs if name != table)
    layout, parameter = layout_of(value, node, plan), layout_of(table, node, plan)
    for place in range(-len(parameter), 0):
        theirs = parameter[place]
        if plan.size(theirs) == 1:
            plan.restrict([theirs], NONE, node)
            continue
        if len(parameter) > len(layout) or plan.size(layout[place]) == 1:
            where = f"{table}/{len(parameter) + place}"
            raise node.refuse(f"the parameter is longer than {value!r} along {where}", hint="expand the value first")
        ours = plan.resolve(layout[place])
        if not any(plan.on_plane(factor) for factor in ours):
            plan.join(theirs, ours, node, ORDER)
            plan.restrict(keyed([ours]), MONOMIAL, node)
            continue
        sizes = [plan.size((factor,)) or 1 for factor in ours]
        for inside, (factor, part) in enumerate(zip(ours, plan.split(theirs, sizes, node), strict=True)):
            if plan.on_plane(factor) and _repeats(plan.graph, table, place, sizes, inside):
                plan.show([part], node, "repeated values")
            else:
                plan.join(part, (factor,), node, ORDER)
                plan.restrict([(factor,)], MONOMIAL, node)
    return layout


def _repeats(graph: Graph, table: str, axis: int, sizes: list[int], inside: int) -> bool:
    """Whether a table is the same along one factor of an axis, and scales a plane's coordinates alike."""
    if graph.view(table) is None:
        return inside == 0 and _doubled(graph, table, axis)
    cut = np.moveaxis(graph.seen(table), axis, -1)
    cut = cut.reshape(*cut.shape[:-1], *sizes)
    return bool((cut == np.take(cut, [0], axis=inside - len(sizes))).all())


def _doubled(graph: Graph, name: str, axis: int) -> bool:
    """Whether a table that the graph computes is one value twice along an axis, counted from the back."""
    maker = graph.producer(name)
    if maker is None:
        return False
    if maker.op == "Concat":
        rank = len(graph.shape(name) or ())
        along = int(maker.attributes["axis"]) % max(rank, 1) - rank
        return along == axis and len(maker.inputs) == 2 and len(set(maker.inputs)) == 1
    if maker.op == "Unsqueeze":
        ones, rank = length_one_axes(maker, graph), len(graph.shape(name) or ())
        kept = [place - rank for place in range(rank) if place not in ones]
        return axis in kept and _doubled(graph, maker.inputs[0], kept.index(axis) - len(kept))
    others = [graph.shape(each) for each in maker.inputs[1:]]
    alone = all(shape is not None and all(size == 1 for size in shape) for shape in others)
    passes = maker.op in ("Cos", "Sin", "Neg", "Identity", "Cast", "Mul", "Div")
    return passes and alone and _doubled(graph, maker.inputs[0], axis)


def _product(node: Node, plan: Plan) -> Layout:
    """The layout of a product of two computed values.

    Its key is the product of theirs: along an axis that both have, one operand is permuted only (the gate, which has
    less power left), the other is scaled too, and so is the result.
    """
    layouts = [layout_of(name, node, plan) for name in node.inputs]
    rank = max(len(layout) for layout in layouts)
    result: list[Axis] = []
    for position in range(-rank, 0):
        here = [layout[position] for layout in layouts if -position <= len(layout)]
        longs = [axis for axis in here if plan.size(axis) != 1]
        if longs:
            plan.restrict([axis for axis in here if plan.size(axis) == 1], NONE, node)
        else:
            longs = [axis for axis in here if axis]  # a single element may be scaled, too
        result.append((longs or here)[0])
        if len(longs) == 2:
            gate, value = longs
            if node.op == "Div" or len(plan.powers(gate)) > len(plan.powers(value)):
                gate, value = value, gate
            if keyed(longs) == [(), ()]:
                plan.join(gate, value, node)
            else:
                plan.join(gate, value, node, ORDER)
                plan.restrict(keyed([value]), MONOMIAL, node)
            result[-1] = value
    return tuple(result)


@rule("Pow")
class PowRule(Rule):
    """Powers commute with permutations; squares that are only summed, with isometries."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        exponent = plan.graph.view(node.inputs[1])
        if exponent is not None and plan.graph.stored(exponent.root).size == 1:
            leave_number(node.inputs[1], node, plan)
            if float(plan.graph.stored(exponent.root).reshape(-1)[0]) == 2.0:
                square(node, plan, node.inputs[0])
                return
        elif node.inputs[1] not in plan.graph.integers:
            raise node.refuse(f"its exponent {node.inputs[1]!r} is not a single number", hint="use one exponent")
        elif (
            plan.graph.integers[node.inputs[1]].size == 1
            and int(plan.graph.integers[node.inputs[1]].reshape(-1)[0]) == 2
        ):
            square(node, plan, node.inputs[0])
            return
        layout = layout_of(node.inputs[0], node, plan)
        plan.restrict(keyed(layout), Power.PERMUTE, node)
        plan.layouts[node.output] = layout


def square(node: Node, plan: Plan, name: str) -> None:
    """Squares of `name`. If all that is read of them is their mean along the last axis, an isometry keeps that."""
    layout = layout_of(name, node, plan)
    readers = plan.graph.consumers(node.output)
    last = len(layout) - 1
    summed = all(
        reader.op in ("ReduceMean", "ReduceSum") and last in reduced(reader, plan.graph, len(layout))
        for reader in readers
    )
    if readers and summed and node.output != plan.graph.output:
        plan.squares.add(node.output)
        plan.restrict(keyed(layout[:-1]), Power.PERMUTE, node)
    else:
        plan.restrict(keyed(layout), Power.PERMUTE, node)
    plan.layouts[node.output] = layout


@rule("Max", "Min", "Mod", "Xor", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Where")
class ChoiceRule(Rule):
    """Compares or chooses element by element; conditions and parameters move with the elements."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout, _ = broadcast(node, plan, node.inputs, {})
        plan.restrict(keyed(layout), Power.PERMUTE, node)
        plan.layouts[node.output] = layout
