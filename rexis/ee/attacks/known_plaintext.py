"""Known plaintext: the input key solved from records whose ciphertexts are known too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from rexis.ee.attacks.places import Blocks, blocks_of, match_places
from rexis.ee.attacks.target import Result, Target, r_squared
from rexis.ee.stream import Floats

PAIRS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200)
HEADLINE = 10
_ROUNDS = 10
_CUTOFF = 1e-5
_GOOD = 0.9
_CORRELATED = 3  # two points always lie on a line


def known_plaintext(target: Target) -> Result:
    """Solve the input key from m pairs of a record and its ciphertext; decrypt all other records.

    Blocks at all places share one affine key, so that a record of P patches is P equations. Where places are permuted,
    they are matched first by profiles that no key changes, then in turns with the key (least squares). Tokens: places
    and vocabulary are assigned in turns by how often symbols meet.

    Knows: m pairs, the graph (which gives blocks and places). Metric: R² of the other records, or the share of their
    tokens read; value at m = 10. Ceiling: 1. Floor: 0, the mean record; for tokens the commonest token's share.
    Applies to every model.

    Source: an affine map of d dimensions has d + 1 unknowns a row, so d + 1 pairs settle it.
    """
    blocks = blocks_of(target)
    random = target.random("pairs")
    pool = random.permutation(len(target.public))
    curve: dict[str, float] = {}
    floor = 0.0
    private, truth = blocks.of(target.ciphertexts), blocks.aligned(target.records)
    if target.is_tokens:
        floor = float(np.unique(truth, return_counts=True)[1].max() / truth.size)
    for count in PAIRS:
        if count > len(pool):
            break
        known = target.public[pool[:count]]
        pairs = (blocks.of(known), blocks.of(target.encrypt(known)))
        curve[str(count)] = (
            _tokens(pairs, private, truth) if target.is_tokens else _score(blocks, pairs, private, truth)
        )
    good = next((int(count) for count, value in curve.items() if value >= _GOOD), None)
    headline = str(HEADLINE) if str(HEADLINE) in curve else list(curve)[-1]
    measure = "of the tokens" if target.is_tokens else "of the variance"
    enough = (
        f"{good} known record(s) are enough to read 90% {measure}" if good else f"even {count} known records do not"
    )
    return Result(
        name="known_plaintext",
        metric="share of tokens read" if target.is_tokens else "R² of other records",
        value=curve[headline],
        ceiling=1.0,
        floor=floor,
        attacker_knows=f"{headline} records together with their ciphertexts",
        says=f"{enough}; {headline} give {curve[headline]:.0%}.",
        detail={"by_pairs": curve, "pairs_to_0.9": good, "block_width": blocks.width, "places": blocks.places},
    )


def _score(blocks: Blocks, pairs: tuple[Floats, Floats], private: Floats, truth: Floats) -> float:
    plain, seen = pairs
    order = np.arange(blocks.places)
    if blocks.permuted and blocks.places > 1:
        order = _first_order(plain, seen, blocks.grid)
        for _ in range(_ROUNDS if blocks.width > 1 else 0):
            guess = _solve(plain[:, order], seen, blocks.width)(seen)
            cost = ((guess[:, :, None] - plain[:, None]) ** 2).sum(axis=(0, 3))
            found = linear_sum_assignment(cost)[1]
            if np.array_equal(found, order):
                break
            order = found
    decrypted = _solve(plain[:, order], seen, blocks.width)(private)
    return r_squared(truth.reshape(len(truth), -1), decrypted.reshape(len(truth), -1))


def _first_order(plain: Floats, seen: Floats, grid: tuple[int, ...]) -> NDArray[np.int64]:
    if plain.shape[2] == 1 and len(plain) < _CORRELATED:  # equal numbers
        cost = ((seen[:, :, None, 0] - plain[:, None, :, 0]) ** 2).sum(axis=0)
        return np.asarray(linear_sum_assignment(cost)[1], dtype=np.int64)
    if plain.shape[2] == 1:  # numbers that move together from record to record
        a, b = (each[..., 0] - each[..., 0].mean(axis=0) for each in (seen, plain))
        a, b = (each / (np.linalg.norm(each, axis=0) + 1e-9) for each in (a, b))
        levels = [np.abs(each[..., 0]).mean(axis=0) for each in (seen, plain)]
        cost = -np.abs(a.T @ b) + 1e-3 * np.abs(levels[0][:, None] - levels[1])
        return np.asarray(linear_sum_assignment(cost)[1], dtype=np.int64)
    return match_places(plain, seen, grid)


class _Affine:
    """Least squares from seen blocks to plain ones, one map for all places; of least norm where it is not settled."""

    def __init__(self, plain: Floats, seen: Floats) -> None:
        x, y = (each.reshape(-1, each.shape[2]) for each in (plain, seen))
        self.plain, self.seen = x.mean(axis=0), y.mean(axis=0)
        self.matrix = np.linalg.lstsq(y - self.seen, x - self.plain, rcond=_CUTOFF)[0]

    def __call__(self, seen: Floats) -> Floats:
        found: Floats = (seen - self.seen) @ self.matrix + self.plain
        return found


class _PerPlace:
    """A factor and an offset for each place, where blocks are single numbers."""

    def __init__(self, plain: Floats, seen: Floats) -> None:
        self.plain, self.seen = plain.mean(axis=0), seen.mean(axis=0)
        a, b = seen - self.seen, plain - self.plain
        power = (a * a).sum(axis=0)
        self.factor = np.where(power > 1e-12, (a * b).sum(axis=0) / np.maximum(power, 1e-12), 1.0)

    def __call__(self, seen: Floats) -> Floats:
        found: Floats = (seen - self.seen) * self.factor + self.plain
        return found


def _solve(plain: Floats, seen: Floats, width: int) -> _Affine | _PerPlace:
    return (_PerPlace if width == 1 else _Affine)(plain, seen)


def _tokens(pairs: tuple[Floats, Floats], private: Floats, truth: Floats) -> float:
    plain, seen = (each[..., 0].astype(np.int64) for each in pairs)
    words = int(max(plain.max(), seen.max(), private.max(), truth.max())) + 1
    order = _same_partition(seen, plain)
    table = np.arange(words)
    for _ in range(_ROUNDS):
        meets = np.zeros((words, words))
        np.add.at(meets, (seen, plain[:, order]), 1.0)
        table = linear_sum_assignment(-meets)[1]
        agree = (table[seen][:, :, None] == plain[:, None]).sum(axis=0)
        found = linear_sum_assignment(-agree)[1]
        if np.array_equal(found, order):
            break
        order = found
    return float((table[private[..., 0].astype(np.int64)] == truth[..., 0]).mean())


def _same_partition(seen: NDArray[np.int64], plain: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of `plain` at which records agree with one another as they do at each place of `seen`."""
    a, b = ((each[:, None] == each[None]).reshape(-1, each.shape[1]).astype(np.float64) for each in (seen, plain))
    cost = (a * a).sum(axis=0)[:, None] + (b * b).sum(axis=0) - 2 * a.T @ b
    return np.asarray(linear_sum_assignment(cost)[1], dtype=np.int64)
