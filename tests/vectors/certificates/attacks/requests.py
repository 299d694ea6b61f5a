"""Steps 3 and 4: the request, its signature, the auditor's pins, and development parameters."""

from __future__ import annotations

from rexis.protocol.digests import sha256
from rexis.protocol.parsing import parse_hex, to_hex
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, sign_digest
from rexis.protocol.statement import Kind, Statement, statement_for, task_id
from rexis.protocol.typed_data import Domain
from tests.vectors.certificates.accounts import account
from tests.vectors.certificates.case import forged
from tests.vectors.certificates.issuer import Document, Issuer, Plan, high_s, seal

_STRANGER = str(address_of(account("stranger")))


@forged(3, "request is signed by", "coordinator")
def request_signed_by_another(issuer: Issuer) -> Document:
    """The coordinator made up a request in the requester's name and signed it itself."""
    return issuer.issue(issuer.job(Tier.COMMIT, signer="coordinator"))


@forged(3, "request is signed by", "coordinator")
def request_tolerance_raised(issuer: Issuer) -> Document:
    """The coordinator widened the tolerance in the request and sealed again."""
    document = issuer.commit()
    document["request"]["policy"]["absToleranceE9"] = 10**15
    return seal(document)


@forged(3, "request is signed by", "coordinator")
def request_sample_lowered(issuer: Issuer) -> Document:
    """The coordinator lowered the sample size in the request and left the rest of the proofs out."""
    document = issuer.sampled()
    document["request"]["policy"]["sampleSize"] = 1
    evidence = document["tasks"][0]["evidence"]
    evidence["openings"], evidence["proofs"] = evidence["openings"][:1], evidence["proofs"][:1]
    return seal(document)


@forged(3, "request is signed by", "coordinator")
def request_for_another_chain(issuer: Issuer) -> Document:
    """The request was signed for the development chain; the coordinator writes that of the main net."""
    document = issuer.commit()
    document["domain"]["chainId"] = 1
    return seal({**document, "development": []})


@forged(3, "request is signed by", "coordinator")
def request_for_another_log(issuer: Issuer) -> Document:
    """The request was signed for one EvidenceLog; the coordinator writes the address of its own."""
    document = issuer.commit()
    document["domain"]["verifyingContract"] = _STRANGER
    return seal(document)


@forged(3, "request is signed by", "coordinator")
def coordinator_takes_over(issuer: Issuer) -> Document:
    """A stranger writes itself into somebody's request as the coordinator, and seals."""
    document = issuer.commit()
    document["request"]["coordinator"] = _STRANGER
    return seal(document, by="stranger")


@forged(3, "high s", "coordinator")
def request_signature_malleated(issuer: Issuer) -> Document:
    """The request's signature in its other form."""
    document = issuer.commit()
    document["requestSignature"] = to_hex(high_s(parse_hex(document["requestSignature"])))
    return seal(document)


@forged(3, "neither 27 nor 28", "coordinator")
def request_signature_recovery_byte(issuer: Issuer) -> Document:
    """The request's signature with 0 or 1 as its last byte, which some libraries take for 27 or 28."""
    document = issuer.commit()
    raw = parse_hex(document["requestSignature"])
    document["requestSignature"] = to_hex(raw[:64] + bytes([raw[64] - 27]))
    return seal(document)


@forged(1, "training have no circuit", "coordinator", "worker", "requester")
def training(issuer: Issuer) -> Document:
    """A job of kind training, with evidence that a model was run: nothing here says what training would have to show."""
    job = issuer.job(Tier.ZK)
    request = job.request.model_copy(update={"kind": Kind.TRAINING})
    job_id = request.job_id(job.domain)

    def stated(s: Statement) -> Statement:  # rexis makes no such statement itself
        task = task_id(job_id, s.record_start, s.record_count)
        return s.model_copy(update={"kind": Kind.TRAINING, "job_id": job_id, "task_id": task})

    document = issuer.issue(job, Plan(statement=stated))
    signature = to_hex(sign_digest(account("requester"), job_id))
    return seal({**document, "request": request.to_object(), "requestSignature": signature})


