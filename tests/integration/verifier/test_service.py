"""The verifier service: real requests, real child processes.

By default some vectors, for each takes a process; all with ``REXIS_EVERY_VECTOR=1``. That their verdicts are right
is for :mod:`tests.integration.verifier.test_vectors` to say; here, that they come through.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from contracts.devchain import DevChain
from rexis.api import Problem
from rexis.interpreter import python, python_environment
from rexis.protocol.digests import Digest, sha256
from tests.vectors.certificates.quorum import manifest_of
from verifier.confined import Bounds
from verifier.service.app import create_app
from verifier.service.documents import About, Report
from verifier.service.judge import Task
from verifier.service.judging import judge
from verifier.service.openapi import main as openapi
from verifier.service.settings import ServiceSettings

VECTORS = Path(__file__).parents[2] / "vectors/certificates"
TRAININGS = Path(__file__).parents[2] / "vectors/training"
ARTIFACTS = VECTORS / "artifacts"
BOUNDS = Bounds(4 << 30, 60)
TRAINING_BOUNDS = Bounds(8 << 30, 300)
COMMIT = (VECTORS / "commit/certificate.json").read_bytes()
TRUSTING = Task(rpc=None, artifacts=str(ARTIFACTS), allow_development_chain=True, allow_development_srs=True)
# What an auditor has to ask for, and a service does not do for strangers.
_DEAR = {"reexecute", "rebuild_circuit", "second_opinion", "srs", "model"}
_SOME = {
    "commit",
    "sampled-offline",
    "byte-changed_fail",
    "field-wraparound_fail",
    "certification-transaction-invented_fail",
    "validators-found-valid",
    "validators-found-not-valid_fail",
    "validators-of-nobody_undecided",
}


# A valid one, and two that fail where only trainings have a step: one by re-training, in a second process.
_SOME_TRAININGS = {"commit", "checkpoint-step_fail", "other-data_fail"}


def _vectors(vectors: Path, some: set[str]) -> list[Path]:
    """Folders of one certificate each; the service takes no lineage."""
    every = os.environ.get("REXIS_EVERY_VECTOR")
    found = [path.parent for path in sorted(vectors.glob("*/case.json")) if every or path.parent.name in some]
    single = [folder for folder in found if len(list(folder.glob("certificate*.json"))) == 1]
    return [folder for folder in single if folder.name == "commit" or not _case(folder)["options"].keys() & _DEAR]


def _case(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    return found


def open_service(**settings: Any) -> TestClient:
    given = {"artifacts": ARTIFACTS, "bounds": BOUNDS, "rate": 0.0} | settings
    return TestClient(create_app(ServiceSettings(**given)))


@pytest.mark.parametrize("folder", _vectors(VECTORS, _SOME), ids=lambda folder: folder.name)
def test_a_vector_gets_its_verdict(folder: Path, chain_of_vectors: DevChain) -> None:
    require_verdict(folder, chain_of_vectors)


@pytest.mark.parametrize("folder", _vectors(TRAININGS, _SOME_TRAININGS), ids=lambda folder: folder.name)
def test_a_training_vector_gets_its_verdict(folder: Path, chain_of_trainings: DevChain, trainings_files: Path) -> None:
    require_verdict(folder, chain_of_trainings, artifacts=trainings_files, bounds=TRAINING_BOUNDS)


def require_verdict(folder: Path, chain: DevChain, **settings: Any) -> None:
    """What the service says of a vector is what the vector's case says."""
    case = _case(folder)
    options = case["options"]
    service = open_service(
        rpc=None if options["offline"] else chain.url,
        allow_development_chain=options["allow_development_chain"],
        allow_development_srs=options.get("allow_development_srs", False),
        quorum=manifest_of(options["quorum"]) if "quorum" in options else None,
        **settings,
    )
    names = {"job_id": "job", "model_digest": "model", "requester": "requester"}
    pins = {names[name]: value for name, value in options.items() if name in names}
    data = (folder / "certificate.json").read_bytes()
    response = service.post("/v1/verify", content=data, params=pins)
    assert response.status_code == 200
    report = Report.from_json(response.content)
    failed = [step for step in report.steps if step.status == "failed"]
    assert report.error is None
    assert report.certificate_digest == sha256(data)
    if case["step"] is None:
        assert report.result == "valid", failed
        assert report.shows
    elif folder.name.endswith("_undecided"):
        assert report.result == "undecided"
        assert [step.number for step in report.steps if step.status == "unchecked"] == [case["step"]]
    else:
        assert report.result == "not valid"
        assert [step.number for step in failed] == [case["step"]]
        assert case["match"] in failed[0].detail
        assert not report.shows


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[" * 200_000,
        b'{"format":"rexis-certificate-v1","format":"rexis-certificate-v1"}',
        b'{"format":1e400}',
        b'{"format":"\xff"}',
        b"9" * 100_000,
        COMMIT[:-1],
        COMMIT + b"\n",
    ],
    ids=("empty", "deep", "twice", "float", "no-utf-8", "long-number", "cut", "longer"),
)
def test_hostile_json_is_not_valid_at_step_1(data: bytes) -> None:
    report = Report.from_json(open_service().post("/v1/verify", content=data).content)
    assert report.result == "not valid"
    assert [(step.number, step.status) for step in report.steps] == [(1, "failed")]


