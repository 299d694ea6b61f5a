"""Where a model comes from and what was found of it, as certificates say; if they are true, ``verifier`` knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import Digest, require_digest
from rexis.protocol.errors import EvidenceError
from rexis.protocol.statement import Kind
from rexis.protocol.training_certificate import TrainingCertificate, parse_certificate

if TYPE_CHECKING:
    from rexis.client import RexisClient


@dataclass(frozen=True)
class ModelLineage:
    """A model, and what follows from it.

    Attributes
    ----------
    evaluations
        Of this very model.
    trainings
        That began from it, each with the model that it made.
    """

    digest: Digest
    evaluations: list[Certificate]
    trainings: list[tuple[TrainingCertificate, ModelLineage]]


def lineages(certificates: Sequence[Certificate | TrainingCertificate]) -> list[ModelLineage]:
    """One tree for each model that none of these trainings made.

    Raises
    ------
    EvidenceError
        Models are said to be trained from each other.
    """
    trainings = [each for each in certificates if isinstance(each, TrainingCertificate)]
    made = {each.trained_model for each in trainings}
    models = {each.request.model_digest for each in certificates}
    roots = [_of(model, certificates, ()) for model in sorted(models - made)]
    reached = {model for root in roots for model in _models(root)}
    if models - reached:
        raise EvidenceError(f"model {min(models - reached)} is said to be trained from what was trained from it")
    return roots


def around(model: Digest, roots: Sequence[ModelLineage]) -> list[ModelLineage]:
    """Those trees that the model is in."""
    return [root for root in roots if model in _models(root)]


def fetch_certificates(client: RexisClient, model: Digest, epoch: int) -> Iterator[Certificate | TrainingCertificate]:
    """From a coordinator: of the trainings that led to a model, and of one's own evaluations of it and of its bases.

    Parameters
    ----------
    epoch
        Of the model's key.
    """
    origins = client.lineage(model, epoch).origins
    found = {origin.job_id: origin.certificate_digest for origin in origins}
    models = {model, *(origin.base_digest for origin in origins)}
    for job in client.jobs():
        if job.certificate_digest and job.request.kind == Kind.EVALUATION and job.request.model_digest in models:
            found[job.job_id] = job.certificate_digest
    for job_id, digest in found.items():
        yield parse_certificate(require_digest(client.certificate(job_id), digest, f"certificate of job {job_id}"))


def _of(
    model: Digest, certificates: Sequence[Certificate | TrainingCertificate], above: tuple[Digest, ...]
) -> ModelLineage:
    if model in above:
        raise EvidenceError(f"model {model} is said to be trained from what was trained from it")
    here = [each for each in certificates if each.request.model_digest == model]
    return ModelLineage(
        model,
        [each for each in here if isinstance(each, Certificate)],
        [
            (each, _of(each.trained_model, certificates, (*above, model)))
            for each in here
            if isinstance(each, TrainingCertificate)
        ],
    )


def _models(root: ModelLineage) -> set[Digest]:
    return {root.digest}.union(*(_models(model) for _, model in root.trainings))