@forged(6, "the request asks for", "coordinator", "requester")
def shards_without_number(issuer: Issuer) -> Document:
    """The request has 2^53 - 1 records in tasks of one: whoever lists its tasks runs out of memory."""
    document = issuer.commit()
    job = issuer.job(Tier.COMMIT)
    most = 2**53 - 1
    policy = job.request.policy.model_copy(update={"shard_size": 1})
    request = job.request.model_copy(
        update={"record_start": 0, "record_count": most, "input_size": most, "policy": policy}
    )
    signature = sign_digest(account("requester"), request.job_id(job.domain))
    return seal({**document, "request": request.to_object(), "requestSignature": to_hex(signature)})


@forged(8, "are asked for", "coordinator", "worker", "requester")
def sample_that_takes_long_to_draw(issuer: Issuer) -> Document:
    """A task of 2^20 records of which all but one are asked for: drawing them takes long, and none is there."""
    most = 1 << 20
    job = issuer.job(Tier.COMMIT, sample=2, count=2, shard=2)
    policy = job.request.policy.model_copy(update={"shard_size": most, "sample_size": most - 1})
    request = job.request.model_copy(
        update={"record_start": 0, "record_count": most, "input_size": most, "policy": policy}
    )
    signature = sign_digest(account("requester"), request.job_id(job.domain))
    document = issuer.commit()
    statement = statement_for(
        request, job.domain, start=0, count=most, output_root=sha256(b"outputs"),
        worker=address_of(account("worker")), nonce=sha256(b"lease"),
    )  # fmt: skip
    task = document["tasks"][0]
    task["evidence"]["statement"] = statement.to_object()
    task["evidence"]["signature"] = to_hex(sign_digest(account("worker"), job.domain.digest(statement)))
    return seal({**document, "request": request.to_object(), "requestSignature": to_hex(signature), "tasks": [task]})


@forged(3, "you pinned", "coordinator", requester=_STRANGER)
def requester_not_the_expected(issuer: Issuer) -> Document:
    """The auditor expects a hospital's request, and is shown the certificate of somebody else's job."""
    return issuer.commit()


@forged(3, "you pinned", "coordinator", model_digest=lambda issuer: str(issuer.other_model.digest))
def model_not_the_expected(issuer: Issuer) -> Document:
    """The auditor expects another model: the certificate is of a worse one."""
    return issuer.commit()


@forged(4, "marks", "coordinator")
def development_srs_hidden(issuer: Issuer) -> Document:
    """The SRS's secret may be known; the coordinator leaves out the marker."""
    return seal({**issuer.zk(), "development": ["chain"]})


@forged(4, "marks", "coordinator")
def development_chain_hidden(issuer: Issuer) -> Document:
    """The chain is somebody's laptop; the coordinator leaves out the marker."""
    return seal({**issuer.commit(), "development": []})


@forged(4, "marks", "coordinator")
def development_marker_added(issuer: Issuer) -> Document:
    """A marker for an SRS that tier commit does not use: a certificate says what it is, no more and no less."""
    return seal({**issuer.commit(), "development": ["chain", "srs"]})


@forged(4, "development chain", allow_development_chain=False)
def development_chain_not_allowed(issuer: Issuer) -> Document:
    """Honestly marked, but the auditor did not allow a development chain."""
    return issuer.commit()


@forged(4, "development SRS", allow_development_srs=False)
def development_srs_not_allowed(issuer: Issuer) -> Document:
    """Honestly marked, but the auditor did not allow a development SRS."""
    return issuer.zk()


@forged(14, "the node is on chain 31337", "coordinator", "worker", "requester")
def laptop_passed_off_as_mainnet(issuer: Issuer) -> Document:
    """All signed for chain 1, so that nothing needs a marker; but all that happened, happened on a laptop's chain."""
    domain = Domain(chain_id=1, verifying_contract=issuer.deployment.evidence_log)
    return issuer.issue(issuer.job(Tier.COMMIT, domain=domain))
