"""`rexis worker`: a machine is checked, a worker runs, is looked at and drained; all of it real."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from provers import checkup
from rexis.cli.main import main
from rexis.files import write_file
from rexis.protocol.signing import new_account
from tests.integration.coordinator.rig import PASSPHRASE, Rig

ROOT = Path(__file__).resolve().parents[3]


def test_from_the_check_to_the_drain(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REXIS_PASSPHRASE", PASSPHRASE)
    account, cache, wallet = new_account(), tmp_path / "cache", tmp_path / "worker.json"
    write_file(wallet, json.dumps(account.encrypt(PASSPHRASE, iterations=2)).encode(), private=True)
    given = ["--coordinator", rig.url, "--rpc", rig.dev.url, "--wallet", str(wallet), "--cache", str(cache)]

    def checked() -> dict[str, dict[str, str]]:
        code = main(["worker", "check", *given, "--models", "breast_cancer", "--json"])
        found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
        assert code == 0, found
        return found

    found = checked()
    for what in (
        "coordinator",
        "clock",
        "registration",
        "chain node",
        "contracts",
        "chain time",
        "model breast_cancer",
    ):
        assert found[what]["grade"] == "ok", found[what]
    assert "not registered yet" in found["registration"]["says"]
    assert f"chain {rig.deployment.chain_id}" in found["chain node"]["says"]

    run = ["worker", "run", *given, "--name", "w1", "--tasks", "3"]
    program = [sys.executable, "-c", "from rexis.cli.main import run; run()"]
    worker = subprocess.Popen([*program, *run], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            main(["worker", "status", "--cache", str(cache), "--json"])
            shown = json.loads(capsys.readouterr().out)
            if shown and shown[0]["state"] == "idle":
                break
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert (shown[0]["address"], shown[0]["atOnce"]) == (str(account.address), 3)
        assert f"w1 ({account.address}), last seen" in checked()["registration"]["says"]
        assert main(["worker", "drain", "--cache", str(cache), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["name"] == "w1"
        assert worker.wait(10) == 0
    finally:
        worker.kill()
        worker.wait()


def test_a_node_of_another_chain_fails_the_check(
    rig: Rig,
) -> None:
    (_, _), info = checkup.coordinator(rig.url)
    assert info is not None
    other = info.model_copy(update={"domain": info.domain.model_copy(update={"chain_id": 1})})
    (found,) = checkup.chain(rig.dev.url, other)
    assert (found.grade, "coordinator is on chain 1" in found.says) == (checkup.Grade.FAIL, True)
