"""The figures of docs/sampled.md are those that the code gives."""

from __future__ import annotations

from pathlib import Path

from bench.sampled_tier import hashes_a_second, tables

PAGE = Path(__file__).parents[3] / "docs/sampled.md"


def test_the_page_has_the_tables() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for table in tables():
        assert table in text


def test_grinding_is_measured() -> None:
    assert hashes_a_second(0.1) > 100
