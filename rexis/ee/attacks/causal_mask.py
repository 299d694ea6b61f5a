"""Causal masks and rotary tables: constants that everybody knows; permuted, they give the permutation away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from rexis.ee.attacks.target import NotApplicableError, Result, Target
from rexis.ee.graph import Graph
from rexis.ee.groups import MonomialKey, Power
from rexis.ee.stream import Floats

_MASKED = -1e3  # what a mask adds to a score is below this


def causal_mask(target: Target) -> Result:
    """Read the permutation of places from a constant whose plain form follows from the architecture.

    A causal mask's row i lets i places through, so that counting zeros sorts the rows. A rotary table's row i holds
    ``cos(i θ)`` and ``sin(i θ)``. Both stand in the encrypted model with their rows permuted and nothing else done.

    Knows: the encrypted model and its architecture. Metric: share of places read. Ceiling: 1. Floor: 1/places. Applies
    to models that store a mask or a table along permuted places.
    """
    tables = [name for name in target.graph.roots() if _is_mask(target, name) or _is_rotary(target, name)]
    keyring = target.encrypted.key.keyring
    assert keyring is not None  # noqa: S101
    public, plan = Graph(target.encrypted.model), target.encrypted.plan
    words = {factor.variable for factor in plan.leaves(plan.vocabularies.values())}
    read: dict[str, float] = {}
    places = 1
    for name in tables:
        for axis, factors in enumerate(plan.layout(name)):
            element = [e for e in keyring.elements if len(factors) == 1 and e.members == (factors[0].variable,)]
            powers = plan.powers(factors)
            if (
                not element
                or words.intersection(element[0].members)
                or Power.PERMUTE not in powers
                or Power.SCALE in powers
                or len(element[0].keys) > 1
            ):
                continue
            key = element[0].keys[0]
            if not isinstance(key, MonomialKey) or not (_is_mask(target, name) or _is_time(target, name, axis)):
                continue
            seen, plain = (_rows(graph.stored(name), axis) for graph in (public, target.graph))
            cost = ((seen[:, None] - plain) ** 2).sum(axis=2)
            share = float((linear_sum_assignment(cost)[1] == key.permutation).mean())
            read[f"{name}/{axis}"] = share
            places = max(places, key.size)
    if not read:
        raise NotApplicableError("no mask or rotary table stands along permuted places")
    value = max(read.values())
    return Result(
        name="causal_mask",
        metric="share of places read",
        value=value,
        ceiling=1.0,
        floor=1 / places,
        attacker_knows="the encrypted model and its architecture",
        says=f"{value:.0%} of the hidden order of places stands readable in the model's own constants.",
        detail={"by_constant": read, "places": places},
    )


def _rows(table: Floats, axis: int) -> NDArray[np.float64]:
    """Rows along `axis`, sorted inside, so that an order of the other axes does not matter."""
    found: NDArray[np.float64] = np.sort(np.moveaxis(table, axis, 0).reshape(table.shape[axis], -1), axis=1)
    return np.maximum(found, _MASKED)


def _is_mask(target: Target, name: str) -> bool:
    values = np.unique(target.graph.stored(name))
    return len(values) == 2 and bool(values[0] <= _MASKED) and values[1] == 0 and target.graph.stored(name).size > 1


def _is_rotary(target: Target, name: str) -> bool:
    table = target.graph.stored(name)
    bounded = table.ndim >= 2 and float(np.abs(table).max()) <= 1.0 + 1e-6
    used = {node.op for view in _views(target, name) for node in target.graph.consumers(view)}
    return bounded and "Mul" in used and any(_is_time(target, name, axis) for axis in range(table.ndim))


def _is_time(target: Target, name: str, axis: int) -> bool:
    """Whether place 0 along an axis is the angle 0: all cosines 1, or all sines 0."""
    table = np.moveaxis(target.graph.stored(name), axis, 0)
    first = table[0]
    return len(table) > 1 and bool(np.all(first == 1) or np.all(first == 0)) and len(np.unique(table)) > 2


def _views(target: Target, root: str) -> list[str]:
    names = {name for node in target.graph.computing for name in node.inputs}
    return [name for name in names if (view := target.graph.view(name)) is not None and view.root == root]
