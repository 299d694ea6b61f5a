"""Certificates under a coverage-guided fuzzer (atheris), for as long as ``REXIS_FUZZ_SECONDS`` says."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.certificates import check, seeds
from tests.fuzz.mutations import altered

SECONDS = int(os.environ.get("REXIS_FUZZ_SECONDS", "10"))
SEEDS = [seed for seed in seeds() if len(seed) < 60_000]


def test_the_vectors_are_no_surprise() -> None:
    assert len(SEEDS) > 100
    for seed in SEEDS[::10]:
        check(seed)


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(SEEDS[::7]).flatmap(altered))
def test_a_changed_certificate_is_a_verdict(data: bytes) -> None:
    check(data)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this platform")
def test_nothing_that_a_fuzzer_finds_is_an_error_of_ours(tmp_path: Path) -> None:
    limits = ["-seed=1", "-max_len=60000", "-rss_limit_mb=3000", "-timeout=60", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.fuzz_certificates", f"-max_total_time={SECONDS}", *limits],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS + 240,
    )
    report = done.stdout + done.stderr
    assert done.returncode == 0, report[-4000:]
    runs = re.search(r"Done (\d+) runs", report)
    assert runs is not None, report[-2000:]
    assert int(runs[1]) > 100
    assert not list(tmp_path.iterdir())
