"""Dense keys solved from neurons that are matched: what weight matching opens beside the neurons.

A weight between matched neurons and a densely keyed axis is ``S A Kᵀ`` (or ``S A K⁻¹``), where the attacker has `A`
from its base, and the scales `S` from the spread of the neurons' values. That is a linear system for `K`, and for
orthogonal keys the orthogonal Procrustes problem (P. Schönemann, Psychometrika 31, 1966). A key that is found makes its
axis plain in all other weights, where it lets the next key be solved: from the MLPs to the residual stream, and from
there to the records. Keys that differ from head to head are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rexis.ee.attacks.neurons import values_of
from rexis.ee.attacks.places import Blocks
from rexis.ee.attacks.target import Target, observe, r_squared
from rexis.ee.compiler import EncryptedModel
from rexis.ee.graph import Graph
from rexis.ee.groups import NONE, DenseKey, Power
from rexis.ee.layout import DUAL, SELF, Factor
from rexis.ee.plan import Grouping
from rexis.ee.stream import Floats

_DEAD = 1e-4  # a neuron with a smaller share of the largest spread says nothing
_PENALTY = 1e-3  # of the mean variance, against rows that the base has only nearly
_CUTOFF = 1e-5
_ROUNDS = 300


class _Table(NamedTuple):
    """Rows of one weight on both sides, and whether signs or scales of them are known roughly, or not at all."""

    plain: Floats
    seen: Floats
    signed: bool
    scaled: bool


@dataclass(frozen=True, eq=False)
class Solved:
    """A dense key as the attacker found it.

    Attributes
    ----------
    matrix
        ``K``, up to what the rows leave open.
    plain, seen
        Rows that it was solved from: ``seen = plain K⁻¹`` for `action` DUAL, ``plain Kᵀ`` for SELF.
    signed
        The sign of the whole is not known.
    """

    matrix: Floats
    plain: Floats
    seen: Floats
    action: int
    orthogonal: bool
    signed: bool = False


def solve_keys(
    target: Target, known: EncryptedModel, base: bytes, matches: dict[int, NDArray[np.int64]], names: list[str]
) -> dict[Grouping, Solved]:
    """All dense keys that follow from matched neurons.

    Parameters
    ----------
    known
        The base under the attacker's own key, so that both went through the same foldings.
    matches
        For each variable of matched neurons, the plain neuron at each encrypted place.
    names
        Weights to solve from.
    """
    plan = target.encrypted.plan
    mixed = [g for g in plan.groupings() if Power.MIX in plan.powers((Factor(g.members[0], SELF),))]
    dense = [grouping for grouping in mixed if not grouping.places and plan.extent(grouping.members) > 1]
    scales = _scales(target, base, matches)
    weights = _weights(target, known, names)
    found: dict[Grouping, Solved] = {}
    while True:
        rows: dict[tuple[Grouping, int], list[_Table]] = {}
        for leaves, plain, seen in weights:
            one = _rows(target, leaves, plain, seen, matches, scales, found, dense)
            if one is not None:
                rows.setdefault((one[0], one[1]), []).append(one[2])
        fresh = {grouping for grouping, _ in rows} - set(found)
        if not fresh:
            return found
        for grouping in fresh:
            found[grouping] = _solve(
                {action: each for (which, action), each in rows.items() if which == grouping},
                orthogonal=Power.SCALE not in plan.powers((Factor(grouping.members[0], SELF),)),
            )


def key_score(target: Target, grouping: Grouping, solved: Solved) -> float:
    """R² of a key's entries, up to one common factor."""
    keyring = target.encrypted.key.keyring
    assert keyring is not None  # noqa: S101
    (key,) = next(element.keys for element in keyring.elements if element.members == grouping.members)
    assert isinstance(key, DenseKey)  # noqa: S101
    guess, truth = solved.matrix, key.matrix
    power = float((guess * guess).sum())
    factor = float((guess * truth).sum()) / power if power else 0.0
    return max(0.0, 1.0 - float(((factor * guess - truth) ** 2).sum() / (truth**2).sum()))


