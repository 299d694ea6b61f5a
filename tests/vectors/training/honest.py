"""What must pass: honest trainings, and cheats that nothing at hand can show."""

from __future__ import annotations

from rexis.protocol.policy import Tier
from tests.vectors.certificates.issuer import Document
from tests.vectors.training.case import valid
from tests.vectors.training.issuer import SEGMENTS, Cheat, TrainingIssuer
from tests.vectors.training.steps import OTHER_DATA, drawn, drifting


@valid(match="nothing is shown of the steps")
def commit(issuer: TrainingIssuer) -> Document:
    """Tier commit: the signed transcript."""
    return issuer.commit()


@valid(match="all 4 segments", reexecute=SEGMENTS)
def commit_taken_again(issuer: TrainingIssuer) -> Document:
    """Tier commit, and an auditor who takes all segments again on its own account."""
    return issuer.commit()


@valid(match="2 of 4 segments")
def sampled(issuer: TrainingIssuer) -> Document:
    """Tier sampled: two segments of four."""
    return issuer.issue(issuer.job(Tier.SAMPLED, sample=2))


@valid(match="all 4 segments")
def sampled_everything(issuer: TrainingIssuer) -> Document:
    """Tier sampled with a sample of all segments."""
    return issuer.sampled()


@valid(match="all 4 segments", offline=True)
def sampled_offline(issuer: TrainingIssuer) -> Document:
    """The same without a chain node: steps 14 to 17 are skipped, and the report says so."""
    return issuer.sampled()


@valid(match="(in 2 attempts)")
def sampled_second_attempt(issuer: TrainingIssuer) -> Document:
    """The coordinator committed twice; the policy allows three, and the figures are those of two draws."""
    return issuer.issue(issuer.job(Tier.SAMPLED, sample=2), Cheat(discarded=1))


@valid(match="all 4 segments")
def handed_over(issuer: TrainingIssuer) -> Document:
    """The first worker died after two segments, and another one went on from its last checkpoint."""
    workers = ("worker", "worker", "worker", "second worker", "second worker")
    return issuer.issue(issuer.job(Tier.SAMPLED, sample=SEGMENTS), Cheat(workers=workers))


@valid("coordinator", "worker", match="nothing is shown of the steps")
def cheat_at_commit(issuer: TrainingIssuer) -> Document:
    """Tier commit: the worker trained on other data, and nobody takes a step again."""
    return issuer.issue(issuer.job(Tier.COMMIT), OTHER_DATA)


@valid("coordinator", "worker", match="1 of 4 segments")
def cheat_not_drawn(issuer: TrainingIssuer) -> Document:
    """Tier sampled, one segment of four drawn, another one cheated: this happens three times in four."""
    while True:
        job = issuer.job(Tier.SAMPLED, sample=1)
        document = issuer.issue(job, drifting(2, 0.5))
        if drawn(document) != [2]:
            return document


@valid("coordinator", "worker", match="all 4 segments")
def drift_within_the_tolerance(issuer: TrainingIssuer) -> Document:
    """The worker moves the weights of each segment's end by nine tenths of what the policy tolerates."""
    return issuer.issue(issuer.job(Tier.SAMPLED, sample=SEGMENTS), drifting(None, 0.9e-3))


@valid("requester", match="all 4 segments")
def poisoned_data(issuer: TrainingIssuer) -> Document:
    """All classes of the committed dataset are wrong. It is the dataset that was asked for."""
    wrong = issuer.data.records.copy()
    wrong[:, 4] = 1 - wrong[:, 4]
    data = type(issuer.data)(wrong, issuer.data.salts)
    issuer.keep(data.to_bytes())
    return issuer.issue(issuer.job(Tier.SAMPLED, sample=SEGMENTS, data=data))
