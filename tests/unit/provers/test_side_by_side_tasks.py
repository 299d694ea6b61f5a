"""Several tasks at a time: each with its own lease, none disturbed by another."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provers.circuit import LocalDesk
from provers.status import WorkerState, last_of, published, running
from provers.task import CircuitFiles
from provers.worker import Worker
from rexis.api import Lease, LeaseExtended, Progress
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import sha256
from rexis.protocol.errors import LeaseError, MalformedError
from rexis.protocol.policy import Tier
from rexis.protocol.signing import new_account
from tests.unit.provers.bench import DATASET, Bench
from tests.unit.provers.fakes import FakeCircuit, make_lease


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


REQUESTERS = [new_account() for _ in range(6)]


def numbered(number: int) -> Lease:
    """A lease of a job of its own."""
    lease = make_lease(Tier.ZK, DATASET, REQUESTERS[number])
    return lease.model_copy(update={"lease_id": f"{number:032x}", "nonce": sha256(bytes([number]))})


class Gate(FakeCircuit):
    """Proofs wait until they are let through."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.at_gate = threading.Event(), threading.Semaphore(0)

    def prove_segment(self, segment: int, inputs: Any) -> Any:
        self.at_gate.release()
        assert self.open.wait(10)
        return super().prove_segment(segment, inputs)


class Side(threading.Thread):
    """A worker that runs beside the test."""

    def __init__(self, bench: Bench, leases: list[Lease]) -> None:
        super().__init__(daemon=True)
        self.bench, self.worker = bench, None
        bench.coordinator.queue = list(leases)
        bench.coordinator.when_idle = lambda: time.sleep(0.01)
        self.ready = threading.Event()
        self.start()
        assert self.ready.wait(10)

    def run(self) -> None:
        with self.bench.worker() as worker:
            self.worker: Worker | None = worker
            self.ready.set()
            worker.run()

    def end(self) -> None:
        self.bench.stop.requested = True
        self.join(10)
        assert not self.is_alive()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> Gate:
    circuit = Gate()

    def opened(self: LocalDesk, pinned: Circuit, files: CircuitFiles, progress: Callable[[int, int], None]) -> Gate:
        return circuit

    monkeypatch.setattr(LocalDesk, "open", opened)
    bench.options["tasks"] = 3
    return circuit


def test_tasks_are_under_way_together(bench: Bench, gate: Gate) -> None:
    leases = [numbered(each) for each in range(3)]
    side = Side(bench, leases)
    for _ in leases:
        assert gate.at_gate.acquire(timeout=10)
    assert side.worker is not None
    gate.open.set()
    until(lambda: len(bench.coordinator.handed_in) == 3)
    side.end()
    assert {evidence.statement.nonce for evidence in bench.coordinator.handed_in} == {one.nonce for one in leases}
    assert (bench.coordinator.failures, bench.coordinator.released) == ([], [])


