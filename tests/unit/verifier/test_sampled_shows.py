"""What tier ``sampled`` says that it shows: exact figures, never better than they are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexis.protocol.certificate import Certificate
from rexis.protocol.sampling import exact_survival, job_log_survival
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.tiers.sampled import shows, shows_of_job

VECTORS = Path(__file__).parents[2] / "vectors/certificates"
SAMPLED = Certificate.parse((VECTORS / "sampled/certificate.json").read_bytes())
STATEMENT, REQUEST = SAMPLED.tasks[0].evidence.statement, SAMPLED.request


def _figures(text: str) -> dict[int, float]:
    return {int(altered): float(chance) for altered, chance in re.findall(r"(\d+) with ([0-9.e-]+)", text)}


@given(st.integers(2, 3000), st.integers(1, 400), st.integers(1, 5))
def test_no_figure_is_better_than_the_truth(count: int, sample: int, attempt: int) -> None:
    statement = STATEMENT.model_copy(update={"record_count": count})
    text = shows(statement, REQUEST.policy.model_copy(update={"sample_size": sample}), attempt)
    if sample >= count:
        assert text == f"all {count} outputs are what the registered circuit computes"
        return
    assert text.startswith(f"{sample} of {count} outputs are right; ")
    assert ("in " in text.split(":")[1]) == (attempt > 1)
    figures = _figures(text)
    assert figures
    for altered, chance in figures.items():
        exact = float(exact_survival(count, altered, sample, attempt))
        assert exact * (1 - 1e-5) <= chance <= max(exact * 1.11, 1e-299)


def test_the_tasks_together() -> None:
    policy = REQUEST.policy.model_copy(update={"sample_size": 8, "shard_size": 72})
    request = REQUEST.model_copy(update={"record_count": 143, "policy": policy})
    figures = _figures(shows_of_job(request, 2))
    assert sorted(figures) == [2, 15, 72]
    assert figures[15] == pytest.approx(2.718281828459045 ** job_log_survival(143, 72, 15, 8, 2), rel=0.1)


def test_a_certificate_of_several_tasks_says_both() -> None:
    options = VerifyOptions(
        offline=True, artifacts=VECTORS / "artifacts", allow_development_srs=True, allow_development_chain=True
    )
    verdict = verify_certificate((VECTORS / "sampled-everything/certificate.json").read_bytes(), options)
    assert json.dumps(verdict.shows).count("records") == 2
    assert verdict.shows[-1].startswith("all tasks together, 2 outputs: ")
