"""Token matching: hidden states looked up in a dictionary of candidate inputs, layer by layer."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.distance import cdist

from rexis.ee.attacks.target import NotApplicableError, Result, Target, observe
from rexis.ee.attacks.weight_matching import HEADLINE, perturbed, relative_distance
from rexis.ee.groups import NONE, Power
from rexis.ee.records import encrypt_records
from rexis.ee.stream import Floats

_MAX_LAYERS = 12
_NUMBERS = 256


def token_matching(target: Target) -> Result:
    """Name each private record among candidates by the hidden states that the worker sees.

    The attacker runs candidates (here: the private records among the public ones) through a public base under a key of
    its own, and compares what no key of a layer's groups changes: sorted values where features are permuted, norms of
    tokens where they are rotated. A layer whose values are scaled or freely mixed has no such features.

    Knows: the hidden states, a public base (``target.base``, or the weights moved by 10 %), candidates that contain the
    truth. Metric: share of private records named by the nearest candidate, at the worst layer. Ceiling: 1, plain hidden
    states equal themselves. Floor: 1/candidates. Applies where a layer's group has invariants.

    Source: R. Thomas et al., Hidden No More: Attacking and Defending Private Third-Party LLM Inference, ICML 2025,
    which matches permuted hidden states with a vocabulary.
    """
    layers = _layers(target)
    if not layers:
        raise NotApplicableError("every hidden axis is scaled or freely mixed: no feature survives the key")
    base = target.base if target.base is not None else perturbed(target, HEADLINE)
    distance = relative_distance(target.base, target.plain) if target.base is not None else HEADLINE
    known = target.another("dictionary", base)
    candidates = {
        name: np.concatenate([values, target.public_inputs[name]]) for name, values in target.private_inputs.items()
    }
    count = len(target.records) + len(target.public)
    seen = observe(target.encrypted.model, encrypt_records(target.encrypted.key, target.private_inputs), layers)
    guessed = observe(known.model, encrypt_records(known.key, candidates), layers)
    by_layer = {}
    for name, a, b in zip(layers, seen, guessed, strict=True):
        kinds = [(a, b), (a - a.mean(axis=0), b - b.mean(axis=0))]
        by_layer[name] = max(_named(_features(target, name, x), _features(target, name, y)) for x, y in kinds)
    worst = max(by_layer, key=lambda name: by_layer[name])
    value = by_layer[worst]
    return Result(
        name="token_matching",
        metric="share of records named among candidates",
        value=value,
        ceiling=1.0,
        floor=1 / count,
        attacker_knows=f"hidden states, a public base at distance {distance:.2g}, {count} candidate records",
        says=f"{value:.0%} of the records are named from a list of {count} by their hidden states.",
        detail={"by_layer": by_layer, "worst_layer": worst, "candidates": count},
    )


def _layers(target: Target) -> list[str]:
    """Values evenly through the graph whose groups leave something comparable."""
    graph, plan = target.graph, target.encrypted.plan
    found = []
    for node in graph.computing:
        name = node.output
        shape = graph.shape(name)
        if shape is None or None in shape[1:] or not graph.is_computed(name) or not graph.is_float(name):
            continue
        powers = [plan.powers((factor,)) for axis in plan.layout(name)[1:] for factor in axis]
        wide = math.prod(size or 1 for size in shape[1:])
        if wide >= 8 and all(Power.SCALE not in each for each in powers) and any(each != NONE for each in powers):
            found.append(name)
    steps: list[int] = (
        np.unique(np.linspace(0, len(found) - 1, min(_MAX_LAYERS, len(found))).astype(int)).tolist() if found else []
    )
    return [found[step] for step in steps]


def _features(target: Target, name: str, values: Floats) -> Floats:
    """What every key of the value's groups leaves alone, ``[n, features]``."""
    plan = target.encrypted.plan
    factors = [factor for axis in plan.layout(name)[1:] for factor in axis]
    sizes = [plan.size((factor,)) or 1 for factor in factors]
    mixed = [place for place, factor in enumerate(factors) if Power.MIX in plan.powers((factor,)) and sizes[place] > 1]
    signed = any(Power.SIGN in plan.powers((factor,)) for factor in factors)
    if not mixed:
        flat = values.reshape(len(values), -1).astype(np.float64)
        return _thinned(np.sort(np.abs(flat) if signed else flat, axis=1))
    rest = [place for place in range(len(factors)) if place not in mixed]
    turned = np.transpose(values.reshape(len(values), *sizes), [0, *(p + 1 for p in rest), *(p + 1 for p in mixed)])
    rows = turned.reshape(len(values), -1, math.prod(sizes[place] for place in mixed)).astype(np.float64)
    parts = [np.sort(np.linalg.norm(rows, axis=2), axis=1)]
    if all(Power.SIGN not in plan.powers((factors[place],)) for place in mixed):
        parts.append(np.sort(rows.mean(axis=2), axis=1))  # keys that fix the all-ones vector keep the mean
    gram = rows @ rows.transpose(0, 2, 1)
    parts.append(np.sort(gram[:, *np.triu_indices(rows.shape[1], 1)], axis=1))
    return np.concatenate([_thinned(part) for part in parts], axis=1)


def _thinned(table: Floats) -> Floats:
    if table.shape[1] <= _NUMBERS:
        return table
    return table[:, np.linspace(0, table.shape[1] - 1, _NUMBERS).astype(int)]


def _named(seen: Floats, candidates: Floats) -> float:
    """Share of rows whose nearest candidate, in units of each feature's spread, is the one with the same number."""
    spread = candidates.std(axis=0) + 1e-9
    nearest = cdist(seen / spread, candidates / spread).argmin(axis=1)
    return float((nearest == np.arange(len(seen))).mean())
