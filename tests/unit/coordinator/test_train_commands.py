"""`rexis train submit` and `fetch` against a coordinator over a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rocrate.rocrate import ROCrate

from rexis.api import JobView
from rexis.cli.main import main
from rexis.protocol.digests import sha256
from rexis.protocol.policy import Tier
from tests.unit.coordinator.fakes import FakeLedger
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.serving import serving, use
from tests.unit.coordinator.test_recovery import finish
from tests.unit.coordinator.trainings import STEPS, TrainingScene, make_plan


@dataclass
class TrainCommands:
    """The commands, called in this process by the owner of a dataset, for a model that is registered."""

    scene: TrainingScene
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object, code: int = 0) -> str:
        found = main(["train", *map(str, arguments)])
        captured = self.capsys.readouterr()
        assert found == code, captured.err
        return captured.err if code else captured.out

    def submit(self, *options: object, code: int = 0) -> str:
        model = ("--model", self.scene.model_digest, "--epoch", 1)
        files = ("--dataset", self.folder / "rows.safetensors", "--plan", self.folder / "plan.json")
        return self("submit", *files, *model, "--tier", "commit", *options, code=code)

    def plan(self, **changes: Any) -> None:
        (self.folder / "plan.json").write_bytes(make_plan(**changes).to_json())


@pytest.fixture
def train(
    tmp_path: Path,
    ledger: FakeLedger,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[TrainCommands]:
    with serving(tmp_path, ledger) as coordinator:
        scene = TrainingScene(Scene(coordinator, ledger))
        use(monkeypatch, coordinator, scene.scene.requester, tmp_path / "wallet.json")
        scene.publish()
        (tmp_path / "rows.safetensors").write_bytes(scene.dataset.to_bytes())
        commands = TrainCommands(scene, tmp_path, capsys)
        commands.plan()
        yield commands


def test_a_training_is_submitted_followed_and_fetched(train: TrainCommands) -> None:
    view = JobView.from_json(train.submit("--json").encode())
    job = view.job_id
    assert train.submit().startswith("0x")  # another one: each has a nonce
    assert view.request.policy.tier == Tier.COMMIT
    assert view.training is not None
    assert view.training.steps == STEPS
    assert "has no certificate" in train("fetch", job, "--out", train.folder / "early", code=1)

    trainer = train.scene.trainer()
    for _ in range(2):
        trainer.finish(trainer.lease(), train.scene.model)
    finish(train.scene.scene)
    out = train.folder / "trained"
    said = json.loads(train("fetch", job, "--out", out, "--json"))
    assert said["modelDigest"] == str(sha256((out / "checkpoint.onnx").read_bytes()))
    assert sorted(said["files"]) == sorted(path.name for path in out.iterdir())
    for path in out.glob("sha256-*"):
        assert path.name == f"sha256-{sha256(path.read_bytes()).hex()}"
    base, rows = train.scene.model_digest, train.scene.dataset.digest
    assert {f"sha256-{base.hex()}", f"sha256-{rows.hex()}"} <= set(said["files"])
    assert (out / "losses.csv").read_text().count("\n") == 1 + STEPS
    assert "<svg" in (out / "losses.svg").read_text()
    assert "5 steps, loss 1.0000 → 1.0000" in train("fetch", job, "--out", out)  # again changes nothing
    crate = train.folder / "crate"
    assert main(["export", "ro-crate", str(job), "--out", str(crate)]) == 0
    train.capsys.readouterr()
    assert (crate / "checkpoint.onnx").read_bytes() == (out / "checkpoint.onnx").read_bytes()
    (action,) = ROCrate(crate).root_dataset["mentions"]
    assert "checkpoint.onnx" in {result.id for result in action["result"]}
    small = json.loads(train("fetch", job, "--out", train.folder / "small", "--no-states", "--json"))
    assert len(small["files"]) == 6


def test_what_does_not_fit_is_refused(train: TrainCommands) -> None:
    train.plan(powers=["mix"], optimiser={"kind": "adam", "learningRateE9": 1, "beta1E9": 1, "epsilonE12": 1})
    assert "adam does not commute with keys that mix" in train.submit(code=1)
    train.plan(inputShape=[4])
    assert "a record has 4 values, the plan says 5" in train.submit(code=1)


def test_only_trainings_are_fetched(train: TrainCommands) -> None:
    scene = train.scene.scene
    scene.publish()
    job = scene.submit().job_id
    scene.do_all()
    finish(scene)
    assert "is no training" in train("fetch", job, "--out", train.folder / "out", code=1)
