"""What `rexis circuits tune` refuses before it spends minutes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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
