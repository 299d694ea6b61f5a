"""Where a graph turns planes: maps of two coordinates that commute with every rotation, as rotary embeddings are.

Two halves of an axis (or its even and odd places) are cut apart, multiplied with tables, negated, added, and put
together again. What comes out is linear in the two coordinates; where its matrix has the form ``[[A, −B], [B, A]]``
it is a product of complex numbers, and commutes with keys that are such products too (Su et al. 2021, RoFormer).

The form is found by propagation: each value between the cut and the concatenation is followed as a sum of terms
*sign × tables × coordinate*. No pattern of nodes is looked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rexis.ee.graph import Graph, Node
from rexis.ee.groups import Power
from rexis.ee.layout import Axis
from rexis.ee.plan import Plan
from rexis.ee.rules.reshape import length_one_axes
from rexis.ee.rules.select import picks
from rexis.protocol.digests import sha256

# How often, and with which sign, each product of tables occurs.
_Terms = dict[tuple[str, ...], int]


@dataclass(frozen=True)
class Turn:
    """One map of planes.

    Attributes
    ----------
    source, axis
        The value whose axis holds the planes.
    inner
        Whether a plane's coordinates lie side by side.
    starts
        Values that are one coordinate, cut from the source.
    end
        The value where the coordinates are together again.
    """

    source: str
    axis: int
    inner: bool
    starts: frozenset[str]
    end: str


@dataclass(frozen=True)
class _Form:
    """A value that is linear in two coordinates: the terms that meet the first, and the second."""

    source: str
    axis: int
    inner: bool
    starts: frozenset[str]
    inside: frozenset[str]
    terms: tuple[_Terms, _Terms]

    def along(self, other: _Form) -> bool:
        """Whether both cut the same axis in the same way."""
        return (self.source, self.axis, self.inner) == (other.source, other.axis, other.inner)


class Turning:
    """Plans the ends of turned planes; what lies between them is planned by the rules, as if one coordinate was all.

    Parameters
    ----------
    plan
        Has no layouts yet.
    """

    def __init__(self, plan: Plan) -> None:
        found = _turns(plan.graph) if plan.turns_planes else []
        self._plan = plan
        self._waiting = {turn.source: [each for each in found if each.source == turn.source] for turn in found}
        self.starts = frozenset(name for turn in found for name in turn.starts)
        self._starts: dict[str, tuple[Turn, Axis]] = {}
        self._ends: dict[str, Axis] = {}

    def plans(self, node: Node) -> bool:
        """Plan a node that cuts or joins planes; False if it does not."""
        for name in node.inputs:
            for turn in self._waiting.pop(name, []):  # before anything else reads the source
                self._cut(node, turn)
        if all(name in self._starts for name in node.outputs):
            for name in node.outputs:
                self._take(name, *self._starts[name])
        elif node.output in self._ends:
            self._join(node, self._ends[node.output])
        else:
            return False
        return True

    def _cut(self, node: Node, turn: Turn) -> None:
        found = self._plan.plane(self._plan.layout(turn.source)[turn.axis], node, inner=turn.inner)
        if found is not None:
            self._starts.update((name, (turn, found[1])) for name in turn.starts)
            self._ends[turn.end] = found[0]

    def _take(self, name: str, turn: Turn, planes: Axis) -> None:
        """One coordinate: without the plane, and without its axis where a Gather took that away."""
        layout = self._plan.layout(turn.source)
        kept = () if len(self._plan.graph.shape(name) or ()) < len(layout) else (planes,)
        self._plan.layouts[name] = (*layout[: turn.axis], *kept, *layout[turn.axis + 1 :])

    def _join(self, node: Node, plane: Axis) -> None:
        plan = self._plan
        first, second = (plan.layout(name) for name in node.inputs)
        for ours, theirs in zip(first, second, strict=True):
            plan.join(theirs, ours, node)
            if Power.MIX not in plan.powers(ours):  # so that each place along it can have a rotation of its own
                plan.restrict([tuple(factor for factor in ours if factor.variable != 0)], Power.PERMUTE, node)
        along = int(node.attributes["axis"]) % len(first)
        plan.layouts[node.output] = (*first[:along], (*plane, *first[along]), *first[along + 1 :])


def _turns(graph: Graph) -> list[Turn]:
    """All maps of planes in a graph that commute with rotations and whose insides nothing else reads."""
    found: list[Turn] = []
    known: dict[str, _Form | None] = {}
    for node in graph.computing:
        known.update((name, _formed(name, node, graph, known)) for name in node.outputs)
        forms = [form for name in node.inputs if (form := known.get(name)) is not None]
        if node.op != "Concat" or len(forms) != 2 or len(node.inputs) != 2:
            continue
        first, second = forms
        if not first.along(second) or first.terms != (second.terms[1], _negated(second.terms[0])):
            continue
        inside = first.inside | second.inside
        if any(reader.output not in inside | {node.output} for name in inside for reader in graph.consumers(name)):
            continue
        bare = not any(tables for terms in (*first.terms, *second.terms) for tables in terms)
        if bare and not _meet(graph, first.source, node.output):
            continue  # a mere rearrangement: segments with keys of their own hide more
        found.append(Turn(first.source, first.axis, first.inner, first.starts | second.starts, node.output))
    return found


def _formed(name: str, node: Node, graph: Graph, known: dict[str, _Form | None]) -> _Form | None:
    if name == graph.output:
        return None
    if node.op in ("Slice", "Split", "Gather"):
        return _coordinate(name, node, graph)
    computed = [each for each in node.inputs if graph.is_computed(each)]
    forms = [form for each in computed if (form := known.get(each)) is not None]
    if not forms or len(forms) != len(computed):
        return None
    first, inside = forms[0], frozenset({name}).union(*(form.inside for form in forms))
    if node.op in ("Neg", "Identity", "Unsqueeze", "Squeeze"):
        if node.op in ("Unsqueeze", "Squeeze") and 0 in length_one_axes(node, graph):
            return None
        terms = (_negated(first.terms[0]), _negated(first.terms[1])) if node.op == "Neg" else first.terms
        return replace(first, inside=inside, terms=terms)
    if any(graph.shape(each) != graph.shape(name) for each in computed):
        return None
    if node.op == "Mul" and len(computed) == 1:
        (table,) = (_identity(each, graph) for each in node.inputs if not graph.is_computed(each))
        scaled = [{tuple(sorted((*key, table))): times for key, times in terms.items()} for terms in first.terms]
        return replace(first, inside=inside, terms=(scaled[0], scaled[1]))
    if node.op in ("Add", "Sub") and len(computed) == 2 and first.along(forms[1]):
        theirs = [_negated(terms) if node.op == "Sub" else terms for terms in forms[1].terms]
        total = [_sum(mine, other) for mine, other in zip(first.terms, theirs, strict=True)]
        starts = first.starts | forms[1].starts
        return replace(first, starts=starts, inside=inside, terms=(total[0], total[1]))
    return None


def _coordinate(name: str, node: Node, graph: Graph) -> _Form | None:
    """One of two coordinates, cut from an axis."""
    source, shape = node.inputs[0], graph.shape(node.inputs[0])
    if shape is None or not graph.is_computed(source):
        return None
    cut = [(axis, pick) for axis, pick in picks(name, node, graph) if axis and len(pick) != shape[axis]]
    if len(cut) != 1:
        return None
    axis, pick = cut[0]
    size = shape[axis]
    if size is None or size % 2:
        return None
    for inner in (False, True) if size > 2 else (False,):
        halves = [range(0, size, 2), range(1, size, 2)] if inner else [range(size // 2), range(size // 2, size)]
        if pick in halves:
            terms: tuple[_Terms, _Terms] = ({(): 1}, {}) if pick == halves[0] else ({}, {(): 1})
            return _Form(source, axis, inner, frozenset({name}), frozenset({name}), terms)
    return None


def _identity(table: str, graph: Graph) -> str:
    """Equal for equal tables, also where an exporter stored one twice."""
    if graph.view(table) is None:
        return table
    seen = graph.seen(table)
    return f"{seen.shape} {sha256(seen.tobytes())}"


def _negated(terms: _Terms) -> _Terms:
    return {tables: -times for tables, times in terms.items()}


def _sum(first: _Terms, second: _Terms) -> _Terms:
    total = {tables: first.get(tables, 0) + second.get(tables, 0) for tables in (*first, *second)}
    return {tables: times for tables, times in total.items() if times}


def _meet(graph: Graph, source: str, turned: str) -> bool:
    """Whether a value is added to what it was turned into, each perhaps times a table."""
    there = _scaled(graph, source)
    for name in _scaled(graph, turned):
        for node in graph.consumers(name):
            if node.op in ("Add", "Sub") and any(each in there for each in node.inputs if each != name):
                return True
    return False


def _scaled(graph: Graph, name: str) -> set[str]:
    """A value, and its products with tables."""
    found, waiting = {name}, [name]
    while waiting:
        for node in graph.consumers(waiting.pop()):
            tables = [each for each in node.inputs[1:] if graph.is_computed(each)]
            moved = node.op in ("Identity", "Reshape", "Flatten", "Unsqueeze", "Squeeze")
            if (moved or (node.op in ("Mul", "Div") and sum(map(graph.is_computed, node.inputs)) == 1)) and (
                node.output not in found and not (moved and tables)
            ):
                found.add(node.output)
                waiting.append(node.output)
    return found
