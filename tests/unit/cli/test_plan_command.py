"""``rexis plan``."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from circuits.settings import canonical
from rexis.protocol.sampling import altered_records, job_log_survival, job_sample_size_for
from tests.unit.circuits.settings_document import document

from .conftest import Cli


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "sha256-settings"
    file.write_bytes(canonical(document()))
    return file


def _plan(cli: Cli, settings: Path, *options: object) -> dict[str, Any]:
    ran = cli.ok("plan", "--model", settings, *options, "--json")
    found: dict[str, Any] = json.loads(ran.out)
    return found


def test_it_recommends_what_sample_size_says(cli: Cli, settings: Path) -> None:
    found = _plan(cli, settings, "--records", 10_000, "--assurance", "5%@99.9%")
    chosen = found["recommended"]
    share, confidence = Fraction(5, 100), Fraction(999, 1000)
    assert chosen["tier"] == "sampled"
    assert chosen["sampleSize"] == job_sample_size_for(10_000, chosen["shardSize"], share, confidence, 3)
    assert chosen["caught"] >= 0.999
    altered = altered_records(10_000, share)
    assert job_log_survival(10_000, chosen["shardSize"], altered, chosen["sampleSize"] - 1, 3) > -6.9078
    assert chosen["submit"] == "--tier sampled -k 155 --shard-size 10000 --max-attempts 3"
    assert found["nearest"] is None


def test_more_workers_get_a_task_each(cli: Cli, settings: Path) -> None:
    chosen = _plan(cli, settings, "--records", 10_000, "--workers", 7)["recommended"]
    assert chosen["tasks"] >= 7


def test_the_words_stand_for_tiers(cli: Cli, settings: Path) -> None:
    def tier(word: str) -> tuple[str, bool]:
        chosen = _plan(cli, settings, "--records", 20, "--assurance", word)["recommended"]
        return chosen["tier"], chosen["certifyOnChain"]

    assert [tier(word) for word in ("signed", "every", "on-chain")] == [
        ("commit", False),
        ("zk", False),
        ("zk", True),
    ]


def test_it_says_it_in_a_table(cli: Cli, settings: Path) -> None:
    out = cli.ok("plan", "--model", settings, "--records", 500, "--cpu-hour-price", 0.05, "--gas-price", 0.01).out
    lines = out.splitlines()
    assert "tier" in lines[0]
    assert lines[0].endswith("money")
    assert [line.split()[0] for line in lines[1:5] if line.startswith("*")] == ["*"]
    assert any(line.startswith("not commit: proves nothing") for line in lines)
    assert lines[-1].startswith("rexis submit … --tier sampled -k ")


def test_a_budget_that_is_too_small_names_the_one_that_would_do(cli: Cli, settings: Path) -> None:
    arguments = ("plan", "--model", settings, "--records", 10_000, "--assurance", "5%@99.9%", "--budget", "5min")
    ran = cli(*arguments, "--json")
    assert ran.code == 1
    assert "no tier gives this assurance within this budget" in ran.err
    found = json.loads(ran.out)
    assert found["recommended"] is None
    sampled = found["options"][1]
    assert any("the budget is 5 min" in each for each in sampled["objections"])
    assert f"{found['nearest']['submit']} would do it with" in ran.err
    assert f"the budget is enough for {found['affordable']['submit']}" in ran.err
    assert 0 < found["affordable"]["caught"] < 0.999
    again = cli("plan", "--model", settings, "--records", 10_000, "--assurance", "5%@99.9%", "--budget", "1h")
    assert again.code == 0


def test_memory_is_a_budget_too(cli: Cli, settings: Path) -> None:
    ran = cli("plan", "--model", settings, "--records", 100, "--memory", 32)
    assert ran.code == 1
    assert "MiB a worker, there are 32 MiB" in ran.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--assurance", "certain"), "write 5%@99.9%"),
        (("--assurance", "5%@"), "write 5% or 0.05"),
        (("--assurance", "0@99%"), "write 5% or 0.05"),
        (("--budget", "many"), "write 90s, 30min, 2h, 5Mgas or 12.50"),
        (("--budget", "1e999"), "no budget"),
        (("--budget", "5"), "give --cpu-hour-price"),
        (("--budget", "5s", "--budget", "1h"), "second budget"),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(cli: Cli, settings: Path, options: tuple[str, ...], words: str) -> None:
    ran = cli("plan", "--model", settings, "--records", 10, *options)
    assert ran.code == 2
    assert words in " ".join(ran.err.replace("│", " ").split())


def test_a_file_that_holds_no_settings(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"{}")
    ran = cli("plan", "--model", tmp_path / "file", "--records", 10)
    assert (ran.code, "settings" in ran.err) == (1, True)
