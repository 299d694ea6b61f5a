"""Survival of a sample against counting, against simulation with the real challenge, and as laws."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexis.protocol.challenge import challenge_indices
from rexis.protocol.digests import sha256
from rexis.protocol.sampling import (
    altered_records,
    exact_survival,
    job_log_survival,
    job_sample_size_for,
    log_survival,
    sample_size_for,
    survival,
)

FRACTIONS = st.fractions(min_value=Fraction(1, 1000), max_value=Fraction(999, 1000), max_denominator=1000)


@st.composite
def tasks(draw: st.DrawFn, most: int = 2000) -> tuple[int, int, int]:
    records = draw(st.integers(1, most))
    return records, draw(st.integers(0, records)), draw(st.integers(0, records + 3))


@pytest.mark.parametrize("records", range(1, 9))
def test_counts_every_sample(records: int) -> None:
    for altered, sample in product(range(records + 1), range(records + 1)):
        drawn = list(combinations(range(records), sample))
        missed = sum(all(index >= altered for index in choice) for choice in drawn)
        assert exact_survival(records, altered, sample) == Fraction(missed, len(drawn))


def test_challenges_are_missed_as_often_as_it_says() -> None:
    """2000 real challenges of 8 of 72, of which 9 are altered; the standard deviation is 0.0106. Deterministic."""
    missed = sum(
        min(challenge_indices(sha256(b"s"), sha256(number.to_bytes(2, "big")), 0, 72, 8)) >= 9 for number in range(2000)
    )
    assert abs(missed / 2000 - survival(72, 9, 8)) < 3 * 0.0106


def test_attempts_are_missed_as_often_as_it_says() -> None:
    passed = 0
    for number in range(1000):
        blocks = [sha256(bytes([attempt]), number.to_bytes(2, "big")) for attempt in range(3)]
        passed += any(min(challenge_indices(sha256(b"s"), block, 0, 20, 4)) >= 5 for block in blocks)
    assert abs(passed / 1000 - survival(20, 5, 4, attempts=3)) < 3 * math.sqrt(0.25 / 1000)


@given(tasks(), st.integers(1, 100))
def test_logarithms_are_those_of_the_exact_fraction(task: tuple[int, int, int], attempts: int) -> None:
    exact = exact_survival(*task, attempts if task[0] < 200 else 1)
    found = log_survival(*task, attempts if task[0] < 200 else 1)
    if exact == 0:
        assert found == -math.inf
    else:
        assert found == pytest.approx(math.log(exact.numerator) - math.log(exact.denominator), abs=1e-8)
        assert found <= 0.0


@given(tasks(1 << 20), st.integers(1, 100))
def test_more_of_anything_that_finds_finds_more(task: tuple[int, int, int], attempts: int) -> None:
    records, altered, sample = task
    here = survival(records, altered, sample, attempts)
    assert 0.0 <= here <= 1.0
    slack = 1e-7
    assert survival(records, altered, sample + 1, attempts) <= here + slack
    assert survival(records, altered, sample, attempts + 1) >= here - slack
    if altered < records:
        assert survival(records, altered + 1, sample, attempts) <= here + slack


@given(tasks())
def test_is_below_the_usual_bound(task: tuple[int, int, int]) -> None:
    records, altered, sample = task
    assert exact_survival(records, altered, sample) <= (1 - Fraction(altered, records)) ** min(sample, records)
    assert exact_survival(records, altered, sample, 3) <= 3 * exact_survival(records, altered, sample)


@given(st.integers(1, 300), FRACTIONS, FRACTIONS, st.integers(1, 5))
def test_the_sample_size_is_the_smallest(records: int, share: Fraction, confidence: Fraction, attempts: int) -> None:
    size, altered = sample_size_for(records, share, confidence, attempts), altered_records(records, share)
    assert exact_survival(records, altered, size, attempts) <= 1 - confidence
    assert size == 1 or exact_survival(records, altered, size - 1, attempts) > 1 - confidence


def test_a_large_sample_is_not_too_small() -> None:
    """By logarithms: 2^20 records, one in a thousand altered, a confidence that needs thousands of draws."""
    records, share = 1 << 20, Fraction(1, 100)
    size = sample_size_for(records, share, 1 - Fraction(1, 10**30))
    altered = altered_records(records, share)
    assert size > 1 << 12
    assert exact_survival(records, altered, size) <= Fraction(1, 10**30)
    assert exact_survival(records, altered, size - 2) > Fraction(1, 10**30)


@pytest.mark.parametrize("attempts", [1, 2, 5])
@pytest.mark.parametrize(("records", "shard"), [(7, 3), (8, 4), (11, 4), (9, 2), (5, 8), (10, 5), (13, 6)])
def test_altered_records_of_a_job_lie_where_they_survive_best(records: int, shard: int, attempts: int) -> None:
    sizes = [min(shard, records - start) for start in range(0, records, shard)]
    for sample, altered in product(range(1, shard + 1), range(records + 1)):
        best = max(
            math.prod(
                (exact_survival(size, here, sample, attempts) for size, here in zip(sizes, spread, strict=True)),
                start=Fraction(1),
            )
            for spread in product(*(range(size + 1) for size in sizes))
            if sum(spread) == altered
        )
        assert math.exp(job_log_survival(records, shard, altered, sample, attempts)) == pytest.approx(float(best))


@given(st.integers(1, 400), st.integers(1, 100), FRACTIONS, FRACTIONS, st.integers(1, 4))
def test_a_jobs_sample_size_is_large_enough(
    records: int, shard: int, share: Fraction, confidence: Fraction, attempts: int
) -> None:
    size = job_sample_size_for(records, shard, share, confidence, attempts)
    altered, limit = altered_records(records, share), math.log(1 - confidence)
    assert job_log_survival(records, shard, altered, size, attempts) <= limit
    assert size <= 2 or job_log_survival(records, shard, altered, size - 2, attempts) > limit


def test_all_records_of_a_task_leave_nothing_to_chance() -> None:
    assert exact_survival(10, 1, 10, attempts=100) == 0
    assert exact_survival(10, 0, 10, attempts=100) == 1
    assert log_survival(10, 1, 12) == -math.inf


@pytest.mark.parametrize("numbers", [(0, 0, 1, 1), (5, 6, 1, 1), (5, -1, 1, 1), (5, 1, -1, 1), (5, 1, 1, 0)])
def test_refuses_what_is_no_task(numbers: tuple[int, int, int, int]) -> None:
    for function in (exact_survival, log_survival, survival):
        with pytest.raises(ValueError, match="no "):
            function(*numbers)


@pytest.mark.parametrize("confidence", [Fraction(0), Fraction(1), Fraction(-1, 2)])
def test_refuses_a_confidence_that_is_none(confidence: Fraction) -> None:
    with pytest.raises(ValueError, match="confidence"):
        sample_size_for(10, Fraction(1, 2), confidence)
