"""What granting a lease costs, by how many tasks are queued and how many jobs are open.

``python -m bench.load.queue``: for every length of the queue, number of open jobs and kind of database, the
coordinator's own code grants leases one by one and sixteen at a time, and refuses a worker that nothing queued fits.
There is no HTTP and no chain in between: what is measured is looking for the next task and writing the lease down, each
grant a durable transaction. Beside the times stands how the database finds what it looks for (``EXPLAIN`` of the
statements that one grant made).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from eth_account.signers.local import LocalAccount
from sqlalchemy import event

from bench.load.backlog import fill
from bench.load.postgres import postgres
from contracts.onchain import Deployment
from coordinator.leases import Leases, Terms
from coordinator.scheduling import enter
from coordinator.standing import Rules
from coordinator.states import create, create_in_job
from coordinator.store import Store
from coordinator.tables import JobRow, TaskRow
from coordinator.times import wall_clock
from coordinator.workers import Workers
from rexis.api import WorkerRegistration
from rexis.protocol.certificate import MAX_TASKS
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.parsing import Address, to_hex
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.signing import address_of, new_account, sign_digest
from rexis.protocol.statement import JobRequest, Kind, task_id

OUT = Path(__file__).resolve().parent.parent / "out" / "queue"
DOMAIN = Deployment.on(31337).domain
_ONE, _BATCH, _NOTHING = "one", "16 at a time", "nothing fits"
_AT_ONCE = 16
_WORKERS = 32
_LEASES = 64  # of one worker
_READS = ("job", "task", "share")


@dataclass(frozen=True)
class Cell:
    """What is queued: so many tasks, in jobs of equal size, of so many requesters."""

    database: str
    tasks: int
    jobs: int
    requesters: int

    @property
    def name(self) -> str:
        """For a person."""
        return f"{self.database}, {self.tasks:,} tasks in {self.jobs:,} jobs of {self.requesters:,} requesters"


@dataclass(frozen=True)
class Cost:
    """Of one call, in milliseconds: wall time, and processor time of this process and of the database's server."""

    what: str
    calls: int
    p50: float
    p95: float
    cpu: float
    server_cpu: float


@dataclass(frozen=True)
class Measured:
    """A cell, its costs, and how the statements of one grant find their rows."""

    cell: Cell
    costs: list[Cost]
    plans: dict[str, list[str]]


@dataclass(frozen=True)
class _Database:
    name: str
    url: str
    server: int | None  # process id


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit status."""
    given = _options().parse_args(arguments)
    found: list[Measured] = []
    for name in given.databases:
        for tasks, jobs, requesters in _grid(given.tasks, given.jobs):
            with _database(name) as database:
                cell = Cell(name, tasks, jobs, requesters)
                found.append(measure(database, cell, given.grants))
                print(_lines(found[-1]), flush=True)
            write(found, given.out)
    print(f"\n{table(found)}\n\nwritten to {given.out}")
    return 0


def write(found: list[Measured], folder: Path) -> None:
    """``queue.json``, ``queue.md`` and ``queue.svg``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "queue.json").write_text(json.dumps(_report(found), indent=1))
    (folder / "queue.md").write_text(table(found) + "\n")
    _plot(found, folder / "queue.svg")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.load.queue", description=__doc__)
    parser.add_argument("--databases", nargs="+", choices=("postgresql", "sqlite"), default=["postgresql", "sqlite"])
    parser.add_argument("--tasks", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000], help="queued")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 100, 10_000], help="open ones, of one requester")
    parser.add_argument("--grants", type=int, default=200, help="leases granted one by one in each cell")
    parser.add_argument("--out", type=Path, default=OUT)
    return parser


def _grid(lengths: list[int], jobs: list[int]) -> Iterator[tuple[int, int, int]]:
    """Tasks, jobs, requesters. A job has a task at least, and :data:`MAX_TASKS` at most."""
    for length in sorted(lengths):
        for number in sorted(jobs):
            if number <= length <= number * MAX_TASKS:
                yield length, number, 1
    if len(jobs) > 1 and max(jobs) <= max(lengths):
        yield max(lengths), max(jobs), max(jobs)


