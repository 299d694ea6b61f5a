"""The bench of leasing in small: its queue is one that workers would be served from, and its plans use the indices."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest
from sqlmodel import select

from bench.load import queue
from bench.load.backlog import fill
from coordinator.store import Store
from coordinator.tables import JobRow, ShareRow, TaskRow
from rexis.api import TaskState
from rexis.protocol.signing import address_of, new_account
from tests.databases import Databases


def test_a_small_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--databases", "sqlite", "--tasks", "120", "--jobs", "1", "40", "--grants", "10"]
    assert queue.main([*options, "--out", str(tmp_path)]) == 0
    cells = json.loads((tmp_path / "queue.json").read_text())["cells"]
    assert [(one["cell"]["jobs"], one["cell"]["requesters"]) for one in cells] == [(1, 1), (40, 1), (40, 40)]
    for one in cells:
        assert [cost["what"] for cost in one["costs"]] == ["one", "16 at a time", "nothing fits"]
        assert all(cost["p95"] >= cost["p50"] > 0 for cost in one["costs"])
        steps = [line for plan in one["plans"].values() for line in plan]
        assert any(line.startswith("SEARCH task") and "ix_task_waits" in line for line in steps)
        assert not [line for line in steps if line.startswith(("SCAN task", "SCAN job"))]
    assert (tmp_path / "queue.svg").read_text().startswith("<?xml")
    assert "| 120 | 40 | 40 |" in capsys.readouterr().out


def test_a_queue_is_of_tasks_that_wait(databases: Databases, tmp_path: Path) -> None:
    """Each requester has a turn, each job its place; a job that has begun is no pattern for others."""
    with databases.migrated("sqlite", tmp_path) as url:
        store = Store(url)
        queue.queue_up(store, url, queue.Cell("sqlite", tasks=60, jobs=20, requesters=3))
        with store.reading() as session:
            jobs, tasks = session.exec(select(JobRow)).all(), session.exec(select(TaskRow)).all()
            turns = session.exec(select(ShareRow.requester)).all()
        assert (len(jobs), len({job.rank for job in jobs}), len(tasks)) == (20, 20, 60)
        assert {task.state for task in tasks} == {TaskState.PENDING}
        assert set(turns) == {job.requester for job in jobs}
        account = new_account()
        requests = (queue.request_of(address_of(account), 2, number) for number in count())
        pattern = queue.submit(store, account, next(requests))
        with store.writing() as session:
            begun = session.exec(select(TaskRow).where(TaskRow.job_id == str(pattern))).first()
            assert begun is not None
            begun.state = TaskState.LEASED
        with pytest.raises(RuntimeError, match="has begun"):
            fill(url, {address_of(account): account}, queue.DOMAIN, pattern, requests, 10)
        store.close()
