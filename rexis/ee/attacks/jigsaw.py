"""Jigsaw: the order of permuted places (patches, samples, residues, cells) put back from how they go together."""

from __future__ import annotations

import numpy as np

from rexis.ee.attacks.places import MAX_PLACES, blocks_of, match_places, mirror_images, place_profiles, token_profiles
from rexis.ee.attacks.target import NotApplicableError, Result, Target


def jigsaw(target: Target) -> Result:
    """Match permuted places with those of a public sample, by means and correlations that no key changes.

    Blocks at all places share a key, so that after whitening the inner products between places are those of the plain
    records (:func:`~rexis.ee.attacks.places.place_profiles`). Patches that touch are alike, edges differ from the
    middle: the table names the places. ``detail.neighbours`` needs no public sample: it is the share of places whose
    most alike other place is one next to it, in the order of the graph.

    Knows: ciphertexts, a public sample. Metric: share of places put right, in the best of the mirror images (a handful,
    which the attacker can look at; ``detail.exact`` is without). Ceiling: 1, plain places stand where they
    stand. Floor: 1/places. Value 1 where the graph leaves places in the clear. Not for records of a single block.

    Source: solvers of jigsaw puzzles work by border compatibility, e.g. D. Pomeranz et al., CVPR 2011; block-wise image
    encryption falls to them, T. Chuman et al., IEICE Trans. 2018.
    """
    blocks = blocks_of(target)
    if blocks.places == 1:
        raise NotApplicableError("a record is one block: there are no places to put in order")
    if not blocks.permuted:
        return _result(target, 1.0, blocks.places, "The places are in the clear: the operators need them so.", {})
    if blocks.places > MAX_PLACES:
        raise NotApplicableError(f"{blocks.places} places are more than this solver takes ({MAX_PLACES})")
    seen, known = blocks.of(target.ciphertexts), blocks.of(target.public)
    if target.is_tokens:
        seen, known = seen[..., 0], known[..., 0]
    common = target.is_tokens or blocks.width > 1
    guess = match_places(known, seen, () if target.is_tokens else blocks.grid, tokens=target.is_tokens, common=common)
    exact = float((guess == blocks.truth).mean())
    value = max(float((image == blocks.truth).mean()) for image in mirror_images(guess, blocks.grid))
    table = (token_profiles if target.is_tokens else place_profiles)(seen)[0]
    size = np.sqrt(np.diagonal(table)) + 1e-9
    alike = table / np.outer(size, size) - 2 * np.eye(len(table))
    closest = blocks.truth[alike.argmax(axis=1)]
    neighbours = float((np.abs(closest - blocks.truth) == 1).mean())
    says = f"{value:.0%} of the {blocks.places} hidden places are put back in order from a public sample."
    return _result(target, value, blocks.places, says, {"exact": exact, "neighbours": neighbours})


def _result(target: Target, value: float, places: int, says: str, detail: dict[str, float]) -> Result:
    return Result(
        name="jigsaw",
        metric="share of places put right",
        value=value,
        ceiling=1.0,
        floor=1 / places,
        attacker_knows=f"the ciphertexts and {len(target.public)} public records of the same population",
        says=says,
        detail={"places": places, **detail},
    )
