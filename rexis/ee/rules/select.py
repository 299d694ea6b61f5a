"""Operators that cut axes into pieces, join pieces, or pick from them: Slice, Split, Concat, Gather, Pad."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from rexis.ee.graph import Graph, Node
from rexis.ee.groups import Power
from rexis.ee.layout import Axis
from rexis.ee.plan import Plan
from rexis.ee.rules.base import (
    APART,
    STATIC,
    Acceptance,
    Folding,
    MovingRule,
    Rule,
    keyed,
    layout_of,
    leave_number,
    rank_of,
    rule,
)
from rexis.ee.rules.reshape import axes_of
from rexis.ee.stream import Floats
from rexis.protocol.errors import EncryptionError


@rule("Concat")
class ConcatRule(Rule):
    """The joined axis is a sum of segments, each with its own key; the other axes are joined."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layouts = [layout_of(name, node, plan) for name in node.inputs]
        if len(layouts) == 1:
            plan.layouts[node.output] = layouts[0]
            return
        rank = len(layouts[0])
        along = int(node.attributes["axis"]) % rank
        result: list[Axis] = []
        for place in range(rank):
            axes = [layout[place] for layout in layouts]
            if place == along:
                if plan.batch in axes:
                    raise node.refuse(f"it joins along {node.inputs[0]}/0, the batch axis", hint=APART)
                result.append(plan.concatenate(axes))
            else:
                for axis in axes[1:]:
                    plan.join(axis, axes[0], node)
                result.append(axes[0])
        plan.layouts[node.output] = tuple(result)


@rule("Split")
class SplitRule(Rule):
    """Each piece takes its segment's key."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = layout_of(node.inputs[0], node, plan)
        along = int(node.attributes.get("axis", 0)) % len(layout)
        widths = [(plan.graph.shape(name) or ())[along] for name in node.outputs]
        if None in widths:
            raise node.refuse(f"it cuts {node.inputs[0]}/{along}, an open axis", hint=APART)
        parts = plan.segments(layout[along], [width or 1 for width in widths], node)
        for name, part in zip(node.outputs, parts, strict=True):
            plan.layouts[name] = (*layout[:along], part, *layout[along + 1 :])


@rule("Slice")
class SliceRule(MovingRule):
    """A contiguous piece takes its segment's key; with steps, the axis is shown."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = list(layout_of(node.inputs[0], node, plan))
        shape = plan.graph.shape(node.inputs[0]) or ()
        for axis, (start, stop, step) in ranges(node, plan.graph).items():
            size = shape[axis]
            if size is None:
                raise node.refuse(f"it cuts {node.inputs[0]}/{axis}, an open axis", hint=APART)
            places = range(*slice(start, stop, step).indices(size))
            if len(places) == size and step == 1:
                continue
            layout[axis] = picked(node, plan, layout[axis], size, places)
        plan.layouts[node.output] = tuple(layout)

    def accepts(self, node: Node, accepts: Acceptance, name: str) -> bool:
        return False

    def keeps_last(self, node: Node, graph: Graph) -> bool:
        return rank_of(node.inputs[0], node, graph) - 1 not in ranges(node, graph)

    def move(self, node: Node, graph: Graph, output: int, array: Floats) -> Floats:
        for axis, where in ranges(node, graph).items():
            if array.shape[axis] > 1:
                array = array[(*(slice(None),) * axis, slice(*where))]
        return array


@rule("Gather")
class GatherRule(Rule):
    """Looks up an embedding: the vocabulary is permuted, and so are the tokens. Or picks places of an axis."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        data, indices = node.inputs
        layout = list(layout_of(data, node, plan))
        axis = int(node.attributes.get("axis", 0)) % len(layout)
        if indices in plan.tokens:
            plan.restrict([layout[axis]], Power.PERMUTE, node)
            if plan.graph.is_computed(data):
                raise node.refuse(
                    f"tokens look up {data!r}, which is computed", hint="look tokens up in a stored table"
                )
            plan.join(layout[axis], plan.vocabularies.setdefault(plan.tokens[indices], layout[axis]), node)
            plan.layouts[node.output] = (*layout[:axis], *layout_of(indices, node, plan), *layout[axis + 1 :])
            return
        if indices not in plan.graph.integers:
            raise node.refuse(f"its indices {indices!r} are computed", hint="token ids may reach lookups only")
        places = plan.graph.integers[indices]
        size = (plan.graph.shape(data) or ())[axis]
        if size is None:
            raise node.refuse(f"it picks from {data}/{axis}, an open axis", hint=APART)
        flat = [int(place) % size for place in places.reshape(-1)]
        if places.ndim > 1:
            raise node.refuse(f"its indices {indices!r} have several axes", hint="pick with one list of places")
        chosen = picked(node, plan, layout[axis], size, flat)
        if places.ndim == 0:
            plan.restrict([chosen], Power(0), node)
            layout.pop(axis)
        else:
            layout[axis] = chosen
        plan.layouts[node.output] = tuple(layout)

    def takes_gain(self, node: Node, accepts: Acceptance, name: str, *, shifted: bool) -> bool:
        graph = accepts.graph
        rank = rank_of(node.inputs[0], node, graph)
        axis = int(node.attributes.get("axis", 0)) % rank
        return name == node.inputs[0] and axis != rank - 1 and accepts.folds_onwards(node.output, shifted=shifted)

    def fold(self, node: Node, folding: Folding) -> None:
        places = folding.graph.integers.get(node.inputs[1])
        carried = folding.of(node.inputs[0])
        if carried.is_plain or places is None:
            super().fold(node, folding)
            return
        axis = int(node.attributes.get("axis", 0)) % rank_of(node.inputs[0], node, folding.graph)

        def move(array: Floats) -> Floats:
            at = places if array.shape[axis] > 1 else np.zeros_like(places)
            return np.asarray(np.take(array, at, axis=axis))

        folding.settle(node.output, carried.moved(move))


@rule("Trilu")
class TriluRule(Rule):
    """Sets one side of the diagonal to 0: the places along the last two axes are shown."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = layout_of(node.inputs[0], node, plan)
        plan.show(keyed(layout[-2:]), node, "order of places")
        plan.layouts[node.output] = layout


