"""``rexis demo-dispute`` with a real chain and real proofs."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.accountability import Accountability
from rexis.cli.demo_dispute import ALTERED, BOND, ETHER, PENALTY, REWARD_BPS, STAKE, Outcome, demo_dispute


@pytest.mark.e2e
def test_the_liar_loses_its_stake_and_the_honest_worker_earns_the_bond(tmp_path: Path) -> None:
    lines: list[str] = []
    found = demo_dispute(tmp_path, lines.append)
    assert found == Outcome(
        honest_stake=STAKE,
        honest_earned=BOND,
        dishonest_stake=STAKE - PENALTY,
        challenger_earned=PENALTY * REWARD_BPS // 10_000 - BOND,
    )
    text = "\n".join(lines)
    assert f"record [{ALTERED}] differs" in text
    assert "liar: the contract refused: ProofRejected" in text
    assert f"challenger: {found.challenger_earned / ETHER:+} ether" in text
    assert Accountability.from_json((tmp_path / "accountability.json").read_bytes())
