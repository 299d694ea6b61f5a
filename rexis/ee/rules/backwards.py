"""Gains that go back into the linear operator before them, so that dense keys commute with what is behind.

A residual branch that ends in a gain (LayerScale: Touvron et al. 2021, CaiT) would otherwise leave the residual stream
a key that moves and scales elements one by one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rexis.ee.graph import Graph, Node
from rexis.ee.plan import Plan
from rexis.ee.rules.reshape import length_one_axes


class Scaled(NamedTuple):
    """A stored constant that takes a gain, and along which axis."""

    name: str
    axis: int


def gain_of(node: Node, graph: Graph) -> tuple[str, str, int] | None:
    """For a Mul with a parameter along one axis: the value, the parameter, and the axis counted from the back."""
    stored = [name for name in node.inputs if not graph.is_computed(name)]
    if node.op != "Mul" or len(stored) != 1 or graph.view(stored[0]) is None or graph.uses(stored[0]) != 1:
        return None
    value = next(name for name in node.inputs if name != stored[0])
    shape, full = graph.shape(stored[0]) or (), graph.shape(value) or ()
    long = [place - len(shape) for place, size in enumerate(shape) if size != 1]
    if len(long) != 1 or len(shape) > len(full) or full[long[0]] != shape[long[0]] or len(full) + long[0] == 0:
        return None
    return value, stored[0], long[0]


def absorbing(node: Node, graph: Graph) -> tuple[Scaled, ...]:
    """What takes the gain of `node` up; nothing if some of what stands before it cannot."""
    found = gain_of(node, graph)
    if found is None:
        return ()
    name, _, axis = found
    axis += len(graph.shape(name) or ())
    taken: list[Scaled] = []
    while (maker := graph.producer(name)) is not None and len(graph.consumers(name)) == 1 and name != graph.output:
        step = _step(maker, graph, name, axis)
        if step is None:
            return ()
        more, before = step
        taken += more
        if before is None:
            return tuple(taken)
        name, axis = before
    return ()


def fold_back(plan: Plan) -> None:
    """Multiply the constants that take gains up, and set the gains to 1. The model computes what it did before."""
    graph = plan.graph
    for gain, taken in plan.absorbed.items():
        factor = graph.seen(gain).reshape(-1)
        for name, axis in (*taken, Scaled(gain, -1)):
            seen = graph.seen(name)
            ones = (1,) * (seen.ndim - 1)
            scaled = seen * np.moveaxis(factor.reshape(*ones, -1), -1, axis) if name != gain else seen * 0.0 + 1.0
            view = graph.view(name)
            assert view is not None  # noqa: S101
            graph.exchange(view.root, view.stored(scaled).astype(np.float32), plain=True)


def _step(maker: Node, graph: Graph, name: str, axis: int) -> tuple[list[Scaled], tuple[str, int] | None] | None:
    """What of a producer takes a gain on one axis of its output, and where the gain goes on, if it is not taken up."""
    rank = len(graph.shape(name) or ())
    source = maker.inputs[0]
    if maker.op in ("Identity", "Dropout"):
        return [], (source, axis)
    if maker.op == "Transpose":
        return [], (source, list(maker.attributes.get("perm", range(rank)[::-1]))[axis])
    if maker.op in ("Unsqueeze", "Squeeze"):
        ones = length_one_axes(maker, graph)
        places = [place for place in range(rank + len(ones)) if place not in ones]
        return [], (source, places.index(axis) if maker.op == "Unsqueeze" else places[axis])
    if maker.op == "Add":
        return _biased(maker, graph, axis - rank, rank)
    if maker.op == "MatMul" and axis == rank - 1:
        return _all(graph, [Scaled(maker.inputs[1], 1)] if len(graph.shape(maker.inputs[1]) or ()) == 2 else [])
    bias = [Scaled(each, -1) for each in maker.inputs[2:3] if each]
    if maker.op == "Gemm" and axis == 1:
        out = 0 if maker.attributes.get("transB", 0) else 1
        return _all(graph, [Scaled(maker.inputs[1], out), *bias])
    if maker.op in ("Conv", "ConvTranspose") and axis == 1:
        outward, groups = maker.op == "ConvTranspose", maker.attributes.get("group", 1)
        weight = Scaled(maker.inputs[1], int(outward))
        return None if outward and groups != 1 else _all(graph, [weight, *bias])
    return None


def _biased(maker: Node, graph: Graph, axis: int, rank: int) -> tuple[list[Scaled], tuple[str, int]] | None:
    stored = [each for each in maker.inputs if not graph.is_computed(each)]
    if len(stored) != 1:
        return None
    shape = graph.shape(stored[0]) or ()
    full = graph.shape(maker.output) or ()
    taken = _all(graph, [Scaled(stored[0], axis)] if len(shape) >= -axis and shape[axis] == full[axis] else [])
    value = next(each for each in maker.inputs if each != stored[0])
    return None if taken is None or len(graph.shape(value) or ()) != rank else (taken[0], (value, rank + axis))


def _all(graph: Graph, taken: list[Scaled]) -> tuple[list[Scaled], None] | None:
    """These constants, if each is stored for one node alone, and is as long as the gain."""
    own = all(
        graph.view(each.name) is not None
        and graph.uses(each.name) == 1
        and (graph.shape(each.name) or (1,))[each.axis] != 1
        for each in taken
    )
    return (taken, None) if taken and own else None
