"""Verifies the certificate of a trained model: alone, with no key, believing neither worker nor coordinator.

The steps are 1 to 4, 7, 11, 14 to 17 and 19 of the list in :mod:`verifier.certificate`, and after 7 those of
:mod:`verifier.training`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from rexis.protocol.digests import Digest
from rexis.protocol.errors import EvidenceError
from rexis.protocol.parsing import enum_name
from rexis.protocol.policy import Tier
from rexis.protocol.statement import Kind
from rexis.protocol.training_certificate import TrainingCertificate
from verifier.artifacts import Artifacts
from verifier.envelope import check_anchor, check_head, check_rung_claim, check_surroundings
from verifier.report import Verdict
from verifier.training import BASE_MODEL, TrainingContext, shows, walk_training

if TYPE_CHECKING:
    from verifier.certificate import VerifyOptions

COVER = 6


class _Files:
    """An auditor's files, by digest."""

    def __init__(self, options: VerifyOptions) -> None:
        self._artifacts, self._model = Artifacts(options.artifacts), options.model

    def read(self, what: str, digest: Digest) -> bytes:
        if what == BASE_MODEL:
            return self._artifacts.read(what, digest, self._model, "--model")
        return self._artifacts.read(what, digest, None, "--artifacts")


def verify_training(certificate: TrainingCertificate, options: VerifyOptions, verdict: Verdict) -> str:
    """Take all the steps after the first; raises ``StepFailed`` at the first that fails. Returns what passing shows."""
    check_head(certificate, Kind.TRAINING, options, verdict, development_srs=False)
    policy, plan, commitment = certificate.request.policy, certificate.plan, certificate.commitment
    with verdict.step(COVER, "commitment that the tier asks for") as notes:
        if (commitment is not None) != (policy.tier == Tier.SAMPLED):
            raise EvidenceError("a commitment belongs to tier sampled, and to no other", field="commitment")
        if commitment is not None and commitment.attempt > policy.max_attempts:
            raise EvidenceError(
                f"attempt {commitment.attempt}, the policy allows {policy.max_attempts}", field="commitment.attempt"
            )
        notes.say(f"attempt {commitment.attempt} of {policy.max_attempts}" if commitment else "none, tier commit")

    more = min(options.reexecute, plan.segments)
    context = TrainingContext(
        domain=certificate.domain,
        request=certificate.request,
        plan=plan,
        worker=None,
        nonce=None,
        block_hash=commitment.challenge_block_hash if commitment else None,
        files=_Files(options),
        more_segments=random.SystemRandom().sample(range(plan.segments), more),
    )
    walk_training(certificate.evidence, context, verdict)
    check_anchor(certificate, certificate.places[0], "the training", verdict)
    check_surroundings(certificate, options, verdict, lambda: _check_rung(certificate))
    return shows(certificate.evidence, plan, policy, attempt=commitment.attempt if commitment else 1, own=more)


def _check_rung(certificate: TrainingCertificate) -> str:
    """Step 19. The claim is of the base model's weights; what training made of them, nobody has measured."""
    name, claim = enum_name(certificate.request.policy.rung), check_rung_claim(certificate)
    return f"{name}: {claim or 'nothing is claimed of the weights'}"
