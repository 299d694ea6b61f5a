"""Several certificates: what was trained, and what was found of it."""

from __future__ import annotations

from rexis.protocol.digests import sha256
from rexis.protocol.policy import Tier
from rexis.protocol.training_certificate import TrainingCertificate
from tests.vectors.certificates.issuer import Document
from tests.vectors.training.case import forged, valid
from tests.vectors.training.issuer import PLAN, SEGMENTS, TrainingIssuer
from tests.vectors.training.steps import OTHER_DATA


def _trained(issuer: TrainingIssuer, document: Document) -> bytes:
    """The model that a training made."""
    return issuer.artifacts[TrainingCertificate.from_object(document).trained_model]


def _trained_again(issuer: TrainingIssuer, model: bytes, epoch: int) -> Document:
    issuer.register(model, epoch)
    plan = PLAN.model_copy(update={"order_seed": sha256(b"a second order")})
    return issuer.issue(issuer.job(Tier.SAMPLED, sample=SEGMENTS, plan=plan, base=model, epoch=epoch))


@valid(match="certificate-2.json: records 0–1")
def trained_and_evaluated(issuer: TrainingIssuer) -> list[Document]:
    """A model trained, registered and evaluated: from the base model to what its evaluation found."""
    training = issuer.sampled()
    return [training, issuer.evaluation(_trained(issuer, training), epoch=2)]


@valid(match="certificate-2.json: all 4 segments")
def trained_twice(issuer: TrainingIssuer) -> list[Document]:
    """A trained model was trained on, and both it and its base were evaluated."""
    first = issuer.sampled()
    model = _trained(issuer, first)
    second = _trained_again(issuer, model, 3)
    evaluations = [issuer.evaluation(each, epoch=4) for each in (issuer.base, model, _trained(issuer, second))]
    return [first, second, *evaluations]


@forged(27, "certificate-2.json", "coordinator", "model owner", "requester")
def evaluation_of_another_model(issuer: TrainingIssuer) -> list[Document]:
    """The evaluation of a better model, shown as that of the trained one."""
    return [issuer.sampled(), issuer.evaluation(issuer.other_base, epoch=5)]


@forged(27, "the chain breaks", "coordinator", "model owner", "requester")
def link_left_out(issuer: TrainingIssuer) -> list[Document]:
    """Of two trainings, one after the other, the first is not shown, and another one is in its place."""
    first = issuer.sampled()
    model = _trained(issuer, first)
    second = _trained_again(issuer, model, 6)
    return [issuer.issue(issuer.job(Tier.COMMIT, base=issuer.other_base)), second]


@forged(27, "you pinned", model_digest=str(sha256(b"the base model that was meant")))
def lineage_of_another_base(issuer: TrainingIssuer) -> list[Document]:
    """All is in order, and leads back to another base model than the auditor expects."""
    training = issuer.sampled()
    return [training, issuer.evaluation(_trained(issuer, training), epoch=7)]


@forged(26, "ends", "coordinator", "worker")
def lineage_of_a_cheat(issuer: TrainingIssuer) -> list[Document]:
    """An honest evaluation of a model, in the training of which a segment was cheated."""
    training = issuer.issue(issuer.job(Tier.SAMPLED, sample=SEGMENTS), OTHER_DATA)
    return [training, issuer.evaluation(_trained(issuer, training), epoch=8)]
