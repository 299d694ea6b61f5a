"""Operators that move elements about: reshapes, transposes, axes of length 1."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from rexis.ee.graph import Graph, Node
from rexis.ee.groups import AVERAGING, NONE
from rexis.ee.layout import Axis
from rexis.ee.plan import Plan
from rexis.ee.rules.base import (
    APART,
    STATIC,
    Acceptance,
    Folding,
    MovingRule,
    Rule,
    layout_of,
    rank_of,
    rule,
)
from rexis.ee.shapes import Shape
from rexis.ee.stream import Floats


def axes_of(node: Node, graph: Graph, rank: int, *, position: int = 1) -> list[int] | None:
    """The axes that a node names by attribute or input, counted from the front; None if it names none."""
    given = node.attributes.get("axes")
    name = node.input(position)
    if given is None and name is not None:
        if name not in graph.integers:
            raise node.refuse(f"its axes {name!r} are computed", hint=STATIC)
        given = graph.integers[name].reshape(-1).tolist()
    return None if given is None else sorted(int(axis) % rank for axis in given)


@rule("Identity", "Dropout", "Cast")
class RelayRule(MovingRule):
    """The output is the input. A Cast between floating-point types is one too; other casts, see ``select``."""

    keeps_last_axis = True

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        plan.layouts[node.output] = layout_of(node.inputs[0], node, plan)
        if node.op == "Cast" and not plan.graph.is_float(node.output) and plan.graph.is_float(node.inputs[0]):
            if node.output in plan.tokens:
                return
            raise node.refuse(
                f"it rounds {node.inputs[0]!r} to integers, which no key commutes with",
                hint="integers may be token ids that reach lookups only",
            )

    def move(self, node: Node, graph: Graph, output: int, array: Floats) -> Floats:
        return array


@rule("Transpose")
class TransposeRule(MovingRule):
    """Axes take their keys along."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = layout_of(node.inputs[0], node, plan)
        plan.layouts[node.output] = tuple(layout[axis] for axis in self._order(node, len(layout)))

    def keeps_last(self, node: Node, graph: Graph) -> bool:
        rank = rank_of(node.inputs[0], node, graph)
        return self._order(node, rank)[-1] == rank - 1

    def move(self, node: Node, graph: Graph, output: int, array: Floats) -> Floats:
        return np.transpose(array, self._order(node, array.ndim))

    @staticmethod
    def _order(node: Node, rank: int) -> list[int]:
        return list(node.attributes.get("perm", range(rank)[::-1]))


