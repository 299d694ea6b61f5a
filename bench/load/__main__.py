"""``python -m bench.load``: how much one machine's coordinator takes, beside what its database takes by itself.

Real coordinator processes, a real chain node, PostgreSQL on disk with every commit flushed, and 64 simulated
workers whose evidence is real. Slow results never fail; wrong ones (evidence refused, something accepted and not
anchored, a certificate that does not verify) do.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, create_engine, text

from bench.load.backlog import fill, plan_of_leasing
from bench.load.bare import Rows, postgres_limit, sqlite_limit
from bench.load.measure import Run, measure
from bench.load.postgres import postgres
from bench.load.report import Report
from bench.load.scene import Scene
from bench.load.stack import Stack
from rexis.api import JobState
from rexis.client import RexisClient
from rexis.protocol.digests import Digest
from rexis.protocol.signing import address_of
from rexis.protocol.statement import JobRequest
from verifier.certificate import VerifyOptions, verify_certificate

OUT = Path(__file__).resolve().parent.parent / "out" / "load"
_SHARD = 4
_TASKS = 500  # a job
_OPENED = 1
_CONNECTIONS = 8
_QUICK_QUEUE = 100_000
# Where a run had none of PostgreSQL's counters to go by.
_ROWS = Rows(inserted=9, updated=6)


@dataclass(frozen=True)
class _Wanted:
    """What is measured on one database."""

    database: str
    processes: int
    seconds: float
    queue: int


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit status."""
    given = _options().parse_args(arguments)
    report = Report(" ".join(["python -m bench.load", *(arguments if arguments is not None else sys.argv[1:])]))
    for database in given.databases.split(","):
        for processes in given.processes if database == "postgresql" else given.processes[:1]:
            _on(report, given, _Wanted(database, processes, given.soak or given.seconds, given.queue))
            report.write(given.out)
    print("\n" + report.text())
    print(f"\nwritten to {given.out}")
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--databases", default="postgresql,sqlite")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="coordinator processes (PostgreSQL)")
    parser.add_argument(
        "--apart", action="store_true", help="one more coordinator has all duties, and the workers do not ask it"
    )
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--at-once", type=int, default=16, help="tasks that a worker leases and hands in at a time")
    parser.add_argument("--rate", type=float, default=300, help="tasks a second of the run whose latencies count")
    parser.add_argument("--seconds", type=float, default=60, help="of each run")
    parser.add_argument(
        "--queue", type=int, default=1_000_000, help="tasks queued before the last run (quick: 100,000)"
    )
    parser.add_argument("--soak", type=float, default=0, metavar="SECONDS", help="one long run instead")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--quick", action="store_const", const=True, help="all of it in a few minutes")
    parser.set_defaults(quick=False)
    return parser


