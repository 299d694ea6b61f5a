"""What an auditor sees of validators, and what a validator makes of certificates, on the chain of the vectors.

The verdicts are written to that chain here, beside what is recorded of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from contracts.accountability import Accountability, Terms
from contracts.accountable import AccountableChain
from contracts.devchain import DevChain
from rexis.cli.main import main
from rexis.protocol.bls import BlsKey, aggregate_signatures, new_bls_key
from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.validation import Finding, ValidatorVerdict
from tests.vectors.certificates.recorded_chain import recorded_chain
from verifier.artifacts import artifact_name
from verifier.certificate import VerifiedCertificate, VerifyOptions, verify_certificate
from verifier.confined import Bounds, run_confined
from verifier.report import Outcome, Status, StepFailed, Verdict
from verifier.service.app import create_app
from verifier.service.judge import Task
from verifier.service.judging import judge as ask_service
from verifier.service.settings import ServiceSettings
from verifier.validator.documents import Check, Judgement
from verifier.validator.judge import judge
from verifier.validators import VALIDATORS, check_validators, concerns, leave_out

VECTORS = Path(__file__).parents[2] / "vectors/certificates"
ARTIFACTS = VECTORS / "artifacts"
STAKE = 10**16


@dataclass(frozen=True)
class Court:
    """A quorum of three, one of which has little at stake."""

    dev: DevChain
    chain: AccountableChain
    quorum: Accountability
    keys: list[BlsKey]

    def record(self, digest: Digest, finding: Finding, slots: list[int]) -> None:
        message = self.chain.deployment.domain.digest(ValidatorVerdict(statement_digest=digest, verdict=finding))
        signature = aggregate_signatures([self.keys[slot].sign(message) for slot in slots])
        self.chain.record_verdict(digest, finding, slots, signature)


def node(dev: DevChain) -> AccountableChain:
    dev.fund(address_of(account := new_account()))
    chain = AccountableChain.connect(dev.url, account=account)
    chain.discover()
    return chain


def terms(chain: AccountableChain, threshold_bps: int = 6666) -> Terms:
    return Terms(
        governance=chain.address, token=ZERO_ADDRESS, bond=1, penalty=1, reward_bps=1, treasury=chain.address,
        challenge_period=10, response_window=10, validator_delay=10, validator_min_stake=STAKE,
        threshold_bps=threshold_bps,
    )  # fmt: skip


@pytest.fixture(scope="module")
def court() -> Iterator[Court]:
    with recorded_chain() as dev:
        governance = node(dev)
        quorum, keys = governance.deploy_accountability(terms(governance)), []
        for slot, stake in enumerate((4 * STAKE, 4 * STAKE, STAKE)):
            chain, key = node(dev), new_bls_key()
            chain.attach_accountability(quorum)
            chain.join(stake, slot, key.public_key, key.prove_possession(chain.address, chain.deployment.domain))
            keys.append(key)
        made = Court(dev, governance, quorum, keys)
        for digest in statements("commit"):
            made.record(digest, Finding.VALID, [0, 1])
        made.record(statements("private-weights")[0], Finding.INVALID, [0, 1, 2])
        yield made


def data(vector: str) -> bytes:
    return (VECTORS / vector / "certificate.json").read_bytes()


def statements(vector: str) -> list[Digest]:
    certificate = Certificate.parse(data(vector))
    return [certificate.domain.digest(place.statement) for place in certificate.places]


def verify(court: Court, vector: str, **options: object) -> VerifiedCertificate:
    given = {"rpc_url": court.dev.url, "quorum": court.quorum, **options}
    return verify_certificate(
        data(vector),
        VerifyOptions(artifacts=ARTIFACTS, allow_development_srs=True, allow_development_chain=True, **given),  # type: ignore[arg-type]
    )


def test_a_quorum_that_found_everything_valid_is_seen(court: Court) -> None:
    verdict = verify(court, "commit")
    assert verdict.outcome == Outcome.VALID
    (step,) = [step for step in verdict.steps if step.number == VALIDATORS]
    assert step.detail.startswith(f"2 or more validators of quorum {court.quorum.validator_quorum}, with 88.8% or more")


def test_a_quorum_that_nobody_asks_for_is_no_step(court: Court) -> None:
    assert all(step.number != VALIDATORS for step in verify(court, "commit", quorum=None).steps)
    verdict = verify(court, "commit", offline=True)
    assert [step.status for step in verdict.steps if step.number == VALIDATORS] == [Status.SKIPPED]


def test_a_verdict_of_another_statement_is_none_of_this(court: Court) -> None:
    failed = verify(court, "sampled").failed
    assert failed is not None and (failed.number, "has no verdict on statement" in failed.detail) == (VALIDATORS, True)


def test_a_statement_that_validators_found_not_valid_is_not_valid(court: Court) -> None:
    failed = verify(court, "private-weights").failed
    assert failed is not None and (failed.number, "not valid, in transaction" in failed.detail) == (VALIDATORS, True)


def test_another_deployment_has_said_nothing(court: Court) -> None:
    """The coordinator's friends: a quorum of the same code, with other terms, and its own validator."""
    friends = node(court.dev)
    other = friends.deploy_accountability(terms(court.chain, threshold_bps=5000))
    key = new_bls_key()
    friends.join(STAKE, 0, key.public_key, key.prove_possession(friends.address, friends.deployment.domain))
    for digest in statements("sampled"):
        message = friends.deployment.domain.digest(ValidatorVerdict(statement_digest=digest, verdict=Finding.VALID))
        friends.record_verdict(digest, Finding.VALID, [0], key.sign(message))
    assert verify(court, "sampled", quorum=other).outcome == Outcome.VALID  # to who trusts them
    failed = verify(court, "sampled").failed
    assert failed is not None and failed.number == VALIDATORS
    failed = verify(court, "commit", quorum=other).failed
    assert failed is not None and failed.number == VALIDATORS


