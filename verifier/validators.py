"""Step 28: what validators said of a certificate's statements, by the quorum that the auditor named.

A quorum's manifest holds its terms, from which its address follows. No certificate or request can name it for an
auditor: a quorum is anybody's to deploy, so the coordinator's or the requester's could be of their friends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rexis.protocol.certificate import SealedDocument
from rexis.protocol.errors import EvidenceError
from rexis.protocol.policy import MAX_VALIDATORS
from rexis.protocol.statement import Kind
from rexis.protocol.validation import Finding
from verifier.report import Status, Verdict

if TYPE_CHECKING:
    from contracts.accountability import Accountability
    from contracts.accountable import AccountableChain
    from verifier.certificate import VerifyOptions

VALIDATORS = 28
_NAME = "validators' verdicts"


def concerns(certificate: SealedDocument, options: VerifyOptions) -> bool:
    """Whether there is such a step: the policy wants validators, or the auditor does."""
    return certificate.request.policy.validators > 0 or options.quorum is not None


def leave_out(certificate: SealedDocument, options: VerifyOptions, verdict: Verdict) -> bool:
    """Record why the step is not taken, if it is not; whether that is so."""
    wanted = f"the policy wants {certificate.request.policy.validators} validators"
    if options.by_validator:
        verdict.add(VALIDATORS, _NAME, Status.SKIPPED, "they are what this verification is for")
    elif options.offline:
        verdict.add(VALIDATORS, _NAME, Status.SKIPPED, f"offline: {wanted}; nobody looked what they said")
    elif certificate.request.kind == Kind.TRAINING and not certificate.request.policy.validators:
        verdict.add(VALIDATORS, _NAME, Status.SKIPPED, "validators do not judge trainings")
    elif options.quorum is None:
        hint = "give --quorum MANIFEST of the validators that you trust: a certificate cannot say whom"
        verdict.add(VALIDATORS, _NAME, Status.UNCHECKED, f"{wanted}, and you named none", hint)
    else:
        return False
    return True


def check_validators(
    certificate: SealedDocument, chain: AccountableChain, quorum: Accountability, verdict: Verdict
) -> None:
    """Take the step: the quorum found every statement valid, with as many signers as the policy wants."""
    with verdict.step(VALIDATORS, _NAME) as notes:
        chain.attach_quorum(quorum)
        notes.say(_check(certificate, chain, quorum))


def _check(certificate: SealedDocument, chain: AccountableChain, quorum: Accountability) -> str:
    wanted, fewest, least = max(certificate.request.policy.validators, 1), MAX_VALIDATORS, 1000
    for place in certificate.places:
        digest = certificate.domain.digest(place.statement)
        found = chain.find_verdict(digest, place.anchor.block_number)
        if found is None:
            raise EvidenceError(
                f"quorum {quorum.validator_quorum} has no verdict on statement {digest} since its anchor",
                field=f"{place.where}evidence",
                hint="another quorum's manifest, or validators have not judged",
            )
        if found.finding != Finding.VALID:
            raise EvidenceError(
                f"validators found statement {digest} not valid, in transaction {found.transaction}",
                field=f"{place.where}evidence",
            )
        if len(found.slots) < wanted:
            raise EvidenceError(
                f"{len(found.slots)} validators signed for statement {digest}, the policy wants {wanted}",
                field=f"{place.where}evidence",
            )
        fewest = min(fewest, len(found.slots))
        least = min(least, found.stake * 1000 // max(found.active, 1))  # rounded down: "or more"
    return (
        f"{fewest} or more validators of quorum {quorum.validator_quorum}, with {least / 10}% or more of its stake "
        "of then, found each statement valid"
    )
