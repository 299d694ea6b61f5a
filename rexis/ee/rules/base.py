"""What a rule is, and the state while constants are being folded.

A rule answers for one operator: which axes share keys and which groups commute with it (`plan`), whether values may
reach it with an offset or a gain (`accepts`, `takes_gain`), and what happens to its constants (`fold`).

Beside its keys, a value may be *carried* into the encrypted graph with three arrays, all broadcastable to it::

    encrypted = K (plain − shift) / gain + offset

Offsets hide a value's origin; gain and shift are what a normalisation hands on to the linear operators behind it, so
that the normalisation itself can commute with dense keys. An operator either moves these arrays along, or takes them
up in its constants, or does not accept them, and then its inputs have none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from rexis.ee.container import Constant
from rexis.ee.graph import Graph, Node
from rexis.ee.groups import AVERAGING, FREE, NONE, draw_offset
from rexis.ee.layout import Axis, Keyring, Layout
from rexis.ee.plan import Plan
from rexis.ee.stream import Floats, SecretStream
from rexis.protocol.errors import EncryptionError

STATIC = "export with static feature axes"
APART = "keep the batch axis apart: reshape and transpose records one by one"


class OffsetMisfit(EncryptionError):
    """An offset does not fit the constant that has to take it up. The compiler then does without offsets."""


@dataclass(frozen=True)
class Carried:
    """What a value carries beside its keys; None for 1, 0 and 0. Gain and shift are plain, the offset is encrypted."""

    gain: Floats | None = None
    shift: Floats | None = None
    offset: Floats | None = None

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing."""
        return self.gain is None and self.shift is None and self.offset is None

    def moved(self, move: Callable[[Floats], Floats]) -> Carried:
        """All three arrays, moved."""
        return Carried(*(None if array is None else move(array) for array in (self.gain, self.shift, self.offset)))


PLAIN = Carried()


class Acceptance:
    """Which values may carry an offset: those whose readers all move it along or take it up.

    A model's output may: its owner subtracts it.

    Parameters
    ----------
    offsets, gains
        Whether any are to be used at all.
    """

    def __init__(self, graph: Graph, *, offsets: bool = True, gains: bool = True) -> None:
        self.graph = graph
        self.offsets = offsets
        self._gains = gains
        self._found: dict[str, bool] = {}

    def of(self, name: str) -> bool:
        """Whether a value may carry an offset."""
        if name not in self._found:
            self._found[name] = False  # for the time of the question; graphs have no cycles
            self._found[name] = all(rule_for(node).accepts(node, self, name) for node in self.graph.consumers(name))
        return self._found[name]

    @property
    def gains(self) -> bool:
        """Whether a gain may go into another weight."""
        return self._gains

    def folds_onwards(self, name: str, *, shifted: bool) -> bool:
        """Whether every reader takes a gain on the last axis (and a shift) into its weights."""
        readers = self.graph.consumers(name)
        return (
            self._gains
            and name != self.graph.output
            and bool(readers)
            and all(rule_for(node).takes_gain(node, self, name, shifted=shifted) for node in readers)
        )


