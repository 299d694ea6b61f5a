"""register, submit, status, jobs, fetch and decrypt against a coordinator that certifies at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.onchain import Deployment
from rexis.cli import requester
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.policy import Rung, Tier
from rexis.protocol.records import input_root, quantise
from rexis.protocol.rung import RungClaim, sign_rung_claim
from rexis.protocol.signing import address_of, new_account, recover
from rexis.protocol.statement import JobRequest
from rexis.protocol.tensors import Dataset, pack_outputs

from ..client.fake_coordinator import COORDINATOR, FakeCoordinator, Reply, Request, serving
from .conftest import CIRCUIT, PASSPHRASE, Cli, Owned, certificate, npy
from .test_records_commands import RECORDS, run_model

DOMAIN = Deployment.on(31337).domain
OWNER = new_account()


@dataclass
class Instant(FakeCoordinator):
    """Stores blobs, runs every job at once, and certifies it with whatever is in `tamper`."""

    model_file: Path = Path()
    blobs: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, tuple[dict[str, Any], bytes, bytes]] = field(default_factory=dict)
    tamper: bool = False
    fail: bool = False
    owner: str = str(address_of(OWNER))
    rung_claim: dict[str, Any] | None = None
    substitute: str | None = None

    def handle(self, request: Request) -> Reply:
        parts = request.path.strip("/").split("/")
        match (request.method, parts[1:]):
            case (_, ["auth" | "info", *_]):
                return super().handle(request)
            case _ if not self.allowed(request):
                return Reply.problem(401, "unauthorised")
            case ("HEAD", ["blobs", digest]):
                return Reply(200 if digest in self.blobs else 404)
            case ("PUT", ["blobs", digest]):
                self.blobs[digest] = request.body
                return Reply.json({"digest": digest, "size": len(request.body)})
            case ("GET", ["blobs", digest]) if digest in self.blobs:
                return Reply(200, self.blobs[digest])
            case ("POST", ["datasets"]):
                digest = json.loads(request.body)["digest"]
                return Reply.json({"digest": digest, "owner": COORDINATOR, "shape": [143, 30]})
            case ("GET", ["models", digest, epoch]):
                model = {
                    "modelDigest": self.substitute or digest,
                    "keyEpoch": int(epoch),
                    "owner": self.owner,
                    "vka": [],
                }
                return Reply.json(model | {"circuit": CIRCUIT.to_object(), "rungClaim": self.rung_claim})
            case ("POST", ["jobs"]):
                return self.submit(json.loads(request.body))
            case ("GET", ["jobs"]):
                return Reply.json({"jobs": [_summary(view) for view, _, _ in self.jobs.values()]})
            case ("POST", ["jobs", job, "cancel"]) if job in self.jobs:
                view = {**self.jobs[job][0], "state": "failed", "reason": "cancelled by its requester"}
                return Reply.json(view)
            case ("GET", ["jobs", job]) if job in self.jobs:
                return Reply.json(self.jobs[job][0])
            case ("GET", ["jobs", job, "certificate"]):
                return Reply(200, self.jobs[job][1])
            case ("GET", ["jobs", job, "outputs"]):
                return Reply(200, self.jobs[job][2])
        return Reply.problem(404, "not-found")

    def submit(self, document: dict[str, Any]) -> Reply:
        request = JobRequest.from_object(document["request"])
        job_id = request.job_id(DOMAIN)
        assert recover(job_id, bytes.fromhex(document["signature"][2:])) == request.requester
        blob = self.blobs[str(request.dataset_digest)]
        dataset = Dataset.from_bytes(blob)
        tier = request.policy.tier
        assert request.input_root == input_root(tier, request.circuit, dataset.records, dataset.salts)
        end = request.record_start + request.record_count
        outputs = run_model(self.model_file, dataset.records[request.record_start : end])
        if tier != Tier.COMMIT:
            outputs = quantise(outputs, CIRCUIT.output_scale)
        made = certificate(request, DOMAIN, dataset, outputs)
        if self.tamper:
            outputs = outputs + 1
        view = {
            "jobId": str(job_id),
            "state": "failed" if self.fail else "certified",
            "submittedAt": "2026-11-01T00:00:00Z",
            "request": request.to_object(),
            "tasks": [
                {
                    "taskId": str(task.evidence.statement.task_id),
                    "jobId": str(job_id),
                    "start": task.evidence.statement.record_start,
                    "count": task.evidence.statement.record_count,
                    "state": "failed" if self.fail else "anchored",
                    "worker": COORDINATOR,
                    "progress": None,
                    "waiting": None,
                    "faults": [
                        {
                            "worker": COORDINATOR,
                            "at": "2026-11-01T00:00:00Z",
                            "code": "evidence-rejected",
                            "detail": "step 9 (openings): \x1b[31mleads elsewhere",
                        }
                    ],
                }
                for task in made.tasks
            ],
            "counts": {"failed" if self.fail else "anchored": len(made.tasks)},
            "reason": "no attempts left" if self.fail else None,
            "certificateDigest": None if self.fail else str(sha256(made.to_json())),
        }
        self.jobs[str(job_id)] = (view, made.to_json(), pack_outputs(outputs))
        return Reply.json(view)


def _summary(view: dict[str, Any]) -> dict[str, Any]:
    tasks = view["tasks"]
    left_out = ("tasks", "counts")
    head = {key: value for key, value in view.items() if key not in left_out}
    return {**head, "taskCount": len(tasks), "tasksDone": 0}


@dataclass
class World:
    cli: Cli
    server: Instant
    folder: Path
    keygen: Owned
    wallet: Path

    @property
    def me(self) -> tuple[str, ...]:
        return ("--coordinator", self.server.url, "--wallet", str(self.wallet))

    @property
    def model(self) -> Digest:
        return self.keygen.key().model_digest

    def submit(self, *more: str) -> str:
        model = ("--model", str(self.model), "--epoch", "3", "--shard-size", "100")
        return self.cli.ok("submit", "--dataset", self.folder / "d", *model, *self.me, *more).out.strip()


@pytest.fixture
def world(cli: Cli, keygen: Owned, wallet: Path, tmp_path: Path) -> Iterator[World]:
    server = Instant(model_file=keygen.model_file)
    records = npy(tmp_path / "r.npy", RECORDS)
    cli.ok("encrypt", "--key", keygen.key_file, "--records", records, "--out", tmp_path / "d")
    with serving(server):
        made = World(cli, server, tmp_path, keygen, wallet)
        server.blobs[str(made.model)] = keygen.model_file.read_bytes()
        yield made


@pytest.mark.parametrize("tier", ["commit", "zk"])
def test_from_submission_to_predictions(world: World, tier: str) -> None:
    cli, out = world.cli, world.folder / "out"
    job = world.submit("--tier", tier)
    assert Digest.parse(job)
    assert job in cli.ok("jobs", *world.me).out
    assert "cancelled by its requester" in cli.ok("cancel", job, *world.me).out
    status = cli.ok("status", job, *world.me)
    assert "certified" in status.out
    assert "0–99" in status.out
    assert "\x1b" not in status.out
    fetched = cli.ok("fetch", job, "--out", out, "--dataset", world.folder / "d", *world.me, "--json")
    assert json.loads(fetched.out)["files"] == sorted(path.name for path in out.iterdir())
    assert (out / f"sha256-{world.model.hex()}").read_bytes() == world.keygen.model_file.read_bytes()
    again = cli.ok("fetch", job, "--out", out, *world.me)
    assert "certificate.json" in again.out
    cli.ok(
        "decrypt", "--key", world.keygen.key_file, "--outputs", out / "outputs.safetensors",
        "--dataset", world.folder / "d", "--out", out / "p.npy",
    )  # fmt: skip
    assert np.load(out / "p.npy").shape == (143, 2)
    private = world.server.requests
    assert not any(PASSPHRASE.encode() in request.body for request in private)
    assert not any(RECORDS[0].tobytes() in request.body for request in private)


def test_policy(world: World) -> None:
    ran = world.submit("--tier", "sampled", "-k", "5", "--abs-tolerance", "0.01", "--start", "40", "--json")
    request = json.loads(ran)["request"]
    assert request["policy"] == {
        "tier": "sampled", "sampleSize": 5, "shardSize": 100, "maxAttempts": 3, "absToleranceE9": 10_000_000,
        "relToleranceE9": 1_000_000, "rung": "ee-outsourced", "validators": 0, "certifyOnChain": False,
    }  # fmt: skip
    assert (request["recordStart"], request["recordCount"]) == (40, 103)


def test_a_rung_that_the_owner_does_not_claim_is_not_signed(world: World) -> None:
    arguments = (
        "submit", "--dataset", world.folder / "d", "--model", world.model, "--epoch", "3", "--tier", "zk",
        "--rung", "ee-private-weights", *world.me,
    )  # fmt: skip
    ran = world.cli(*arguments)
    assert (ran.code, world.server.jobs) == (1, {})
    assert "has not claimed rung ee-private-weights" in ran.err
    for signer, reason in ((OWNER, None), (new_account(), "is signed by")):
        world.server.rung_claim = sign_rung_claim(signer, claim(world.model), DOMAIN).to_object()
        ran = world.cli(*arguments, "--json")
        if reason is None:
            assert ran.code == 0, ran.err
            assert json.loads(ran.out)["request"]["policy"]["rung"] == "ee-private-weights"
            assert f"claimed by the owner {address_of(OWNER)}, not checkable without the plain weights" in ran.err
        else:
            assert (ran.code, reason in ran.err) == (1, True)
    world.server.owner = str(COORDINATOR)
    world.server.rung_claim = sign_rung_claim(OWNER, claim(world.model), DOMAIN).to_object()
    assert "claims the rung, 0x" in world.cli(*arguments).err


def claim(model: Digest) -> RungClaim:
    return RungClaim(
        rung=Rung.EE_PRIVATE_WEIGHTS, model_digest=model, key_epoch=3, base_digest=model, distance_e9=10**9,
        threshold_e9=10**9, card_digest=model, owner=address_of(OWNER),
    )  # fmt: skip


@pytest.mark.parametrize(("tier", "tolerance"), [("commit", 0.001), ("sampled", 0.25), ("zk", 0.25)])
def test_default_tolerance_is_the_measured_one(world: World, tier: str, tolerance: float) -> None:
    request = json.loads(world.submit("--tier", tier, "--json"))["request"]
    assert request["policy"]["absToleranceE9"] == round(tolerance * 1e9)
    assert f"{tolerance:g} " in world.cli.ok("submit", "--help").out


def test_wait_shows_changes_and_fails_with_the_job(world: World) -> None:
    world.server.fail = True
    ran = world.cli(
        "submit", "--dataset", world.folder / "d", "--model", world.model, "--epoch", "3", "--tier", "zk", "--wait",
        *world.me,
    )  # fmt: skip
    assert ran.code == 1
    assert "no attempts left" in ran.err
    assert "evidence-rejected" in ran.err
    job = ran.out.strip()
    assert world.cli("fetch", job, "--out", world.folder / "out", *world.me).code == 1


def test_outputs_that_were_not_certified(world: World) -> None:
    world.server.tamper = True
    job = world.submit("--tier", "zk")
    ran = world.cli("fetch", job, "--out", world.folder / "out", "--dataset", world.folder / "d", *world.me)
    assert ran.code == 1
    assert "not the certified ones" in ran.err
    assert not (world.folder / "out" / requester.OUTPUTS).exists()


def test_what_was_fetched_is_not_overwritten(world: World) -> None:
    job = world.submit("--tier", "zk")
    out = world.folder / "out"
    out.mkdir()
    (out / "certificate.json").write_text("another job's")
    ran = world.cli("fetch", job, "--out", out, *world.me)
    assert ran.code == 1
    assert (out / "certificate.json").read_text() == "another job's"


def test_contradictions_are_refused(world: World) -> None:
    base = ("submit", "--dataset", world.folder / "d", "--model", world.model, "--epoch", "3", *world.me)
    for options, reason in (
        (("--tier", "zk", "-k", "3"), "sampleSize must be 0"),
        (("--tier", "commit", "--certify-on-chain"), "needs tier zk"),
        (("--tier", "sampled", "-k", "0"), "at least 1"),
        (("--start", "200"), "not in a dataset of 143"),
    ):
        ran = world.cli(*base, *options)
        assert (ran.code, ran.out) == (1, "")
        assert reason in ran.err
    assert world.server.jobs == {}


def test_another_deployment(world: World) -> None:
    deployment = world.folder / "deployment.json"
    deployment.write_bytes(Deployment.on(1).to_json())
    ran = world.cli(
        "submit", "--dataset", world.folder / "d", "--model", world.model, "--epoch", "3", *world.me,
        "--deployment", deployment,
    )  # fmt: skip
    assert ran.code == 1
    assert "the coordinator works on chain 31337" in ran.err


def test_a_coordinator_that_describes_another_model(world: World) -> None:
    """Signed would be a job on a model of its choice, whose output can be the record. Nothing is uploaded or signed."""
    world.server.substitute = str(sha256(b"a model that copies its input"))
    ran = world.cli("submit", "--dataset", world.folder / "d", "--model", world.model, "--epoch", "3", *world.me)
    assert (ran.code, ran.out) == (1, "")
    assert "asked about model" in ran.err
    assert world.server.jobs == {}
    assert len(world.server.blobs) == 1


def test_a_coordinator_with_contracts_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that the coordinator seeded would accept anything; nothing is signed for it."""
    monkeypatch.setattr(
        "tests.unit.client.fake_coordinator.DEPLOYMENT",
        Deployment.on(31337).model_copy(update={"evidence_log": COORDINATOR}),
    )
    ran = world.cli("submit", "--dataset", world.folder / "d", "--model", world.model, "--epoch", "3", *world.me)
    assert (ran.code, ran.out) == (1, "")
    assert "domain.verifyingContract" in ran.err
    assert world.server.jobs == {}


def test_info_needs_no_wallet(world: World) -> None:
    shown = world.cli.ok("info", "--coordinator", world.server.url)
    assert COORDINATOR in shown.out
    assert "commit, sampled, zk" in shown.out