def wanting(vector: str, validators: int) -> Certificate:
    """A certificate of a vector as if its policy had wanted validators; its statements stay what they are."""
    found = Certificate.parse(data(vector))
    policy = found.request.policy.model_copy(update={"validators": validators})
    return found.model_copy(update={"request": found.request.model_copy(update={"policy": policy})})


def test_as_many_must_have_signed_as_the_policy_wants(court: Court) -> None:
    verdict = Verdict()
    check_validators(wanting("commit", 2), court.chain, court.quorum, verdict)
    assert [step.status for step in verdict.steps] == [Status.OK]
    with pytest.raises(StepFailed, match=r"2 validators signed for statement .* the policy wants 3"):
        check_validators(wanting("commit", 3), court.chain, court.quorum, verdict)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (VerifyOptions(rpc_url="http://127.0.0.1:1"), Status.UNCHECKED),
        (VerifyOptions(offline=True), Status.SKIPPED),
        (VerifyOptions(rpc_url="http://127.0.0.1:1", by_validator=True), Status.SKIPPED),
    ],
)
def test_a_policy_that_wants_validators_is_never_passed_over(options: VerifyOptions, status: Status) -> None:
    certificate, verdict = wanting("commit", 1), Verdict()
    assert concerns(certificate, options) and leave_out(certificate, options, verdict)
    assert [(step.number, step.status) for step in verdict.steps] == [(VALIDATORS, status)]


def test_terms_that_nobody_deployed_are_no_quorum(court: Court) -> None:
    nowhere = Accountability.on(court.chain.chain_id, terms(court.chain, threshold_bps=7777))
    failed = verify(court, "commit", quorum=nowhere).failed
    assert failed is not None and (failed.number, "no ValidatorQuorum at" in failed.detail) == (VALIDATORS, True)


