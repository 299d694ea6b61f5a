"""`rexis circuits` without a circuit: what `tune` refuses and warns of, and `rewrite`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from circuits.rewrites import rewrite
from circuits.tuning import Bound
from rexis.cli._tuning import checked_line, outside
from tests.unit.cli.conftest import MODEL, Cli


def test_a_bound_that_is_no_number_is_refused(cli: Cli) -> None:
    ran = cli("circuits", "tune", "breast_cancer", "--max-error", "nan")
    assert (ran.code, "--max-error" in ran.err) == (2, True)


@pytest.mark.parametrize(("width", "words"), [(29, "records are [29] each, the model takes [30]"), (30, "no folder")])
def test_wrong_records_and_places_are_refused_at_once(cli: Cli, tmp_path: Path, width: int, words: str) -> None:
    np.save(tmp_path / "r.npy", np.zeros((8, width), np.float32))
    (tmp_path / "file").write_bytes(b"mine")
    out = tmp_path / ("file" if words == "no folder" else "folder")
    ran = cli("circuits", "tune", MODEL, "--data", tmp_path / "r.npy", "--out", out)
    assert (ran.code, words in ran.err) == (1, True)
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("error", "agreement", "warned", "words"),
    [
        (0.1, 0.99, False, "agree 99.0%, largest error 0.1"),
        (0.1001, 1.0, True, "largest error 0.1"),
        (0.1, 0.98, True, "agree 98.0%"),
        (None, 0.0, True, "no witness"),
    ],
)
def test_tune_warns_where_its_check_left_the_bound(
    error: float | None, agreement: float, warned: bool, words: str
) -> None:
    report = {
        "calibration": {"keys": 1},
        "checked": {"records": 12, "error": error, "agreement": agreement},
    }
    assert (outside(report, Bound(0.99, 0.1)) is not None, words in checked_line(report)) == (warned, True)


def test_rewrite_writes_the_model_that_was_asked_for(cli: Cli, tmp_path: Path) -> None:
    cli.ok("circuits", "rewrite", MODEL, "--out", tmp_path / "made.onnx", "--with", "relu-as-absolute")
    assert (tmp_path / "made.onnx").read_bytes() == rewrite(MODEL.read_bytes(), ["relu-as-absolute"])
    again = cli("circuits", "rewrite", MODEL, "--out", tmp_path / "made.onnx", "--with", "relu-as-absolute")
    assert (again.code, "exists" in again.err) == (1, True)


def test_rewrite_does_what_a_zoo_models_profile_was_tuned_for(cli: Cli, tmp_path: Path) -> None:
    ran = cli.ok("circuits", "rewrite", "breast_cancer", "--out", tmp_path / "made.onnx")
    assert "rewritten by relu-as-absolute" in ran.out
    assert (tmp_path / "made.onnx").read_bytes() == rewrite(MODEL.read_bytes(), ["relu-as-absolute"])


def test_a_file_has_no_profile_to_rewrite_for(cli: Cli, tmp_path: Path) -> None:
    ran = cli("circuits", "rewrite", MODEL, "--out", tmp_path / "made.onnx")
    assert (ran.code, "--with" in ran.err) == (2, True)
    assert not (tmp_path / "made.onnx").exists()
