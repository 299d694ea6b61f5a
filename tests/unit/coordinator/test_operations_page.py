"""docs/operations.md names every setting of the coordinator, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from coordinator.settings import Settings

PAGE = Path(__file__).parents[3] / "docs/operations.md"


def test_every_setting_stands_in_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8").split("## Settings")[1].split("\n## ")[0]
    table = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("|"))
    assert set(re.findall(r"REXIS_[A-Z_]+", table)) == {f"REXIS_{name.upper()}" for name in Settings.model_fields}
