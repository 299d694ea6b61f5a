"""How long it takes to plan an anchor of many statements, and to make all of them anchored, in a database.

    python -m bench.anchor_batch [--statements 10000] [--database postgresql]

The chain is in memory, the database is a new one: an SQLite file, or on a PostgreSQL server that is started for it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import insert, update
from sqlmodel import col

from coordinator.places import Places
from coordinator.tables import JobRow, TaskRow
from rexis.api import JobState, TaskState
from rexis.protocol.digests import sha256
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.signing import new_account
from tests.databases import KINDS, Databases
from tests.unit.coordinator.fakes import FakeLedger, make_coordinator


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--statements", type=int, default=10_000)
    parser.add_argument("--database", choices=KINDS, default="sqlite")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="rexis-bench-") as name:
        folder = Path(name)
        databases = Databases(folder)
        try:
            with databases.migrated(given.database, folder) as url:
                coordinator = make_coordinator(folder / "data", FakeLedger(new_account()), database_url=url)
                measure(coordinator, given.statements)
                coordinator.close()
        finally:
            databases.close()


def measure(coordinator, count: int) -> None:  # type: ignore[no-untyped-def]
    """One batch of `count` statements of one job."""
    digests = [sha256(b"statement", number.to_bytes(8, "big")) for number in range(count)]
    job = str(sha256(b"job"))
    with coordinator._store.writing() as session:
        session.execute(
            insert(JobRow).values(
                job_id=job, requester="0x", submitted_at=0, state=JobState.ANCHORING, request="{}", signature="0x"
            )
        )
        tasks = [
            {
                "task_id": str(sha256(b"task", number.to_bytes(8, "big"))),
                "job_id": job,
                "start": number,
                "count": 1,
                "tier": "commit",
                "max_attempts": 1,
                "submitted_at": 0,
                "state": TaskState.ACCEPTED.value,
                "statement_digest": str(digest),
                "accepted_at": 0,
            }
            for number, digest in enumerate(digests)
        ]
        session.execute(insert(TaskRow), tasks)
    begun = time.process_time(), time.perf_counter()
    MerkleTree(digests)
    _say("the tree alone", count, begun)
    begun = time.process_time(), time.perf_counter()
    batch = coordinator.anchoring._plan(0)
    _say("plan: leaves, tree and root in the database", count, begun)
    assert batch is not None
    assert batch.size == count
    begun = time.process_time(), time.perf_counter()
    coordinator.anchoring.run()
    _say("send, see it final, and mark all tasks with their events", count, begun)
    begun = time.process_time(), time.perf_counter()
    with coordinator._store.reading() as session:
        places = Places()
        for task in tasks[:100]:
            places.of(session, str(task["task_id"]))
    _say("100 paths, the tree among them", count, begun)
    with coordinator._store.writing() as session:
        left = session.execute(update(TaskRow).where(col(TaskRow.state) != TaskState.ANCHORED).values(count=1))
        assert left.rowcount == 0


def _say(what: str, count: int, begun: tuple[float, float]) -> None:
    cpu, wall = time.process_time() - begun[0], time.perf_counter() - begun[1]
    print(f"{count} statements, {what}: {cpu:.3f} s of CPU here, {wall:.3f} s in all")


if __name__ == "__main__":
    main()