def test_the_command_takes_the_manifest(court: Court, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "accountability.json"
    manifest.write_bytes(court.quorum.to_json())
    for vector, code in (("commit", 0), ("private-weights", 1)):
        arguments = [
            "verify", str(VECTORS / vector / "certificate.json"), "--rpc", court.dev.url, "--quorum", str(manifest),
            "--artifacts", str(ARTIFACTS), "--allow-development-chain", "--allow-development-srs", "--json",
        ]  # fmt: skip
        assert main(arguments) == code
        found = json.loads(capsys.readouterr().out)
        assert [step["status"] for step in found["steps"] if step["number"] == VALIDATORS] == [("ok", "failed")[code]]


# --- what a validator makes of them -------------------------------------------------------------------------------


def check(court: Court, vector: str, **changes: object) -> Check:
    certificate = Certificate.parse(data(vector))
    given: dict[str, object] = {
        "rpc": court.dev.url,
        "artifacts": str(ARTIFACTS),
        "allow_development_chain": True,
        "allow_development_srs": True,
        "job_id": certificate.job_id,
        "domain": court.chain.deployment.domain,
    }
    return Check(**{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("vector", ["commit", "sampled"])
def test_what_holds_is_valid_in_every_statement(court: Court, vector: str) -> None:
    """Before there is any verdict: for a validator that is no reason against it."""
    found = judge(check(court, vector), data(vector))
    assert (found.kind, found.reason) == ("valid", None)
    assert [(one.statement, one.verdict) for one in found.findings] == [
        (digest, Finding.VALID) for digest in statements(vector)
    ]


def test_an_output_that_is_not_the_models_is_invalid_in_its_statement_alone(court: Court) -> None:
    vector = "tampered-output-reexecuted_fail"
    found = judge(check(court, vector), data(vector))
    assert found.kind == "refuted", found
    assert found.findings and all(one.verdict == Finding.INVALID for one in found.findings)
    assert {one.statement for one in found.findings} <= set(statements(vector))
    assert "step 12 (re-execution): record" in (found.reason or "")


@pytest.mark.parametrize(
    ("vector", "step"),
    [
        ("proof-bit-flipped_fail", "step 10"),
        ("output-changed_fail", "step 9"),
        ("anchor-unknown_fail", "step 17"),
        ("model-never-registered_fail", "step 15"),
        ("model-that-gives-nan_fail", "step 12"),
    ],
)
def test_what_its_sender_may_have_done_is_signed_neither_way(court: Court, vector: str, step: str) -> None:
    found = judge(check(court, vector), data(vector))
    assert (found.kind, found.findings) == ("refused", [])
    assert (found.reason or "").startswith(step)


def test_what_cannot_be_decided_is_not_signed(court: Court, tmp_path: Path) -> None:
    no_model = judge(check(court, "commit", artifacts=str(tmp_path)), data("commit"))
    assert (no_model.kind, no_model.findings) == ("undecided", [])
    assert (no_model.reason or "").startswith("step 12")
    no_node = judge(check(court, "commit", rpc="http://127.0.0.1:1"), data("commit"))
    assert (no_node.kind, (no_node.reason or "").startswith("step 14")) == ("undecided", True)


def test_what_is_not_the_job_that_was_asked_about_is_refused(court: Court) -> None:
    asked = check(court, "commit", job_id=Digest(bytes(32)))
    assert judge(asked, data("commit")).kind == "refused"
    elsewhere = court.chain.deployment.domain.model_copy(update={"chain_id": 1})
    assert "another deployment" in (judge(check(court, "commit", domain=elsewhere), data("commit")).reason or "")
    assert judge(check(court, "commit"), b"{}").kind == "refused"


def test_the_child_process_says_the_same_and_is_ended_in_time(court: Court, tmp_path: Path) -> None:
    (model,) = [path for path in ARTIFACTS.iterdir() if path.name == artifact_name(_model("commit"))]
    (tmp_path / model.name).write_bytes(model.read_bytes())
    asked = check(court, "commit", artifacts=str(tmp_path)).to_json()
    ended = run_confined("verifier.validator.judge", Bounds(4 << 30, 120), asked, data("commit"))
    assert Judgement.from_json(ended.frames[-1]).kind == "valid"
    ended = run_confined("verifier.validator.judge", Bounds(4 << 30, 0), asked, data("commit"))
    assert (ended.frames, ended.early) == ([], "the verification took longer than 0 s and was ended")


def _model(vector: str) -> Digest:
    return Certificate.parse(data(vector)).request.model_digest


def test_a_service_says_whose_verdicts_count(court: Court) -> None:
    task = Task(
        rpc=court.dev.url, artifacts=str(ARTIFACTS), allow_development_chain=True, allow_development_srs=True,
        quorum=court.quorum,
    )  # fmt: skip
    found = ask_service(task, data("commit"), Bounds(4 << 30, 120))
    assert (found.result, found.steps[-2].number) == ("valid", VALIDATORS)
    settings = ServiceSettings(quorum=court.quorum)
    assert TestClient(create_app(settings)).get("/v1/about").json()["quorum"] == court.quorum.validator_quorum
