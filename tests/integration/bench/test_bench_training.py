"""``rexis bench training`` in small, for real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rexis.cli.main import main


def test_a_run_writes_its_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "folder"

    assert main(["bench", "training", "--smoke", "--threads", "1", "--out", str(folder), "--json"]) == 0

    printed = json.loads(capsys.readouterr().out)
    assert json.loads((folder / "report.json").read_bytes()) == printed
    assert sorted(path.name for path in folder.iterdir()) == ["ratios.png", "report.json", "report.md"]
    assert {row["what"] for row in printed["rows"]} == {"encrypted/plain", "transcript", "verifying"}
    assert all(row["right"] and row["ratio"] > 0 for row in printed["rows"])
