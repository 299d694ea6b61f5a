"""Token frequency: the permuted vocabulary read like a substitution cipher."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, quadratic_assignment

from rexis.ee.attacks.places import blocks_of, match_places
from rexis.ee.attacks.target import NotApplicableError, Result, Target
from rexis.ee.stream import Floats


def token_frequency(target: Target) -> Result:
    """Match encrypted tokens with plain ones by frequency, by frequency at each place, and by company.

    *unigrams*: by how often a token occurs. *positions*: by how often it occurs at each place; permuted places are put
    back first as in :mod:`~rexis.ee.attacks.jigsaw`. *bigrams*: from there on, by which tokens stand next to each other
    (which occur in one record, where places are permuted), a quadratic assignment.

    Knows: ciphertexts, a public sample of sequences. Metric: share of the vocabulary read by the best of the three.
    Ceiling: 1. Floor: 1/vocabulary. Applies to models that look tokens up.

    Source: al-Kindi, 9th century; M. Naveed et al., Inference attacks on property-preserving encrypted databases,
    CCS 2015.
    """
    words = target.key.tokens
    if words is None:
        raise NotApplicableError("records are numbers, not tokens")
    blocks = blocks_of(target)
    seen, known = (blocks.of(each)[..., 0].astype(np.int64) for each in (target.ciphertexts, target.public))
    truth = _truth(target, words)
    order = np.arange(blocks.places)
    if blocks.permuted:
        order = match_places(known.astype(np.float64), seen.astype(np.float64), tokens=True)
    frequency = [np.bincount(each.ravel(), minlength=words) / each.size for each in (seen, known)]
    unigrams = linear_sum_assignment((np.sqrt(frequency[0])[:, None] - np.sqrt(frequency[1])) ** 2)[1]
    by_place = [_by_place(each, words) for each in (seen, known[:, order])]
    positions = linear_sum_assignment(((by_place[0][:, None] - by_place[1]) ** 2).sum(axis=2))[1]
    company = [_company(each, words, ordered=not blocks.permuted) for each in (seen, known)]
    start = np.eye(words)[positions] * 0.9 + 0.1 / words
    bigrams = quadratic_assignment(*company, options={"maximize": True, "P0": start})["col_ind"]
    found = {"unigrams": unigrams, "positions": positions, "bigrams": bigrams}
    used = np.bincount(seen.ravel(), minlength=words)
    scores = {name: float((guess == truth).mean()) for name, guess in found.items()}
    best = max(scores, key=lambda name: scores[name])
    text = float(used[found[best] == truth].sum() / used.sum())
    return Result(
        name="token_frequency",
        metric="share of the vocabulary read",
        value=scores[best],
        ceiling=1.0,
        floor=1 / words,
        attacker_knows=f"the ciphertexts and {len(target.public)} public sequences",
        says=f"{scores[best]:.0%} of the {words} tokens are named by counting, and with them {text:.0%} of the text.",
        detail={"by_method": scores, "share_of_text": text, "vocabulary": words},
    )


def _truth(target: Target, words: int) -> NDArray[np.int64]:
    """The plain token of each encrypted one."""
    blocks = blocks_of(target)
    plain, seen = (
        each[..., 0].astype(np.int64) for each in (blocks.aligned(target.records), blocks.of(target.ciphertexts))
    )
    table = np.full(words, -1)
    table[seen.ravel()] = plain.ravel()
    return table


def _by_place(tokens: NDArray[np.int64], words: int) -> Floats:
    found: Floats = np.sqrt(np.eye(words)[tokens].mean(axis=0)).T
    return found


def _company(tokens: NDArray[np.int64], words: int, *, ordered: bool) -> Floats:
    counts = np.zeros((words, words))
    if ordered:
        np.add.at(counts, (tokens[:, :-1], tokens[:, 1:]), 1.0)
    else:
        each = np.eye(words)[tokens].sum(axis=1)
        counts = each.T @ each
    found: Floats = np.sqrt(counts / counts.sum())
    return found