@pytest.mark.parametrize("announced", [True, False])
def test_a_large_body_is_refused_before_it_is_read(announced: bool) -> None:
    service = open_service(max_bytes=1000)
    content: Any = b"x" * 1001 if announced else iter([b"x" * 600, b"x" * 600])
    response = service.post("/v1/verify", content=content)
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert Problem.from_json(response.content).code == "too-large"


def test_too_many_certificates_of_one_client_are_refused() -> None:
    service = open_service(rate=0.01, burst=1)
    assert service.post("/v1/verify", content=b"{}").status_code == 200
    response = service.post("/v1/verify", content=b"{}")
    problem = Problem.from_json(response.content)
    assert (response.status_code, problem.code, problem.retryable) == (429, "rate-limited", True)
    assert 0 < int(response.headers["retry-after"]) <= 100
    assert service.get("/healthz").text == "ok\n"


@pytest.mark.parametrize("query", ["job=0x12", "model=no", "requester=0xabc", "requester=0x" + "ab" * 20])
def test_a_pin_that_is_none_is_refused(query: str) -> None:
    response = open_service().post(f"/v1/verify?{query}", content=COMMIT)
    assert response.status_code == 422
    assert query.split("=")[0] in (Problem.from_json(response.content).field or "")


def test_another_job_than_the_pinned_one_is_not_valid() -> None:
    service = open_service(allow_development_chain=True, allow_development_srs=True)
    response = service.post("/v1/verify", content=COMMIT, params={"job": str(Digest(bytes([1]) * 32))})
    assert Report.from_json(response.content).result == "not valid"


def test_answers_are_for_no_cache_and_no_frame() -> None:
    response = open_service().get("/v1/about")
    about = About.from_json(response.content)
    assert (about.chain, about.accepts_development_srs) == (False, False)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert open_service().get("/nothing").headers["content-type"] == "application/problem+json"


def test_a_verification_that_takes_too_long_is_undecided() -> None:
    found = judge(TRUSTING, COMMIT, Bounds(4 << 30, 0))
    assert (found.result, found.shows) == ("undecided", [])
    assert found.error is not None
    assert "took longer" in found.error


def test_a_verification_without_room_is_undecided() -> None:
    found = judge(TRUSTING, COMMIT, Bounds(60 << 20, 60))
    assert found.result == "undecided"
    assert found.error is not None


def test_the_child_gets_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REXIS_PASSPHRASE", "secret")
    started: list[dict[str, str]] = []
    real = subprocess.Popen

    def spy(*arguments: Any, **given: Any) -> Any:
        started.append(given["env"])
        return real(*arguments, **given)

    monkeypatch.setattr(subprocess, "Popen", spy)
    assert judge(TRUSTING, COMMIT, BOUNDS).result == "valid"
    assert started
    assert "secret" not in started[0].values()


def test_the_description_is_up_to_date() -> None:
    assert openapi(["--check"]) == 0


@pytest.fixture
def served() -> Iterator[str]:
    arguments = ["verifier", "serve", "--port", "0", "--artifacts", str(ARTIFACTS)]
    process = subprocess.Popen(
        python("-c", "from rexis.cli.main import run; run()", *arguments, "--allow-development-chain"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=python_environment(),
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1]
    process.terminate()
    assert process.wait(20) == -signal.SIGTERM  # uvicorn ends well, then by the signal that it got


def test_the_command_serves(served: str) -> None:
    answer = httpx.post(f"{served}/v1/verify", content=COMMIT, timeout=60)
    assert answer.json()["result"] == "valid"
