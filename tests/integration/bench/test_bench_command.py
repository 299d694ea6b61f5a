"""``rexis bench`` on one model, for real; the circuits' part is run by ``make bench-smoke``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.costs import peer_ezkl
from bench.costs.checks import Checks
from bench.costs.scene import Scene
from bench.costs.scope import smoke_scope
from rexis.cli.main import main

_COMMAND = ["bench", "--smoke", "--models", "ecg", "--tiers", "commit"]


def test_a_run_writes_both_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*_COMMAND, "--out", str(tmp_path / "new" / "folder"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    folder = tmp_path / "new" / "folder"
    assert json.loads((folder / "report.json").read_bytes()) == printed
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    assert printed["command"] == "rexis bench --smoke --models ecg --tiers commit"
    (ecg,) = printed["models"]
    (commit,) = ecg["tiers"]
    assert (commit["tier"], commit["basis"], commit["caught"]) == ("commit", "measured", 0.0)
    assert 0 < commit["inference"]["median"] < 60
    assert commit["peakBytes"] > 10 << 20
    assert ecg["noCircuit"] == "no tier with proofs was asked for"
    assert [check["name"] for check in printed["checks"] if check["outcome"] == "failed"] == []
    assert "re-execution finds one altered output" in [check["name"] for check in printed["checks"]]


def test_a_wrong_result_ends_it_with_1_and_stands_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = Scene.decrypted

    def off_by_one(scene: Scene, *arguments: Any) -> Any:
        return honest(scene, *arguments) + np.float32(1)

    monkeypatch.setattr(Scene, "decrypted", off_by_one)
    assert main([*_COMMAND, "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "1 results are wrong" in shown.err
    assert "failed: ecg, 4 records: decrypted outputs of tier commit are the plain model's" in shown.out
    assert "do not use these figures" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_run_that_is_cut_short_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.json").write_text("old")

    def interrupted(*arguments: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.costs.measure.compare", interrupted)
    assert main([*_COMMAND, "--out", str(tmp_path)]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--models", "no_such"], "no zoo model named 'no_such'"), (["--tiers", "x"], "no tier 'x'")],
)
def test_what_does_not_exist_is_refused_before_anything_runs(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments, "--out", str(tmp_path / "out")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_peer_that_takes_too_long_is_reported_with_the_reason(tmp_path: Path) -> None:
    pytest.importorskip("ezkl")
    checks = Checks()
    found = peer_ezkl.measure(
        Scene("breast_cancer", tmp_path / "scene"), replace(smoke_scope(), peer_seconds=0.2), checks, tmp_path
    )
    assert found.reason is not None
    assert "did not finish calibrate in 0.2 s" in found.reason
    assert (found.work, checks.found) == (None, [])
