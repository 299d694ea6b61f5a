"""Matching the neurons of two models that are the same, or almost, under different keys.

The features of a neuron that are compared do not depend on either key, only on the groups that the keys come from:

- neighbours permuted: the neuron's sorted weights (absolute values where signs are keyed);
- neighbours permuted and scaled: the same after Sinkhorn balancing of the squared weights, which undoes every scale;
- neighbours mixed by orthogonal keys: rows of the Gram matrix ``W Wᵀ`` (cosines where the neuron itself is scaled), and
  with keys that fix the all-ones vector the row sums as well;
- neighbours mixed by invertible keys: rows of the hat matrix ``W (WᵀW)⁻¹ Wᵀ``, after balancing its diagonal
  (D. Tyler, A distribution-free M-estimator of multivariate scatter, Ann. Statist. 15(1), 1987) where the neuron is
  scaled. With heads, the sum of one hat matrix for each head.

The matching is an assignment (H. Kuhn, 1955) over all weights that touch the neurons, as in weight matching between
independently trained models (S. Ainsworth et al., Git Re-Basin, ICLR 2023).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from rexis.ee.compiler import EncryptedModel
from rexis.ee.graph import Graph
from rexis.ee.groups import FREE, ISOMETRY, MonomialKey, Power
from rexis.ee.layout import Axis, Keyring
from rexis.ee.stream import Floats

_ROUNDS = 100
_FLOOR = 1e-12


@dataclass(frozen=True, eq=False)
class Neurons:
    """A hidden axis whose key is a permutation, perhaps with signs or scales.

    Attributes
    ----------
    variable, size, powers
        In the plan.
    uses
        Stored constants that touch it, with the axis where they do.
    """

    variable: int
    size: int
    powers: Power
    uses: tuple[tuple[str, int], ...]

    def order(self, keyring: Keyring) -> NDArray[np.int64]:
        """The plain neuron at each encrypted place. Secret: for scores, and for the attacker's own keys."""
        (element,) = (each for each in keyring.elements if each.members == (self.variable,))
        (key,) = element.keys
        assert isinstance(key, MonomialKey)  # noqa: S101
        return key.permutation


def hidden_neurons(encrypted: EncryptedModel) -> list[Neurons]:
    """Axes of neurons, at least four long, that some stored matrix touches."""
    plan, keyring = encrypted.plan, encrypted.key.keyring
    assert keyring is not None  # noqa: S101
    single = {
        element.members[0]
        for element in keyring.elements
        if len(element.members) == 1 and not element.index and isinstance(element.keys[0], MonomialKey)
    }
    vocabulary = {factor.variable for factor in plan.leaves(plan.vocabularies.values())}
    uses: dict[int, list[tuple[str, int]]] = {}
    for name in plan.graph.roots():
        layout = plan.layout(name)
        for place, axis in enumerate(layout):
            if len(axis) == 1 and axis[0].variable in single - vocabulary and len(layout) > 1:
                uses.setdefault(axis[0].variable, []).append((name, place))
    found = []
    for variable, touched in sorted(uses.items()):
        axis = (plan.layout(touched[0][0])[touched[0][1]][0],)
        size, powers = plan.size(axis) or 0, plan.powers(axis)
        if size >= 4 and Power.PERMUTE in powers:
            found.append(Neurons(variable, size, powers, tuple(touched)))
    return found


def match_neurons(neurons: Neurons, first: EncryptedModel, second: EncryptedModel) -> NDArray[np.int64] | None:
    """For each neuron of `first`, the place in `second` that looks most alike; None if nothing can be compared."""
    graphs = (Graph(first.model), Graph(second.model))
    cost = np.zeros((neurons.size, neurons.size))
    compared = False
    for name, place in neurons.uses:
        pairs = zip(*(_features(each.stored(name), place, name, neurons, first) for each in graphs), strict=True)
        for a, b in pairs:
            compared = True
            distance = ((a[:, None] - b[None]) ** 2).mean(axis=2)
            cost += distance / (distance.mean() + _FLOOR)
    return linear_sum_assignment(cost)[1].astype(np.int64) if compared else None