def _on(report: Report, given: argparse.Namespace, wanted: _Wanted) -> None:
    """All runs on one database with so many coordinators."""
    seconds = min(wanted.seconds, 15) if given.quick else wanted.seconds
    with ExitStack() as ends:
        folder = Path(tempfile.mkdtemp(prefix="rexis-load-"))
        ends.callback(shutil.rmtree, folder, ignore_errors=True)
        server = ends.enter_context(postgres()) if wanted.database == "postgresql" else None
        url = server.url if server else f"sqlite:///{folder / 'data' / 'coordinator.sqlite'}"
        settings = {"REXIS_MAX_LEASES": str(max(4, given.at_once)), "REXIS_DATABASE_URL": url}
        stack = ends.enter_context(Stack(folder, settings))
        for _ in range(wanted.processes):
            stack.start_coordinator(duties=not given.apart)
        if given.apart:
            stack.start_coordinator()
            stack.urls.pop()
        engine = create_engine(url)
        ends.callback(engine.dispose)
        scene = Scene.make(_TASKS * _SHARD)
        stack.fund(address_of(scene.owner))
        scene.publish(stack.urls[0], stack.chain.url, stack.deployment)
        np.savez(folder / "arrays.npz", outputs=scene.outputs, salts=scene.dataset.salts)
        requests = _requests(scene, stack)
        signers = {address_of(scene.requester): scene.requester}

        def queue(tasks: int) -> Digest:
            pattern = _submit(scene, stack, next(requests))
            waiting = text("SELECT COUNT(*) FROM task WHERE state = 'pending'")
            with engine.connect() as connection:
                missing = tasks - connection.execute(waiting).scalar_one()
            if missing > 0:
                _say(f"queueing {missing} tasks")
                fill(url, signers, stack.deployment.domain, pattern, requests, missing)
            return pattern

        def run(what: str, at_once: int, length: float, offered: float = 0) -> Run:
            name = f"{wanted.database}, {wanted.processes} coordinator{'s' * (wanted.processes > 1)}, {what}"
            _say(f"{name}: {given.workers} workers, {length:g} s")
            found = measure(
                name, stack, engine, folder, workers=given.workers, at_once=at_once, seconds=length, offered=offered
            )
            _say(f"{found.rate:.1f} tasks/s, p99 {found.every_call.p99:.0f} ms")
            report.runs.append(found)
            return found

        batches = f"{given.at_once} at a time"
        # Enough for what no run will reach, so that nobody waits for work.
        queue(int(2000 * seconds) if given.soak else int(1000 * seconds))
        if not given.soak:
            run("one by one", 1, seconds)
        main_run = run(batches, given.at_once, seconds, given.rate if given.soak else 0)
        if not given.soak and given.rate:
            # As fast as they can, workers queue up at the coordinator: what one waits says how many others there are.
            run(f"{batches}, {given.rate:g} tasks/s offered", given.at_once, seconds, given.rate)
        if not given.soak and wanted.queue and wanted.processes == given.processes[0]:
            depth = min(wanted.queue, _QUICK_QUEUE) if given.quick else wanted.queue
            report.plans[wanted.database] = plan_of_leasing(url, queue(depth))
            run(f"{batches}, {depth:,} queued", given.at_once, seconds)
        _require_certificates(scene, stack, engine)
        if wanted.database not in report.limits:
            rows = main_run.rows or next((one.rows for one in report.runs if one.rows is not None), _ROWS)
            _say(f"the bare database, {rows.inserted:.1f} inserts and {rows.updated:.1f} updates a task")
            report.limits[wanted.database] = {
                size: (
                    postgres_limit(server.dsn, rows, connections=_CONNECTIONS, at_once=size, seconds=min(10, seconds))
                    if server
                    else sqlite_limit(folder, rows, at_once=size, seconds=min(10, seconds))
                )
                for size in sorted({1, given.at_once})
            }


def _requests(scene: Scene, stack: Stack) -> Iterator[JobRequest]:
    for number in itertools.count():
        yield scene.request(stack.address, count=_TASKS * _SHARD, shard=_SHARD, opened=_OPENED, number=number)


def _submit(scene: Scene, stack: Stack, request: JobRequest) -> Digest:
    with RexisClient(stack.urls[0], scene.requester) as client:
        return client.submit_job(request).job_id


def _require_certificates(scene: Scene, stack: Stack, engine: Engine) -> None:
    """The certificates of a few jobs that are finished verify against the chain."""
    finished = text("SELECT job_id FROM job WHERE state = :state ORDER BY submitted_at LIMIT 3")
    with engine.connect() as connection:
        done = [Digest.parse(job) for job in connection.execute(finished, {"state": JobState.CERTIFIED}).scalars()]
    with RexisClient(stack.urls[0], scene.requester) as client:
        options = VerifyOptions(
            rpc_url=stack.chain.url,
            requester=address_of(scene.requester),
            model_digest=scene.encrypted.digest,
            allow_development_chain=True,
        )
        for job in done:
            verdict = verify_certificate(client.certificate(job), options)
            if verdict.failed is not None or verdict.unchecked:
                raise RuntimeError(f"the certificate of job {job} does not verify: {verdict.failed}")
    _say(f"{len(done)} certificates verify")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
