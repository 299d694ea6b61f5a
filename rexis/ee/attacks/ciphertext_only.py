"""Ciphertext only: statistics of the ciphertexts lined up with those of a public sample."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from rexis.ee.attacks.places import MAX_PLACES, Blocks, blocks_of, match_places
from rexis.ee.attacks.target import NotApplicableError, Result, Target, r_squared
from rexis.ee.stream import Floats

_MAX_SAMPLES = 3000
_MAX_COMPONENTS = 32
_ROUNDS = 20
_SMALL = 1e-9


def ciphertext_only(target: Target) -> Result:
    """Decrypt blocks without a single pair, from a public sample of the same population.

    Three ways, and the best of them counts (the attacker would not know which is best; this grants it that):

    - *pca*: principal axes of both samples in order of variance, signs by skewness. Exact for orthogonal keys and
      well separated variances; each component is rescaled to its public variance, which absorbs part of a dense key;
    - *ica*: FastICA (A. Hyvärinen, E. Oja, Neural Networks 13, 2000) on both, components assigned by skewness,
      kurtosis and the shape of their distribution. Undoes any invertible key in the limit of independent features;
    - *transport*: from the better of the two on, nearest neighbours and an orthogonal Procrustes step in turns, in
      whitened coordinates (E. Grave et al., Unsupervised alignment with Wasserstein Procrustes, AISTATS 2019).

    Permuted single numbers (width 1) are assigned by their quantiles, or put in order as by the jigsaw, instead.

    Knows: ciphertexts, a public sample, the graph. Metric: R² of private blocks; their places are the business of
    :mod:`~rexis.ee.attacks.jigsaw`. Ceiling: 1. Floor: 0, the mean block. Not for tokens: see token_frequency.
    """
    if target.is_tokens:
        raise NotApplicableError("records are tokens: token_frequency is the attack on them")
    blocks = blocks_of(target)
    truth, seen = _samples(blocks.aligned(target.records)), _samples(blocks.of(target.ciphertexts))
    known = _samples(blocks.of(target.public))
    if blocks.width == 1:
        scores = {"quantiles": _by_quantiles(target, blocks)}
        if blocks.places <= MAX_PLACES:
            order = match_places(blocks.of(target.public), blocks.of(target.ciphertexts), common=False)
            scores["places"] = _reordered(target, blocks, order)
    else:
        random = target.random("ciphertext only")
        sample = [each[random.permutation(len(each))[:_MAX_SAMPLES]] for each in (seen, known)]
        guesses = {"pca": _pca(sample[0], sample[1], seen), "ica": _ica(target, sample[0], sample[1], seen)}
        scores = {name: r_squared(truth, guess) for name, guess in guesses.items()}
        for name, guess in list(guesses.items()):
            scores[f"{name}+transport"] = r_squared(truth, _transport(guess, seen, sample[1], random))
    best = max(scores, key=lambda name: scores[name])
    return Result(
        name="ciphertext_only",
        metric="R² of private records",
        value=scores[best],
        ceiling=1.0,
        floor=0.0,
        attacker_knows=f"the ciphertexts and {len(target.public)} public records of the same population",
        says=f"Without a single known record, {scores[best]:.0%} of the records' variance is read ({best}).",
        detail={"by_method": scores, "block_width": blocks.width, "places": blocks.places},
    )


def _samples(blocks: Floats) -> Floats:
    return blocks.reshape(-1, blocks.shape[-1])


def _components(sample: Floats) -> tuple[Floats, Floats, Floats]:
    mean = sample.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(sample.T))
    return mean, np.maximum(values[::-1], _SMALL * values[-1]), vectors[:, ::-1]


def _skewness(values: Floats) -> Floats:
    centred = values - values.mean(axis=0)
    found: Floats = (centred**3).mean(axis=0) / ((centred**2).mean(axis=0) + _SMALL) ** 1.5
    return found


def _pca(seen: Floats, known: Floats, private: Floats) -> Floats:
    mean, values, vectors = _components(seen)
    into_mean, into_values, into_vectors = _components(known)
    signs = np.sign(_skewness((seen - mean) @ vectors) * _skewness((known - into_mean) @ into_vectors))
    scores = (private - mean) @ vectors / np.sqrt(values) * np.where(signs == 0, 1.0, signs)
    guess: Floats = (scores * np.sqrt(into_values)) @ into_vectors.T + into_mean
    return guess


def _ica(target: Target, seen: Floats, known: Floats, private: Floats) -> Floats:
    count = min(_MAX_COMPONENTS, seen.shape[1], int((_components(known)[1] > 1e-6 * _components(known)[1][0]).sum()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        models = [
            FastICA(count, whiten="unit-variance", max_iter=100, random_state=target.seed).fit(each)
            for each in (seen, known)
        ]
    sources = [model.transform(each) for model, each in zip(models, (seen, known), strict=True)]
    signs = [np.where(_skewness(each) < 0, -1.0, 1.0) for each in sources]
    levels = np.linspace(0.01, 0.99, 25)
    shapes = [np.quantile(each * sign, levels, axis=0).T for each, sign in zip(sources, signs, strict=True)]
    order = linear_sum_assignment(((shapes[1][:, None] - shapes[0]) ** 2).sum(axis=2))[1]
    found = models[0].transform(private) * signs[0]
    guess: Floats = models[1].inverse_transform(found[:, order] * signs[1])
    return guess


def _transport(guess: Floats, seen: Floats, known: Floats, random: np.random.Generator) -> Floats:
    mean, values, vectors = _components(seen)
    into_mean, into_values, into_vectors = _components(known)
    white = (seen - mean) @ vectors / np.sqrt(values)
    public = (known - into_mean) @ into_vectors / np.sqrt(into_values)
    start = (guess - into_mean) @ into_vectors / np.sqrt(into_values)
    turn = _rotation(white, start)
    # Whitening blows up what hardly varies: neighbours are taken where the variance is.
    weight = np.sqrt(into_values)
    count = min(600, len(white), len(public))
    for _ in range(_ROUNDS):
        a = white[random.permutation(len(white))[:count]]
        b = public[random.permutation(len(public))[:count]]
        moved = (a @ turn) * weight
        cost = (moved**2).sum(axis=1)[:, None] + ((b * weight) ** 2).sum(axis=1) - 2 * moved @ (b * weight).T
        pairs = linear_sum_assignment(cost)[1]
        turn = _rotation(a, b[pairs])
    found: Floats = (white @ turn * weight) @ into_vectors.T + into_mean
    return found


def _rotation(a: Floats, b: Floats) -> Floats:
    left, _, right = np.linalg.svd(a.T @ b)
    found: Floats = left @ right
    return found


def _by_quantiles(target: Target, blocks: Blocks) -> float:
    """Every place is a number of its own: find the public one with the same distribution."""
    levels = np.linspace(0.02, 0.98, 25)
    both = (target.ciphertexts, target.public)
    seen, known = (np.quantile(blocks.of(each)[..., 0], levels, axis=0).T for each in both)
    cost = (seen**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2 * seen @ known.T
    order = linear_sum_assignment(cost)[1]
    return _reordered(target, blocks, order)


def _reordered(target: Target, blocks: Blocks, order: NDArray[np.int64]) -> float:
    """R² of private records whose encrypted place i is taken to be the plain place ``order[i]``."""
    private = blocks.of(target.ciphertexts)[..., 0]
    guess, truth = np.empty_like(private), blocks.of(target.records)[..., 0]
    guess[:, order] = private
    return r_squared(truth, guess)
