"""Reports: one line a step, whatever a stranger wrote into it; and what counts as undecided."""

from __future__ import annotations

import pytest

from rexis.protocol.errors import EvidenceError, ResourceError, RexisError, UnavailableError
from verifier.report import Outcome, StepFailed, Verdict


@pytest.mark.parametrize(
    "text", ["a\n✓ 18. all is well", "\x1b[2J", "\ud800", "\u202eDILAV", "\u2028", "x" * 10_000_000], ids=ascii
)
def test_a_strangers_text_stays_within_its_line(text: str) -> None:
    verdict = Verdict()
    with pytest.raises(StepFailed), verdict.step(1, "form"):
        raise EvidenceError(text, hint=text)
    step = verdict.steps[0]
    for shown in (step.detail, step.hint or ""):
        assert shown.isprintable()
        assert len(shown) < 3000


@pytest.mark.parametrize("error", [UnavailableError("no node"), ResourceError("no room")])
def test_what_could_not_be_checked_is_undecided(error: RexisError) -> None:
    verdict = Verdict()
    with verdict.step(5, "circuit"):
        raise error
    assert verdict.outcome == Outcome.UNDECIDED
