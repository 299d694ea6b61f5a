"""What an auditor sees of validators beside the vectors' verdicts, and what a validator makes of certificates."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from contracts.devchain import DevChain
from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import Digest
from rexis.protocol.validation import Finding
from tests.vectors.certificates.quorum import manifest_of
from verifier.artifacts import artifact_name
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.confined import Bounds, run_confined
from verifier.report import Status, Step
from verifier.service.app import create_app
from verifier.service.judge import Task
from verifier.service.judging import judge as ask_service
from verifier.service.settings import ServiceSettings
from verifier.validator.documents import Check, Judgement
from verifier.validator.judge import judge
from verifier.validators import VALIDATORS

VECTORS = Path(__file__).parents[2] / "vectors/certificates"
ARTIFACTS = VECTORS / "artifacts"
QUORUM = manifest_of("validators")


def data(vector: str) -> bytes:
    return (VECTORS / vector / "certificate.json").read_bytes()


def statements(vector: str) -> list[Digest]:
    certificate = Certificate.parse(data(vector))
    return [certificate.domain.digest(place.statement) for place in certificate.places]


def steps_of(dev: DevChain, vector: str, **options: object) -> list[Step]:
    """Those that are about validators, by default for the auditor who trusts the quorum of the vectors."""
    given = {"rpc_url": dev.url, "quorum": QUORUM, **options}
    verdict = verify_certificate(
        data(vector),
        VerifyOptions(artifacts=ARTIFACTS, allow_development_srs=True, allow_development_chain=True, **given),  # type: ignore[arg-type]
    )
    return [step for step in verdict.steps if step.number == VALIDATORS]


def test_the_report_says_how_many_signed_with_how_much(chain_of_vectors: DevChain) -> None:
    """8 of 9 parts, rounded down: it says "or more"."""
    (step,) = steps_of(chain_of_vectors, "validators-found-valid")
    assert step.detail == (
        f"2 or more validators of quorum {QUORUM.validator_quorum}, with 88.8% or more of its stake of then, "
        "found each statement valid"
    )
    (step,) = steps_of(chain_of_vectors, "validators-sampled")
    assert step.detail.startswith(f"3 or more validators of quorum {QUORUM.validator_quorum}, with 100.0% or more")


def test_verdicts_that_nobody_asks_for_are_no_step(chain_of_vectors: DevChain) -> None:
    assert steps_of(chain_of_vectors, "validators-beyond-the-policy", quorum=None) == []


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"quorum": None}, Status.UNCHECKED),
        ({"rpc_url": None, "offline": True}, Status.SKIPPED),
        ({"quorum": None, "by_validator": True}, Status.SKIPPED),
    ],
)
def test_a_policy_that_wants_validators_is_never_passed_over(
    chain_of_vectors: DevChain, options: dict[str, object], status: Status
) -> None:
    (step,) = steps_of(chain_of_vectors, "validators-silent_fail", **options)
    assert step.status == status


# --- what a validator makes of them -------------------------------------------------------------------------------


def check(dev: DevChain, vector: str, **changes: object) -> Check:
    certificate = Certificate.parse(data(vector))
    given: dict[str, object] = {
        "rpc": dev.url,
        "artifacts": str(ARTIFACTS),
        "allow_development_chain": True,
        "allow_development_srs": True,
        "job_id": certificate.job_id,
        "domain": certificate.domain,
    }
    return Check(**{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("vector", ["commit", "sampled"])
def test_what_holds_is_valid_in_every_statement(chain_of_vectors: DevChain, vector: str) -> None:
    """Before there is any verdict: for a validator that is no reason against it."""
    found = judge(check(chain_of_vectors, vector), data(vector))
    assert (found.kind, found.reason) == ("valid", None)
    assert [(one.statement, one.verdict) for one in found.findings] == [
        (digest, Finding.VALID) for digest in statements(vector)
    ]


def test_an_output_that_is_not_the_models_is_invalid_in_its_statement_alone(chain_of_vectors: DevChain) -> None:
    vector = "tampered-output-reexecuted_fail"
    found = judge(check(chain_of_vectors, vector), data(vector))
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
def test_what_its_sender_may_have_done_is_signed_neither_way(
    chain_of_vectors: DevChain, vector: str, step: str
) -> None:
    found = judge(check(chain_of_vectors, vector), data(vector))
    assert (found.kind, found.findings) == ("refused", [])
    assert (found.reason or "").startswith(step)


def test_what_cannot_be_decided_is_not_signed(chain_of_vectors: DevChain, tmp_path: Path) -> None:
    no_model = judge(check(chain_of_vectors, "commit", artifacts=str(tmp_path)), data("commit"))
    assert (no_model.kind, no_model.findings) == ("undecided", [])
    assert (no_model.reason or "").startswith("step 12")
    no_node = judge(check(chain_of_vectors, "commit", rpc="http://127.0.0.1:1"), data("commit"))
    assert (no_node.kind, (no_node.reason or "").startswith("step 14")) == ("undecided", True)


def test_what_is_not_the_job_that_was_asked_about_is_refused(chain_of_vectors: DevChain) -> None:
    asked = check(chain_of_vectors, "commit", job_id=Digest(bytes(32)))
    assert judge(asked, data("commit")).kind == "refused"
    elsewhere = Certificate.parse(data("commit")).domain.model_copy(update={"chain_id": 1})
    assert "another deployment" in (
        judge(check(chain_of_vectors, "commit", domain=elsewhere), data("commit")).reason or ""
    )
    assert judge(check(chain_of_vectors, "commit"), b"{}").kind == "refused"


def test_the_child_process_says_the_same_and_is_ended_in_time(chain_of_vectors: DevChain, tmp_path: Path) -> None:
    (model,) = [path for path in ARTIFACTS.iterdir() if path.name == artifact_name(_model("commit"))]
    (tmp_path / model.name).write_bytes(model.read_bytes())
    asked = check(chain_of_vectors, "commit", artifacts=str(tmp_path)).to_json()
    ended = run_confined("verifier.validator.judge", Bounds(4 << 30, 120), asked, data("commit"))
    assert Judgement.from_json(ended.frames[-1]).kind == "valid"
    ended = run_confined("verifier.validator.judge", Bounds(4 << 30, 0), asked, data("commit"))
    assert (ended.frames, ended.early) == ([], "the verification took longer than 0 s and was ended")


def _model(vector: str) -> Digest:
    return Certificate.parse(data(vector)).request.model_digest


def test_a_service_says_whose_verdicts_count(chain_of_vectors: DevChain) -> None:
    task = Task(
        rpc=chain_of_vectors.url, artifacts=str(ARTIFACTS), allow_development_chain=True, allow_development_srs=True,
        quorum=QUORUM,
    )  # fmt: skip
    found = ask_service(task, data("validators-found-valid"), Bounds(4 << 30, 120))
    assert (found.result, found.steps[-2].number) == ("valid", VALIDATORS)
    settings = ServiceSettings(quorum=QUORUM)
    assert TestClient(create_app(settings)).get("/v1/about").json()["quorum"] == QUORUM.validator_quorum