def records_by_keys(target: Target, blocks: Blocks, found: dict[Grouping, Solved]) -> float | None:
    """R² of private blocks decrypted with the solved input key; None if it is not among them.

    The rows of the first weight are as many measurements of a block; where they are fewer than its elements, the public
    sample's covariance says the rest (a Wiener filter).
    """
    plan = target.encrypted.plan
    mixing = {g: tuple(m for m in g.members if plan.extent([m]) > 1) for g in found}
    solved = next((each for grouping, each in found.items() if mixing[grouping] == blocks.mixing), None)
    key = target.key
    if solved is None or target.is_tokens:
        return None
    action = next(f.action for f in plan.leaves(key.layout) if f.variable == blocks.mixing[0])
    if not solved.orthogonal and solved.action == action:
        return None  # the rows are those of something else that carries the key
    public, private = (each.reshape(-1, blocks.width) for each in map(blocks.of, (target.public, target.ciphertexts)))
    truth = blocks.aligned(target.records).reshape(-1, blocks.width)
    covariance = np.cov(public.T).reshape(blocks.width, blocks.width)
    measured = (private - private.mean(axis=0)) @ solved.seen.T
    spread = solved.plain @ covariance @ solved.plain.T
    spread += np.eye(len(spread)) * _PENALTY * np.trace(spread) / len(spread)
    moved = measured @ np.linalg.solve(spread, solved.plain @ covariance)
    if solved.signed and ((moved**3).mean(axis=0) @ ((public - public.mean(axis=0)) ** 3).mean(axis=0)) < 0:
        moved = -moved
    return r_squared(truth, moved + public.mean(axis=0))


def _weights(target: Target, known: EncryptedModel, names: list[str]) -> list[tuple[list[Factor], Floats, Floats]]:
    """Leaves, the base's weight without any key, and the victim's, both with one axis for each leaf."""
    plan, keyring = target.encrypted.plan, known.key.keyring
    assert keyring is not None  # noqa: S101
    graphs = (Graph(known.model), Graph(target.encrypted.model))
    found = []
    for name in names:
        layout = plan.layout(name)
        leaves = [factor for axis in layout for factor in axis]
        if any(leaf.variable in keyring.segments for leaf in leaves) or len({f.variable for f in leaves}) < len(leaves):
            continue
        sizes = [plan.size((leaf,)) or 1 for leaf in leaves]
        plain = keyring.apply(graphs[0].stored(name), layout, invert=True)
        found.append((leaves, plain.reshape(sizes), graphs[1].stored(name).reshape(sizes)))
    return found


def _scales(target: Target, base: bytes, matches: dict[int, NDArray[np.int64]]) -> dict[int, Floats]:
    """The factor of each matched neuron, by encrypted place: its spread over that of the base's; 0 for dead ones."""
    plan = target.encrypted.plan
    scaled = {v: m for v, m in matches.items() if Power.SCALE in plan.powers((Factor(v, SELF),))}
    values = values_of(target.encrypted, scaled)
    if not values:
        return {}
    plain = observe(base, target.public_inputs, list(values))
    seen = observe(target.encrypted.model, target.encrypted_inputs, list(values))
    found = {}
    for (name, (axis, variable)), clear, hidden in zip(values.items(), plain, seen, strict=True):
        a, b = (np.moveaxis(each, axis, -1).reshape(-1, each.shape[axis]).std(axis=0) for each in (clear, hidden))
        a = a[matches[variable]]
        alive = (a > _DEAD * a.max()) & (b > _DEAD * b.max())
        if plan.layout(name)[axis][0].action == DUAL:
            a, b = b, a
        found[variable] = np.where(alive, b / np.maximum(a, 1e-30), 0.0)
    return found