def measure(database: _Database, cell: Cell, grants: int) -> Measured:
    """Queue a cell's tasks in an empty database, and grant."""
    store = Store(database.url, migrate=True)
    queue_up(store, database.url, cell)
    rules = Rules(max_faults=16, closed=True)
    workers = Workers(store, wall_clock, 3_600_000, _LEASES, rules)
    terms = Terms(lease_ms=3_600_000, stalled_ms=3_600_000, most_ms=3_600_000, at_a_time=_LEASES, heartbeat_seconds=15)
    leases = Leases(store, wall_clock, workers, DOMAIN, rules, terms)
    fitting = [_register(workers, Tier.COMMIT) for _ in range(_WORKERS)]
    other = _register(workers, Tier.ZK)
    turns = cycle(fitting)
    plans = _plans(store, lambda: leases.grant(next(turns)))

    def timed(what: str, calls: int, call: Callable[[], int], each: int) -> Cost:
        took, used, served = [], time.process_time(), _server_cpu(database.server)
        for _ in range(calls):
            began = time.perf_counter()
            granted = call()
            took.append(1000 * (time.perf_counter() - began))
            if granted != each:
                raise RuntimeError(f"{granted} leases were granted, not {each}: {cell.name}")
        cpu = 1000 * (time.process_time() - used) / calls
        server = 1000 * (_server_cpu(database.server) - served) / calls
        return Cost(what, calls, float(np.median(took)), float(np.percentile(took, 95)), cpu, server)

    batches = max(1, min(grants // 5, (cell.tasks - grants - 1) // _AT_ONCE))
    costs = [
        timed(_ONE, grants, lambda: len(leases.grant_many(next(turns), 1)), 1),
        timed(_BATCH, batches, lambda: len(leases.grant_many(next(turns), _AT_ONCE)), _AT_ONCE),
        timed(_NOTHING, grants, lambda: len(leases.grant_many(other, 1)), 0),
    ]
    store.close()
    return Measured(cell, costs, plans)


def queue_up(store: Store, url: str, cell: Cell) -> None:
    """A cell's jobs, as the API writes them."""
    accounts = [new_account() for _ in range(cell.requesters)]
    signers = {address_of(account): account for account in accounts}
    requests = (
        request_of(address_of(account), cell.tasks // cell.jobs, number)
        for number, account in zip(count(), cycle(accounts), strict=False)
    )
    pattern = submit(store, accounts[0], next(requests))
    fill(url, signers, DOMAIN, pattern, requests, cell.tasks - cell.tasks // cell.jobs)


def submit(store: Store, account: LocalAccount, request: JobRequest) -> Digest:
    """A job of made-up digests: nothing that grants leases looks behind them."""
    job_id, now, tier = request.job_id(DOMAIN), wall_clock(), "commit"
    row = JobRow(
        job_id=str(job_id),
        requester=request.requester,
        submitted_at=now,
        request=request.to_json().decode(),
        signature=to_hex(sign_digest(account, job_id)),
        tier=tier,
        rank=now,
    )
    alike = {"job_id": row.job_id, "tier": tier, "max_attempts": 3, "submitted_at": now, "ready_at": 0}
    tasks = (
        {**alike, "needed_bytes": 0, "task_id": str(task_id(job_id, start, 1)), "start": start, "count": 1}
        for start in range(request.record_count)
    )
    with store.writing() as session:
        create(session, row, reason="submitted", at=now, actor=request.requester)
        enter(session, request.requester)
        create_in_job(session, row.job_id, TaskRow, tasks, reason="submitted", at=now, actor=request.requester)
    return job_id


def request_of(requester: Address, records: int, number: int) -> JobRequest:
    """A job of so many tasks of one record; each number is another one."""
    policy = Policy(
        tier=Tier.COMMIT, sample_size=1, shard_size=1, max_attempts=3, abs_tolerance_e9=0, rel_tolerance_e9=0,
        rung=Rung.EE_OUTSOURCED, validators=0, certify_on_chain=False,
    )  # fmt: skip
    return JobRequest(
        kind=Kind.EVALUATION,
        model_digest=sha256(b"model"),
        key_epoch=1,
        circuit=NO_CIRCUIT,
        dataset_digest=sha256(b"dataset"),
        input_root=sha256(b"root"),
        input_size=records,
        record_start=0,
        record_count=records,
        policy=policy,
        requester=requester,
        coordinator=Address.from_bytes(bytes(20)),
        nonce=sha256(b"job", number.to_bytes(8, "big")),
    )


def _register(workers: Workers, tier: Tier) -> Address:
    address = Address.from_bytes(os.urandom(20))
    workers.register(address, WorkerRegistration(name="w", provider="CPU", tiers=[tier], memory_bytes=1 << 30))
    return address


def _plans(store: Store, call: Callable[[], object]) -> dict[str, list[str]]:
    """How the database finds the rows that a call reads of jobs, tasks and turns, by statement."""
    seen: dict[str, Any] = {}

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT") and any(f"FROM {table}" in statement for table in _READS):
            seen.setdefault(statement, parameters)

    event.listen(store._engine, "before_cursor_execute", note)
    call()
    event.remove(store._engine, "before_cursor_execute", note)
    how = "EXPLAIN QUERY PLAN " if store._engine.dialect.name == "sqlite" else "EXPLAIN "
    with store.reading() as session:
        connection = session.connection()
        return {
            statement: [str(row[-1]) for row in connection.exec_driver_sql(how + statement, parameters)]
            for statement, parameters in seen.items()
        }


def _server_cpu(server: int | None) -> float:
    """Seconds that a server and its processes have used so far."""
    if server is None:
        return 0.0
    parent = psutil.Process(server)
    return sum(sum(one.cpu_times()[:2]) for one in [parent, *parent.children(recursive=True)])


@contextmanager
def _database(name: str) -> Iterator[_Database]:
    """An empty one."""
    with ExitStack() as ends:
        if name == "postgresql":
            server = ends.enter_context(postgres())
            yield _Database(name, server.url, server.pid)
            return
        folder = Path(tempfile.mkdtemp(prefix="rexis-queue-"))
        ends.callback(shutil.rmtree, folder, ignore_errors=True)
        yield _Database(name, f"sqlite:///{folder / 'queue.sqlite'}", None)


def table(found: list[Measured]) -> str:
    """The figures, a row a cell: median and 95th percentile, and processor time."""
    kinds = (_ONE, _BATCH, _NOTHING)
    head = "| queued | open jobs | requesters | " + " | ".join(f"{kind}: p50 / p95 (CPU) ms" for kind in kinds) + " |"
    parts = []
    for database in dict.fromkeys(one.cell.database for one in found):
        lines = [f"**{database}**", "", head, "|" + "---:|" * 6]
        for one in found:
            cell = one.cell
            if cell.database != database:
                continue
            shown = [f"{cost.p50:.1f} / {cost.p95:.1f} ({_cpu(cost)})" for cost in one.costs]
            lines.append(f"| {cell.tasks:,} | {cell.jobs:,} | {cell.requesters:,} | " + " | ".join(shown) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _lines(one: Measured) -> str:
    shown = [f"{cost.what} {cost.p50:.2f} / {cost.p95:.2f} ms ({_cpu(cost)})" for cost in one.costs]
    return f"{one.cell.name}: " + ", ".join(shown)


def _cpu(cost: Cost) -> str:
    return f"{cost.cpu:.1f} + {cost.server_cpu:.1f}" if cost.server_cpu else f"{cost.cpu:.1f}"


def _report(found: list[Measured]) -> dict[str, Any]:
    return {
        "machine": {
            "cores": psutil.cpu_count(),
            "memoryGib": round(psutil.virtual_memory().total / (1 << 30)),
            "python": platform.python_version(),
            "loadAverage": psutil.getloadavg(),
        },
        "cells": [asdict(one) for one in found],
    }


def _plot(found: list[Measured], file: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, places = plt.subplots(1, 3, figsize=(14, 4), sharex=True)
    lines = dict.fromkeys((one.cell.database, one.cell.jobs) for one in found)
    for place, what in zip(places, (_ONE, _BATCH, _NOTHING), strict=True):
        for database, jobs in lines:
            points = [
                (one.cell.tasks, cost.p50)
                for one in found
                for cost in one.costs
                if (one.cell.database, one.cell.jobs, one.cell.requesters, cost.what) == (database, jobs, 1, what)
            ]
            place.plot(*zip(*points, strict=True), marker="o", label=f"{database}, {jobs:,} jobs")
        place.set(title=f"{what}: median, ms", xlabel="tasks queued", xscale="log", ylim=(0, None))
    places[0].legend(fontsize="x-small")
    figure.tight_layout()
    figure.savefig(file)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
