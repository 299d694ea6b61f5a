"""Attacks on Equivariant Encryption, to measure what it leaks instead of claiming that it does not.

Each attack is a seeded function of a :class:`~rexis.ee.attacks.target.Target` that returns a
:class:`~rexis.ee.attacks.target.Result` with its value between what guessing gets (floor) and what the same attack gets
without EE (ceiling), or raises :class:`~rexis.ee.attacks.target.NotApplicableError` with the reason. They are lower
bounds: somebody who tries harder gets at least this much. Needs the extra ``rexis[models]``.
"""

from __future__ import annotations

from collections.abc import Callable

from rexis.ee.attacks.attention_scores import attention_scores
from rexis.ee.attacks.causal_mask import causal_mask
from rexis.ee.attacks.ciphertext_only import ciphertext_only
from rexis.ee.attacks.gradient_inversion import gradient_inversion
from rexis.ee.attacks.jigsaw import jigsaw
from rexis.ee.attacks.known_plaintext import known_plaintext
from rexis.ee.attacks.linkage import linkage
from rexis.ee.attacks.rekey_alignment import rekey_alignment
from rexis.ee.attacks.target import NotApplicableError, Result, Target
from rexis.ee.attacks.token_frequency import token_frequency
from rexis.ee.attacks.token_matching import token_matching
from rexis.ee.attacks.weight_matching import weight_matching

ATTACKS: dict[str, Callable[[Target], Result]] = {
    attack.__name__: attack
    for attack in (
        weight_matching,
        known_plaintext,
        ciphertext_only,
        token_matching,
        attention_scores,
        token_frequency,
        linkage,
        rekey_alignment,
        jigsaw,
        gradient_inversion,
        causal_mask,
    )
}

__all__ = ["ATTACKS", "NotApplicableError", "Result", "Target"]
