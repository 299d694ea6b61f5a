"""`rexis job …` against a coordinator over a socket: what it prints for people and as JSON, and how it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from rexis.api import JobView
from rexis.cli.main import main
from rexis.protocol.digests import ZERO_DIGEST
from rexis.protocol.signing import new_account
from tests.unit.coordinator.fakes import FakeLedger
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.serving import serving, use
from tests.unit.coordinator.test_recovery import finish


@dataclass
class JobCommands:
    """The commands, called in this process by the requester of one job of two tasks, of records 0–2 and 3–4."""

    scene: Scene
    job: JobView
    capsys: pytest.CaptureFixture[str]

    def __call__(self, command: str, *arguments: object, code: int = 0, of: object = None) -> str:
        """What a command prints; on stderr, if it is to fail."""
        found = main(["job", command, str(of or self.job.job_id), *map(str, arguments)])
        captured = self.capsys.readouterr()
        assert found == code, captured.err
        return captured.err if code else captured.out

    def json(self, command: str, *arguments: object, of: object = None) -> Any:
        return json.loads(self(command, *arguments, "--json", of=of))


@pytest.fixture
def rexis_job(
    tmp_path: Path,
    database: str,
    ledger: FakeLedger,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[JobCommands]:
    monkeypatch.setenv("COLUMNS", "200")
    with serving(tmp_path, ledger, database_url=database) as coordinator:
        scene = Scene(coordinator, ledger)
        use(monkeypatch, coordinator, scene.requester, tmp_path / "wallet.json")
        scene.publish()
        yield JobCommands(scene, scene.submit(), capsys)


def test_why_and_tasks(rexis_job: JobCommands) -> None:
    first, second = rexis_job.json("tasks")
    assert [(one["start"], one["count"], one["state"]) for one in (first, second)] == [
        (0, 3, "pending"),
        (3, 2, "pending"),
    ]
    assert rexis_job("why").startswith("2 task(s): no worker")
    (group,) = rexis_job.json("why")["groups"]
    assert (group["count"], group["starts"]) == (2, [0, 3])

    worker = rexis_job.scene.worker()
    rexis_job.scene.lease(worker)
    lines = rexis_job("tasks").splitlines()
    assert [line.split()[:3] for line in lines] == [
        [first["taskId"], "0–2", "leased"],
        [second["taskId"], "3–4", "pending"],
    ]
    assert rexis_job("tasks", "--state", "leased").split()[0] == first["taskId"]
    assert [one["taskId"] for one in rexis_job.json("tasks", "--state", "pending")] == [second["taskId"]]
    assert rexis_job("why", of=first["taskId"]) == "leased\n"
    assert rexis_job("why", of=second["taskId"]).startswith("pending: ")
    assert rexis_job.json("why", of=second["taskId"])["taskId"] == second["taskId"]
    assert "one of pending" in rexis_job("tasks", "--state", "asleep", code=2)


def test_history_tells_every_change_with_its_reason(rexis_job: JobCommands) -> None:
    scene = rexis_job.scene
    worker = scene.worker()
    lease = scene.lease(worker)
    scene.coordinator.leases.give_up(lease.lease_id, worker.address, "no-memory", "the graphics card\x1b[2J is full")
    events = rexis_job.json("history")
    changes = [(one["entity"], one.get("start"), one["after"]) for one in events]
    assert changes[0] == ("job", None, "queued")
    assert ("lease", 0, "gave-up") in changes
    assert {one["entity"] for one in rexis_job.json("history", "--record", 3)} <= {"job", "task"}
    text = rexis_job("history")
    assert len(text.splitlines()) == 1 + len(events)
    assert text.split()[:5] == ["time", "what", "change", "by", "reason"]
    assert "pending → leased" in text
    assert "the graphics card" in text
    assert "\x1b" not in text
    assert len(rexis_job.json("history", "--limit", 1)) == 1
    rexis_job.capsys.readouterr()
    assert main(["job", "history", str(rexis_job.job.job_id), "--limit", "2"]) == 0
    assert "the first 2 are shown" in rexis_job.capsys.readouterr().err


def test_cancelled_tried_again_and_certified(rexis_job: JobCommands) -> None:
    assert "failed  cancelled" in rexis_job("cancel")
    assert "cancelled" in rexis_job("why")
    assert "cancelled" in rexis_job("watch", code=1)
    assert "queued  2 tasks are tried again or wait" in rexis_job("retry")
    assert "nothing in it" in rexis_job("retry", code=1)
    assert rexis_job.json("cancel")["state"] == "failed"
    assert rexis_job.json("retry")["counts"]["pending"] == 2

    rexis_job.scene.do_all()
    finish(rexis_job.scene)
    assert "anchoring → certified" in rexis_job("watch").splitlines()[-1]
    told = [json.loads(line) for line in rexis_job("watch", "--json").splitlines()]
    assert [one["after"] for one in told if one["entity"] == "job"] == [
        "queued", "failed", "queued", "failed", "queued", "running", "anchoring", "certified",
    ]  # fmt: skip
    assert rexis_job("why") == "nothing waits\n"
    assert "certified already" in rexis_job("cancel", code=1)
    assert "nothing in it" in rexis_job("retry", code=1)


def test_no_job_of_yours(rexis_job: JobCommands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = ("history", "why", "tasks", "retry", "watch", "cancel")
    for command in commands:
        assert "JOB" in rexis_job(command, of="0x12", code=2)
        assert rexis_job(command, of=ZERO_DIGEST, code=1).startswith("error: ")
    use(monkeypatch, rexis_job.scene.coordinator, new_account(), tmp_path / "somebody.json")
    for command in commands:
        refused = rexis_job(command, code=1)
        assert refused.startswith("error: ")
        assert refused.count("\n") == 1
    assert rexis_job.scene.job(rexis_job.job).state.value == "queued"


def test_a_token_lets_a_desk_follow_the_job(rexis_job: JobCommands) -> None:
    assert main(["token"]) == 0
    token = rexis_job.capsys.readouterr().out.strip()
    url = f"{os.environ['REXIS_COORDINATOR']}/v1/jobs/{rexis_job.job.job_id}/events"
    with httpx.stream("GET", url, headers={"Authorization": f"Bearer {token}"}) as response:
        assert response.status_code == 200
        assert next(response.iter_lines()).startswith(("id:", "event:"))
