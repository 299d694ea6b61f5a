"""Linear operators: MatMul, Gemm, convolutions. What they contract is keyed by any invertible matrix."""

from __future__ import annotations

from math import prod

import numpy as np

from rexis.ee.graph import Node
from rexis.ee.groups import AVERAGING, MONOMIAL, NONE, Power
from rexis.ee.layout import DUAL, ORDER, Axis
from rexis.ee.plan import Plan
from rexis.ee.rules.base import (
    PLAIN,
    STATIC,
    Acceptance,
    Carried,
    Folding,
    OffsetMisfit,
    Rule,
    layout_of,
    rule,
)
from rexis.ee.stream import Floats


@rule("MatMul")
class MatMulRule(Rule):
    """``y = A B``: the contracted axes carry dual keys, batch axes are permuted alike, the others pass.

    With a stored weight on the right, ``W' = K_y W diag(gain) K_x⁻¹``; what an offset and a shift give is handed on.
    """

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        left, right = (layout_of(name, node, plan) for name in node.inputs[:2])
        if min(len(left), len(right)) < 2:
            short = node.inputs[0] if len(left) < 2 else node.inputs[1]
            raise node.refuse(f"its operand {short!r} has one axis", hint="give both operands two axes or more")
        plan.join(right[-2], left[-1], node, DUAL)
        plan.keep_together([left[-1]], [*left[:-1], *right[:-2], right[-1]])
        outer: list[Axis] = []
        count = max(len(left), len(right)) - 2
        for position in range(count):
            here = [
                layout[place]
                for layout in (left, right)
                if (place := position - count + len(layout) - 2) >= 0 and plan.size(layout[place]) != 1
            ]
            if len(here) == 2:
                plan.join(here[1], here[0], node)
                plan.restrict([axis for axis in here if axis != plan.batch], Power.PERMUTE, node)
            outer.append(here[0] if here else ())
            for layout in (left, right):
                if (place := position - count + len(layout) - 2) >= 0 and plan.size(layout[place]) == 1:
                    plan.restrict([layout[place]], NONE, node)
        plan.layouts[node.output] = (*outer, left[-2], right[-1])

    def accepts(self, node: Node, accepts: Acceptance, name: str) -> bool:
        return self._weight(node, accepts, name) and accepts.of(node.output)

    def takes_gain(self, node: Node, accepts: Acceptance, name: str, *, shifted: bool) -> bool:
        own = self._weight(node, accepts, name) and accepts.graph.uses(node.inputs[1]) == 1
        return own and (not shifted or self.accepts(node, accepts, name))

    def magnitude(self, node: Node, folding: Folding) -> float:
        return product_magnitude(node, folding)

    @staticmethod
    def _weight(node: Node, accepts: Acceptance, name: str) -> bool:
        graph = accepts.graph
        view = graph.view(node.inputs[1])
        return name == node.inputs[0] and view is not None and len(graph.shape(node.inputs[1]) or ()) == 2

    def fold(self, node: Node, folding: Folding) -> None:
        carried = folding.of(node.inputs[0])
        if carried.is_plain:
            super().fold(node, folding)
            return
        folding.settle(node.output, contract(node, folding, carried, node.inputs[1], (0, 1)))


def product_magnitude(node: Node, folding: Folding, *, inside: int | None = None) -> float:
    """Of a sum of `inside` products of unrelated values with a weight."""
    shape = folding.graph.shape(node.inputs[0]) or (None,)
    terms = inside or shape[-1] or 1
    first, second = (folding.magnitude(name) for name in node.inputs[:2])
    return first * second * float(np.sqrt(terms))


def contract(node: Node, folding: Folding, carried: Carried, weight: str, axes: tuple[int, int]) -> Carried:
    """Fold what a value carries into a weight with axes (in, out); returns what the product carries on."""
    graph, plan = folding.graph, folding.plan
    plain = np.moveaxis(graph.seen(weight), axes, (0, 1))
    layout = plan.layout(weight)
    turned = (layout[axes[0]], layout[axes[1]])
    carried = carried.moved(lambda array: np.broadcast_to(array, (*array.shape[:-1], len(plain))))
    shift = None if carried.shift is None else carried.shift @ plain
    gained = plain if carried.gain is None else plain * carried.gain.reshape(-1, 1)
    folded = folding.encrypt(gained, turned)
    if carried.gain is not None:
        folding.store(node, weight, np.moveaxis(folded, (0, 1), axes))
    offset = None if carried.offset is None else carried.offset @ folded
    return Carried(None, shift, offset)


