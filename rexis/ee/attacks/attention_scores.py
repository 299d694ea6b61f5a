"""Attention scores: what ``softmax`` is about to see gives the inputs away even where no hidden state does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.preprocessing import StandardScaler

from rexis.ee.attacks.target import NotApplicableError, Result, Target, observe, r_squared
from rexis.ee.records import encrypt_records
from rexis.ee.stream import Floats

_RIDGES = (1e2, 1e3, 1e4, 1e5, 1e6)
_LABEL_RIDGE = 10.0
_QUANTILES = np.linspace(0.0, 1.0, 65)
_MAX_FEATURES = 3000


def attention_scores(target: Target) -> Result:
    """Regress records and labels on the scores before the softmax.

    Query and key cancel each other's keys, so that scores are plain up to the order of heads and places. *With pairs*,
    that order does not matter: a ridge regression learns it along. *Without*, the attacker trains on a public model's
    scores and uses their quantiles, which no order changes; labels only.

    Knows: the scores, and the public records together with the scores of their ciphertexts. Metric: R² of private
    records (tokens: share read). Ceiling: the same regression on plain scores. Floor: 0, or the commonest token's
    share. Applies to models with a softmax inside.

    Source: pre-softmax leakage, `facts.md` of this project.
    """
    inside = [node for node in target.graph.computing if node.op == "Softmax"]
    names = [node.inputs[0] for node in inside if node.output != target.graph.output]
    if not names:
        raise NotApplicableError("the model has no attention")
    scores = {
        "ee": [
            _flat(observe(target.encrypted.model, encrypt_records(target.encrypted.key, each), names))
            for each in (target.public_inputs, target.private_inputs)
        ],
        "plain": [_flat(observe(target.plain, each, names)) for each in (target.public_inputs, target.private_inputs)],
    }
    kept = target.random("scores").permutation(scores["ee"][0].shape[1])[:_MAX_FEATURES]
    values, labels = {}, {}
    for side, (known, private) in scores.items():
        scale = StandardScaler().fit(known[:, kept])
        a, b = scale.transform(known[:, kept]), scale.transform(private[:, kept])
        values[side] = _records_read(target, a, b)
        labels[side] = _labels_read(target, a, b)
    quantiles = [np.quantile(each, _QUANTILES, axis=1).T for each in (scores["plain"][0], scores["ee"][1])]
    floor = 0.0
    if target.is_tokens:
        floor = float(np.unique(target.records, return_counts=True)[1].max() / target.records.size)
    unit = "of the tokens" if target.is_tokens else "of the records' variance"
    detail = {
        "labels_with_pairs": labels["ee"],
        "labels_without_pairs": _labels_read(target, quantiles[0], quantiles[1]),
        "labels_guess": _guess(target),
    }
    return Result(
        name="attention_scores",
        metric="share of tokens read" if target.is_tokens else "R² of private records",
        value=values["ee"],
        ceiling=max(values["plain"], values["ee"]),
        floor=floor,
        attacker_knows=f"attention scores, and {len(target.public)} records together with theirs",
        says=f"The attention scores alone give {values['ee']:.0%} {unit}; without EE {values['plain']:.0%}.",
        detail=detail,
    )


def _flat(scores: list[NDArray[np.float32]]) -> Floats:
    found = np.concatenate([each.reshape(len(each), -1) for each in scores], axis=1).astype(np.float64)
    return np.maximum(found, -1e3)  # masked scores


def _records_read(target: Target, known: Floats, private: Floats) -> float:
    into, truth = (each.reshape(len(each), -1).astype(np.float64) for each in (target.public, target.records))
    if not target.is_tokens:
        return r_squared(truth, _ridge(known, into, private))
    words = int(max(into.max(), truth.max())) + 1
    onehot = np.eye(words)[into.astype(np.int64)].reshape(len(into), -1)
    guess = _ridge(known, onehot, private)
    return float((guess.reshape(len(truth), -1, words).argmax(axis=2) == truth).mean())


def _ridge(known: Floats, into: Floats, private: Floats) -> Floats:
    """Ridge regression in its dual form, whose penalty does best on a quarter of the known records."""
    cut = 3 * len(known) // 4
    losses = [((each - into[cut:]) ** 2).mean() for each in _predictions(known[:cut], into[:cut], known[cut:])]
    return _predictions(known, into, private)[int(np.argmin(losses))]


def _predictions(known: Floats, into: Floats, private: Floats) -> list[Floats]:
    """For each penalty."""
    values, vectors = np.linalg.eigh(known @ known.T)
    turned, across = vectors.T @ (into - into.mean(axis=0)), private @ known.T @ vectors
    return [across @ (turned / (values + penalty)[:, None]) + into.mean(axis=0) for penalty in _RIDGES]


def _labels_read(target: Target, known: Floats, private: Floats) -> float | None:
    """Accuracy on classes, R² on numbers; None without labels."""
    if target.labels is None or target.public_labels is None:
        return None
    if target.labels.dtype.kind == "f":
        guess = Ridge(_LABEL_RIDGE).fit(known, target.public_labels).predict(private).reshape(target.labels.shape)
        return r_squared(target.labels, guess)
    guess = RidgeClassifier(_LABEL_RIDGE).fit(known, target.public_labels).predict(private)
    return float((guess == target.labels).mean())


def _guess(target: Target) -> float | None:
    if target.labels is None:
        return None
    if target.labels.dtype.kind == "f":
        return 0.0
    return float(np.unique(target.labels, return_counts=True)[1].max() / len(target.labels))
