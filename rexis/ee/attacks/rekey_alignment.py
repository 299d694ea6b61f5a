"""Re-key alignment: two key epochs of one model lined up, and the records of both linked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from rexis.ee.attacks.neurons import Neurons, hidden_neurons, match_neurons, values_of
from rexis.ee.attacks.target import NotApplicableError, Result, Target, observe
from rexis.ee.groups import Power
from rexis.ee.records import encrypt_records
from rexis.ee.stream import Floats


def rekey_alignment(target: Target) -> Result:
    """Link the records of two sessions under different keys of the same weights.

    The neurons of the two encrypted models are matched with each other as against a base, but no base is needed. On
    each session's records the matched neurons have the same values up to a scale each, which their spread undoes:
    the nearest record of the other session is taken to be the same one.

    Knows: two encrypted models and their ciphertexts. Metric: share of records linked right. Ceiling: 1, plain records
    are equal in both sessions. Floor: 1/records. Applies where hidden axes carry permutations.
    """
    neurons = hidden_neurons(target.encrypted)
    if not neurons:
        raise NotApplicableError("no hidden axis carries a permutation, so there are no neurons to align")
    later = target.another("next epoch")
    keyrings = (target.encrypted.key.keyring, later.key.keyring)
    assert keyrings[0] is not None and keyrings[1] is not None  # noqa: S101
    matches, right = {}, 0
    for each in neurons:
        found = match_neurons(each, target.encrypted, later)
        if found is not None:
            matches[each.variable] = found
            right += int((each.order(keyrings[1])[found] == each.order(keyrings[0])).sum())
    aligned = right / sum(each.size for each in neurons)
    values = values_of(target.encrypted, matches)
    order = target.random("sessions").permutation(len(target.records))
    names = list(values)
    again = {name: values[order] for name, values in target.private_inputs.items()}
    first = observe(target.encrypted.model, encrypt_records(target.encrypted.key, target.private_inputs), names)
    second = observe(later.model, encrypt_records(later.key, again), names)
    powers = {each.variable: each for each in neurons}
    parts: tuple[list[Floats], list[Floats]] = ([], [])
    for name, a, b in zip(names, first, second, strict=True):
        axis, variable = values[name]
        parts[0].append(_pooled(a, axis, powers[variable]))
        parts[1].append(_pooled(b, axis, powers[variable])[:, matches[variable]])
    distances = cdist(*(np.concatenate(each, axis=1) for each in parts))
    value = float((order[distances.argmin(axis=1)] == np.arange(len(order))).mean())
    return Result(
        name="rekey_alignment",
        metric="share of records linked across two epochs",
        value=value,
        ceiling=1.0,
        floor=1 / len(order),
        attacker_knows="two encrypted forms of one model, and the ciphertexts sent to each",
        says=f"Across a change of key, {aligned:.0%} of the neurons align and {value:.0%} of the records are linked.",
        detail={"neurons_aligned": aligned, "records": len(order)},
    )


def _pooled(values: NDArray[np.float32], axis: int, neurons: Neurons) -> Floats:
    """Mean over places of each neuron, standardised."""
    rows = np.moveaxis(values, axis, -1).reshape(len(values), -1, neurons.size).mean(axis=1).astype(np.float64)
    rows = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-9)
    found: Floats = np.abs(rows) if Power.SIGN in neurons.powers else rows
    return found
