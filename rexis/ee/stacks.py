"""Where a graph stacks several tensors in one: a packed projection of queries, keys and values, cut by a reshape.

A reshape gives the pieces an axis of their own, and lookups take them apart again. Axes behind it would carry one key
for all pieces. Here each piece is planned as if it had been cut from the packed axis before the reshape, so that each
has keys of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod

from rexis.ee.graph import Graph, Node
from rexis.ee.layout import Axis, Layout
from rexis.ee.plan import Plan
from rexis.ee.rules.reshape import cut, length_one_axes
from rexis.ee.rules.select import picks


@dataclass(frozen=True)
class _Piece:
    """A value that is one place, or all of them, of a stack.

    Attributes
    ----------
    axis
        Where the stack's axis stands in the value; None once it is gone.
    place
        Which place it is; None for all.
    path
        The nodes from the reshape on.
    """

    value: str
    axis: int | None
    place: int | None
    path: tuple[Node, ...]


@dataclass(frozen=True)
class _Stack:
    """A reshape that brings a stack of `count` along axis `axis` of its output, from axis `source` of its input."""

    reshape: Node
    axis: int
    source: int
    count: int
    inner: int
    pieces: tuple[_Piece, ...]


class Stacks:
    """Plans the nodes between the reshape of a stack and the lookups that take it apart.

    Parameters
    ----------
    plan
        Has no layouts yet.
    taken
        Values that are planned otherwise; a stack with one of them among its pieces is left alone.
    """

    def __init__(self, plan: Plan, taken: Collection[str]) -> None:
        self._plan = plan
        self._waiting = {
            stack.reshape.output: stack
            for stack in _stacks(plan.graph)
            if not any(piece.value in taken for piece in stack.pieces)
        }
        self._planned: set[str] = set()

    def plans(self, node: Node) -> bool:
        """Plan a node of a stack; False if it is none."""
        stack = self._waiting.pop(node.output, None)
        if stack is not None:
            self._plan_pieces(stack)
        return node.output in self._planned

    def _plan_pieces(self, stack: _Stack) -> None:
        plan, node = self._plan, stack.reshape
        layout = plan.layout(node.inputs[0])
        whole = layout[stack.source]
        length = stack.count * stack.inner
        outer_size = (plan.size(whole) or 0) // length
        if len(whole) != 1 or (outer_size > 1 and whole[0].variable in plan.cut_axes):
            return  # several keys meet here already: the reshape is planned as any other
        outer, packed = ((), whole) if outer_size == 1 else plan.split(whole, [outer_size, length], node)
        segments = plan.segments(packed, [stack.inner] * stack.count, node)
        shape = list(plan.graph.shape(node.output) or ())
        shape[stack.axis] = 1
        for piece in stack.pieces:
            assert piece.place is not None  # noqa: S101
            part: Axis = (*outer, *segments[piece.place])
            made = cut(node, plan, (*layout[: stack.source], part, *layout[stack.source + 1 :]), list(shape))
            for step in piece.path[1:]:
                made = _moved(step, plan.graph, made)
            plan.layouts[piece.value] = made
            self._planned.update(name for step in piece.path for name in step.outputs)


def _moved(node: Node, graph: Graph, layout: Layout) -> Layout:
    """The layout behind a node of a path, where the stack's axis has length 1."""
    if node.op == "Transpose":
        return tuple(layout[axis] for axis in node.attributes.get("perm", range(len(layout))[::-1]))
    if node.op == "Squeeze":
        gone = length_one_axes(node, graph)
        return tuple(axis for place, axis in enumerate(layout) if place not in gone)
    if node.op == "Unsqueeze":
        made = list(layout)
        for axis in length_one_axes(node, graph):
            made.insert(axis, ())
        return tuple(made)
    if node.op == "Gather" and graph.integers[node.inputs[1]].ndim == 0:
        axis = int(node.attributes.get("axis", 0)) % len(layout)
        return (*layout[:axis], *layout[axis + 1 :])
    return layout


def _stacks(graph: Graph) -> Iterator[_Stack]:
    for node in graph.computing:
        before, after = graph.shape(node.inputs[0]), graph.shape(node.output)
        if node.op != "Reshape" or before is None or after is None or not graph.is_computed(node.inputs[0]):
            continue
        for axis, count in enumerate(after):
            if axis == 0 or count in (None, 1):
                continue
            pieces = _pieces(graph, node, axis, count or 1)
            if pieces is None:
                continue
            inner = prod(size or 1 for size in after[axis + 1 :])
            for source in range(len(before) - 1, 0, -1):
                behind, size = prod(each or 1 for each in before[source + 1 :]), before[source]
                if size is not None and inner % behind == 0 and size % ((count or 1) * (inner // behind)) == 0:
                    yield _Stack(node, axis, source, count or 1, inner // behind, pieces)
                    break
            break


def _pieces(graph: Graph, node: Node, axis: int, count: int) -> tuple[_Piece, ...] | None:
    """What a stack is taken apart into; None if it is not, or not wholly."""
    found: list[_Piece] = []
    waiting = [_Piece(node.output, axis, None, (node,))]
    while waiting:
        here = waiting.pop()
        readers = graph.consumers(here.value)
        if here.value == graph.output or not readers or here.axis is None:
            return None
        for reader in readers:
            steps = _steps(graph, here, here.axis, reader)
            if steps is None:
                return None
            for step in steps:
                (waiting if step.place is None else found).append(step)
    return tuple(found) if {piece.place for piece in found} == set(range(count)) else None


def _steps(graph: Graph, here: _Piece, axis: int, reader: Node) -> list[_Piece] | None:
    """What a reader makes of a stack: the stack moved, or places of it."""
    path = (*here.path, reader)
    if reader.op == "Identity":
        return [_Piece(reader.output, axis, None, path)]
    if reader.op == "Transpose":
        rank = len(graph.shape(here.value) or ())
        turn = list(reader.attributes.get("perm", range(rank)[::-1]))
        return [_Piece(reader.output, turn.index(axis), None, path)]
    if reader.op in ("Unsqueeze", "Squeeze"):
        ones = length_one_axes(reader, graph)
        rank = len(graph.shape(reader.output if reader.op == "Unsqueeze" else here.value) or ())
        kept = [place for place in range(rank) if place not in ones]
        moved = kept[axis] if reader.op == "Unsqueeze" else kept.index(axis)
        return [_Piece(reader.output, moved, None, path)]
    if reader.op not in ("Gather", "Split", "Slice"):
        return None
    found = []
    for name in reader.outputs:
        picked = [(at, places) for at, places in picks(name, reader, graph) if at == axis and len(places) == 1]
        others = [at for at, places in picks(name, reader, graph) if at != axis]
        if len(picked) != 1 or others:
            return None
        found.append(_Piece(name, None, picked[0][1][0], path))
    return found
