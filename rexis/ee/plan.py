"""Which tensor axes share a key, and from which group each key may come.

Operators state constraints; the plan is their closure. *Joined* axes carry one key (ReLU's output has its input's key).
*Restricted* axes admit only groups that commute with the operator. A class of joined axes admits what all its members
admit, and gets the strongest group of that (:data:`rexis.ee.groups.GROUPS`).
"""

from __future__ import annotations

from typing import NamedTuple

from rexis.ee.graph import Graph, Node
from rexis.ee.groups import GROUPS, AxisKey, Group
from rexis.ee.stream import SecretStream


class Axis(NamedTuple):
    """One axis of a value or of a stored constant."""

    tensor: str
    position: int


class Plan:
    """Classes of axes (union–find) with the groups that each class admits."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._parent: dict[Axis, Axis] = {}
        self._admitted: dict[Axis, frozenset[Group]] = {}

    def last_axis(self, name: str, node: Node) -> Axis:
        """The last axis of a value, which carries its key; the axes before it count records and carry none."""
        shape = self.graph.shape(name)
        if not shape or shape[-1] is None:
            raise node.refuse(f"the width of {name!r} is not known", hint="export with static feature axes")
        return Axis(name, len(shape) - 1)

    def join(self, first: Axis, second: Axis) -> None:
        """Both axes carry the same key."""
        a, b = self._find(first), self._find(second)
        if a != b:
            keep, drop = sorted((a, b))  # so that the class's name does not depend on the order of joining
            self._parent[drop] = keep
            self._admitted[keep] &= self._admitted.pop(drop)

    def restrict(self, axis: Axis, groups: frozenset[Group], node: Node) -> None:
        """Only `groups` commute with `node` on this axis."""
        root = self._find(axis)
        self._admitted[root] &= groups
        if not self._admitted[root]:
            raise node.refuse("no group of keys commutes with all operators on this axis")

    def label(self, axis: Axis) -> str:
        """Name of the axis's class."""
        root = self._find(axis)
        return f"{root.tensor}/{root.position}"

    def draw(self, axis: Axis, size: int, seed: bytes) -> AxisKey:
        """The class's key, without offset. Deterministic in the seed and the class."""
        admitted = self._admitted[self._find(axis)]
        group = next(group for group in GROUPS if group in admitted)
        return group.draw(SecretStream(seed, f"axis/{self.label(axis)}"), size)

    def _find(self, axis: Axis) -> Axis:
        if axis not in self._parent:
            self._parent[axis] = axis
            self._admitted[axis] = frozenset(GROUPS)
        while self._parent[axis] != axis:
            axis = self._parent[axis]
        return axis
