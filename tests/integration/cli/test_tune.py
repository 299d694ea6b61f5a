"""`rexis circuits tune` on a tiny model: what it writes, that the same comes of it again, and when it warns."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from circuits.profile import CircuitProfile
from circuits.rewrites import rewrite
from rexis.cli.main import main
from rexis.protocol.digests import sha256
from tests.integration.circuits.tiny_circuit import mlp

OUTSIDE = "outside the bound"


def tune(folder: Path, records: object, *options: str) -> int:
    (folder / "model.onnx").write_bytes(mlp(0))
    np.save(folder / "records.npy", np.asarray(records, dtype=np.float32))
    bounds = ("--max-error", "0.2", "--keys", "1", "--finalists", "1")
    return main(
        ["circuits", "tune", str(folder / "model.onnx"), "--data", str(folder / "records.npy"), *bounds, *options]
    )


def test_the_choice_is_written_with_its_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ezkl")
    records = np.random.default_rng(0).normal(size=(12, 4))
    assert tune(tmp_path, records, "--out", str(tmp_path / "out")) == 0
    said = capsys.readouterr()
    assert OUTSIDE not in said.out + said.err
    profile = CircuitProfile.from_json((tmp_path / "out" / "profile.json").read_bytes())
    evidence = json.loads((tmp_path / "out" / "evidence.json").read_bytes())
    rewrites = json.loads((tmp_path / "out" / "rewrites.json").read_bytes())
    assert CircuitProfile.from_json(json.dumps(evidence["chosen"]["profile"]).encode()) == profile
    assert evidence["chosen"]["seconds"] > 0
    assert evidence["checked"]["error"] <= 0.2
    assert 0 < evidence["checked"]["reexecutionError"] <= 0.2
    assert rewrites == evidence["rewrites"] == ["relu-as-absolute"]
    assert evidence["rewritten"] == str(sha256(rewrite(mlp(0), rewrites)))
    drawing = ElementTree.parse(tmp_path / "out" / "frontier.svg").getroot()  # noqa: S314 (made just now)
    circles = [each.get("class") for each in drawing.iter("{http://www.w3.org/2000/svg}circle")]
    assert circles.count("b") == len(list(drawing)) - 1  # the choice, once in each panel; the other child is the style
    assert len(circles) == circles.count("b") * len(evidence["frontier"])


@pytest.mark.slow
def test_a_choice_that_fails_its_check_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ezkl")
    small = np.random.default_rng(0).normal(size=(6, 4))
    assert tune(tmp_path, np.concatenate([small, 1e4 * small])) == 0  # the second half is to check with
    said = capsys.readouterr()
    assert ("some have no witness" in said.out, OUTSIDE in said.out + said.err) == (True, True)