def test_a_lost_lease_ends_its_own_task_only(bench: Bench, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    lost, beats = list[str](), list[str]()

    def heartbeat(lease_id: str, progress: Progress) -> LeaseExtended:
        beats.append(lease_id)
        if lease_id in lost:
            raise LeaseError("given to another worker")
        return LeaseExtended(expires_at="2030-01-01T00:00:00Z")

    monkeypatch.setattr(bench.coordinator, "heartbeat", heartbeat)
    side = Side(bench, [numbered(0), numbered(1), numbered(2)])
    for _ in range(3):
        assert gate.at_gate.acquire(timeout=10)
    lost.append(numbered(1).lease_id)
    beats.clear()
    until(lambda: len(set(beats)) == 3)
    gate.open.set()
    until(lambda: len(bench.coordinator.handed_in) == 2)
    side.end()
    assert side.worker is not None
    endings = side.worker.status().endings
    assert (endings.accepted, endings.lost, endings.failed) == (2, 1, 0)
    assert {one.statement.nonce for one in bench.coordinator.handed_in} == {numbered(0).nonce, numbered(2).nonce}


def test_a_task_that_fails_leaves_the_others_alone(bench: Bench, gate: Gate) -> None:
    bad = numbered(1).model_copy(update={"start": 1})  # no shard of the job
    side = Side(bench, [numbered(0), bad, numbered(2)])
    until(lambda: len(bench.coordinator.failures) == 1)
    gate.open.set()
    until(lambda: len(bench.coordinator.handed_in) == 2)
    side.end()
    assert [code for code, _ in bench.coordinator.failures] == ["conflict"]


def test_draining_finishes_what_is_under_way_and_takes_nothing_new(bench: Bench, gate: Gate) -> None:
    side = Side(bench, [numbered(0), numbered(1)])
    for _ in range(2):
        assert gate.at_gate.acquire(timeout=10)
    bench.stop.draining = True
    bench.coordinator.queue = [numbered(2)]
    time.sleep(0.05)
    assert side.is_alive()
    assert side.worker is not None
    status = side.worker.status()
    assert (status.state, len(status.tasks)) == (WorkerState.DRAINING, 2)
    gate.open.set()
    side.join(10)
    assert not side.is_alive()
    assert len(bench.coordinator.handed_in) == 2
    assert (bench.coordinator.released, bench.coordinator.failures) == ([], [])


def test_a_stop_gives_all_tasks_back(bench: Bench, gate: Gate) -> None:
    side = Side(bench, [numbered(0), numbered(1)])
    for _ in range(2):
        assert gate.at_gate.acquire(timeout=10)
    bench.stop.draining = True  # a drain that takes too long
    bench.stop.requested = True
    gate.open.set()
    side.join(10)
    assert sorted(bench.coordinator.released) == [numbered(0).lease_id, numbered(1).lease_id]
    assert bench.coordinator.handed_in == []


def test_a_lease_that_comes_while_draining_goes_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(most: int, wait_seconds: int) -> list[Lease]:
        bench.stop.draining = True
        return [numbered(5)]

    monkeypatch.setattr(bench.coordinator, "leases", late)
    done = bench.run()
    assert done.released == [numbered(5).lease_id]
    assert done.progress == []


def test_the_document_tells_what_is_under_way_and_no_secret(bench: Bench, gate: Gate, tmp_path: Path) -> None:
    bench.options["rpc_url"] = "http://node.test/a-key"
    side = Side(bench, [numbered(0)])
    assert gate.at_gate.acquire(timeout=10)
    assert side.worker is not None
    with published(tmp_path, side.worker.status):
        (found,) = running(tmp_path)
        text = next((tmp_path / "run").glob("*.json")).read_text()
    (task,) = found.tasks
    assert (task.tier, task.total, found.state, found.at_once) == (Tier.ZK, 8, WorkerState.WORKING, 3)
    assert "node.test" not in text
    assert numbered(0).lease_id not in text
    assert running(tmp_path) == []
    assert last_of(tmp_path, found).tasks == found.tasks
    gate.open.set()
    side.end()


def test_what_a_dead_worker_left_is_no_running_one(bench: Bench, tmp_path: Path) -> None:
    with bench.worker() as worker, published(tmp_path, worker.status):
        (path,) = (tmp_path / "run").glob("*.json")
        (tmp_path / "run" / "1-00.json").write_bytes(path.read_bytes())
        (tmp_path / "run" / "1-00.lock").touch()
        os.utime(tmp_path / "run" / "1-00.json", (1, 1))
        assert len(running(tmp_path)) == 1
        assert not (tmp_path / "run" / "1-00.json").exists()
        path.write_bytes(b"{}")
        with pytest.raises(MalformedError):
            running(tmp_path)


def test_memory_that_changed_is_told_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provers.worker._MEMORY_EVERY_S", 0.0)
    free = [8 << 30, 8 << 30, 7 << 30, 4 << 30, 4 << 30]
    with bench.worker() as worker:
        monkeypatch.setattr("provers.circuit.LocalSite.memory_bytes", property(lambda self: free[0]))
        idle = 0

        def when_idle() -> None:
            nonlocal idle
            idle += 1
            free.pop(0)
            if len(free) == 1:
                bench.request_stop()

        bench.coordinator.when_idle = when_idle
        worker.run()
    assert [each.memory_bytes >> 30 for each in bench.coordinator.registered] == [8, 7, 4]