@rule("Pad")
class PadRule(Rule):
    """Padded axes are shown; the others pass, since zero is zero under every key without offset."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        layout = list(layout_of(node.inputs[0], node, plan))
        name, value = node.input(1), node.input(2)
        pads = node.attributes.get("pads") if name is None else plan.graph.integers.get(name)
        if pads is None:
            raise node.refuse(f"its padding {name!r} is computed", hint=STATIC)
        axes = axes_of(node, plan.graph, len(layout), position=3) or list(range(len(layout)))
        constant = node.attributes.get("mode", b"constant") in (b"constant", "constant")
        filled = value is not None and bool(plan.graph.seen(value).any())
        if value is not None:
            leave_number(value, node, plan)
        for place, axis in enumerate(axes):
            if not pads[place] and not pads[place + len(axes)]:
                continue
            size = (plan.graph.shape(node.output) or ())[axis]
            if size is None:
                raise node.refuse(f"it pads {node.inputs[0]}/{axis}, an open axis", hint=APART)
            plan.show([layout[axis]], node, "space")
            layout[axis] = plan.fresh(size)
            plan.show([layout[axis]], node, "space")
        if constant and filled:
            others = [tuple(f for f in axis if f.variable != 0) for axis in layout]
            plan.restrict(others, Power.PERMUTE, node)
        plan.layouts[node.output] = tuple(layout)


def picked(node: Node, plan: Plan, axis: Axis, size: int, places: range | list[int]) -> Axis:
    """The part of an axis at `places`: a segment if they are contiguous, else every place of the axis is shown."""
    places = list(places)
    if not places:
        raise plan.refuse(node, [axis], "it picks nothing", "remove the operator")
    if all(b - a == 1 for a, b in pairwise(places)):
        widths = [width for width in (places[0], len(places), size - places[-1] - 1) if width]
        parts = plan.segments(axis, widths, node)
        return parts[1 if places[0] else 0]
    plan.show([axis], node, "picked places")
    if len(places) == 1:
        return ()
    fresh = plan.fresh(len(places))
    plan.show([fresh], node, "picked places")
    return fresh


def ranges(node: Node, graph: Graph) -> dict[int, tuple[int, int, int]]:
    """For each axis that a Slice cuts: start, stop and step."""
    rank = rank_of(node.inputs[0], node, graph)
    given = {}
    for place, part in enumerate(("starts", "ends", "axes", "steps"), start=1):
        name = node.input(place)
        if part in node.attributes:
            given[part] = list(node.attributes[part])
        elif name is not None:
            if name not in graph.integers:
                raise node.refuse(f"its {part} {name!r} are computed", hint=STATIC)
            given[part] = graph.integers[name].reshape(-1).tolist()
    axes = given.get("axes", list(range(len(given["starts"]))))
    steps = given.get("steps", [1] * len(axes))
    return {
        int(axis) % rank: (int(start), int(end), int(step))
        for axis, start, end, step in zip(axes, given["starts"], given["ends"], steps, strict=True)
    }


def picks(name: str, node: Node, graph: Graph) -> list[tuple[int, range]]:
    """For each axis that a Slice, Split or Gather cuts, the places that stand in its output `name`.

    Empty where that is not known, or not an arithmetic sequence.
    """
    shape = graph.shape(node.inputs[0]) or ()
    if node.op == "Slice":
        try:
            cuts = ranges(node, graph).items()
        except EncryptionError:
            return []
        return [(axis, range(*slice(*how).indices(size))) for axis, how in cuts if (size := shape[axis]) is not None]
    axis = int(node.attributes.get("axis", 0)) % max(len(shape), 1)
    if node.op == "Split":
        widths = [(graph.shape(output) or ())[axis] or 0 for output in node.outputs]
        place = node.outputs.index(name)
        return [(axis, range(sum(widths[:place]), sum(widths[: place + 1])))]
    places, size = graph.integers.get(node.inputs[1]), shape[axis] if shape else None
    if places is None or size is None or places.size != 1:
        return []
    first = int(places.reshape(-1)[0]) % size
    return [(axis, range(first, first + 1))]


def leads_to_lookups(graph: Graph, name: str) -> bool:
    """Whether all that becomes of a value is the index of lookups in stored tables, perhaps through casts."""
    readers = graph.consumers(name)
    return bool(readers) and all(
        (reader.op == "Gather" and reader.inputs[1] == name and reader.inputs[0] != name)
        or (reader.op in ("Cast", "Identity") and leads_to_lookups(graph, reader.output))
        for reader in readers
    )