def values_of(
    encrypted: EncryptedModel, matches: Collection[int], places: int | None = None
) -> dict[str, tuple[int, int]]:
    """For each variable of `matches`, the first value that holds its neurons (at every place): axis and variable."""
    plan, graph = encrypted.plan, encrypted.plan.graph
    found: dict[int, tuple[str, int]] = {}
    for node in graph.computing:
        name = node.output
        shape = graph.shape(name)
        if shape is None or None in shape[1:] or not graph.is_computed(name) or not graph.is_float(name):
            continue
        for place, axis in enumerate(plan.layout(name)):
            if len(axis) == 1 and axis[0].variable in matches and place > 0:
                others = math.prod(size or 1 for each, size in enumerate(shape) if each not in (0, place))
                if places in (None, others):
                    found.setdefault(axis[0].variable, (name, place))
    return {name: (place, variable) for variable, (name, place) in found.items()}


def _features(stored: Floats, place: int, name: str, neurons: Neurons, encrypted: EncryptedModel) -> Iterable[Floats]:
    """Tables ``[neurons, …]`` that are equal up to order of rows for every key of the groups."""
    plan = encrypted.plan
    layout = plan.layout(name)
    rows, powers = _rows(stored, layout, place, encrypted)
    scaled, signed = Power.SCALE in neurons.powers, Power.SIGN in neurons.powers
    if Power.MIX not in powers:
        flat = rows.reshape(neurons.size, -1)
        if scaled or Power.SCALE in powers:
            flat = sinkhorn(flat**2)
        elif signed or Power.SIGN in powers:
            flat = np.abs(flat)
        yield np.sort(flat, axis=1)
        return
    if powers & FREE == FREE:
        if neurons.size <= rows.shape[2]:
            return  # a square weight can be anything after an invertible key
        tables = [_hat(part, balanced=scaled and rows.shape[1] == 1) for part in rows.transpose(1, 0, 2)]
    else:
        tables = [part @ part.T for part in rows.transpose(1, 0, 2)]
    table = np.sum(tables, axis=0)
    if scaled:
        size = np.sqrt(np.diagonal(table)) + _FLOOR
        table = table / np.outer(size, size)
    if signed:
        table = np.abs(table)
    yield np.sort(table, axis=1)
    if not scaled:
        yield np.diagonal(table)[:, None]
    if powers & ISOMETRY == ISOMETRY & ~Power.SIGN and not scaled:
        sums = rows.sum(axis=2)
        yield np.sort(np.abs(sums) if signed else sums, axis=1)


def _rows(stored: Floats, layout: tuple[Axis, ...], place: int, encrypted: EncryptedModel) -> tuple[Floats, Power]:
    """A weight as ``[neurons, what is permuted beside them, what is mixed]``, and what the other keys may do."""
    plan = encrypted.plan
    factors = [factor for axis in layout for factor in axis]
    summed = encrypted.key.keyring is not None and any(
        factor.variable in encrypted.key.keyring.segments for factor in factors
    )
    here = sum(len(axis) for axis in layout[:place])
    others = [each for each in range(len(factors)) if each != here]
    powers = [plan.powers((factors[each],)) for each in others]
    sizes = [plan.size((factor,)) or 1 for factor in factors]
    long = [each for each, power in zip(others, powers, strict=True) if sizes[each] > 1]
    mixed = [each for each in long if Power.MIX in plan.powers((factors[each],))] if not summed else []
    rest = [each for each in others if each not in mixed]
    turned = np.transpose(stored.reshape(sizes), [here, *rest, *mixed])
    outer = math.prod(sizes[each] for each in rest)
    found = turned.reshape(sizes[here], outer, -1)
    if mixed:
        together = FREE
        for each in mixed:
            together &= plan.powers((factors[each],))
        return found, together
    allowed = Power(0)
    for each in others:
        allowed |= plan.powers((factors[each],)) & ~Power.MIX
    return found, allowed


def sinkhorn(table: Floats) -> Floats:
    """Square roots of ``D₁ T D₂`` with equal row and equal column sums (R. Sinkhorn, 1964), for tables ``T ≥ 0``."""
    table = table + _FLOOR * table.max()
    for _ in range(_ROUNDS):
        table = table / table.mean(axis=1, keepdims=True)
        table = table / table.mean(axis=0, keepdims=True)
    return np.sqrt(table)


def _hat(weight: Floats, *, balanced: bool) -> Floats:
    scale = np.ones((len(weight), 1))
    for _ in range(_ROUNDS if balanced else 1):
        scaled = weight * scale
        hat: Floats = scaled @ np.linalg.pinv(scaled)
        scale = scale / np.sqrt(np.diagonal(hat) + _FLOOR)[:, None]
    return hat