class Folding:
    """The state while constants are being folded.

    Parameters
    ----------
    plan
        A finished plan.
    accepts
        Which values may carry offsets.
    keyring
        The keys.
    seed
        Root secret that offsets are drawn from.
    """

    def __init__(self, plan: Plan, accepts: Acceptance, keyring: Keyring, seed: bytes) -> None:
        self.graph = plan.graph
        self.plan = plan
        self.accepts = accepts
        self.keyring = keyring
        self._seed = seed
        self.carried: dict[str, Carried] = {}
        self._magnitudes: dict[str, float] = {}
        # New values of constants that several nodes share; and those that are in their places already.
        self.folded: dict[str, Constant] = {}
        self.exchanged: set[str] = set()

    def of(self, name: str) -> Carried:
        """What a value carries; constants carry nothing."""
        return self.carried.get(name, PLAIN)

    def settle(self, name: str, carried: Carried = PLAIN) -> None:
        """Note what a computed value carries."""
        self.carried[name] = carried

    def magnitude(self, name: str) -> float:
        """Roughly the root mean square of a value, for standardised records. 1 where nothing is known."""
        view = self.graph.view(name)
        if view is not None:
            values = self.graph.raw(view.root)
            return float(np.linalg.norm(values) / np.sqrt(max(values.size, 1)))
        return self._magnitudes.get(name, 1.0)

    def note_magnitude(self, name: str, magnitude: float) -> None:
        """Note a value's magnitude."""
        self._magnitudes[name] = magnitude

    def fresh_offset(self, name: str) -> Floats | None:
        """A random offset for a value whose readers accept one: it varies along the freely keyed axes.

        It is as large as the value: a smaller one would hide nothing, a larger one would cost float32 precision.
        """
        if not self.accepts.offsets or not self.accepts.of(name):
            return None
        varying, shape = [], []
        for axis in self.plan.layout(name):
            free = [self.plan.powers((factor,)) == FREE and factor.variable != 0 for factor in axis]
            sizes = [self.plan.size((factor,)) or 1 for factor in axis]
            varying += [size if is_free else 1 for size, is_free in zip(sizes, free, strict=True)]
            shape.append(sizes if any(free) else [1] * len(sizes))
        if all(size == 1 for size in varying):
            return None
        full = [size for sizes in shape for size in sizes]
        drawn = draw_offset(SecretStream(self._seed, f"offset/{name}"), int(np.prod(varying))).reshape(varying)
        drawn = drawn * self.magnitude(name)
        merged = [int(np.prod(sizes)) if sizes else 1 for sizes in shape]
        return np.broadcast_to(drawn, full).reshape(merged)

    def encrypt(self, values: Floats | Constant, layout: Layout) -> Floats:
        """Act with the keys on a tensor, which may be broadcast along axes that keep constants."""
        shown = tuple(() if size == 1 else axis for size, axis in zip(values.shape, layout, strict=True))
        single = tuple(axis if self.plan.size(axis) == 1 else short for axis, short in zip(layout, shown, strict=True))
        return self.keyring.apply(values, single)

    def store(self, node: Node, name: str, seen: Floats) -> None:
        """Exchange a constant for what `node` is to see. Where nodes share it, they must agree on it."""
        view = self.graph.view(name)
        if view is None:
            raise node.refuse(
                f"{name!r} is computed from constants, and would have to change", "export with constant folding"
            )
        with np.errstate(over="ignore"):
            rounded = view.stored(seen).astype(np.float32)
        if not bool(np.isfinite(rounded).all()):
            raise node.refuse(f"constant {view.root!r} would overflow float32")
        if self.private(name):
            self.graph.exchange(view.root, rounded)
            self.exchanged.add(view.root)
            return
        earlier = self.folded.setdefault(view.root, rounded)
        if not np.array_equal(earlier, rounded):
            raise node.refuse(
                f"constant {view.root!r} is shared with a node that needs another value for it",
                hint="export the model with separate constants",
            )

    def private(self, name: str | None) -> bool:
        """Whether a name shows a stored constant that only one node uses, so that it can take an offset up."""
        return name is not None and self.graph.view(name) is not None and self.graph.uses(name) == 1


class Rule(ABC):
    """What the compiler must know about one operator. The defaults are those of an operator that accepts nothing."""

    @abstractmethod
    def plan(self, node: Node, plan: Plan, accepts: Acceptance) -> None:
        """State the constraints, set the outputs' layouts; or refuse the node."""

    def accepts(self, node: Node, accepts: Acceptance, name: str) -> bool:
        """Whether input `name` may carry an offset."""
        return False

    def takes_gain(self, node: Node, accepts: Acceptance, name: str, *, shifted: bool) -> bool:
        """Whether input `name` may carry a gain along its last axis, and a shift.

        A weight that other nodes read too may not take a gain up: they would see it as well.
        """
        return False

    def magnitude(self, node: Node, folding: Folding) -> float:
        """Roughly the root mean square of the output. By default that of the largest computed input."""
        given = [folding.magnitude(name) for name in node.inputs if folding.graph.is_computed(name)]
        return max(given, default=1.0)

    def fold(self, node: Node, folding: Folding) -> None:
        """Exchange constants that need more than their keys; note what the outputs carry."""
        for name in node.inputs:
            if not folding.of(name).is_plain:
                raise OffsetMisfit(f"{node}: input {name!r} carries an offset")
        for name in node.outputs:
            folding.settle(name)


class MovingRule(Rule):
    """An operator that moves elements of its first input about, and of nothing else."""

    keeps_last_axis = False

    def accepts(self, node: Node, accepts: Acceptance, name: str) -> bool:
        return name == node.inputs[0] and all(accepts.of(output) for output in node.outputs)

    def takes_gain(self, node: Node, accepts: Acceptance, name: str, *, shifted: bool) -> bool:
        return (
            name == node.inputs[0]
            and self.keeps_last(node, accepts.graph)
            and all(accepts.folds_onwards(output, shifted=shifted) for output in node.outputs)
        )

    def keeps_last(self, node: Node, graph: Graph) -> bool:
        """Whether the last axis of the input is the last axis of the output."""
        return self.keeps_last_axis

    def fold(self, node: Node, folding: Folding) -> None:
        carried = folding.of(node.inputs[0])
        for place, output in enumerate(node.outputs):
            folding.settle(output, carried.moved(partial(self.move, node, folding.graph, place)))

    @abstractmethod
    def move(self, node: Node, graph: Graph, output: int, array: Floats) -> Floats:
        """Do to an array, broadcastable to the input, what the operator does to the input."""


RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[type[Rule]], type[Rule]]:
    """Register a rule for ONNX operators of the default domain."""

    def register(kind: type[Rule]) -> type[Rule]:
        RULES.update((operator, kind()) for operator in operators)
        return kind

    return register


def rule_for(node: Node) -> Rule:
    """The rule of a node's operator.

    Raises
    ------
    EncryptionError
        There is none.
    """
    try:
        return RULES[node.op]
    except KeyError:
        raise node.refuse(
            "no rule says how this operator commutes with keys", hint=f"supported: {', '.join(sorted(RULES))}"
        ) from None


# --- what several rules need -----------------------------------------------------------------------------------


def layout_of(name: str, node: Node, plan: Plan) -> Layout:
    """The layout of a value or float constant that a node reads."""
    fixed = plan.graph.integers.get(name)
    if name not in plan.layouts and fixed is not None:
        plan.layouts[name] = tuple(plan.fresh(size) if size > 1 else () for size in fixed.shape)
        plan.show([axis for axis in plan.layouts[name] if axis], node, "positions in a constant")
    if name not in plan.layouts:
        raise node.refuse(f"{name!r} is neither a value nor a float constant", hint=STATIC)
    return plan.layout(name)


def leave_number(name: str, node: Node, plan: Plan) -> None:
    """Leave a parameter that is one number as it is, also where it is stored with axes of length 1."""
    if not plan.graph.is_computed(name):
        plan.restrict(layout_of(name, node, plan), NONE, node)


def rank_of(name: str, node: Node, graph: Graph) -> int:
    """Number of axes of a value."""
    shape = graph.shape(name)
    if shape is None:
        raise node.refuse(f"the shape of {name!r} is not known", hint=STATIC)
    return len(shape)


def keyed(layout: Sequence[Axis]) -> list[Axis]:
    """Axes without the batch's variable."""
    return [tuple(factor for factor in axis if factor.variable != 0) for axis in layout]


def broadcast(node: Node, plan: Plan, names: Sequence[str], relations: Mapping[str, int]) -> tuple[Layout, list[Axis]]:
    """Join the layouts of operands as NumPy broadcasting aligns them.

    Parameters
    ----------
    relations
        How an operand's axes act compared with the result's, by name.

    Returns
    -------
    layout
        Of the result.
    spread
        The result's axes along which some operand is broadcast.
    """
    layouts = {name: layout_of(name, node, plan) for name in names}
    rank = max(len(layout) for layout in layouts.values())
    result: list[Axis] = []
    spread: list[Axis] = []
    for position in range(rank):
        here: list[tuple[str, Axis]] = []
        lacking = False
        for name, layout in layouts.items():
            place = position - rank + len(layout)
            if place < 0:
                lacking = True
            else:
                here.append((name, layout[place]))
        longs = [(name, axis) for name, axis in here if plan.size(axis) != 1]
        if longs:
            lacking |= len(longs) < len(here)
            for _, axis in here:
                if plan.size(axis) == 1 and axis:
                    plan.restrict([axis], NONE, node)
        chosen = longs or here
        # The result's axis is one that acts as itself, if there is any: a parameter's knows an order only.
        chosen.sort(key=lambda pair: relations.get(pair[0], 1) != 1)
        first = chosen[0][1]
        if relations.get(chosen[0][0], 1) != 1 and len(chosen) == 1 and longs:
            longer = f"the parameter {chosen[0][0]!r} is longer than the value it acts on"
            raise plan.refuse(node, [first], longer, "expand the value first")
        for name, axis in chosen[1:]:
            plan.join(axis, first, node, relations.get(name, 1))
        result.append(first)
        if lacking and longs and any(factor.variable != 0 for factor in first):
            spread.append(tuple(factor for factor in first if factor.variable != 0))
    return tuple(result), spread


def spread_evenly(node: Node, plan: Plan, spread: Sequence[Axis]) -> None:
    """What is the same along these axes must stay so: keys that keep constants."""
    for axis in spread:
        plan.restrict([axis], AVERAGING, node)
