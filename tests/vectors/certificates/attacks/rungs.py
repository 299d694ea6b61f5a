"""Step 19: the privacy rung, and the model owner's claim that it rests on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rexis.protocol.digests import sha256
from rexis.protocol.policy import Rung, Tier
from rexis.protocol.rung import PRIVATE_WEIGHTS_DISTANCE_E9, RungClaim, sign_rung_claim
from rexis.protocol.signing import address_of, sign_digest
from rexis.protocol.typed_data import Domain
from tests.vectors.certificates.accounts import account
from tests.vectors.certificates.case import forged, valid
from tests.vectors.certificates.issuer import Document, Issuer, Job, seal


def _job(issuer: Issuer) -> Job:
    return issuer.job(Tier.COMMIT, rung=Rung.EE_PRIVATE_WEIGHTS)


def claimed(issuer: Issuer, *, by: str = "owner", domain: Domain | None = None, **changes: Any) -> Document:
    """The owner's honest claim of the model, with changes, signed by an account."""
    honest: dict[str, Any] = {
        "rung": Rung.EE_PRIVATE_WEIGHTS,
        "model_digest": issuer.model.digest,
        "key_epoch": 1,
        "base_digest": sha256(b"a public base model"),
        "distance_e9": 1_300_000_000,
        "threshold_e9": PRIVATE_WEIGHTS_DISTANCE_E9,
        "card_digest": sha256(b"a leakage card"),
        "owner": address_of(account("owner")),
    }
    claim = RungClaim(**{**honest, **changes})
    return sign_rung_claim(account(by), claim, domain or issuer.deployment.domain).to_object()


def _with(issuer: Issuer, claim: Document, job: Job | None = None) -> Document:
    return seal({**issuer.issue(job or _job(issuer)), "rungClaim": claim})


@valid(match="claimed by the owner")
def private_weights(issuer: Issuer) -> Document:
    """Rung ee-private-weights, with the claim of the model's owner. That it is true, nobody but the owner can check."""
    return _with(issuer, claimed(issuer))


@valid(match="'s now")
def private_weights_handed_over(issuer: Issuer) -> Document:
    """Rung ee-private-weights, claimed by who registered the key epoch. Later the model was handed over to another."""
    model = issuer.handed_over
    job = issuer.job(Tier.COMMIT, rung=Rung.EE_PRIVATE_WEIGHTS, model=model)
    return _with(issuer, claimed(issuer, model_digest=model.digest), job)


@forged(15, "registered the model", "coordinator", "requester")
def rung_claim_by_the_next_owner(issuer: Issuer) -> Document:
    """The model's new owner claims the rung of a key epoch that the former owner registered, and did not claim it of."""
    model = issuer.handed_over
    claim = claimed(issuer, by="heir", owner=address_of(account("heir")), model_digest=model.digest)
    return _with(issuer, claim, issuer.job(Tier.COMMIT, rung=Rung.EE_PRIVATE_WEIGHTS, model=model))


@valid("coordinator", "requester", offline=True)
def private_weights_by_another_offline(issuer: Issuer) -> Document:
    """A stranger claims the rung for the owner's model. Offline nobody can see whose model it is."""
    return _with(issuer, claimed(issuer, by="stranger", owner=address_of(account("stranger"))))


@forged(15, "registered the model", "coordinator", "requester")
def rung_claim_by_another_wallet(issuer: Issuer) -> Document:
    """A stranger claims the rung for the owner's model, in its own name."""
    return _with(issuer, claimed(issuer, by="stranger", owner=address_of(account("stranger"))))


@forged(19, "rung claim is signed by", "coordinator", "requester")
def rung_claim_signed_by_another(issuer: Issuer) -> Document:
    """A stranger claims the rung in the owner's name."""
    return _with(issuer, claimed(issuer, by="stranger"))


@forged(19, "rung claim is signed by", "coordinator", "requester")
def rung_claim_for_another_log(issuer: Issuer) -> Document:
    """The owner's claim, signed for another deployment."""
    domain = Domain(chain_id=1, verifying_contract=issuer.deployment.evidence_log)
    return _with(issuer, claimed(issuer, domain=domain))


@forged(19, "rung claim is signed by", "coordinator", "requester")
def rung_claim_distance_raised(issuer: Issuer) -> Document:
    """The owner claimed a distance below the threshold; the coordinator writes a larger one."""
    signed = claimed(issuer, distance_e9=200_000_000)
    return _with(issuer, {**signed, "claim": {**signed["claim"], "distanceE9": 1_200_000_000}})


@forged(19, "is about model", "coordinator", "requester")
def rung_claim_for_another_model(issuer: Issuer) -> Document:
    """The same owner's claim for another model of its own."""
    return _with(issuer, claimed(issuer, model_digest=issuer.other_model.digest))


@forged(19, "is about key epoch", "coordinator", "requester")
def rung_claim_for_another_epoch(issuer: Issuer) -> Document:
    """The owner's claim for another key epoch of the model."""
    return _with(issuer, claimed(issuer, key_epoch=2))


@forged(19, "claims rung ee-outsourced", "coordinator", "requester")
def rung_claim_of_another_rung(issuer: Issuer) -> Document:
    """The owner claimed rung ee-outsourced, the job's is higher."""
    return _with(issuer, claimed(issuer, rung=Rung.EE_OUTSOURCED))


@forged(19, "a layer is only 99.9%", "coordinator", "model owner", "requester")
def rung_claim_below_threshold(issuer: Issuer) -> Document:
    """The owner itself signed a claim whose distance does not earn the rung."""
    return _with(issuer, claimed(issuer, distance_e9=999_000_000))


@forged(19, "against a threshold of 10.0%", "coordinator", "model owner", "requester")
def rung_claim_threshold_lowered(issuer: Issuer) -> Document:
    """The owner signed a claim with a threshold of its own, which its distance reaches."""
    return _with(issuer, claimed(issuer, distance_e9=200_000_000, threshold_e9=100_000_000))


@forged(19, "is missing", "coordinator", "requester")
def rung_claim_missing(issuer: Issuer) -> Document:
    """The job names rung ee-private-weights, and nothing backs it."""
    return issuer.issue(_job(issuer))


@forged(19, "the job asked for rung ee-outsourced", "coordinator")
def rung_claim_for_show(issuer: Issuer) -> Document:
    """A true claim in the certificate of a job that was given out as ee-outsourced, to look like more than it is."""
    return _with(issuer, claimed(issuer), issuer.job(Tier.COMMIT))


@forged(3, "request is signed by", "coordinator")
def rung_upgraded(issuer: Issuer) -> Document:
    """The coordinator raised the rung in a finished job's request, and added the owner's true claim."""
    document = _with(issuer, claimed(issuer), issuer.job(Tier.COMMIT))
    document["request"]["policy"]["rung"] = "ee-private-weights"
    return seal(document)


@forged(7, "statement.jobId", "coordinator", "requester")
def rung_upgraded_by_the_requester(issuer: Issuer) -> Document:
    """The requester signed the request again with a higher rung, after the worker had signed its statement."""
    job = issuer.job(Tier.COMMIT)
    document = _with(issuer, claimed(issuer), job)
    policy = job.request.policy.model_copy(update={"rung": Rung.EE_PRIVATE_WEIGHTS})
    request = job.request.model_copy(update={"policy": policy})
    again = replace(job, request=request, signature=sign_digest(account("requester"), request.job_id(job.domain)))
    signature = "0x" + again.signature.hex()
    return seal({**document, "request": request.to_object(), "requestSignature": signature})
