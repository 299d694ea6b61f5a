"""How a tensor carries keys: each of its axes is a product of *factors*, and each factor is a variable's key.

A variable stands for one secret key (or a family of them). The axis of a projection with 4 heads of 16 features is a
product of two factors, since heads are permuted and features within a head are mixed; the axis of a concatenation is
one factor whose variable is a *sum* of segments. A variable may act through its dual (the axis that a weight
contracts) or by its order alone (a parameter of an elementwise operator).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rexis.ee.groups import AxisKey
from rexis.ee.stream import Floats

_BLOCK = 1 << 20  # elements that a key acts on at once

SELF, DUAL, ORDER = 1, -1, 0  # how a variable acts; the product of two of them is their composition


class Factor(NamedTuple):
    """One variable on an axis, and how it acts: :data:`SELF`, :data:`DUAL` or :data:`ORDER`."""

    variable: int
    action: int


Axis = tuple[Factor, ...]
"""Outer to inner; empty for an axis of length 1 without a key."""

Layout = tuple[Axis, ...]
"""One :data:`Axis` for each axis of a tensor."""


@dataclass(frozen=True)
class Element:
    """The keys of one or several variables that are drawn together.

    Attributes
    ----------
    members
        Variables whose product the key acts on, outer to inner. One, except for jointly mixed axes (a patch).
    actions
        For each member, how it acts when the first one acts as itself.
    index
        Variables that choose the key: with heads as index, each head has its own. Empty for a single key.
    keys
        One for each combination of the index variables, in C order.
    """

    members: tuple[int, ...]
    actions: tuple[int, ...]
    index: tuple[int, ...]
    keys: tuple[AxisKey, ...] = field(repr=False)


@dataclass(frozen=True)
class Keyring:
    """Sizes of variables, what they are made of, and their keys.

    Attributes
    ----------
    sizes
        Length of each variable's axis; None for the batch.
    segments
        For each sum, its segments in order.
    elements
        Every keyed variable stands in exactly one element.
    """

    sizes: Mapping[int, int | None]
    segments: Mapping[int, tuple[Axis, ...]]
    elements: tuple[Element, ...] = field(repr=False)

    def only(self, variables: Iterable[int]) -> Keyring:
        """The part that a layout of these variables needs."""
        wanted = set(variables)
        kept = tuple(element for element in self.elements if wanted.intersection(element.members))
        named = {factor.variable for axes in self.segments.values() for axis in axes for factor in axis}
        needed = {each for element in kept for each in (*element.members, *element.index)} | {0}
        return Keyring(
            {v: size for v, size in self.sizes.items() if v in needed or v in self.segments or v in named},
            self.segments,
            (*kept, *(e for e in self.elements if e not in kept and needed.intersection(e.members))),
        )

    def size(self, axis: Axis) -> int:
        """Length of an axis; -1 if the batch is in it."""
        sizes = [self.sizes[factor.variable] for factor in axis]
        return -1 if None in sizes else math.prod(size for size in sizes if size is not None)

    def apply(self, values: NDArray[Any], layout: Layout, *, invert: bool = False) -> Floats:
        """Act with the keys of `layout` on a tensor whose axes it describes; or undo that.

        Axes of length 1 where the layout has a longer factor are broadcast axes: they must not occur here.
        """
        made = np.array(values, dtype=np.float64, order="C")
        self._turn(made, layout, invert=invert)
        return made

    def _turn(self, values: Floats, layout: Layout, *, invert: bool) -> None:
        """As :meth:`apply`, in place."""
        for position, axis in enumerate(layout):
            sums = [place for place, factor in enumerate(axis) if factor.variable in self.segments]
            if sums:
                self._by_segment(values, layout, position, sums[0], invert=invert)
                return
        leaves = [factor for axis in layout for factor in axis]
        values = values.reshape([self.size((factor,)) for factor in leaves], copy=False)
        here: dict[int, list[tuple[int, int]]] = {}
        for place, factor in enumerate(leaves):
            here.setdefault(factor.variable, []).append((place, factor.action))
        steps = [element for element in self.elements if element.members[0] in here]
        indexing = {variable for element in steps for variable in element.index}
        # A family is chosen by the plain index: families first, then what permutes the index; backwards to undo it.
        steps.sort(key=lambda element: element.members[0] in indexing, reverse=invert)
        for element in steps:
            index = [here[variable][0][0] for variable in element.index]
            for places in zip(*(here[member] for member in element.members), strict=True):
                _act(values, element.keys, index, places, invert=invert)

    def _by_segment(self, values: Floats, layout: Layout, position: int, place: int, *, invert: bool) -> None:
        axis = layout[position]
        outer, inner, chosen = axis[:place], axis[place + 1 :], axis[place]
        shape = values.shape
        whole, before = shape[position], math.prod(max(self.size((factor,)), 1) for factor in outer)
        total = self.size((chosen,))
        if any(self.sizes[factor.variable] is None for factor in outer):
            before = whole // (total * self.size(inner))
        split = (*shape[:position], before, total, self.size(inner), *shape[position + 1 :])
        parts = np.moveaxis(values.reshape(split, copy=False), position + 1, 0)
        start = 0
        for segment in self.segments[chosen.variable]:
            width = self.size(segment)
            part = np.moveaxis(parts[start : start + width], 0, position + 1)
            turned = tuple(Factor(factor.variable, factor.action * chosen.action) for factor in segment)
            inside = (*layout[:position], outer, turned, inner, *layout[position + 1 :])
            self._turn(part, inside, invert=invert)
            start += width


def _act(
    values: Floats, keys: Sequence[AxisKey], index: list[int], places: Sequence[tuple[int, int]], *, invert: bool
) -> None:
    """A key, or a family of them, on the places of its members in a tensor of one axis for each leaf. In place.

    Block by block along the longest axis that is not the key's, so that what is needed beside the tensor stays small.
    """
    members, action = [place for place, _ in places], places[0][1]
    rest = [place for place in range(values.ndim) if place not in (*index, *members)]
    rest.sort(key=lambda place: values.shape[place], reverse=True)
    turned = np.transpose(values, [*index, *rest, *members])
    families = np.ndindex(*turned.shape[: len(index)])
    for family, key in zip(families, keys, strict=True):
        mine = turned[family] if rest else turned[family][np.newaxis]
        size = math.prod(mine.shape[-len(members) :])
        step = max(1, _BLOCK * len(mine) // max(mine.size, 1))
        for start in range(0, len(mine), step):
            block = mine[start : start + step]
            block[...] = _call(key, action, block.reshape(-1, size), invert=invert).reshape(block.shape)


def _call(key: AxisKey, action: int, rows: Floats, *, invert: bool) -> Floats:
    if action == SELF:
        return key.inverse(rows) if invert else key.linear(rows)
    if action == DUAL:
        return key.inverse_dual(rows) if invert else key.dual(rows)
    return key.inverse_order(rows) if invert else key.order(rows)
