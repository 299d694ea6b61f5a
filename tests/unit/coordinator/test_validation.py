"""Validators at the coordinator: who is asked what, what is kept, and when a verdict goes on chain."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from sqlmodel import select
from starlette.testclient import TestClient

from contracts.accountability import Accountability, Terms
from contracts.accountable import Validator
from coordinator import validation
from coordinator.app import create_app
from coordinator.services import Coordinator
from coordinator.tables import FaultRow, TransactionRow
from coordinator.validating import REFUTED
from rexis.api import Failure, JobState, JobSubmission, JobView, SignedVerdict, VerdictSubmission
from rexis.protocol.bls import BlsKey, new_bls_key
from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import (
    ConflictError,
    ForbiddenError,
    MalformedError,
    NotFoundError,
    ResourceError,
    SignatureError,
    UnavailableError,
)
from rexis.protocol.parsing import ZERO_ADDRESS, Address, parse_hex, to_hex
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.validation import Finding, ValidatorVerdict
from tests.unit.coordinator.fakes import (
    DEPLOYMENT,
    MODEL_DIGEST,
    Crash,
    FakeClock,
    FakeLedger,
    address,
    make_coordinator,
    make_policy,
)
from tests.unit.coordinator.scene import Scene

TERMS = Terms(
    governance=address(1), token=ZERO_ADDRESS, bond=1, penalty=1, reward_bps=1, treasury=address(1), challenge_period=1,
    response_window=1, validator_delay=1, validator_min_stake=1, threshold_bps=6666,
)  # fmt: skip
QUORUM = Accountability.on(31337, TERMS)
DOMAIN = DEPLOYMENT.domain
BLS = json.loads((Path(__file__).parents[2] / "vectors/protocol/bls.json").read_text())


@dataclass
class Voter:
    """A validator, with as much at stake as it was given."""

    slot: int
    account: LocalAccount = field(default_factory=new_account)
    key: BlsKey = field(default_factory=new_bls_key)

    @property
    def address(self) -> Address:
        return address_of(self.account)

    def verdict(self, statement: Digest, finding: Finding = Finding.VALID) -> SignedVerdict:
        message = DOMAIN.digest(ValidatorVerdict(statement_digest=statement, verdict=finding))
        return SignedVerdict(statement=statement, verdict=finding, signature=self.key.sign(message))

    def says(self, *verdicts: SignedVerdict) -> VerdictSubmission:
        return VerdictSubmission(slot=self.slot, verdicts=list(verdicts))


@dataclass
class Vote:
    """A finished job that waits for validators with 50, 30 and 20 at stake."""

    scene: Scene
    job: JobView
    voters: list[Voter]

    @property
    def coordinator(self) -> Coordinator:
        return self.scene.coordinator

    @property
    def statements(self) -> list[Digest]:
        (asked,) = self.coordinator.validations.wanted(address(9)).validations
        return asked.statements

    def hand_in(self, voter: Voter, finding: Finding = Finding.VALID, *statements: Digest) -> None:
        told = [voter.verdict(one, finding) for one in statements or self.statements]
        self.coordinator.validations.hand_in(voter.address, self.job.job_id, voter.says(*told))

    def turn(self) -> None:
        """What the background loops do."""
        turn(self.scene)

    @property
    def view(self) -> JobView:
        return self.scene.job(self.job)

    def transactions(self) -> list[str]:
        with self.coordinator._store.reading() as session:
            return [row.subject for row in session.exec(select(TransactionRow)) if row.purpose == "verdict"]


def turn(scene: Scene) -> None:
    coordinator = scene.coordinator
    while coordinator.anchoring.due():
        coordinator.anchoring.run()
    scene.ledger.head += 1
    for job in coordinator.validating.due():
        coordinator.validating.advance(job)
    for job in coordinator.certificates.due():
        coordinator.certificates.issue(job)


def start(tmp_path: Path, database: str, ledger: FakeLedger, clock: FakeClock, **settings: object) -> Scene:
    made = make_coordinator(tmp_path, ledger, clock, QUORUM, database_url=database, **settings)
    return Scene(made, ledger)


def submission(scene: Scene, quorum: Address | None = QUORUM.validator_quorum, **policy: object) -> JobSubmission:
    request = scene.request(policy=make_policy(**{"validators": 2, **policy}))
    return scene.sign(request).model_copy(update={"quorum": quorum})


@pytest.fixture
def vote(tmp_path: Path, database: str, ledger: FakeLedger, clock: FakeClock) -> Vote:
    scene = start(tmp_path, database, ledger, clock)
    voters = [Voter(slot) for slot in range(3)]
    for voter, stake in zip(voters, (50, 30, 20), strict=True):
        ledger.validators[voter.slot] = Validator(voter.address, voter.key.public_key, stake)
    scene.publish()
    job, _ = scene.coordinator.jobs.submit(address_of(scene.requester), submission(scene))
    scene.do_all()
    turn(scene)
    return Vote(scene, job, voters)


def test_a_job_is_certified_once_enough_stake_and_enough_validators_agree(vote: Vote, ledger: FakeLedger) -> None:
    assert vote.view.state == JobState.ANCHORING
    assert len(vote.statements) == 2
    vote.hand_in(vote.voters[0])
    vote.turn()
    assert vote.transactions() == []  # half of the stake
    vote.hand_in(vote.voters[1])
    vote.turn()
    vote.turn()
    assert vote.view.state == JobState.CERTIFIED
    assert len(vote.transactions()) == 2
    assert {found.slots for found in ledger.verdicts.values()} == {(0, 1)}
    certificate = vote.coordinator.jobs.certificate(address_of(vote.scene.requester), vote.job.job_id)
    assert [DOMAIN.digest(place.statement) for place in Certificate.parse(certificate).places] == list(ledger.verdicts)
    assert vote.coordinator.validations.wanted(vote.voters[2].address).validations == []


def test_a_quorum_of_fewer_validators_than_wanted_waits(vote: Vote, ledger: FakeLedger) -> None:
    ledger.validators[0] = Validator(vote.voters[0].address, vote.voters[0].key.public_key, 500)
    vote.hand_in(vote.voters[0])
    vote.turn()
    assert (vote.transactions(), vote.view.state) == ([], JobState.ANCHORING)


def test_why_it_waits_is_said(vote: Vote) -> None:
    assert "0 of 2 statements have a verdict on chain; 0 validators have judged, 2 are wanted" in (
        vote.view.reason or ""
    )
    vote.hand_in(vote.voters[0])
    vote.coordinator.validations.abstain(
        vote.voters[1].address, vote.job.job_id, Failure(code="undecided", detail="step 14: no chain node answers")
    )
    vote.turn()
    found = vote.coordinator.views.waiting(address_of(vote.scene.requester), vote.job.job_id)
    (group,) = found.groups
    assert group.count == 2
    for text in (
        "1 validators have judged",
        "50 % of the stake",
        "more than 66.66 %",
        "does not judge: undecided: step 14",
    ):
        assert text in group.reason
    validation = vote.view.validation
    assert validation is not None
    assert (validation.quorum, validation.wanted, validation.share) == (QUORUM.validator_quorum, 2, 5000)
    told = {one.account: (one.valid, one.invalid, one.abstains is not None) for one in validation.validators}
    assert told == {vote.voters[0].address: (2, 0, False), vote.voters[1].address: (0, 0, True)}
    vote.hand_in(vote.voters[1])
    assert all(one.abstains is None for one in (vote.view.validation or validation).validators)


def test_jobs_that_a_validator_cannot_judge_do_not_hide_the_others(
    vote: Vote, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "_SHOWN", 1)
    coordinator, requester, me = vote.coordinator, address_of(vote.scene.requester), vote.voters[0].address
    clock.pass_seconds(1)
    request = vote.scene.request(policy=make_policy(validators=2), nonce=sha256(b"second"))
    signed = vote.scene.sign(request).model_copy(update={"quorum": QUORUM.validator_quorum})
    second, _ = coordinator.jobs.submit(requester, signed)
    vote.scene.do_all()
    turn(vote.scene)
    asked = []
    for _ in range(4):
        (one,) = coordinator.validations.wanted(me).validations
        asked.append(one.job_id)
        clock.pass_seconds(1)
        coordinator.validations.abstain(me, one.job_id, Failure(code="undecided", detail="too large"))
    assert asked == [vote.job.job_id, second.job_id] * 2
    (one,) = coordinator.validations.wanted(vote.voters[1].address).validations
    assert one.job_id == vote.job.job_id, "another validator's silence is its own"


def test_what_a_validator_has_judged_it_is_not_asked_again(vote: Vote) -> None:
    first, second = vote.statements
    vote.hand_in(vote.voters[0], Finding.VALID, first)
    (asked,) = vote.coordinator.validations.wanted(vote.voters[0].address).validations
    assert (asked.statements, asked.files) == ([second], [MODEL_DIGEST])
    vote.hand_in(vote.voters[0], Finding.VALID, first)  # the same once more changes nothing
    vote.hand_in(vote.voters[0], Finding.VALID, second)
    assert vote.coordinator.validations.wanted(vote.voters[0].address).validations == []


def test_validators_that_refute_a_statement_fail_the_job_and_its_worker(vote: Vote) -> None:
    first, second = vote.statements
    for voter in vote.voters[:2]:
        vote.hand_in(voter, Finding.INVALID, first)
        vote.hand_in(voter, Finding.VALID, second)
    vote.turn()
    vote.turn()
    view = vote.view
    assert view.state == JobState.FAILED
    assert "validators found the statement of records" in (view.reason or "")
    with vote.coordinator._store.reading() as session:
        (fault,) = session.exec(select(FaultRow)).all()
    assert (fault.code, fault.worker) == (REFUTED, view.tasks[0].worker)
    with pytest.raises(ConflictError, match="for good"):
        vote.coordinator.jobs.retry(address_of(vote.scene.requester), vote.job.job_id)


def test_one_that_contradicts_the_others_changes_nothing(vote: Vote) -> None:
    vote.hand_in(vote.voters[2], Finding.INVALID)
    for voter in vote.voters[:2]:
        vote.hand_in(voter)
    vote.turn()
    vote.turn()
    assert vote.view.state == JobState.CERTIFIED


def test_who_signs_both_verdicts_is_told_and_both_are_kept(vote: Vote) -> None:
    vote.hand_in(vote.voters[0])
    with pytest.raises(ConflictError, match="signed both verdicts"):
        vote.coordinator.validations.hand_in(
            vote.voters[0].address,
            vote.job.job_id,
            vote.voters[0].says(vote.voters[0].verdict(next(iter(_all(vote))), Finding.INVALID)),
        )
    validation = vote.view.validation
    assert validation is not None
    assert [(one.valid, one.invalid) for one in validation.validators] == [(2, 1)]


def _all(vote: Vote) -> list[Digest]:
    return [Digest.parse(one) for one in _statement_digests(vote)]


def _statement_digests(vote: Vote) -> list[str]:
    certificate = Certificate.parse(vote.coordinator.validations.draft(vote.job.job_id))
    return [str(DOMAIN.digest(place.statement)) for place in certificate.places]


def test_what_is_not_the_validators_own_is_refused(vote: Vote) -> None:
    coordinator, statement = vote.coordinator, vote.statements[0]
    mine, other = vote.voters[0], vote.voters[1]
    hand_in, job = coordinator.validations.hand_in, vote.job.job_id
    with pytest.raises(ForbiddenError, match="does not hold slot 0"):
        hand_in(other.address, job, mine.says(mine.verdict(statement)))
    with pytest.raises(ForbiddenError, match="does not hold slot 200"):
        hand_in(mine.address, job, VerdictSubmission(slot=200, verdicts=[mine.verdict(statement)]))
    with pytest.raises(SignatureError) as caught:
        hand_in(mine.address, job, mine.says(mine.verdict(statement), other.verdict(statement)))
    assert caught.value.field == "verdicts.1.signature"
    lied = mine.verdict(statement).model_copy(update={"verdict": Finding.INVALID})
    with pytest.raises(SignatureError):
        hand_in(mine.address, job, mine.says(lied))
    with pytest.raises(NotFoundError, match="no statement"):
        hand_in(mine.address, job, mine.says(mine.verdict(sha256(b"another"))))
    vote.scene.ledger.validators[0] = Validator(mine.address, mine.key.public_key, 0)
    with pytest.raises(ForbiddenError, match="whole stake back"):
        hand_in(mine.address, job, mine.says(mine.verdict(statement)))
    assert vote.view.validation is not None and vote.view.validation.validators == []


def test_points_outside_the_subgroup_and_the_point_at_infinity_are_refused_over_http(vote: Vote) -> None:
    voter, statement = vote.voters[0], vote.statements[0]
    coordinator = vote.coordinator
    app = TestClient(create_app(coordinator), base_url="http://127.0.0.1:8080")
    operator, validator = new_account(), voter.account
    coordinator.members.give(address_of(operator), address_of(validator), ["validator"])  # type: ignore[list-item]
    headers = vote.scene.headers(validator)
    url = f"/v1/validations/{vote.job.job_id}"
    for signature in (BLS["wrongSubgroup"]["signature"], to_hex(bytes(256)), "0x00", to_hex(b"\xff" * 256)):
        verdict = {"statement": str(statement), "verdict": "valid", "signature": signature}
        answer = app.post(url, headers=headers, json={"slot": 0, "verdicts": [verdict]})
        assert answer.status_code == 422, answer.text
        assert answer.json()["field"] == "verdicts.0.signature"
    assert app.post(url, headers=headers, content=voter.says(voter.verdict(statement)).to_json()).status_code == 204
    assert app.get(url, headers=headers).status_code == 200
    listed = app.get("/v1/validations", headers=headers).json()["validations"]
    assert [len(one["statements"]) for one in listed] == [1]
    assert app.get(f"/v1/blobs/{MODEL_DIGEST}", headers=headers).status_code == 200
    assert app.get(f"/v1/blobs/{vote.scene.dataset.digest}", headers=headers).status_code == 404


def test_a_rogue_key_signs_for_nobody(vote: Vote) -> None:
    """A sum of keys whose secret nobody has: the coordinator takes keys from the chain, which wants them proved."""
    rogue = parse_hex(BLS["rogue"]["publicKey"])
    voter, statement = vote.voters[0], vote.statements[0]
    forged = voter.verdict(statement).model_copy(update={"signature": parse_hex(BLS["rogue"]["aggregate"])})
    vote.scene.ledger.validators[0] = Validator(voter.address, rogue, 50)
    with pytest.raises(SignatureError):
        vote.coordinator.validations.hand_in(voter.address, vote.job.job_id, voter.says(forged))


@pytest.mark.parametrize("crash", ["crash_unsigned", "crash_before", "crash_after"])
def test_killed_while_it_writes_a_verdict_it_writes_none_twice(
    vote: Vote, tmp_path: Path, clock: FakeClock, ledger: FakeLedger, crash: str
) -> None:
    for voter in vote.voters[:2]:
        vote.hand_in(voter)
    setattr(ledger, crash, "verdict")
    with pytest.raises(Crash):
        vote.turn()
    url = vote.coordinator.settings.database_url
    vote.coordinator.close()
    vote.scene.coordinator = make_coordinator(tmp_path, ledger, clock, QUORUM, database_url=url)
    for _ in range(3):
        clock.pass_seconds(11)
        ledger.mine()
        vote.turn()
    assert vote.view.state == JobState.CERTIFIED
    mined = [json.loads(raw) for _, _, _, raw in ledger.mined]
    assert sorted(one["statement"] for one in mined if one["what"] == "verdict") == sorted(map(str, ledger.verdicts))


def test_an_outage_of_the_chain_loses_nothing(vote: Vote, ledger: FakeLedger) -> None:
    ledger.down = True
    with pytest.raises(UnavailableError):
        vote.coordinator.validations.hand_in(
            vote.voters[0].address, vote.job.job_id, vote.voters[0].says(vote.voters[0].verdict(vote.statements[0]))
        )
    ledger.down = False
    for voter in vote.voters[:2]:
        vote.hand_in(voter)
    ledger.down = True
    with pytest.raises(UnavailableError):
        vote.coordinator.validating.advance(str(vote.job.job_id))
    ledger.down = False
    vote.turn()
    vote.turn()
    assert vote.view.state == JobState.CERTIFIED


def test_somebody_else_wrote_the_verdict_first(vote: Vote, ledger: FakeLedger, clock: FakeClock) -> None:
    ledger.head += 1
    for statement in vote.statements:
        ledger.record_verdict(statement, Finding.VALID, [0, 1], sha256(b"theirs", bytes(statement)))
    clock.pass_seconds(11)
    vote.turn()
    vote.turn()
    assert (vote.view.state, vote.transactions()) == (JobState.CERTIFIED, [])


def test_somebody_else_wrote_it_with_fewer_validators_than_wanted(
    vote: Vote, ledger: FakeLedger, clock: FakeClock
) -> None:
    ledger.head += 1
    ledger.record_verdict(vote.statements[0], Finding.VALID, [0], sha256(b"theirs"))
    clock.pass_seconds(11)
    vote.turn()
    assert vote.view.state == JobState.FAILED
    assert "with 1 signers, the policy wants 2" in (vote.view.reason or "")


def test_stake_that_left_counts_no_more(vote: Vote, ledger: FakeLedger) -> None:
    for voter in vote.voters[:2]:
        vote.hand_in(voter)
    ledger.validators[0] = Validator(vote.voters[0].address, new_bls_key().public_key, 50)  # another key in its slot
    del ledger.validators[1]
    vote.turn()
    assert vote.transactions() == []
    assert vote.view.validation is not None and vote.view.validation.share == 0


def test_a_reorganisation_takes_the_draft_and_not_the_verdicts(
    vote: Vote, ledger: FakeLedger, clock: FakeClock
) -> None:
    for voter in vote.voters[:2]:
        vote.hand_in(voter)
    ledger.drop(2)
    vote.coordinator.outbox._rechecked = -100
    for _ in range(4):
        clock.pass_seconds(11)
        ledger.mine()
        ledger.head += 1
        vote.turn()
    assert vote.view.state == JobState.CERTIFIED
    assert len(ledger.verdicts) == 2


def test_what_is_refused_at_submission(
    tmp_path: Path, database: str, ledger: FakeLedger, clock: FakeClock, coordinator: Coordinator
) -> None:
    without = Scene(coordinator, ledger)
    without.publish()
    with pytest.raises(MalformedError, match="knows no validators"):
        coordinator.jobs.submit(address_of(without.requester), submission(without))
    scene = start(tmp_path / "other", database, ledger, clock, max_validated_statements=1)
    scene.owner = without.owner  # on the same chain
    scene.publish()
    submit, requester = scene.coordinator.jobs.submit, address_of(scene.requester)
    for quorum in (None, address(7)):
        with pytest.raises(MalformedError, match="this coordinator's is") as caught:
            submit(requester, submission(scene, quorum))
        assert caught.value.field == "quorum"
    with pytest.raises(ResourceError, match="validators are asked about 1 of a job at most"):
        submit(requester, submission(scene))
    scene.coordinator.close()
