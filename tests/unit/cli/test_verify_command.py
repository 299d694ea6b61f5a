"""``rexis verify`` where it cannot check: exit code 2, and a report with --json."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rexis.protocol.errors import RexisError
from tests.evm import needs_evm
from verifier.report import Status, Verdict

from .conftest import Cli

VECTORS = Path(__file__).parents[2] / "vectors/certificates"
ALLOWED = ("--allow-development-srs", "--allow-development-chain", "--artifacts", VECTORS / "artifacts")
COMMIT = VECTORS / "commit/certificate.json"


@pytest.mark.parametrize(
    "fault", [ValueError("x"), OSError(5, "Input/output error"), MemoryError(), RecursionError(), RexisError("odd")]
)
def test_a_fault_of_ours_is_no_verdict(cli: Cli, monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def break_down(data: bytes, options: object, on_step: object) -> Verdict:
        verdict = Verdict(on_step=on_step)  # type: ignore[arg-type]
        verdict.add(1, "form", Status.OK, "fine")
        raise fault

    monkeypatch.setattr("verifier.certificate.verify_certificate", break_down)
    for options in ((), ("--json",)):
        ran = cli("verify", COMMIT, "--offline", *options)
        assert ran.code == 2
        assert ran.err.startswith("error: ")
    report = json.loads(ran.out)
    assert (report["result"], report["exitCode"], report["shows"]) == ("undecided", 2, [])
    assert [step["number"] for step in report["steps"]] == [1]
    assert report["error"]


@pytest.mark.parametrize("name", ["none.json", "."])
def test_a_certificate_that_cannot_be_read(cli: Cli, tmp_path: Path, name: str) -> None:
    ran = cli("verify", tmp_path / name, "--offline", "--json")
    assert ran.code == json.loads(ran.out)["exitCode"] == 2


@pytest.mark.parametrize("url", ["http://[", "http://127.0.0.1:99999", "http://127.0.0.1:1", "ftp://x", "http://a b/"])
def test_a_node_that_is_none(cli: Cli, url: str) -> None:
    ran = cli("verify", COMMIT, "--rpc", url, "--json", *ALLOWED)
    report = json.loads(ran.out)
    assert ran.code == report["exitCode"] == 2
    assert [step["number"] for step in report["steps"] if step["status"] == "unchecked"] == [14]


def test_an_srs_file_that_is_missing(cli: Cli, tmp_path: Path) -> None:
    ran = cli("verify", VECTORS / "zk/certificate.json", "--offline", "--json", *ALLOWED[:2], "--artifacts", tmp_path)
    assert ran.code == 2
    assert "--srs FILE" in ran.out


def test_rebuilding_no_circuit_is_said_to_be_skipped(cli: Cli) -> None:
    ran = cli.ok("verify", COMMIT, "--offline", "--rebuild-circuit", *ALLOWED)
    assert "– 13. circuit rebuilt from the encrypted model: tier commit has no circuit" in ran.out


def test_a_reader_that_went_away_got_no_verdict() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "from rexis.cli.main import run; run()", "verify", str(COMMIT), "--offline"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (2, b"")


def test_a_report_cannot_be_spoofed(cli: Cli) -> None:
    ran = cli("verify", VECTORS / "field-that-looks-like-a-report_fail/certificate.json", "--offline")
    assert ran.code == 1
    assert [line for line in ran.out.splitlines() if line.startswith(("✓ 18", "shows", "VALID"))] == []


_GUARDED = """
import sys
opened = []
sys.addaudithook(lambda name, arguments: opened.append(name) if name.startswith("socket.") else None)
from rexis.cli.main import main
code = main(sys.argv[1:])
assert opened == [], opened
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("commit", ["--reexecute", "2"]),
        ("zk", ["--rebuild-circuit"]),
        pytest.param("zk", ["--second-opinion"], marks=needs_evm),
        ("own-deployment_fail", []),
    ],
)
def test_offline_opens_no_socket(case: str, options: list[str]) -> None:
    arguments = ["verify", VECTORS / case / "certificate.json", "--offline", *ALLOWED, *options]
    done = subprocess.run(
        [sys.executable, "-c", _GUARDED, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stderr == ""
    assert done.returncode == (1 if case.endswith("_fail") else 0)