def take_up(node: Node, folding: Folding, carried: Carried, bias: str, output: str, *, scale: float = 1.0) -> Carried:
    """Add a stored bias to a product: it takes up the product's shift and offset, and brings a fresh offset.

    Parameters
    ----------
    scale
        What the operator multiplies the bias with.
    """
    fresh = folding.fresh_offset(output)
    if not folding.private(bias):
        return carried
    if carried.is_plain and fresh is None:
        return PLAIN
    seen = folding.graph.seen(bias)
    layout = folding.plan.layout(bias)
    plain = seen if carried.shift is None else seen + _fitting(node, carried.shift, seen.shape) / scale
    stored = folding.encrypt(plain, layout)
    for array, sign in ((fresh, 1.0), (carried.offset, -1.0)):
        if array is not None:
            stored = stored + sign * _fitting(node, array, seen.shape) / scale
    folding.store(node, bias, stored)
    return Carried(None, None, fresh)


def _fitting(node: Node, array: Floats, shape: tuple[int, ...]) -> Floats:
    """An array that is broadcastable to a value, for a constant that is too."""
    lead = array.ndim - len(shape)
    if lead < 0:
        array, lead = array.reshape((1,) * -lead + array.shape), 0
    fits = all(size == 1 for size in array.shape[:lead]) and all(
        have in (1, want) for have, want in zip(array.shape[lead:], shape, strict=True)
    )
    if not fits:
        raise OffsetMisfit(f"{node}: an offset varies along an axis that the bias does not have")
    return array.reshape(array.shape[lead:])


@rule("Gemm")
class GemmRule(Rule):
    """``y = α x W + β c``: a MatMul and an Add."""

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        if node.attributes.get("transA", 0):
            raise node.refuse(f"transA would sum over {node.inputs[0]}/0, the batch axis", hint="use transA=0")
        if node.attributes.get("alpha", 1.0) == 0.0 or node.attributes.get("beta", 1.0) == 0.0:
            raise node.refuse("alpha or beta is 0", hint="remove the operand that has no effect")
        left, weight = (layout_of(name, node, plan) for name in node.inputs[:2])
        into, out = self._axes(node)
        plan.join(weight[into], left[-1], node, DUAL)
        plan.keep_together([left[-1]], [weight[out]])
        plan.layouts[node.output] = (left[0], weight[out])
        bias = node.input(2)
        if bias is not None:
            layout = layout_of(bias, node, plan)
            if layout and plan.size(layout[-1]) == plan.size(weight[out]):
                plan.join(layout[-1], weight[out], node)
            else:
                plan.restrict([weight[out]], AVERAGING, node)
                plan.restrict(layout[-1:], NONE, node)
            if len(layout) > 1:
                if plan.size(layout[0]) != 1:
                    raise node.refuse(f"the bias {bias!r} differs from record to record", hint="store one row")
                plan.restrict([layout[0]], NONE, node)

    def accepts(self, node: Node, accepts: Acceptance, name: str) -> bool:
        graph, bias = accepts.graph, node.input(2)
        stored = name == node.inputs[0] and graph.view(node.inputs[1]) is not None
        takes = bias is not None and graph.view(bias) is not None and graph.uses(bias) == 1
        return stored and (accepts.of(node.output) or (takes and self._full(node, accepts)))

    @staticmethod
    def _full(node: Node, accepts: Acceptance) -> bool:
        """Whether the bias has a value for each feature."""
        shapes = [accepts.graph.shape(name) for name in (node.inputs[2], node.output)]
        return bool(shapes[0]) and bool(shapes[1]) and shapes[0][-1] == shapes[1][-1]  # type: ignore[index]

    def takes_gain(self, node: Node, accepts: Acceptance, name: str, *, shifted: bool) -> bool:
        graph, weight = accepts.graph, node.inputs[1]
        own = name == node.inputs[0] and graph.view(weight) is not None and graph.uses(weight) == 1
        return own and (not shifted or self.accepts(node, accepts, name))

    def fold(self, node: Node, folding: Folding) -> None:
        carried = folding.of(node.inputs[0])
        alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
        if not carried.is_plain:
            made = contract(node, folding, carried, node.inputs[1], self._axes(node))
            carried = made.moved(lambda array: alpha * array)
        bias = node.input(2)
        if bias is not None:
            full = self._full(node, folding.accepts)
            carried = take_up(node, folding, carried, bias, node.output, scale=beta) if full else carried
        folding.settle(node.output, carried)

    def magnitude(self, node: Node, folding: Folding) -> float:
        product = abs(node.attributes.get("alpha", 1.0)) * product_magnitude(node, folding)
        bias = node.input(2)
        added = 0.0 if bias is None else abs(node.attributes.get("beta", 1.0)) * folding.magnitude(bias)
        return float(np.hypot(product, added))

    @staticmethod
    def _axes(node: Node) -> tuple[int, int]:
        """The weight's axes for what comes in and what goes out."""
        return (1, 0) if node.attributes.get("transB", 0) else (0, 1)


