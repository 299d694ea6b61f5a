"""What the graph tells about a record's key: blocks that one dense key mixes, and the places where they stand.

A patch of an image is a block, and the patches' positions are its places; a table's row is one block at one place; a
token sequence has blocks of width 1. Anybody who has the encrypted model knows this much: it follows from the graph.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, quadratic_assignment

from rexis.ee.attacks.target import Target
from rexis.ee.groups import Power
from rexis.ee.layout import Factor
from rexis.ee.stream import Floats

MAX_PLACES = 800  # more would take minutes to match
_FLOOR = 1e-9
_SMALL_AXIS = 6
_MANY = 64
_STARTS = 10


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks of a record that share one key.

    Attributes
    ----------
    index
        ``int64 [places, width]``, into the flattened record.
    truth
        ``int64 [places]``: the plain place of each encrypted one. Secret: for scores only.
    permuted
        Whether the places are hidden by a permutation at all.
    grid
        The places as a grid whose axes are permuted one by one, or a single axis.
    """

    index: NDArray[np.int64]
    truth: NDArray[np.int64]
    permuted: bool
    grid: tuple[int, ...]

    @property
    def places(self) -> int:
        """How many blocks a record has."""
        return len(self.index)

    @property
    def width(self) -> int:
        """Elements of a block."""
        return int(self.index.shape[1])

    def of(self, records: NDArray[np.floating]) -> Floats:
        """``[n, places, width]``."""
        flat: Floats = records.reshape(len(records), -1)[:, self.index].astype(np.float64)
        return flat

    def aligned(self, records: NDArray[np.floating]) -> Floats:
        """Plain blocks in the order in which the encrypted ones stand."""
        return self.of(records)[:, self.truth]


def blocks_of(target: Target) -> Blocks:
    """The blocks that cover most of a record."""
    key = target.key
    plan = target.encrypted.plan
    factors = tuple(factor for axis in key.layout[1:] for factor in axis)
    sizes = [plan.size((factor,)) or 1 for factor in factors]
    groups: dict[tuple[int, ...], list[NDArray[np.int64]]] = {}
    grids: dict[tuple[int, ...], tuple[int, ...]] = {}
    hidden = False
    for leaves, index in _branches(target, factors, np.arange(math.prod(sizes)).reshape(sizes)):
        mixed = [place for place, leaf in enumerate(leaves) if _mixes(target, leaf)]
        rest = [place for place in range(len(leaves)) if place not in mixed]
        hidden |= any(Power.PERMUTE in plan.powers((leaves[place],)) and index.shape[place] > 1 for place in rest)
        rows = np.transpose(index, [*rest, *mixed]).reshape(-1, math.prod(index.shape[place] for place in mixed))
        mixing = tuple(leaves[place].variable for place in mixed)
        groups.setdefault(mixing, []).append(rows)
        grids[mixing] = tuple(index.shape[place] for place in rest if index.shape[place] > 1)
    best = max(groups, key=lambda mixing: sum(rows.size for rows in groups[mixing]))
    index = np.concatenate(groups[best])
    chosen = any(element.index for element in key.keyring.elements)  # keys that differ from place to place
    grid = grids[best] if len(groups[best]) == 1 and not chosen else (len(index),)
    return Blocks(index, _truth(target, index), hidden, grid)


def _branches(
    target: Target, factors: tuple[Factor, ...], index: NDArray[np.int64]
) -> Iterator[tuple[tuple[Factor, ...], NDArray[np.int64]]]:
    """The record cut along sums until only leaves are left, with the elements of each part."""
    keyring = target.encrypted.key.keyring
    assert keyring is not None  # noqa: S101
    for place, factor in enumerate(factors):
        if factor.variable in keyring.segments:
            start = 0
            for segment in keyring.segments[factor.variable]:
                width = keyring.size(segment)
                part = np.take(index, range(start, start + width), axis=place)
                inside = [keyring.size((each,)) for each in segment]
                shape = (*index.shape[:place], *inside, *index.shape[place + 1 :])
                yield from _branches(target, (*factors[:place], *segment, *factors[place + 1 :]), part.reshape(shape))
                start += width
            return
    yield factors, index


def _mixes(target: Target, factor: Factor) -> bool:
    plan = target.encrypted.plan
    return Power.MIX in plan.powers((factor,)) and (plan.size((factor,)) or 1) > 1


