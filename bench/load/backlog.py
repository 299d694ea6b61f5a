"""A long queue: jobs that stand in the database as the API writes them, without a million requests.

One job is submitted through the API. Its rows, whatever columns they have, are the pattern for the others, which differ
in what follows from their own signed request: ids, request, signature. Workers lease and do these tasks like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import psycopg
from eth_account.signers.local import LocalAccount
from sqlalchemy import MetaData, Table, create_engine, insert, select, true
from sqlalchemy.engine import Connection, make_url

from coordinator.states import number_of
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import Address, to_hex
from rexis.protocol.signing import sign_digest
from rexis.protocol.statement import JobRequest, task_id
from rexis.protocol.typed_data import Domain

Row = dict[str, Any]
_CHUNK = 5000


def fill(
    url: str,
    signers: Mapping[Address, LocalAccount],
    domain: Domain,
    pattern: Digest,
    requests: Iterator[JobRequest],
    tasks: int,
) -> int:
    """Add jobs until there are so many more tasks; returns how many were added.

    Each is submitted a millisecond after the one before.

    Parameters
    ----------
    signers
        Who may be the requester of a request.
    pattern
        A job that was submitted through the API, of which nothing has begun.

    Raises
    ------
    RuntimeError
        It has begun: its copies would not be a queue.
    """
    engine, added, jobs = create_engine(url), 0, 0
    tables = MetaData()
    tables.reflect(engine, only=["job", "job_blob", "task", "event", "share"])
    job, blob, task, event, share = (tables.tables[name] for name in ("job", "job_blob", "task", "event", "share"))
    with engine.begin() as connection:
        own = _rows(connection, job, job.c.job_id == str(pattern))[0]
        blobs = _rows(connection, blob, blob.c.job_id == str(pattern))
        shards = _rows(connection, task, task.c.job_id == str(pattern))
        events = _rows(connection, event, event.c.job == number_of(str(pattern)))
        known = {row["requester"] for row in _rows(connection, share, true())}
    if any(shard["state"] != "pending" for shard in shards):
        raise RuntimeError(f"job {pattern} has begun")
    while added < tasks:
        rows: dict[str, list[Row]] = {name: [] for name in ("job", "job_blob", "event", "task", "share")}
        for request in islice(requests, max(1, min(tasks - added, _CHUNK) // len(shards))):
            jobs += 1
            identity = request.job_id(domain)
            name = {"job_id": str(identity)}
            rows["job"].append(
                own
                | name
                | {
                    "requester": request.requester,
                    "request": request.to_json().decode(),
                    "signature": to_hex(sign_digest(signers[request.requester], identity)),
                    "submitted_at": own["submitted_at"] + jobs,
                    "rank": own["rank"] + jobs,
                }
            )
            rows["job_blob"] += [row | name for row in blobs]
            told = [{key: value for key, value in row.items() if key != "id"} for row in events]
            rows["event"] += [row | {"job": number_of(str(identity))} for row in told]
            rows["task"] += [
                row | name | {"task_id": str(task_id(identity, row["start"], row["count"]))} for row in shards
            ]
            if request.requester not in known:
                known.add(request.requester)
                rows["share"].append({"requester": request.requester, "began": 0, "finished": 0})
        with engine.begin() as connection:
            for table in (job, blob, event, task, share):
                _many(connection, table, rows[table.name])
        added += len(rows["task"])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()
    return added


def _many(connection: Connection, table: Table, rows: list[Row]) -> None:
    if not rows:
        return
    driver: Any = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        connection.execute(insert(table), rows)
        return
    names = list(rows[0])
    columns = ", ".join(f'"{name}"' for name in names)
    with driver.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row([row[name] for name in names])


def _rows(connection: Connection, table: Table, where: Any) -> list[Row]:
    return [dict(row._mapping) for row in connection.execute(select(table).where(where))]


def plan_of_leasing(url: str, job: Digest) -> str:
    """How the database finds the next tasks of a job, in the order of :mod:`coordinator.scheduling`: ``EXPLAIN``."""
    engine = create_engine(url)
    how = "EXPLAIN QUERY PLAN" if make_url(url).get_backend_name() == "sqlite" else "EXPLAIN"
    waits = f"job_id = '{job}' AND state = 'pending' AND ready_at <= 0"
    query = f"SELECT task_id FROM task WHERE {waits} ORDER BY ready_at, start LIMIT 16"  # noqa: S608
    with engine.connect() as connection:
        found = connection.exec_driver_sql(f"{how} {query}").fetchall()
    engine.dispose()
    return "\n".join(str(row[-1]) for row in found)
