"""Linkage: telling from two ciphertexts whether they are of the same, or of alike, patients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from rexis.ee.attacks.target import Result, Target
from rexis.ee.stream import Floats

NEAR = 0.05  # the share of pairs that counts as near
NOISE = 0.3  # of a second measurement of the same patient, in standard deviations
_MAX_PAIRS = 20_000


def linkage(target: Target) -> Result:
    """Rank pairs of ciphertexts by distance.

    A pair is near if its plain distance is among the smallest 5 % of all pairs: that needs no patient identities,
    which the zoo's data lacks. ``detail.again`` simulates a second measurement of the same patient (noise of 0.3
    standard deviations; a tenth of the tokens redrawn) against other patients.

    Knows: ciphertexts under one key, nothing else. Metric: area under the ROC curve of near against other pairs.
    Ceiling: 1, plain distances. Floor: 0.5. Applies to every model.

    Why: a key with condition number κ stretches distances by at most κ, and permutations keep them.
    """
    random = target.random("linkage")
    plain, seen = (each.reshape(len(each), -1).astype(np.float64) for each in (target.records, target.ciphertexts))
    first, second = random.integers(len(plain), size=(2, _MAX_PAIRS))
    kept = first != second
    first, second = first[kept], second[kept]
    distances = _distance(target, plain[first], plain[second])
    near = distances <= np.quantile(distances, NEAR)
    value = float(roc_auc_score(near, -_distance(target, seen[first], seen[second]))) if not near.all() else 0.5
    again = target.encrypt(_measured_again(target, random)).reshape(len(plain), -1).astype(np.float64)
    same = -_distance(target, seen, again)
    other = -_distance(target, seen, again[random.permutation(len(again))])
    truth = np.repeat([1, 0], len(plain))
    repeated = float(roc_auc_score(truth, np.concatenate([same, other])))
    return Result(
        name="linkage",
        metric="ROC AUC, near against other pairs",
        value=value,
        ceiling=1.0,
        floor=0.5,
        attacker_knows="ciphertexts under one key",
        says=f"Alike patients are told from others with AUC {value:.2f}, a second measurement with {repeated:.2f}.",
        detail={"again": repeated, "equal_records_have_equal_ciphertexts": True, "near_share": NEAR, "noise": NOISE},
    )


def _distance(target: Target, a: Floats, b: Floats) -> Floats:
    found: Floats = (a != b).mean(axis=1) if target.is_discrete else np.linalg.norm(a - b, axis=1)
    return found


def _measured_again(target: Target, random: np.random.Generator) -> NDArray[np.float32]:
    records = target.records
    if target.is_discrete:
        redrawn = random.random(records.shape) < 0.1
        return np.where(redrawn, records[random.permutation(len(records))], records).astype(np.float32)
    noise = random.normal(size=records.shape) * records.std(axis=0)
    return np.asarray(records + NOISE * noise, dtype=np.float32)
