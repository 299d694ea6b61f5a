"""One run: workers against coordinators for so long, with what the processes and the database did meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sqlalchemy import Engine, text

from bench.load.bare import Rows
from bench.load.stack import Stack
from bench.load.workers import Plan

_EVERY_S = 1.0
_DRAIN_S = 90.0
_ANCHORED = "SELECT COALESCE(SUM(size), 0) FROM anchor WHERE state = 'final'"
_WRITTEN = "SELECT COALESCE(SUM(n_tup_ins), 0), COALESCE(SUM(n_tup_upd), 0) FROM pg_stat_user_tables"
_COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
_MIB = 1 << 20


@dataclass
class Latency:
    """Of one route, in milliseconds."""

    calls: int
    p50: float
    p95: float
    p99: float
    most: float


@dataclass
class Run:
    """What was seen.

    Attributes
    ----------
    rate
        Tasks a second from the first lease to the anchor of the last one.
    accepted_rate
        Tasks whose evidence was accepted, over the time in which workers worked.
    every_call
        See :func:`every_call`.
    memory_mib
        Resident set of the coordinators together, each second.
    cpu
        Cores that each role took on average, and all processes of the machine.
    cpu_ms
        Processor time of the coordinators a task, since the workers had signed in.
    rows
        Rows that the database wrote a task; on PostgreSQL only.
    """

    name: str
    seconds: float
    tasks: int
    rate: float
    accepted_rate: float
    certified: int
    troubles: dict[str, int]
    every_call: Latency
    latencies: dict[str, Latency]
    memory_mib: list[float]
    anchored: list[tuple[float, int]]
    cpu: dict[str, float]
    cpu_ms: float
    rows: Rows | None = None
    commits: float | None = None
    leasing: list[tuple[float, float]] = field(default_factory=list)

    def to_object(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure(
    name: str,
    stack: Stack,
    engine: Engine,
    folder: Path,
    *,
    workers: int,
    at_once: int,
    seconds: float,
    offered: float = 0,
) -> Run:
    """Let workers work, then wait until what was accepted is anchored.

    Parameters
    ----------
    offered
        Tasks a second that all workers together take; 0 for as many as they get.

    Raises
    ------
    RuntimeError
        Something accepted is not anchored in the end, or evidence was refused.
    """
    pace = workers * at_once / offered if offered else 0.0
    plan = Plan(stack.urls, workers, at_once, seconds, pace, str(folder / "arrays.npz"), str(folder / "seen.json"))
    (folder / "plan.json").write_text(json.dumps(vars(plan)))
    postgresql = engine.dialect.name == "postgresql"
    before, written, commits = _number(engine, _ANCHORED), (0.0, 0.0), 0.0
    if postgresql:
        written, commits = _pair(engine, _WRITTEN), _number(engine, _COMMITS)
    meter = _Meter([one.pid for one in stack.coordinators])
    simulation = subprocess.Popen([sys.executable, "-m", "bench.load.workers", str(folder / "plan.json")])
    begun = time.monotonic()
    memory, anchored = [], []
    while simulation.poll() is None:
        memory.append(meter.memory() / _MIB)
        meter.look()
        anchored.append((time.monotonic() - begun, int(_number(engine, _ANCHORED) - before)))
        time.sleep(_EVERY_S)
    if simulation.returncode != 0:
        raise RuntimeError(f"the simulated workers ended with {simulation.returncode}")
    seen = json.loads((folder / "seen.json").read_text())
    accepted, deadline = seen["accepted"], time.monotonic() + _DRAIN_S
    while (last := int(_number(engine, _ANCHORED) - before)) < accepted and time.monotonic() < deadline:
        time.sleep(0.1)
    drained = time.time()
    if last != accepted or seen["refused"]:
        raise RuntimeError(f"{accepted} tasks accepted, {last} anchored, {seen['refused']} refused: {seen['troubles']}")
    took = drained - seen["begun"]
    cpu, busy = meter.seconds_since(seen["begun"])
    rows = None
    if postgresql:
        now = _pair(engine, _WRITTEN)
        rows = Rows(*((new - old) / max(1, accepted) for new, old in zip(now, written, strict=True)))
        commits = (_number(engine, _COMMITS) - commits) / max(1, accepted)
    return Run(
        name=name,
        seconds=seconds,
        tasks=accepted,
        rate=accepted / took,
        accepted_rate=accepted / seconds,
        certified=int(_number(engine, "SELECT COUNT(*) FROM job WHERE state = 'certified'")),
        troubles=seen["troubles"],
        every_call=every_call(seen["latencies"]),
        latencies={route: _latency([one for _, one in found]) for route, found in sorted(seen["latencies"].items())},
        memory_mib=memory,
        anchored=anchored,
        cpu={"coordinators": cpu / took, "workers": seen["cpu_seconds"] / took, "machine": busy / took},
        cpu_ms=1000 * cpu / max(1, accepted),
        rows=rows,
        commits=commits if postgresql else None,
    )


class _Meter:
    """Processor time and memory of some processes, and processor time of the machine."""

    def __init__(self, pids: list[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self._looks: list[tuple[float, float, float]] = []
        self.look()

    def memory(self) -> float:
        return float(sum(process.memory_info().rss for process in self._processes))

    def look(self) -> None:
        """Remember how much there was by now."""
        self._looks.append((time.time(), *self._seconds()))

    def seconds_since(self, moment: float) -> tuple[float, float]:
        """From the first look after a moment to now: of the processes, and of the machine."""
        ours, all_ = self._seconds()
        _, ours_then, all_then = next((look for look in self._looks if look[0] >= moment), self._looks[-1])
        return ours - ours_then, all_ - all_then

    def _seconds(self) -> tuple[float, float]:
        times = psutil.cpu_times()
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
        return float(sum(sum(process.cpu_times()[:2]) for process in self._processes)), busy


def every_call(latencies: dict[str, list[tuple[float, float]]]) -> Latency:
    """Over all routes, but for polls that had nothing to answer: those wait by intent.

    Parameters
    ----------
    latencies
        Of each route: when, and how long, in seconds.
    """
    return _latency([one for route, found in latencies.items() if "(nothing)" not in route for _, one in found])


def _latency(seconds: list[float]) -> Latency:
    found = np.array(seconds) * 1000
    p50, p95, p99 = (float(one) for one in np.percentile(found, (50, 95, 99)))
    return Latency(len(found), p50, p95, p99, float(found.max()))


def _number(engine: Engine, query: str) -> float:
    with engine.connect() as connection:
        return float(connection.execute(text(query)).scalar_one())


def _pair(engine: Engine, query: str) -> tuple[float, float]:
    with engine.connect() as connection:
        first, second = connection.execute(text(query)).one()
    return float(first), float(second)