@rule("Conv", "ConvTranspose")
class ConvRule(Rule):
    """Convolutions of any rank.

    Channels carry keys. Space is shown, except where the kernel tiles it without overlap (a patch stem: kernel equal
    to stride, no padding) or is a single point: then what lies inside a patch is mixed with the channels by one dense
    key, and the places of patches are an axis like any other.
    """

    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        source, weight = layout_of(node.inputs[0], node, plan), layout_of(node.inputs[1], node, plan)
        outward = node.op == "ConvTranspose"
        groups = int(node.attributes.get("group", 1))
        channels = self._channels(node, plan, source[1], weight, groups, outward=outward)
        space = [
            self._space(node, plan, accepts, axis, kernel, place, outward=outward)
            for place, (axis, kernel) in enumerate(zip(source[2:], weight[2:], strict=True))
        ]
        plan.keep_together([weight[0] if outward else weight[1], *weight[2:]], [channels, *space])
        plan.layouts[node.output] = (source[0], channels, *space)
        bias = node.input(2)
        if bias is not None:
            plan.join(layout_of(bias, node, plan)[0], channels, node)
            for axis in space:
                if axis:
                    plan.restrict([axis], AVERAGING, node)

    def _channels(
        self, node: Node, plan: Plan, incoming: Axis, weight: tuple[Axis, ...], groups: int, *, outward: bool
    ) -> Axis:
        if groups == 1:
            into, out = (weight[0], weight[1]) if outward else (weight[1], weight[0])
            plan.join(into, incoming, node, DUAL)
            return out
        width = plan.size(incoming) or 0
        if width == groups == plan.size(weight[0]) and plan.size(weight[1]) == 1:
            # Depthwise: a weight for each channel, which moves with it and is not scaled.
            plan.restrict([incoming], MONOMIAL, node)
            plan.join(weight[0], incoming, node, ORDER)
            plan.restrict([weight[1]], NONE, node)
            return incoming
        across, within = plan.split(incoming, [groups, width // groups], node)
        plan.restrict([across], Power.PERMUTE, node)
        if outward:
            in_across, in_within = plan.split(weight[0], [groups, width // groups], node)
            plan.join(in_across, across, node)
            plan.join(in_within, within, node, DUAL)
            return (*across, *weight[1])
        out_across, out_within = plan.split(weight[0], [groups, (plan.size(weight[0]) or 0) // groups], node)
        plan.join(out_across, across, node)
        plan.join(weight[1], within, node, DUAL)
        return (*out_across, *out_within)

    def _space(
        self, node: Node, plan: Plan, accepts: Acceptance, axis: Axis, kernel: Axis, place: int, *, outward: bool
    ) -> Axis:
        if _tiles(node, accepts, place):
            step = plan.size(kernel) or 1
            if step == 1:
                plan.restrict([kernel], NONE, node)
                return axis
            if outward:
                return (*axis, *kernel)
            whole = plan.size(axis)
            if whole is not None and whole % step == 0:
                patches, inside = plan.split(axis, [whole // step, step], node)
                plan.join(kernel, inside, node, DUAL)
                return patches
        plan.show([axis], node, "space")
        plan.show([kernel], node, "kernel")
        after = (accepts.graph.shape(node.output) or ())[2 + place]
        if after is None:
            raise node.refuse(f"the length of axis {node.output}/{2 + place} is not known", hint=STATIC)
        if after == 1:
            return ()
        fresh = plan.fresh(after)
        plan.show([fresh], node, "space")
        return fresh

    def accepts(self, node: Node, accepts: Acceptance, name: str) -> bool:
        graph, bias = accepts.graph, node.input(2)
        takes = bias is not None and graph.view(bias) is not None and graph.uses(bias) == 1
        tiled = all(_tiles(node, accepts, place) for place in range(len(graph.shape(node.inputs[1]) or ()) - 2))
        plain = node.op == "Conv" and node.attributes.get("group", 1) == 1
        return name == node.inputs[0] and plain and takes and tiled and graph.view(node.inputs[1]) is not None

    def fold(self, node: Node, folding: Folding) -> None:
        carried = folding.of(node.inputs[0])
        made = PLAIN
        if carried.gain is not None or carried.shift is not None:
            raise OffsetMisfit(f"{node}: input {node.inputs[0]!r} carries a gain")
        if carried.offset is not None:
            made = Carried(None, None, self._convolved(node, folding, carried.offset))
        bias = node.input(2)
        if bias is not None:
            made = self._take_up(node, folding, made, bias)
        folding.settle(node.output, made)

    def magnitude(self, node: Node, folding: Folding) -> float:
        shape = [size or 1 for size in folding.graph.shape(node.inputs[1]) or ()]
        product = product_magnitude(node, folding, inside=prod(shape[1:]))
        bias = node.input(2)
        return float(np.hypot(product, 0.0 if bias is None else folding.magnitude(bias)))

    @staticmethod
    def _convolved(node: Node, folding: Folding, offset: Floats) -> Floats:
        """What a tiling convolution makes of an offset: one value a channel, ``[1, channels, 1, …]``."""
        weight = folding.encrypt(folding.graph.seen(node.inputs[1]), folding.plan.layout(node.inputs[1]))
        kernel = weight.shape[2:]
        shape = folding.graph.shape(node.inputs[0]) or ()
        full = np.broadcast_to(offset, (1, *(size or 1 for size in shape[1:])))
        tiles = full.reshape(
            full.shape[1], *(n for size, k in zip(full.shape[2:], kernel, strict=True) for n in (size // k, k))
        )
        inside = tuple(range(2, 1 + 2 * len(kernel), 2))
        rows = np.moveaxis(tiles, inside, range(-len(kernel), 0)).reshape(full.shape[1], -1, prod(kernel))
        if not np.allclose(rows, rows[:, :1], atol=1e-12):
            raise OffsetMisfit(f"{node}: an offset differs from patch to patch")
        found = np.tensordot(weight.reshape(len(weight), -1), rows[:, 0].reshape(-1), axes=1)
        return found.reshape(1, -1, *(1 for _ in kernel))

    @staticmethod
    def _take_up(node: Node, folding: Folding, carried: Carried, bias: str) -> Carried:
        if carried.offset is None:
            return carried
        if not folding.private(bias):
            raise OffsetMisfit(f"{node}: its bias is shared")
        stored = folding.encrypt(folding.graph.seen(bias), folding.plan.layout(bias))
        folding.store(node, bias, stored - carried.offset.reshape(-1))
        return PLAIN


def _tiles(node: Node, accepts: Acceptance, place: int) -> bool:
    """Whether the kernel tiles one spatial axis without overlap, gaps or padding."""
    kernel = (accepts.graph.shape(node.inputs[1]) or ())[2 + place]
    rank = len(accepts.graph.shape(node.inputs[1]) or ()) - 2
    strides = node.attributes.get("strides", [1] * rank)
    dilations = node.attributes.get("dilations", [1] * rank)
    pads = node.attributes.get("pads", [0] * 2 * rank)
    extra = node.attributes.get("output_padding", [0] * rank)
    padded = node.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID", "NOTSET", "VALID")
    return bool(
        kernel == strides[place]
        and (dilations[place] == 1 or kernel == 1)
        and pads[place] == pads[place + rank] == extra[place] == 0
        and not padded
        and not node.attributes.get("output_shape")
    )