def _truth(target: Target, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the key puts each block: from probes with one block filled."""
    key = target.key
    probes = np.zeros((len(index), math.prod(key.shape)))
    np.put_along_axis(probes, index, target.random("probe").normal(1.0, 0.1, index.shape), axis=1)
    landed = key.keyring.apply(probes.reshape(-1, *key.shape), key.layout).reshape(len(index), -1)
    found: NDArray[np.int64] = (landed[:, index] ** 2).sum(axis=2).argmax(axis=0)
    return found


def place_profiles(blocks: Floats) -> tuple[Floats, Floats]:
    """Two ``[places, places]`` tables that a common invertible affine key of all blocks does not change.

    After whitening with the covariance pooled over places, a common key leaves only a rotation, and inner products
    between the blocks of a record lose that too: their means are the first table, those of the places' mean blocks
    the second.
    """
    count, places = blocks.shape[:2]
    means = blocks.mean(axis=0)
    centred = blocks - means
    pooled = np.einsum("npi,npj->ij", centred, centred) / (count * places)
    values, vectors = np.linalg.eigh(pooled)
    kept = values > max(values.max(), _FLOOR) * 1e-6
    whiten = vectors[:, kept] / np.sqrt(values[kept])
    white, shifted = centred @ whiten, (means - means.mean(axis=0)) @ whiten
    flat = white.transpose(1, 0, 2).reshape(places, -1)
    return flat @ flat.T / (count * max(kept.sum(), 1)), shifted @ shifted.T / max(kept.sum(), 1)


def token_profiles(tokens: Floats) -> tuple[Floats, Floats]:
    """The same for token sequences ``[n, places]`` under a permuted vocabulary: chances of equal tokens."""
    ids = tokens.astype(np.int64)
    onehot = np.eye(int(ids.max()) + 1)[ids]
    together = np.einsum("npv,nqv->pq", onehot, onehot) / len(ids)
    marginal = onehot.mean(axis=0)
    return together, marginal @ marginal.T


def match_places(
    known: Floats, seen: Floats, grid: tuple[int, ...] = (), *, tokens: bool = False, common: bool = True
) -> NDArray[np.int64]:
    """For each place of `seen`, the place of `known` that it seems to be.

    Sorted rows of the profiles give a first assignment; FAQ (J. Vogelstein et al., Fast approximate quadratic
    programming for graph matching, PLoS ONE 10(4), 2015) improves it over whole tables. Axes of at most
    :data:`_SMALL_AXIS` places are tried in every order.

    Parameters
    ----------
    known, seen
        Blocks ``[n, places, width]``, or token ids ``[n, places]``; different records.
    grid
        Axes of the places, if each is permuted by itself.
    common
        Whether all places share an offset, so that their means can be compared.
    """
    if len(grid) < 2:
        return _match_axis(known, seen, tokens=tokens, common=common)
    orders = []
    for axis, size in enumerate(grid):
        along = [
            np.moveaxis(each.reshape(len(each), *grid, -1), axis + 1, -2).reshape(-1, size, each.shape[-1])
            for each in (known, seen)
        ]
        orders.append(_match_axis(along[0], along[1], tokens=False, common=common))
    places: NDArray[np.int64] = np.arange(math.prod(grid)).reshape(grid)[np.ix_(*orders)].ravel()
    return places


def mirror_images(order: NDArray[np.int64], grid: tuple[int, ...]) -> Iterator[NDArray[np.int64]]:
    """An order of places, and what it is when axes of the plain grid are reversed or swapped with equal ones."""
    grid = grid or (len(order),)
    places = np.arange(math.prod(grid)).reshape(grid)
    for turn in itertools.permutations(range(len(grid))):
        turned = np.transpose(places, turn)
        if turned.shape != grid:
            continue
        for count in range(len(grid) + 1):
            for axes in itertools.combinations(range(len(grid)), count):
                yield np.flip(turned, axes).ravel()[order]


def _match_axis(known: Floats, seen: Floats, *, tokens: bool, common: bool) -> NDArray[np.int64]:
    profiles = token_profiles if tokens else place_profiles
    tables = list(zip(profiles(seen), profiles(known), strict=True))[: 2 if common else 1]
    a, b = (sum(pair[side] / (pair[1].std() + _FLOOR) for pair in tables) for side in (0, 1))
    if len(a) <= _SMALL_AXIS:
        orders = [np.array(order) for order in itertools.permutations(range(len(a)))]
        return min(orders, key=lambda order: float(((a - b[np.ix_(order, order)]) ** 2).sum()))
    cost = np.zeros((len(a), len(a)))
    for mine, theirs in tables:
        scale = theirs.std() + _FLOOR
        rows = [np.sort(each, axis=1) / scale for each in (mine, theirs)]
        cost += (rows[0] ** 2).mean(axis=1)[:, None] + (rows[1] ** 2).mean(axis=1) - 2 * rows[0] @ rows[1].T / len(a)
        cost += (np.diagonal(mine)[:, None] - np.diagonal(theirs)) ** 2 / scale**2
    first = linear_sum_assignment(cost)[1]
    start = np.eye(len(first))[first] * 0.9 + 0.1 / len(first)
    starts: list[Any] = [start, *(["randomized"] * (_STARTS if len(a) <= _MANY else 0))]
    tried = [
        quadratic_assignment(a, b, options={"maximize": True, "P0": each, "rng": np.random.default_rng(number)})
        for number, each in enumerate(starts)
    ]
    orders = [first, *(each["col_ind"] for each in tried)]
    best = max(orders, key=lambda order: float((a * b[np.ix_(order, order)]).sum()))
    return np.asarray(best, dtype=np.int64)
