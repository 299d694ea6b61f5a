"""The load bench in small: what it says it measures it did, on real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.load.__main__ import main
from bench.load.bare import Rows, sqlite_limit
from bench.load.measure import Latency, Run, every_call
from bench.load.report import Report


@pytest.mark.slow
def test_a_small_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--databases",
        "sqlite",
        "--processes",
        "1",
        "--apart",
        "--workers",
        "3",
        "--at-once",
        "4",
        "--seconds",
        "2",
    ]
    assert main([*options, "--queue", "0", "--rate", "40", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "load.json").read_text())
    assert [run["name"] for run in report["runs"]] == [
        "sqlite, 1 coordinator, one by one",
        "sqlite, 1 coordinator, 4 at a time",
        "sqlite, 1 coordinator, 4 at a time, 40 tasks/s offered",
    ]
    for run in report["runs"]:
        assert run["tasks"] > 0
        assert run["anchored"][-1][1] <= run["tasks"]
        assert run["memory_mib"][-1] > 10
        assert run["every_call"]["most"] >= run["latencies"]["POST /v1/leases"]["p50"] > 0
        assert run["cpu"]["machine"] >= run["cpu"]["coordinators"] > 0
    assert "POST /v1/evidence" in report["runs"][1]["latencies"]
    assert set(report["bareTasksPerSecond"]["sqlite"]) == {"1", "4"}
    assert (tmp_path / "load.svg").read_text().startswith("<?xml")
    assert "tasks/s" in capsys.readouterr().out


def test_waiting_for_work_is_no_latency() -> None:
    seen = {"POST /v1/leases (nothing)": [(1.0, 2.0)] * 9, "POST /v1/leases": [(1.0, 0.005)], "GET /": [(2.0, 0.007)]}
    found = every_call(seen)
    assert (found.calls, found.most) == (2, 7)


def test_a_ratio_is_to_the_same_transaction_size() -> None:
    def run(name: str) -> Run:
        latency, cpu = Latency(1, 1, 1, 1, 1), {"coordinators": 1.0, "workers": 1.0, "machine": 2.0}
        return Run(name, 1, 1, 50, 50, 0, {}, latency, {"POST /v1/leases": latency}, [1], [], cpu, 1.0)

    shown = Report("c", [run("sqlite, one by one"), run("sqlite, 16 at a time")], {"sqlite": {1: 100, 16: 500}}).text()
    lines = shown.splitlines()
    assert "0.50" in lines[1]
    assert "0.10" in lines[2]


def test_the_bare_loop_writes_the_rows_that_a_task_takes(tmp_path: Path) -> None:
    import sqlite3

    rate = sqlite_limit(tmp_path, Rows(inserted=2.5, updated=1), at_once=2, seconds=0.5)
    with sqlite3.connect(tmp_path / "bare-2.sqlite") as connection:
        (events,) = connection.execute("SELECT COUNT(*) FROM bare_task WHERE state = 'event'").fetchone()
    assert events == round(rate * 0.5) * 2.5
