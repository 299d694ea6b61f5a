"""Temporary folders and who removes them. Of owners that were killed: tests/unit/circuits/test_circuit_process.py."""

from __future__ import annotations

from pathlib import Path

from circuits.scratch import Scratch


def test_an_abandoned_folder_stays_until_another_of_its_prefix_is_made(tmp_path: Path) -> None:
    first = Scratch("a-", tmp_path)
    (first.path / "file").write_bytes(b"kept")
    first.abandon()
    other = Scratch("b-", tmp_path)
    assert (first.path / "file").read_bytes() == b"kept"
    second = Scratch("a-", tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([second.path, other.path])
    second.remove()
    other.remove()
    assert list(tmp_path.iterdir()) == []
