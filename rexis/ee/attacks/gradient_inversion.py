"""Gradient inversion: a training record rebuilt from the gradient it made, in the clear and under EE."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rexis.ee.attacks.closed_form import by_positions, dense_first_layer
from rexis.ee.attacks.places import blocks_of
from rexis.ee.attacks.target import NotApplicableError, Result, Target
from rexis.ee.attacks.torch_graph import Network
from rexis.ee.stream import Floats

RECORDS = 2
_STEPS = 250
_MAX_CALLS = 300
_MAX_ELEMENTS = 800
_MAX_SEQUENCES = 400  # places times words, for the search by single exchanges
_STARTS = 30
_SWEEPS = 6
_FITS = 1e-12
_LOOKED_AT = 100
_ANNEALED = 300
_RATE = 0.05
_NOTHING = 0.05

Gradient = dict[str, Any]


def gradient_inversion(target: Target) -> Result:
    """Find the record whose gradient is the one that was seen (batch of one, squared loss, target known).

    In this order, the first that applies:

    - *closed form, dense*: behind a first layer ``W x + b`` the record is ``∂L/∂W`` divided by ``∂L/∂b``, exactly;
    - *closed form, positions*: where a table of positions is added to the first layer's output, its gradient is that of
      each place, and ``∂L/∂W`` (or that of an embedding table) is linear in the patches (or tokens) that are sought;
    - *search*: a dummy record is moved until its gradient fits: by L-BFGS from the mean, for squared distance and for
      cosine, and by Adam and L-BFGS from the public record whose gradient fits best. The best fit counts, which the
      attacker sees. Tokens are exchanged one by one instead.

    Knows: the model that trains (plain, or encrypted), one record's gradient and its target. Metric: R² of the rebuilt
    record about the public mean, or the share of its tokens. Ceiling: the same in the clear. Floor: 0, or the commonest
    token's share. Under EE what comes out is the *ciphertext* (``detail.ciphertext``: how well), which is as safe as
    the input key and no safer: every other attack goes on from there.

    Sources: L. Zhu et al., Deep leakage from gradients, NeurIPS 2019; L. Phong et al., IEEE TIFS 13(5), 2018 (dense
    layers); J. Lu et al., APRIL, CVPR 2022 (position tables); J. Geiping et al., Inverting gradients, NeurIPS 2020
    (cosine).
    """
    if len(target.graph.inputs) > 1:
        raise NotApplicableError("this search rebuilds the records of models with one input")
    chosen = target.records[target.random("gradients").permutation(len(target.records))[:RECORDS]]
    secret, public = target.encrypt(chosen, "chosen"), target.encrypt(target.public, "public")
    clear, way = _inverted(target, target.plain, chosen, target.public)
    ceiling = _score(target, chosen, clear, target.public)
    floor = 0.0
    if target.is_tokens:
        floor = float(np.unique(target.records, return_counts=True)[1].max() / target.records.size)
    if ceiling < floor + _NOTHING:
        raise NotApplicableError(
            f"the {way} does not rebuild the model's records in the clear either: nothing is shown"
        )
    hidden, _ = _inverted(target, target.encrypted.model, secret, public)
    ciphertext = _score(target, secret, hidden, public)
    truth, known = (blocks_of(target).of(each).reshape(len(each), -1) for each in (chosen, target.public))
    value = _score(target, truth, blocks_of(target).of(hidden).reshape(len(hidden), -1), known)
    return Result(
        name="gradient_inversion",
        metric="share of tokens" if target.is_tokens else "R² of the record",
        value=value,
        ceiling=max(ceiling, value),
        floor=floor,
        attacker_knows="the model that trains, one record's gradient and its target",
        says=f"A gradient gives {ceiling:.0%} of its record in the clear ({way}); under EE {value:.0%}, and "
        f"{ciphertext:.0%} of its ciphertext.",
        detail={"ciphertext": ciphertext, "records": len(chosen), "way": way},
    )


def _score(target: Target, truth: NDArray[Any], guess: NDArray[Any], public: NDArray[Any]) -> float:
    if target.is_tokens:
        return float((truth == guess).mean())
    mean = public.mean(axis=0)
    spread = float(((truth - mean) ** 2).sum())
    return max(0.0, 1.0 - float(((truth - guess) ** 2).sum()) / spread)


def _inverted(target: Target, model: bytes, records: NDArray[Any], public: NDArray[Any]) -> tuple[Floats, str]:
    """Rebuilt records, and how. Of `records` only the gradients and the shape are used."""
    network = Network(model)
    gradients = [network.gradient(_tensor(record)) for record in records]
    for way, attempt in _WAYS.items():
        found = [guess for seen in gradients if (guess := attempt(target, network, seen, public)) is not None]
        if len(found) == len(records):
            return np.stack(found), way
    raise NotApplicableError("no way to invert a gradient fits this model")


def _searched(target: Target, network: Network, seen: Gradient, public: NDArray[Any]) -> Floats:
    if target.is_tokens:
        return _exchanged(target, network, seen, public)
    if math.prod(public.shape[1:]) > _MAX_ELEMENTS:
        raise NotApplicableError(f"records of more than {_MAX_ELEMENTS} elements take too long to search here")
    alike = [float(_cosine(network.gradient(_tensor(each)), seen)) for each in public[:_LOOKED_AT]]
    nearest = _annealed(network, seen, public[int(np.argmin(alike))])
    mean = public.mean(axis=0)
    tried = [
        _descended(network, seen, start, loss)
        for start, loss in ((mean, _squared), (mean, _cosine), (nearest, _cosine))
    ]
    return min(tried, key=lambda pair: pair[0])[1]


def _tensor(record: NDArray[Any]) -> Any:
    return torch.tensor(record[None], dtype=torch.float64)


def _annealed(network: Network, seen: Gradient, start: NDArray[Any]) -> Floats:
    """A dummy record after Adam with falling steps, which gets over the kinks of ReLU where L-BFGS stops."""
    dummy = _tensor(start).requires_grad_()
    search = torch.optim.Adam([dummy], lr=_RATE)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(search, _ANNEALED)
    for _ in range(_ANNEALED):
        search.zero_grad()
        _cosine(network.gradient(dummy, create_graph=True), seen).backward()
        search.step()
        rates.step()
    found: Floats = dummy.detach().numpy()[0]
    return found


def _descended(
    network: Network, seen: Gradient, start: NDArray[Any], loss: Callable[[Gradient, Gradient], Any]
) -> tuple[float, Floats]:
    """A dummy record whose gradient fits, and how well it does (relative squared distance)."""
    dummy = _tensor(start).requires_grad_()
    search = torch.optim.LBFGS(
        [dummy], max_iter=_STEPS, max_eval=_MAX_CALLS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Any:
        search.zero_grad()
        distance = loss(network.gradient(dummy, create_graph=True), seen)
        distance.backward()
        return distance

    search.step(closure)
    found: Floats = dummy.detach().numpy()[0]
    return float(_squared(network.gradient(dummy), seen)), np.nan_to_num(found)


def _squared(made: Gradient, seen: Gradient) -> Any:
    scale = sum((each**2).sum() for each in seen.values())
    return sum(((made[name] - each) ** 2).sum() for name, each in seen.items()) / scale


def _cosine(made: Gradient, seen: Gradient) -> Any:
    sizes = [torch.sqrt(sum((each**2).sum() for each in side.values())) for side in (made, seen)]
    return 1.0 - sum((made[name] * each).sum() for name, each in seen.items()) / (sizes[0] * sizes[1] + 1e-30)


def _exchanged(target: Target, network: Network, seen: Gradient, public: NDArray[Any]) -> Floats:
    """Tokens exchanged one by one for whichever fits best, from several public sequences on."""
    words, places = int(public.max()) + 1, public.shape[1]
    if words * places > _MAX_SEQUENCES:
        raise NotApplicableError(f"{places} places of {words} tokens are too many to exchange one by one here")

    def misfit(tokens: NDArray[Any]) -> float:
        return float(_squared(network.gradient(_tensor(tokens)), seen))

    best: tuple[float, NDArray[Any]] = (math.inf, public[0])
    for start in target.random("sequences").permutation(len(public))[:_STARTS]:
        tokens = public[start].copy()
        fit = misfit(tokens)
        for _ in range(_SWEEPS):
            before = fit
            for place in range(places):
                for word in range(words):
                    other = tokens.copy()
                    other[place] = word
                    if (found := misfit(other)) < fit:
                        fit, tokens = found, other
            if fit == before:
                break
        best = min(best, (fit, tokens), key=lambda pair: pair[0])
        if fit < _FITS:
            break
    return best[1].astype(np.float64)


_WAYS: dict[str, Callable[[Target, Network, Gradient, NDArray[Any]], Floats | None]] = {
    "closed form of a dense first layer": dense_first_layer,
    "closed form by positions": by_positions,
    "search": _searched,
}
