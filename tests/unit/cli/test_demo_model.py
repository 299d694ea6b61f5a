"""What the demo does differently by model, before it starts anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from circuits.profile import TUNED
from rexis.cli.demo import Demo, reexecution_error
from rexis.cli.requester import ABS_TOLERANCE, TierName
from rexis.cli.stack import Stack


@pytest.mark.parametrize("model", ["breast_cancer", "diabetes", "omics", "vit"])
def test_the_tolerance_covers_what_was_seen_when_the_circuit_was_tuned(model: str, tmp_path: Path) -> None:
    demo = Demo(Stack(tmp_path), lambda line: None, model)
    option, *number = demo._tolerance() or ("", str(ABS_TOLERANCE[TierName.ZK]))
    seen = reexecution_error(model)
    assert demo.proves == (seen is not None)
    assert float(number[0]) >= 2 * (seen or 0)
    assert option in ("", "--abs-tolerance")


def test_the_default_stays_where_it_suffices(tmp_path: Path) -> None:
    assert Demo(Stack(tmp_path), lambda line: None, "breast_cancer")._tolerance() == ()


def test_a_regressions_tolerance_is_in_its_own_units(tmp_path: Path) -> None:
    seen = json.loads((TUNED / "diabetes" / "evidence.json").read_bytes())["checked"]["reexecutionError"]
    assert Demo(Stack(tmp_path), lambda line: None, "diabetes")._tolerance() == ("--abs-tolerance", f"{4 * seen:.2g}")
    assert 4 * seen > ABS_TOLERANCE[TierName.ZK]
