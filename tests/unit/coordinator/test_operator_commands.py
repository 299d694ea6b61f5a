"""`rexis members` and `rexis audit`, against a coordinator over a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rexis.cli.main import app, main
from rexis.protocol.signing import address_of, new_account
from tests.unit.coordinator.fakes import FakeLedger
from tests.unit.coordinator.serving import serving, use

OPERATOR = new_account()
SOMEBODY = address_of(new_account())


@pytest.fixture
def environment(tmp_path: Path, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with serving(tmp_path, ledger, members=[], operators=[address_of(OPERATOR)]) as coordinator:
        use(monkeypatch, coordinator, OPERATOR, tmp_path / "wallet.json")
        yield


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_members_and_the_log_of_it(environment: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "worker, auditor" in run("members", "add", SOMEBODY, "--role", "worker", "--role", "auditor")
    assert "no role" in run("members", "list")
    assert json.loads(run("members", "revoke", SOMEBODY, "--json"))["revoked"]
    assert f"{SOMEBODY}  shut out" in run("members", "list")
    run("members", "remove", SOMEBODY)
    assert main(["members", "add", SOMEBODY, "--role", "operator"]) == 1
    assert main(["members", "add", SOMEBODY, "--role", "king"]) == 2
    assert "REXIS_OPERATORS" in capsys.readouterr().err

    noted = run("audit", "head").strip()
    log = tmp_path / "log.jsonl"
    run("audit", "export", "--out", str(log))
    assert "noted heads are in it" in run("audit", "verify", str(log), "--head", noted)
    lines = log.read_bytes().splitlines(keepends=True)
    actions = [json.loads(line)["action"] for line in lines]
    assert [each for each in actions if each.startswith("member")] == ["member.give", "member.revoke", "member.remove"]
    position = int(noted.partition(":")[0])
    for name, forged in (
        ("changed", b"".join(lines).replace(b"member.revoke", b"member.give")),
        ("removed", b"".join(lines[:1] + lines[2:])),
        ("cut-off", b"".join(lines[: position - 1])),
    ):
        (tmp_path / name).write_bytes(forged)
        assert main(["audit", "verify", str(tmp_path / name), "--head", noted]) == 1
        assert "error: " in capsys.readouterr().err