def _rows(
    target: Target,
    leaves: list[Factor],
    plain: Floats,
    seen: Floats,
    matches: dict[int, NDArray[np.int64]],
    scales: dict[int, Floats],
    found: dict[Grouping, Solved],
    dense: list[Grouping],
) -> tuple[Grouping, int, _Table] | None:
    """What one weight says of the one key on it that is not known: the key, how it acts, and rows on both sides."""
    plan = target.encrypted.plan
    places = {leaf.variable: place for place, leaf in enumerate(leaves)}
    on_it = [g for g in dense if set(g.members) <= set(places)]
    unknown = [g for g in on_it if g not in found]
    if len(unknown) != 1:
        return None
    alive, signed, scaled = np.ones(seen.shape, dtype=bool), False, False
    for leaf in leaves:
        variable, place = leaf.variable, places[leaf.variable]
        powers = plan.powers((leaf,))
        if powers == NONE or seen.shape[place] == 1 or any(variable in g.members for g in on_it):
            continue
        if variable not in matches or (Power.SCALE in powers and variable not in scales):
            return None
        plain = np.take(plain, matches[variable], axis=place)
        signed |= Power.SIGN in powers
        scaled |= variable in scales
        if variable in scales:
            factor = scales[variable].reshape([-1 if each == place else 1 for each in range(seen.ndim)])
            alive &= factor > 0
            seen = seen / np.where(factor > 0, factor, 1.0) if leaf.action == SELF else seen * factor
    for grouping in on_it:
        if grouping in found:
            turned = _last(seen, [places[m] for m in grouping.members])
            key, action = found[grouping].matrix, leaves[places[grouping.members[0]]].action
            turned = turned @ np.linalg.pinv(key.T, rcond=_CUTOFF) if action == SELF else turned @ key
            seen = _back(turned, seen.shape, [places[m] for m in grouping.members])
    (grouping,) = unknown
    order = [places[m] for m in grouping.members]
    kept = _last(alive, order).all(axis=1)
    table = _Table(_last(plain, order)[kept], _last(seen, order)[kept], signed, scaled)
    return grouping, leaves[order[0]].action, table


def _last(array: NDArray[Any], order: list[int]) -> NDArray[Any]:
    """As a table whose columns are the axes of `order`."""
    rest = [place for place in range(array.ndim) if place not in order]
    turned = np.transpose(array, [*rest, *order])
    return turned.reshape(-1, int(np.prod([array.shape[place] for place in order])))


def _back(table: Floats, shape: tuple[int, ...], order: list[int]) -> Floats:
    rest = [place for place in range(len(shape)) if place not in order]
    turned = table.reshape([shape[place] for place in (*rest, *order)])
    return np.transpose(turned, np.argsort([*rest, *order]))


def _solve(rows: dict[int, list[_Table]], *, orthogonal: bool) -> Solved:
    if orthogonal:  # the dual of an orthogonal key is the key
        plain, seen = (np.concatenate([each[side] for tables in rows.values() for each in tables]) for side in (0, 1))
        left, _, right = np.linalg.svd(seen.T @ plain)
        return Solved(left @ right, plain, seen, SELF, orthogonal=True)
    action = max(rows, key=lambda which: sum(len(each.plain) for each in rows[which]))
    plain, seen = (np.concatenate([each[side] for each in rows[action]]) for side in (0, 1))
    signed, scaled = (any(each[flag] for each in rows[action]) for flag in (2, 3))
    if signed and len(plain) > plain.shape[1]:
        seen = seen * _signs(plain, seen)[:, None]
    if scaled and len(plain) > 2 * plain.shape[1]:
        seen = seen * _fine_scales(plain, seen)[:, None]
    if action == SELF:
        matrix = np.linalg.lstsq(plain, seen, rcond=_CUTOFF)[0].T
    else:
        matrix = np.linalg.lstsq(seen, plain, rcond=_CUTOFF)[0]
    return Solved(matrix, plain, seen, action, orthogonal=False, signed=signed)


def _signs(plain: Floats, seen: Floats) -> Floats:
    """Signs of rows: ``seen`` spans what ``S plain`` does, so that its hat matrix is the plain one's between signs."""
    both = [each @ np.linalg.pinv(each, rcond=_CUTOFF) for each in (plain, seen)]
    found: Floats = np.where(np.linalg.eigh(both[0] * both[1])[1][:, -1] < 0, -1.0, 1.0)
    return found


def _fine_scales(plain: Floats, seen: Floats) -> Floats:
    """Factors of rows that spreads give only roughly: least squares for the key and for them in turns."""
    scales = np.ones(len(seen))
    basis = np.linalg.svd(plain, full_matrices=False)[0]
    power = (seen**2).sum(axis=1)
    for _ in range(_ROUNDS):
        fitted = basis @ (basis.T @ (seen * scales[:, None]))
        scales = (fitted * seen).sum(axis=1) / np.maximum(power, 1e-30)
        scales = np.maximum(np.abs(scales), 1e-6)
        scales /= np.exp(np.log(scales).mean())
    return scales
