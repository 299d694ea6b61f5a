"""Sums and means over axes, pooling, softmax."""

from __future__ import annotations

import numpy as np

from rexis.ee.graph import Graph, Node
from rexis.ee.groups import AVERAGING, ISOMETRY, POSITIVE, Power
from rexis.ee.layout import Axis
from rexis.ee.plan import Plan
from rexis.ee.rules.base import STATIC, Acceptance, Folding, MovingRule, Rule, keyed, layout_of, rank_of, rule
from rexis.ee.rules.reshape import axes_of
from rexis.ee.stream import Floats


@rule("ReduceMean", "ReduceSum", "GlobalAveragePool")
class MeanRule(MovingRule):
    """``Σ x`` along axes: keys must keep sums there; every other axis passes.

    A sum of squares is what an isometry keeps (:func:`rexis.ee.rules.elementwise.square`).
    """

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = layout_of(node.inputs[0], node, plan)
        axes = reduced(node, plan.graph, len(layout))
        if 0 in axes and plan.graph.is_computed(node.inputs[0]):
            raise node.refuse(f"it sums over {node.inputs[0]}/0, the batch axis", hint="reduce the axes of one record")
        for place in axes:
            squares = node.inputs[0] in plan.squares and axes == [len(layout) - 1]
            plan.restrict(keyed([layout[place]]), ISOMETRY if squares else AVERAGING, node)
        plan.layouts[node.output] = without(layout, axes, keep=_keeps(node))

    def accepts(self, node: Node, accepts: Acceptance, name: str) -> bool:
        return False

    def takes_gain(self, node: Node, accepts: Acceptance, name: str, *, shifted: bool) -> bool:
        return node.op != "ReduceSum" and super().takes_gain(node, accepts, name, shifted=shifted)

    def keeps_last(self, node: Node, graph: Graph) -> bool:
        rank = rank_of(node.inputs[0], node, graph)
        return rank - 1 not in reduced(node, graph, rank)

    def move(self, node: Node, graph: Graph, output: int, array: Floats) -> Floats:
        axes = tuple(reduced(node, graph, array.ndim))
        return np.asarray(array.mean(axis=axes, keepdims=_keeps(node)))


# What keys may do along the reduced axes, and along the others.
_REDUCED = {
    "ReduceMax": (Power.PERMUTE, POSITIVE),
    "ReduceMin": (Power.PERMUTE, POSITIVE),
    "GlobalMaxPool": (Power.PERMUTE, POSITIVE),
    "ReduceL1": (Power.PERMUTE | Power.SIGN, POSITIVE),
    "ReduceL2": (ISOMETRY, POSITIVE),
    "ReduceSumSquare": (ISOMETRY, Power.PERMUTE),
    "ReduceProd": (Power.PERMUTE, Power.PERMUTE),
    "ReduceLogSum": (Power.PERMUTE, Power.PERMUTE),
    "ReduceLogSumExp": (Power.PERMUTE, Power.PERMUTE),
}


@rule(*_REDUCED)
class ReduceRule(Rule):
    """The largest or smallest along axes is found wherever it stands; a norm is kept by isometries."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = layout_of(node.inputs[0], node, plan)
        axes = reduced(node, plan.graph, len(layout))
        if 0 in axes:
            raise node.refuse(f"it reduces {node.inputs[0]}/0, the batch axis", hint="reduce the axes of one record")
        along = keyed([layout[place] for place in axes])
        inside, outside = _REDUCED[node.op]
        plan.restrict(along, inside, node)
        plan.keep_together(along)
        others = [axis for place, axis in enumerate(layout) if place not in axes]
        plan.restrict(keyed(others), outside, node)
        plan.layouts[node.output] = without(layout, axes, keep=_keeps(node))


@rule("AveragePool", "MaxPool")
class PoolRule(Rule):
    """Space is shown. Averages commute with every key of the channels, maxima with positive scales."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout, shape = layout_of(node.inputs[0], node, plan), plan.graph.shape(node.output)
        if len(node.outputs) > 1:
            raise node.refuse(f"the places of maxima, {node.outputs[1]!r}, are read", hint="export without indices")
        plan.show(layout[2:], node, "space")
        if node.op == "MaxPool":
            plan.restrict([layout[1]], POSITIVE, node)
        space: list[Axis] = []
        for place, size in enumerate((shape or ())[2:], start=2):
            if size is None:
                raise node.refuse(f"the length of axis {node.output}/{place} is not known", hint=STATIC)
            axis = plan.fresh(size) if size > 1 else ()
            plan.show([axis], node, "space")
            space.append(axis)
        plan.layouts[node.output] = (*layout[:2], *space)


@rule("Softmax", "LogSoftmax")
class SoftmaxRule(Rule):
    """Commutes with permutations of what it normalises."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = layout_of(node.inputs[0], node, plan)
        default = -1 if plan.graph.opset >= 13 else 1
        axis = int(node.attributes.get("axis", default)) % len(layout)
        along = layout[axis:] if plan.graph.opset < 13 else layout[axis : axis + 1]
        plan.restrict(keyed(layout), Power.PERMUTE, node)
        plan.keep_together(keyed(along))
        plan.layouts[node.output] = layout

    def magnitude(self, node: Node, folding: Folding) -> float:
        terms = (folding.graph.shape(node.output) or (None,))[-1] or 1
        return 1.0 / terms


def reduced(node: Node, graph: Graph, rank: int) -> list[int]:
    """The axes that a node reduces."""
    if node.op.startswith("Global"):
        return list(range(2, rank))
    axes = axes_of(node, graph, rank)
    return list(range(rank)) if axes is None else axes


def without(layout: tuple[Axis, ...], axes: list[int], *, keep: bool) -> tuple[Axis, ...]:
    """A layout with axes reduced to length 1, or gone."""
    if keep:
        return tuple(() if place in axes else axis for place, axis in enumerate(layout))
    return tuple(axis for place, axis in enumerate(layout) if place not in axes)


def _keeps(node: Node) -> bool:
    return node.op.startswith("Global") or bool(node.attributes.get("keepdims", 1))