@rule("Reshape", "Flatten")
class ReshapeRule(Rule):
    """Axes are multiplied out and cut again; a key that spans a cut is cut too."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = layout_of(node.inputs[0], node, plan)
        shape = plan.graph.shape(node.output)
        if shape is None:
            raise node.refuse(f"the shape of its output {node.output!r} is not known", hint=STATIC)
        plan.layouts[node.output] = cut(node, plan, layout, list(shape))

    def accepts(self, node: Node, accepts: Acceptance, name: str) -> bool:
        return name == node.inputs[0] and accepts.of(node.output)

    def takes_gain(self, node: Node, accepts: Acceptance, name: str, *, shifted: bool) -> bool:
        before, after = (accepts.graph.shape(each) or () for each in (node.inputs[0], node.output))
        kept = repeats(before, after) is not None
        return name == node.inputs[0] and kept and accepts.folds_onwards(node.output, shifted=shifted)

    def fold(self, node: Node, folding: Folding) -> None:
        graph = folding.graph
        before: Shape = graph.shape(node.inputs[0]) or ()
        after: Shape = graph.shape(node.output) or ()

        def move(array: Floats) -> Floats:
            times = repeats(before, after)
            if times is not None and array.shape[-1] == before[-1] and prod(array.shape) == array.shape[-1]:
                return np.tile(array.reshape(-1), times).reshape((1,) * (len(after) - 1) + (-1,))
            full = np.broadcast_to(array, (1, *(size or 1 for size in before[1:])))
            return full.reshape((1, *(size or 1 for size in after[1:])))

        folding.settle(node.output, folding.of(node.inputs[0]).moved(move))


def repeats(before: Shape, after: Shape) -> int | None:
    """How often the last axis stands in the last axis of a reshaped value, once for each place of axes merged with it.

    None where it is cut itself, or merged with the batch.
    """
    if not before or not after or before[-1] is None or after[-1] is None:
        return None
    times = 1
    for size in reversed(before[1:-1]):
        if before[-1] * times >= after[-1]:
            break
        times *= size or 0
    return times if before[-1] * times == after[-1] else None


def cut(node: Node, plan: Plan, layout: Sequence[Axis], shape: list[int | None]) -> tuple[Axis, ...]:
    """The layout of a reshaped value. At most one axis of the new shape is open: the one with the batch in it."""
    flat: Axis = tuple(factor for axis in layout for factor in axis)
    batched = [place for place, factor in enumerate(flat) if factor.variable == 0]
    if not batched:
        if None in shape:
            raise node.refuse(f"the shape of its output {node.output!r} is not known", hint=STATIC)
        return tuple(plan.split(flat, [size or 1 for size in shape], node))
    if None not in shape:
        shape[0] = None  # a model with a fixed batch
    if shape.count(None) > 1:
        places = ", ".join(f"{node.output}/{place}" for place, size in enumerate(shape) if size is None)
        raise node.refuse(f"axes {places} are open", hint="export with one open batch axis")
    open_at = shape.index(None)
    before, after = [size or 1 for size in shape[:open_at]], [size or 1 for size in shape[open_at + 1 :]]
    head, tail = flat[: batched[0]], flat[batched[0] + 1 :]
    rest = plan.size(tail) or 1
    kept = rest // prod(after) if rest % prod(after) == 0 else 0
    lead = plan.size(head) or 1
    if kept == 0 or lead % prod(before):
        raise node.refuse(f"axis {node.output}/{open_at}: the batch axis is cut", hint=APART)
    inner = plan.split(tail, [kept, *after], node)
    outer = plan.split(head, [*before, lead // prod(before)], node)
    return (*outer[:-1], (*outer[-1], *plan.batch, *inner[0]), *inner[1:])


@rule("Unsqueeze", "Squeeze")
class LengthOneRule(MovingRule):
    """Axes of length 1 come and go."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = layout_of(node.inputs[0], node, plan)
        axes = length_one_axes(node, plan.graph)
        if node.op == "Squeeze":
            for axis in axes:
                if plan.size(layout[axis]) != 1:
                    raise node.refuse(f"axis {node.inputs[0]}/{axis} is longer than 1", hint=STATIC)
                plan.restrict([layout[axis]], NONE, node)
            plan.layouts[node.output] = tuple(axis for place, axis in enumerate(layout) if place not in axes)
        else:
            result: list[Axis] = list(layout)
            for axis in axes:
                result.insert(axis, ())
            plan.layouts[node.output] = tuple(result)

    def keeps_last(self, node: Node, graph: Graph) -> bool:
        rank = rank_of(node.inputs[0] if node.op == "Squeeze" else node.output, node, graph)
        return rank - 1 not in length_one_axes(node, graph)

    def move(self, node: Node, graph: Graph, output: int, array: Floats) -> Floats:
        axes = tuple(length_one_axes(node, graph))
        return np.squeeze(array, axes) if node.op == "Squeeze" else np.expand_dims(array, axes)


def length_one_axes(node: Node, graph: Graph) -> list[int]:
    """The axes that a Squeeze takes away, or an Unsqueeze brings."""
    squeezing = node.op == "Squeeze"
    rank = rank_of(node.inputs[0] if squeezing else node.output, node, graph)
    axes = axes_of(node, graph, rank)
    if axes is None:
        axes = [place for place, size in enumerate(graph.shape(node.inputs[0]) or ()) if size == 1]
    return axes


@rule("Expand")
class ExpandRule(Rule):
    """Repeats a value along axes of length 1: what is repeated must stay so."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout, shape = layout_of(node.inputs[0], node, plan), plan.graph.shape(node.output)
        if shape is None:
            raise node.refuse(f"the shape of its output {node.output!r} is not known", hint=STATIC)
        result: list[Axis] = []
        for place, size in enumerate(shape):
            at = place - len(shape) + len(layout)
            axis = layout[at] if at >= 0 else ()
            if size == 1 or plan.size(axis) != 1:
                result.append(axis)
            elif size is None:
                plan.restrict([axis], NONE, node)
                result.append(plan.batch)
            else:
                plan.restrict([axis], NONE, node)
                result.append(plan.fresh(size, AVERAGING))
        plan.layouts[node.output] = tuple(result)


@rule("Tile")
class TileRule(Rule):
    """Repeats a value along axes: what is repeated must stay so."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = layout_of(node.inputs[0], node, plan)
        if node.inputs[1] not in plan.graph.integers:
            raise node.refuse(f"its repeats {node.inputs[1]!r} are computed", hint=STATIC)
        result: list[Axis] = []
        for place, (axis, times) in enumerate(zip(layout, plan.graph.integers[node.inputs[1]].tolist(), strict=True)):
            if times != 1 and axis == plan.batch:
                raise node.refuse(f"it repeats {node.inputs[0]}/{place}, the batch axis", hint=APART)
            result.append(axis if times == 1 else (*plan.fresh(int(times), AVERAGING), *axis))
        plan.layouts[node.output] = tuple(result)
