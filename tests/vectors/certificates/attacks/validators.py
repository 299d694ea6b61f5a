"""Step 28: what validators said, and which of it counts. Their verdicts stand on the chain, not in the certificate."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.chain import RevertError
from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import Digest
from rexis.protocol.policy import Tier
from rexis.protocol.validation import Finding
from tests.vectors.certificates.attacks.forging import shifted
from tests.vectors.certificates.case import forged, undecided, valid
from tests.vectors.certificates.issuer import Document, Issuer, Job, Plan, seal

_MOST = (0, 1)  # 8/9 of the stake; each of them alone has 4/9
_ALL = (0, 1, 2)
_NONE = "has no verdict on statement"


def _job(issuer: Issuer, validators: int = 2) -> Job:
    """Tier commit: two tasks of two records, one opened of each."""
    return issuer.job(Tier.COMMIT, count=4, shard=2, sample=1, validators=validators)


def _judge(
    issuer: Issuer,
    document: Document,
    finding: Finding = Finding.VALID,
    slots: Sequence[int] = _MOST,
    quorum: str = "validators",
) -> Document:
    for digest in _statements(document):
        issuer.quorum(quorum).record(digest, finding, slots)
    return document


def _statements(document: Document) -> list[Digest]:
    certificate = Certificate.from_object(document)
    return [certificate.domain.digest(place.statement) for place in certificate.places]


@valid(quorum="validators")
def validators_found_valid(issuer: Issuer) -> Document:
    """The policy wants two validators: two of the auditor's quorum found both statements valid."""
    return _judge(issuer, issuer.issue(_job(issuer)))


@valid(quorum="validators")
def validators_sampled(issuer: Issuer) -> Document:
    """Tier sampled: all three validators found the statement valid."""
    job = issuer.job(Tier.SAMPLED, count=3, shard=3, sample=1, validators=3)
    return _judge(issuer, issuer.issue(job), slots=_ALL)


@valid(quorum="validators")
def validators_beyond_the_policy(issuer: Issuer) -> Document:
    """The policy wants no validators; the auditor asks what they said all the same."""
    return _judge(issuer, issuer.issue(_job(issuer, 0)))


@valid("coordinator", quorum="friends")
def validators_are_the_coordinators_friends(issuer: Issuer) -> Document:
    """One friend of the coordinator's is a quorum, and the auditor names it: whom to trust is the auditor's choice."""
    return _judge(issuer, issuer.issue(_job(issuer, 1)), slots=(0,), quorum="friends")


@valid("coordinator", "worker", quorum="validators")
def validators_judged_another_draw(issuer: Issuer) -> Document:
    """The coordinator anchored the statements twice, showed validators the one draw, and issues the other: a verdict is
    about a statement, whatever was opened of it."""
    job = _job(issuer)
    shown, issued = issuer.issue(job), issuer.issue(job)
    _judge(issuer, shown)
    return issued


@valid("coordinator", quorum="validators", offline=True)
def validators_silent_offline(issuer: Issuer) -> Document:
    """No validator has judged. Offline nobody can see it: step 28 is skipped, and the report says so."""
    return issuer.issue(_job(issuer))


@undecided(28, "the policy wants 2 validators, and you named none")
def validators_of_nobody(issuer: Issuer) -> Document:
    """Two validators found all statements valid, but the auditor names no quorum: nobody knows whose word that is."""
    return _judge(issuer, issuer.issue(_job(issuer)))


@forged(28, _NONE, "coordinator", quorum="validators")
def validators_silent(issuer: Issuer) -> Document:
    """No validator has judged; the coordinator issued the certificate without waiting for any."""
    return issuer.issue(_job(issuer))


@forged(28, _NONE, "coordinator", "worker", quorum="validators")
def validators_silent_on_one_task(issuer: Issuer) -> Document:
    """Validators judged the first of two tasks; of the second the worker hoped that nobody would look."""
    document = issuer.issue(_job(issuer))
    issuer.quorum("validators").record(_statements(document)[0], Finding.VALID, _MOST)
    return document


@forged(28, "not valid, in transaction", "coordinator", "worker", quorum="validators")
def validators_found_not_valid(issuer: Issuer) -> Document:
    """The worker's outputs are not the model's, and validators said so. The coordinator issues all the same."""
    return _judge(issuer, issuer.issue(_job(issuer), Plan(payload=shifted)), Finding.INVALID, _ALL)


@forged(28, "not valid, in transaction", "coordinator", "worker", quorum="validators")
def validators_changed_their_minds(issuer: Issuer) -> Document:
    """Validators found the outputs wrong, then sign the contrary. The contract keeps one verdict a statement, the
    first, and refuses the other: nobody can buy a better one later."""
    document = _judge(issuer, issuer.issue(_job(issuer), Plan(payload=shifted)), Finding.INVALID, _ALL)
    try:
        _judge(issuer, document, Finding.VALID, _ALL)
    except RevertError as error:
        assert error.name == "AlreadyRecorded"
        return document
    raise AssertionError("a second verdict was recorded")


@forged(28, _NONE, "coordinator", "worker", quorum="validators")
def validators_judged_another_statement(issuer: Issuer) -> Document:
    """Validators found an honest statement about the same records valid; the certificate has another, with other
    outputs."""
    job = _job(issuer)
    _judge(issuer, issuer.issue(job))
    return issuer.issue(job, Plan(payload=shifted))


@forged(28, _NONE, "coordinator", "worker", quorum="validators")
def validators_judged_before_the_anchor(issuer: Issuer) -> Document:
    """The coordinator anchored the statements again after they were judged: other records are drawn and opened than
    those that validators ran again."""
    job = _job(issuer)
    _judge(issuer, issuer.issue(job))
    return issuer.issue(job)


@forged(28, "2 validators signed for statement", "coordinator", quorum="validators")
def validators_too_few(issuer: Issuer) -> Document:
    """The policy wants three validators. Two have the stake that a verdict takes, and the coordinator left it at that."""
    return _judge(issuer, issuer.issue(_job(issuer, 3)))


@forged(28, _NONE, "coordinator", "worker", quorum="validators")
def validators_of_the_coordinators_choice(issuer: Issuer) -> Document:
    """The outputs are wrong, and the coordinator's friends found them valid: a quorum of the same code, on other terms."""
    document = issuer.issue(_job(issuer, 1), Plan(payload=shifted))
    return _judge(issuer, document, slots=(0,), quorum="friends")


@forged(28, "no ValidatorQuorum at", "anybody", quorum="nowhere")
def quorum_that_nobody_deployed(issuer: Issuer) -> Document:
    """Somebody handed the auditor the manifest of a quorum that is nowhere; another one found all valid."""
    return _judge(issuer, issuer.issue(_job(issuer)))


@forged(28, "the deployment is on chain 1, this node is on chain 31337", "anybody", quorum="another-chain")
def quorum_of_another_chain(issuer: Issuer) -> Document:
    """The auditor trusts a quorum of the main net. One on the same terms, which gives it the same address, stands on
    the development chain, with validators that are anybody's."""
    return _judge(issuer, issuer.issue(_job(issuer)))


@forged(3, "request is signed by", "coordinator", quorum="validators")
def request_validators_left_out(issuer: Issuer) -> Document:
    """The request wants two validators; the coordinator wrote that it wants none, as none would sign."""
    document = issuer.issue(_job(issuer))
    document["request"]["policy"]["validators"] = 0
    return seal(document)
