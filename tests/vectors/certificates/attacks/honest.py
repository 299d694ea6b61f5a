"""Certificates that must pass: honest ones, and some whose flaw is not theirs to show."""

from __future__ import annotations

from rexis.protocol.certificate import Certificate
from rexis.protocol.challenge import challenge_indices
from rexis.protocol.digests import sha256
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of
from tests.vectors.certificates.accounts import account
from tests.vectors.certificates.attacks.circuits import misregistered
from tests.vectors.certificates.attacks.forging import first, shifted
from tests.vectors.certificates.case import ACCEPTED, valid
from tests.vectors.certificates.issuer import Document, Issuer, Plan, seal


@valid(reexecute=2)
def commit(issuer: Issuer) -> Document:
    """Tier commit: two tasks, one record opened of each and run again."""
    return issuer.commit()


@valid()
def commit_without_openings(issuer: Issuer) -> Document:
    """Tier commit with sampleSize 0: a signed, anchored claim, and nothing opened."""
    return issuer.issue(issuer.job(Tier.COMMIT))


@valid()
def sampled(issuer: Issuer) -> Document:
    """Tier sampled: one task of six records, two of them proved."""
    return issuer.sampled()


@valid(offline=True)
def sampled_offline(issuer: Issuer) -> Document:
    """The same without a chain node: steps 14 to 18 are skipped, and the report says so."""
    return issuer.sampled()


@valid()
def sampled_everything(issuer: Issuer) -> Document:
    """Tier sampled with a sample as large as the task: all records are proved."""
    return issuer.issue(issuer.job(Tier.SAMPLED, count=2, shard=1, sample=5))


@valid("coordinator", "worker")
def sampled_second_attempt(issuer: Issuer) -> Document:
    """The coordinator committed twice; the policy allows three, and the verdict multiplies its bound by two."""
    return issuer.issue(issuer.job(Tier.SAMPLED, count=3, shard=3, sample=1), Plan(discarded=1))


@valid(solidity=ACCEPTED)
def zk(issuer: Issuer) -> Document:
    """Tier zk: every record proved."""
    return issuer.zk()


@valid(reexecute=3, rebuild_circuit=True, solidity=ACCEPTED)
def zk_two_tasks(issuer: Issuer) -> Document:
    """Tier zk, tasks of two and one records; run again in floating point, and its circuit built again."""
    return issuer.issue(issuer.job(Tier.ZK, count=3))


@valid(solidity="AlreadyCertified")
def zk_certified_on_chain(issuer: Issuer) -> Document:
    """Tier zk with certifyOnChain: the Certifier contract accepted each record."""
    return issuer.issue(issuer.job(Tier.ZK, certify_on_chain=True))


@valid(
    requester=str(address_of(account("requester"))),
    model_digest=lambda issuer: str(issuer.model.digest),
)
def pinned(issuer: Issuer) -> Document:
    """Requester and model are those that the auditor expects."""
    return issuer.commit()


@valid(solidity="ModelNotActive")
def revoked_after_anchor(issuer: Issuer) -> Document:
    """The model was revoked after the anchor: the evidence is older and stays good. On chain it is too late."""
    epoch = issuer.register(issuer.model.digest, issuer.model.circuit)
    document = issuer.issue(issuer.job(Tier.ZK, epoch=epoch))
    issuer.chain("owner").revoke(issuer.model.digest, epoch)
    return document


@valid("worker", solidity=ACCEPTED)
def lease_nonce_invented(issuer: Issuer) -> Document:
    """The worker signed a nonce that is not its lease's. Only the coordinator knows leases; for an auditor it is idle."""
    job = issuer.job(Tier.ZK)
    return issuer.issue(job, Plan(statement=lambda s: s.model_copy(update={"nonce": sha256(b"any")})))


@valid("coordinator", "worker")
def tampered_output_not_reexecuted(issuer: Issuer) -> Document:
    """A wrong output at tier commit, and the auditor does not run records again: nothing is proved, nothing shows."""
    return issuer.issue(issuer.job(Tier.COMMIT, sample=2), Plan(payload=shifted))


@valid("coordinator", "worker", offline=True)
def challenge_invented_offline(issuer: Issuer) -> Document:
    """The challenge's block hash is invented, and ground until honest records came. Offline nobody can see it."""
    return challenge_ground(issuer)


def challenge_ground(issuer: Issuer) -> Document:
    """Another hash than the chain's, found by trying, that draws the same records."""
    document = issuer.sampled()
    evidence = Certificate.from_object(document).tasks[0].evidence
    digest = issuer.deployment.domain.digest(evidence.statement)
    start, count = evidence.statement.record_start, evidence.statement.record_count
    wanted = [opening.index for opening in evidence.openings]
    for number in range(10_000):
        tried = sha256(b"ground ", str(number).encode())
        if challenge_indices(digest, tried, start, count, len(wanted)) == wanted:
            return seal(first(document, "commitment", challengeBlockHash=str(tried)))
    raise AssertionError("no such hash")


@valid("model owner", "requester", solidity=ACCEPTED)
def circuit_of_another_model(issuer: Issuer) -> Document:
    """The model owner registered the circuit of another model. Only who has the model can see it: see circuit-rebuilt."""
    return misregistered(issuer)
