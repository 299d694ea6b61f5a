"""Python is started again without the current folder on its module path."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from rexis.cli.stack import _REXIS
from rexis.interpreter import PACKAGE_ROOT, python, python_environment


@pytest.mark.parametrize("python_path", ["", ".", os.pathsep, f"here{os.pathsep}"])
@pytest.mark.parametrize(
    "command",
    [[*_REXIS, "--version"], python("-m", "typing"), python("-c", "import typer")],
    ids=("rexis", "module", "code"),
)
def test_nothing_is_imported_from_the_current_folder(tmp_path: Path, command: list[str], python_path: str) -> None:
    (tmp_path / "here").mkdir()
    for name in ("typer", "rexis", "typing", "coordinator"):
        for folder in (tmp_path, tmp_path / "here"):
            (folder / f"{name}.py").write_text("raise SystemExit('imported a file of a stranger')")
    environment = python_environment({**os.environ, "PYTHONPATH": python_path})
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_absolute_entries_are_kept() -> None:
    found = python_environment({"PYTHONPATH": os.pathsep.join(["", "a", "/opt/lib", "."])})
    assert found["PYTHONPATH"] == os.pathsep.join([str(PACKAGE_ROOT), "/opt/lib"])
