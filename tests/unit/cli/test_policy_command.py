"""``rexis policy sample-size``."""

from __future__ import annotations

import json
import math

import pytest

from rexis.protocol.sampling import job_log_survival, survival

from .conftest import Cli


def _report(cli: Cli, *options: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(cli.ok("policy", "sample-size", *options, "--json").out)
    return found


def test_one_task(cli: Cli) -> None:
    found = _report(cli, "--records", "200", "--altered", "5%", "--confidence", "99.9%", "--max-attempts", "1")
    assert (found["records"], found["tasks"], found["altered"], found["attempts"]) == (200, 1, 10, 1)
    row = found["job"]
    assert row == pytest.approx(found["task"])
    assert isinstance(row, dict)
    assert survival(200, 10, row["sampleSize"]) <= 0.001 < survival(200, 10, row["sampleSize"] - 1)
    assert row["proofs"] == row["sampleSize"]


def test_many_tasks(cli: Cli) -> None:
    found = _report(cli, "--records", "1000", "--altered", "0.05", "--shard-size", "256", "--draws", "10")
    job, task = found["job"], found["task"]
    assert isinstance(job, dict)
    assert isinstance(task, dict)
    assert found["attempts"] == 30
    assert job["sampleSize"] < task["sampleSize"]
    assert job["survives"] == pytest.approx(math.exp(job_log_survival(1000, 256, 50, job["sampleSize"], 30)))
    assert job["survives"] <= 0.01
    assert job["proofs"] == 4 * job["sampleSize"]


def test_says_it_in_words(cli: Cli) -> None:
    out = cli.ok("policy", "sample-size", "--records", "1000", "--altered", "5%", "--confidence", "99.9%").out
    assert "1000 records in 4 tasks of at most 256, 3 draws per task" in out
    assert "-k " in out


@pytest.mark.parametrize("altered", ["0", "1", "5", "150%", "-1%", "x", "1/0", ""])
def test_a_fraction_that_is_none(cli: Cli, altered: str) -> None:
    ran = cli("policy", "sample-size", "--records", "10", f"--altered={altered}")
    assert ran.code == 2
    assert "write 5% or 0.05" in ran.err
