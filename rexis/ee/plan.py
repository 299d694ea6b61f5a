"""Which axes share a key, and from which group each key may come: constraints, and their closure.

Every axis of every value and constant is a product of variables (:mod:`rexis.ee.layout`). Operators *join* axes (both
carry one key, or one carries the other's dual or order), *restrict* them (only some groups commute with the operator)
and *split* them: a reshape into products, a concatenation or slice into sums. The plan keeps the closure of all this as
it goes (union–find over variables, with the relation between them), so that a layout read at any time is up to date.

When all operators have spoken, :meth:`Plan.keyring` gives each variable the strongest group left, joins variables that
no operator tells apart into one dense key, and lets keys differ from head to head where nothing forbids it.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rexis.ee.graph import Graph, Node
from rexis.ee.groups import CONFORMAL, FREE, ISOMETRY, MONOMIAL, NONE, AxisKey, Power, draw, on_plane
from rexis.ee.layout import ORDER, SELF, Axis, Element, Factor, Keyring, Layout
from rexis.ee.stream import SecretStream
from rexis.protocol.errors import EncryptionError

_APART = "keep the batch axis apart: reshape and transpose records one by one"
_EVEN = "choose sizes of which one divides the other, or separate linear layers"

# Variables that are mixed together have at most this many elements: the QR of the key is cubic in it.
_MAX_JOINT = 4096
# Heads and the like: a family holds one key for each combination of its index. Planes have small keys.
_MAX_FAMILY = 64
_MAX_PLANES = 4096


@dataclass(frozen=True)
class ClearAxis:
    """A factor whose key is trivial: what can be read there, and why.

    Attributes
    ----------
    where
        The first value and axis that shows it, as ``value/axis``.
    size
        Its length.
    reason
        The operator that needs it so.
    inherent
        It is a position that the operator works on (space, time), not something a key was expected for.
    """

    where: str
    size: int
    reason: str
    inherent: bool


class Grouping(NamedTuple):
    """Variables whose key is drawn at once: see :class:`rexis.ee.layout.Element`."""

    members: tuple[int, ...]
    actions: tuple[int, ...]
    places: tuple[int, ...]


class Plan:
    """The constraints on a graph's keys.

    Parameters
    ----------
    strongest
        Caps every variable's powers.
    """

    def __init__(self, graph: Graph, strongest: Power = FREE) -> None:
        self.graph = graph
        self._strongest = strongest
        self.layouts: dict[str, Layout] = {}
        self._sizes: list[int | None] = [None]
        self._powers: list[Power] = [NONE]
        self._parents: dict[int, tuple[int, int]] = {}
        self._products: dict[int, Axis] = {}
        self._sums: dict[int, tuple[Axis, ...]] = {}
        self._touched: list[tuple[Axis, ...]] = []
        self._together: list[tuple[tuple[Axis, ...], tuple[Axis, ...] | None]] = []
        self._reasons: dict[int, str] = {}
        self._positions: dict[int, str] = {}
        # Values that the next linear operators see scaled and shifted: see rules.norm.
        self.gains: set[str] = set()
        # Gains that go into constants of the operators before them: see rules.backwards.
        self.absorbed: dict[str, tuple[tuple[str, int], ...]] = {}
        # Token ids: the input that each value holds the ids of; for each such input, the axis of the tables looked up.
        self.tokens: dict[str, str] = {}
        self.vocabularies: dict[str, Axis] = {}
        # Constants that may not change.
        self.pinned: set[str] = set()
        # Squares whose sums are all that is read of them.
        self.squares: set[str] = set()

    # --- reading ---------------------------------------------------------------------------------------------

    @property
    def batch(self) -> Axis:
        """The axis that counts records. It carries no key."""
        return (Factor(0, SELF),)

    def layout(self, name: str) -> Layout:
        """The layout of a value or constant, up to date."""
        return tuple(self.resolve(axis) for axis in self.layouts[name])

    def resolve(self, axis: Axis) -> Axis:
        """An axis in terms of variables that are neither joined to another nor a product."""
        found: list[Factor] = []
        for factor in axis:
            variable, action = factor
            while variable in self._parents:
                variable, relation = self._parents[variable]
                action *= relation
            if variable in self._products:
                inside = tuple(Factor(each.variable, each.action * action) for each in self._products[variable])
                found += self.resolve(inside)
            else:
                found.append(Factor(variable, action))
        return tuple(found)

    def size(self, axis: Axis) -> int | None:
        """Length of an axis; None if the batch is in it."""
        sizes = [self._sizes[factor.variable] for factor in axis]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    def leaves(self, axes: Iterable[Axis]) -> list[Factor]:
        """All variables of axes, also those inside sums."""
        found: list[Factor] = []
        for factor in self.resolve(tuple(factor for axis in axes for factor in axis)):
            if factor.variable in self._sums:
                inner = self.leaves(self._sums[factor.variable])
                found += [Factor(each.variable, each.action * factor.action) for each in inner]
            else:
                found.append(factor)
        return found

    def where(self, axis: Axis, node: Node) -> str:
        """Where an axis stands, as ``value/axis``, for messages: among what `node` reads and writes, if it does."""
        wanted = {factor.variable for factor in self.leaves([axis])}
        for name in (*node.inputs, *node.outputs, *self.layouts):
            for place, each in enumerate(self.layouts.get(name, ())):
                if wanted & {factor.variable for factor in self.leaves([each])}:
                    return f"{name}/{place}"
        return "of length 1"

    def refuse(self, node: Node, axes: Iterable[Axis], reason: str, hint: str | None = None) -> EncryptionError:
        """The error for a node whose `axes` cannot carry keys."""
        names = dict.fromkeys(self.where(axis, node) for axis in axes)
        return node.refuse(f"axis {' and '.join(names)}: {reason}", hint)

    def vocabulary(self, name: str) -> Axis | None:
        """The axis of the tables that a value's token ids look up; None for anything else."""
        axis = self.vocabularies.get(self.tokens.get(name, ""))
        return None if axis is None else self.resolve(axis)

    def powers(self, axis: Axis) -> Power:
        """What all variables of an axis may do."""
        each = [self._powers[factor.variable] for factor in self.leaves([axis])]
        return functools.reduce(operator.and_, each, each[0] if each else FREE)

    # --- constraints -----------------------------------------------------------------------------------------

    def fresh(self, size: int, powers: Power = FREE) -> Axis:
        """A new axis with a key of its own."""
        self._sizes.append(size)
        plane = powers & Power.PLANE if size == 2 else NONE
        self._powers.append(powers & self._strongest | plane)
        return (Factor(len(self._sizes) - 1, SELF),)

    def pin(self, name: str, shape: Sequence[int]) -> None:
        """A constant that may not change: its axes show, and so do those of values that it meets."""
        self.layouts[name] = tuple(self.fresh(size, NONE) for size in shape)
        self.pinned.add(name)
        for factor in self.leaves(self.layouts[name]):
            self._positions[factor.variable] = f"the fixed constant {name!r}"

    @property
    def cut_axes(self) -> set[int]:
        """Variables that are sums of segments."""
        return set(self._sums)

    @property
    def turns_planes(self) -> bool:
        """Whether keys may be rotations at all."""
        return ISOMETRY in self._strongest

    def plane(self, axis: Axis, node: Node, *, inner: bool) -> tuple[Axis, Axis] | None:
        """Cut an axis into a plane that `node` turns and the axis that counts the planes; None if it is cut otherwise.

        The planes are permuted, and each may have a key of its own (:meth:`groupings`).

        Parameters
        ----------
        inner
            Whether the two coordinates of a plane lie side by side, not half the axis apart.
        """
        resolved = self.resolve(axis)
        count = (self.size(resolved) or 1) // 2
        if any(factor.variable in self._sums for factor in resolved) or not self._divides(
            resolved, 2 if inner else count
        ):
            return None
        outer, within = self.split(resolved, [count, 2] if inner else [2, count], node)
        plane, planes = (within, outer) if inner else (outer, within)
        (factor,) = self.resolve(plane)
        self._powers[factor.variable] = on_plane(self._powers[factor.variable] | Power.PLANE)
        self._positions.setdefault(factor.variable, f"order in pairs of {node}")
        self.restrict([plane], CONFORMAL, node)
        self.restrict([planes], Power.PERMUTE, node)
        return plane, planes

    def _divides(self, axis: Axis, inner: int) -> bool:
        """Whether an axis without sums can be cut so that its inner part has this size."""
        for factor in reversed(axis):
            length = self._sizes[factor.variable] or 1
            if inner % length:
                return length % inner == 0
            inner //= length
        return inner == 1

    def on_plane(self, factor: Factor) -> bool:
        """Whether a factor is a plane that is turned."""
        return Power.PLANE in self._powers[factor.variable]

    def restrict(self, axes: Iterable[Axis], powers: Power, node: Node) -> None:
        """Only keys with these powers commute with `node`, which treats `axes` together."""
        axes = tuple(axes)
        self._touched.append(axes)
        for factor in self.leaves(axes):
            self._limit(factor.variable, powers, str(node))

    def keep_together(self, axes: Iterable[Axis], beside: Iterable[Axis] | None = None) -> None:
        """A node couples what stands along `axes`: a key of anything else may not depend on the place there.

        Parameters
        ----------
        beside
            All that the node has beside `axes`, where that matters to it alone: a sum over heads leaves what stands in
            other values a key for each head. By default, anything.
        """
        self._together.append((tuple(axes), None if beside is None else tuple(beside)))

    def show(self, axes: Iterable[Axis], node: Node, what: str) -> None:
        """Positions that `node` works on as they are: space, time. They stay visible, and the card says so."""
        axes = tuple(axes)
        self.restrict(axes, NONE, node)
        for factor in self.leaves(axes):
            self._positions.setdefault(factor.variable, f"{what} of {node}")

    def join(self, first: Axis, second: Axis, node: Node, relation: int = SELF) -> None:
        """`first` acts as `second` does, or as its dual or its order."""
        a = list(self.resolve(first))
        b = [Factor(each.variable, each.action * relation) for each in self.resolve(second)]
        while a and b:
            x, y = a.pop(), b.pop()
            if x.variable == y.variable == 0:
                continue
            m, n = self._sizes[x.variable], self._sizes[y.variable]
            if m is None or n is None:
                raise self.refuse(node, [first, second], "the batch axis meets an axis that carries a key", _APART)
            if m == n:
                self._unify(x, y, node)
            elif m == 1:
                self._limit(x.variable, NONE, str(node))
                b.append(y)
            elif n == 1:
                self._limit(y.variable, NONE, str(node))
                a.append(x)
            elif m % n == 0:
                a += self._split(x, [m // n, n], node)
                b.append(y)
            elif n % m == 0:
                b += self._split(y, [n // m, m], node)
                a.append(x)
            else:
                self._clear((*first, *second), f"{node}, where parts of {m} and {n} elements meet")
                return
            a, b = list(self.resolve(tuple(a))), list(self.resolve(tuple(b)))
        for factor in (*a, *b):
            if self._sizes[factor.variable] != 1:
                raise self.refuse(node, [first, second], "different lengths cannot carry one key", _EVEN)
            self._limit(factor.variable, NONE, str(node))

    def split(self, axis: Axis, sizes: Sequence[int], node: Node) -> list[Axis]:
        """Cut an axis into a product of axes with these sizes, outer to inner."""
        rest = list(self.resolve(axis))
        found: list[Axis] = []
        for size in reversed(sizes):
            taken: list[Factor] = []
            missing = size
            while missing > 1:
                if not rest:
                    raise self.refuse(node, [axis], f"it cannot be cut into {list(sizes)}", _EVEN)
                factor = rest.pop()
                length = self._sizes[factor.variable]
                if length is None:
                    raise self.refuse(node, [axis], "the batch axis is cut", _APART)
                if missing % length == 0:
                    taken.insert(0, factor)
                    missing //= length
                elif length % missing == 0:
                    rest += self._split(factor, [length // missing, missing], node)
                else:
                    if self.size(axis) is None:
                        raise self.refuse(node, [axis], "the batch axis is cut", _APART)
                    self._clear(axis, f"{node}, which cuts a part of {length} elements at {missing}")
                    parts = [self.fresh(size, NONE) for size in sizes]
                    self._inherit(factor.variable, [each.variable for part in parts for each in part])
                    return parts
            found.insert(0, tuple(taken))
        for factor in rest:
            if self._sizes[factor.variable] != 1:
                raise self.refuse(node, [axis], f"it cannot be cut into {list(sizes)}", _EVEN)
            self._limit(factor.variable, NONE, str(node))
        return found

    def concatenate(self, axes: Sequence[Axis]) -> Axis:
        """The axis that has `axes` as its segments."""
        sizes = [self.size(axis) for axis in axes]
        (factor,) = self.fresh(sum(size or 0 for size in sizes))
        self._sums[factor.variable] = tuple(axes)
        return (factor,)

    def segments(self, axis: Axis, widths: Sequence[int], node: Node) -> list[Axis]:
        """Cut an axis into a sum of segments of these widths."""
        resolved = self.resolve(axis)
        total = self.size(resolved)
        if total is None:
            raise self.refuse(node, [axis], "the batch axis is cut", _APART)
        if len(widths) == 1:
            return [resolved]
        if not resolved:
            raise self.refuse(node, [axis], f"an axis of length 1 is cut into {list(widths)}", _EVEN)
        for factor in resolved[:1]:
            if self.on_plane(factor):
                self._limit(factor.variable, NONE, str(node))
        if len(resolved) > 1:
            return self._cut_product(resolved, widths, node)
        (factor,) = resolved
        if factor.variable not in self._sums:
            powers = self._powers[factor.variable]
            parts = tuple(self.fresh(width, powers) for width in widths)
            self._sums[factor.variable] = parts
            self._inherit(factor.variable, [each.variable for part in parts for each in part])
        else:
            self._refine(factor.variable, widths, node)
        return self._gather(factor, widths)

    def _cut_product(self, axis: Axis, widths: Sequence[int], node: Node) -> list[Axis]:
        """Cut across a product's outermost factor, whose places become visible; every part shares the inner keys."""
        outer, inner = axis[:1], axis[1:]
        step = self.size(inner) or 1
        if any(width % step for width in widths):
            return self._cut_inside(axis, widths, node)
        parts = self.segments(outer, [width // step for width in widths], node)
        return [(*part, *inner) for part in parts]

    def _cut_inside(self, axis: Axis, widths: Sequence[int], node: Node) -> list[Axis]:
        """Cut a product across its inner factors: the outermost one is a row of places, each with the inner key."""
        outer, inner = axis[:1], axis[1:]
        count, step = self.size(outer) or 1, self.size(inner) or 1
        self._limit_all(outer[0], NONE, node)
        borders = {0, *itertools.accumulate(widths)}
        parts: list[list[Axis]] = []
        for start in range(0, count * step, step):
            inside = sorted({start, start + step} | {border for border in borders if start < border < start + step})
            cuts = [b - a for a, b in itertools.pairwise(inside)]
            for border, piece in zip(inside, self.segments(inner, cuts, node), strict=False):
                if border in borders:
                    parts.append([])
                parts[-1].append(piece)
        return [part[0] if len(part) == 1 else self.concatenate(part) for part in parts]

    def _refine(self, variable: int, widths: Sequence[int], node: Node) -> None:
        """Make every border of `widths` a border between segments of a sum."""
        borders = set(itertools.accumulate(widths))
        refined: list[Axis] = []
        start = 0
        for segment in self._sums[variable]:
            width = self.size(self.resolve(segment)) or 1
            inside = sorted(border - start for border in borders if start < border < start + width)
            if inside:
                cuts = [b - a for a, b in itertools.pairwise([0, *inside, width])]
                refined += self.segments(segment, cuts, node)
            else:
                refined.append(segment)
            start += width
        self._sums[variable] = tuple(refined)

    def _gather(self, factor: Factor, widths: Sequence[int]) -> list[Axis]:
        """Segments of a refined sum, gathered to these widths."""
        parts = iter(self._sums[factor.variable])
        found: list[Axis] = []
        for width in widths:
            taken: list[Axis] = []
            while sum(self.size(self.resolve(axis)) or 1 for axis in taken) < width:
                taken.append(next(parts))
            axis = taken[0] if len(taken) == 1 else self.concatenate(taken)
            found.append(tuple(Factor(each.variable, each.action * factor.action) for each in axis))
        return found

    def _split(self, factor: Factor, sizes: list[int], node: Node) -> list[Factor]:
        if factor.variable in self._sums:
            return self._split_sum(factor, sizes, node)
        powers = self._powers[factor.variable]
        axis = tuple(each for size in sizes for each in self.fresh(size, powers))
        self._products[factor.variable] = axis
        self._inherit(factor.variable, [each.variable for each in axis])
        return [Factor(each.variable, factor.action) for each in axis]

    def _inherit(self, variable: int, parts: Iterable[int]) -> None:
        """The parts of a variable are what they are for the reasons it had."""
        for said in (self._reasons, self._positions):
            if variable in said:
                said.update(dict.fromkeys(parts, said[variable]))

    def _split_sum(self, factor: Factor, sizes: list[int], node: Node) -> list[Factor]:
        """Cut joined segments into a product: rows of one length share one key, and their order stays as it was.

        That order is an axis in the clear: without the cut, each segment would have had a key for all of its places.
        """
        count, width = sizes
        rows = self.segments((Factor(factor.variable, SELF),), [width] * count, node)
        for row in rows[1:]:
            self.join(row, rows[0], node)
        order = self.fresh(count, NONE)
        self._reasons[order[0].variable] = f"the order of joined segments, which {node} cuts into rows"
        del self._sums[factor.variable]
        self._products[factor.variable] = (*order, *rows[0])
        return list(self.resolve((factor,)))

    def _unify(self, x: Factor, y: Factor, node: Node) -> None:
        if x.variable == y.variable:
            if x.action != y.action:
                self._reconcile(x, y, node)
            return
        if ORDER in (x.action, y.action):
            if x.action != ORDER:
                x, y = y, x
            # x knows its variable's order only; if y acts with more than an order, it has to be nothing more.
            self._limit_all(x, MONOMIAL, node)
            if y.action == ORDER:
                self._limit_all(y, MONOMIAL, node)
                self._attach(y.variable, x.variable, SELF, node)
            else:
                self._limit_all(y, Power.PERMUTE, node)
                self._attach(y.variable, x.variable, ORDER, node)
            return
        self._attach(y.variable, x.variable, x.action * y.action, node)

    def _attach(self, variable: int, to: int, relation: int, node: Node) -> None:
        """From here on `variable` is `to`, or its dual or order."""
        if variable in self._sums and to in self._sums:
            here = [self.resolve(axis) for axis in self._sums[variable]]
            there = [self.resolve(axis) for axis in self._sums[to]]
            widths = _common([self.size(axis) or 1 for axis in here], [self.size(axis) or 1 for axis in there])
            mine = self.segments((Factor(variable, SELF),), widths, node)
            theirs = self.segments((Factor(to, SELF),), widths, node)
            for a, b in zip(mine, theirs, strict=True):
                self.join(a, b, node, relation)
            self._parents[variable] = (to, relation)
            return
        if variable in self._sums:
            if relation == ORDER:
                widths = [self.size(self.resolve(axis)) or 1 for axis in self._sums[variable]]
                self.segments((Factor(to, SELF),), widths, node)
                self._attach(variable, to, relation, node)
                return
            variable, to = to, variable
        if self.on_plane(Factor(variable, SELF)):
            self._mark_plane(to, node)
        reason = self._reasons.get(variable, str(node))
        # What follows the order of another is itself an order and nothing more, so it hands on that one power only.
        allowed = self._powers[variable] | (Power.SIGN | Power.SCALE if relation == ORDER else NONE)
        self._limit_all(Factor(to, SELF), allowed, node, reason)
        if variable in self._positions:
            for factor in self.leaves([(Factor(to, SELF),)]):
                self._positions.setdefault(factor.variable, self._positions[variable])
        self._parents[variable] = (to, relation)

    def _mark_plane(self, variable: int, node: Node) -> None:
        if variable in self._sums:  # what is cut between the coordinates cannot turn
            self._limit_all(Factor(variable, SELF), NONE, node)
        else:
            self._powers[variable] = on_plane(self._powers[variable])

    def _reconcile(self, x: Factor, y: Factor, node: Node) -> None:
        """One variable is asked to act in two ways: both must be the same for every key that is left."""
        same = Power.PERMUTE if ORDER in (x.action, y.action) else FREE & ~Power.SCALE
        self._limit_all(x, same, node)

    def _limit_all(self, factor: Factor, powers: Power, node: Node, reason: str | None = None) -> None:
        for each in self.leaves([(factor,)]):
            self._limit(each.variable, powers, reason or str(node))

    def _clear(self, axis: Axis, reason: str) -> None:
        """No key spans what an operator does to an axis: it is left without one, which the owner has to allow."""
        for factor in self.leaves([axis]):
            if factor.variable != 0 and self._powers[factor.variable] != NONE:
                self._limit(factor.variable, NONE, reason)
                self._positions.pop(factor.variable, None)

    def _limit(self, variable: int, powers: Power, reason: str) -> None:
        before = self._powers[variable]
        self._powers[variable] = on_plane(before & powers) if Power.PLANE in before else before & powers
        if self._powers[variable] == NONE != before:
            self._reasons[variable] = reason

    # --- the result ------------------------------------------------------------------------------------------

    def clear_axes(self) -> list[ClearAxis]:
        """Factors longer than 1 whose key is trivial, each once, in the order of the graph."""
        found: dict[int, ClearAxis] = {}
        for name, layout in self.layouts.items():
            for position, axis in enumerate(layout):
                for factor in self.leaves([axis]):
                    size = self._sizes[factor.variable]
                    if factor.variable == 0 or size in (None, 1) or self._powers[factor.variable] != NONE:
                        continue
                    position_of = self._positions.get(factor.variable)
                    found.setdefault(
                        factor.variable,
                        ClearAxis(
                            where=f"{name}/{position}",
                            size=size or 0,
                            reason=position_of or self._reasons.get(factor.variable, "its operators"),
                            inherent=position_of is not None,
                        ),
                    )
        return list(found.values())

    def groups_of(self, name: str) -> list[tuple[int, list[tuple[int, Power]]]]:
        """For each axis of a value, its position and its variables' sizes and powers."""
        return [
            (position, [(self._sizes[f.variable] or 0, self._powers[f.variable]) for f in self.leaves([axis])])
            for position, axis in enumerate(self.layouts[name])
            if axis != self.batch
        ]

    def groupings(self) -> list[Grouping]:
        """How variables get their keys: jointly, one by one, or one for each place of others."""
        branches = self._branches()
        jointly = self._bundles(branches)
        families = self._families(branches, {member for grouping in jointly for member in grouping.members})
        done = {member for grouping in jointly for member in grouping.members}
        single = [Grouping((v,), (SELF,), families.get(v, ())) for v in sorted(branches) if v not in done]
        return [*jointly, *single]

    def extent(self, variables: Iterable[int]) -> int:
        """Product of the sizes of variables."""
        return math.prod(self._sizes[variable] or 1 for variable in variables)

    def keyring(self, seed: bytes) -> Keyring:
        """Keys for all variables, drawn from `seed`."""
        elements = []
        for members, actions, index in self.groupings():
            size, count = self.extent(members), self.extent(index)
            keys = tuple(self._draw(members[0], size, seed, which) for which in range(count))
            elements.append(Element(members, actions, index, keys))
        sums = {variable: tuple(self.resolve(axis) for axis in parts) for variable, parts in self._sums.items()}
        return Keyring(dict(enumerate(self._sizes)), sums, tuple(elements))

    def _draw(self, variable: int, size: int, seed: bytes, which: int) -> AxisKey:
        return draw(self._powers[variable], SecretStream(seed, f"variable/{variable}/{which}"), size)

    def _branches(self) -> _Branches:
        """For each variable, the factors of every tensor it stands in.

        A tensor with segments counts once for each choice of segments.
        """
        found: _Branches = {}
        for name in self.layouts:
            for branch in self._expanded([factor for axis in self.layout(name) for factor in axis]):
                for variable in {factor.variable for factor in branch} - {0}:
                    found.setdefault(variable, []).append(branch)
        return found

    def _expanded(self, factors: list[Factor]) -> list[tuple[Factor, ...]]:
        for place, factor in enumerate(factors):
            if factor.variable in self._sums:
                found = []
                for segment in self._sums[factor.variable]:
                    inside = [Factor(each.variable, each.action * factor.action) for each in self.resolve(segment)]
                    found += self._expanded([*factors[:place], *inside, *factors[place + 1 :]])
                return found
        return [tuple(factors)]

    def _bundles(self, branches: _Branches) -> list[Grouping]:
        """Variables that may be mixed together: nothing tells them apart, and they stand together everywhere."""
        touches: dict[int, list[int]] = {}
        for number, axes in enumerate(self._touched):
            for factor in self.leaves(axes):
                touches.setdefault(factor.variable, []).append(number)
        alike: dict[object, list[int]] = {}
        first: dict[int, int] = {}
        for variable, places in branches.items():
            powers = self._powers[variable]
            if Power.MIX not in powers or Power.PLANE in powers:
                continue
            first[variable] = _actions(places[0], variable)[0]
            where = tuple(
                (id(branch), tuple(action * first[variable] for action in _actions(branch, variable)))
                for branch in places
            )
            alike.setdefault((powers, tuple(touches.get(variable, ())), where), []).append(variable)
        found = []
        for members in alike.values():
            size = math.prod(self._sizes[member] or 1 for member in members)
            if len(members) > 1 and size <= _MAX_JOINT:
                actions = tuple(first[member] * first[members[0]] for member in members)
                found.append(Grouping(tuple(members), actions, ()))
        return found

    def _families(self, branches: _Branches, bundled: set[int]) -> dict[int, tuple[int, ...]]:
        """For each variable, those whose place chooses its key: permuted heads that it never stands without."""
        together = [
            (
                {f.variable for f in self.leaves(axes)},
                None if beside is None else {f.variable for f in self.leaves(beside)},
            )
            for axes, beside in self._together
        ]
        # Token ids are looked up alone, so that the vocabulary's key may depend on nothing else.
        alone = {factor.variable for factor in self.leaves(self.vocabularies.values())}
        indexing: set[int] = set()
        found: dict[int, tuple[int, ...]] = {}
        strongest_first = sorted(branches, key=lambda v: (Power.MIX not in self._powers[v], v))
        for variable in strongest_first:
            powers, size = self._powers[variable], self._sizes[variable]
            if variable in bundled or variable in indexing or variable in alone or powers == NONE or size == 1:
                continue
            if any(len(_actions(branch, variable)) > 1 for branch in branches[variable]):
                continue  # which of its places an index belongs to could not be told
            once = [
                {f.variable for f in branch if len(_actions(branch, f.variable)) == 1} for branch in branches[variable]
            ]
            shared = set.intersection(*once) - {0, variable}
            largest = _MAX_PLANES if Power.PLANE in powers else _MAX_FAMILY
            index: list[int] = []
            for other in sorted(shared):
                if other in bundled or other in found or Power.MIX in self._powers[other]:
                    continue
                if self._powers[other] & ~Power.PERMUTE or self._sizes[other] in (None, 1):
                    continue
                if any(
                    other in group and variable not in group and (beside is None or variable in beside)
                    for group, beside in together
                ):
                    continue
                if math.prod(self._sizes[each] or 1 for each in (*index, other)) <= largest:
                    index.append(other)
            if index:
                found[variable] = tuple(index)
                indexing.update(index)
        return found


_Branches = dict[int, list[tuple[Factor, ...]]]


def _actions(branch: Iterable[Factor], variable: int) -> tuple[int, ...]:
    return tuple(factor.action for factor in branch if factor.variable == variable)


def _common(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """Widths of the pieces between all borders of two divisions of one length."""
    borders = sorted({0, *itertools.accumulate(first), *itertools.accumulate(second)})
    return [b - a for a, b in itertools.pairwise(borders)]
