"""How fast transactions that write follow one another, by where the next one waits for its turn.

``python -m bench.writers``: a read and an update of one row in each transaction, sixteen threads, on SQLite and on a
PostgreSQL server with durable commits. The three ways are measured in turns, several times; the page gives the median.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

from sqlmodel import Session

from bench.load.postgres import postgres
from coordinator.store import Store
from coordinator.tables import SecretRow

_THREADS, _EACH, _ROUNDS = 16, 40, 5


def main() -> None:
    """Print a table."""
    print(f"{_THREADS} threads, {_ROUNDS} rounds of {_THREADS * _EACH} transactions; median rate, worst 1 % of waits\n")
    print("| database | the next writer waits | transactions/s | p99 |\n|---|---|---|---|")
    for name, database in (("SQLite", _sqlite), ("PostgreSQL", _postgresql)):
        with database() as url:
            _measure(name, Store(url))


def _measure(name: str, store: Store) -> None:
    ways: dict[str, Callable[[], object]] = {
        "in the process, then in the database": nullcontext,
        "in the database": lambda: patch.object(store, "_in_turn", nullcontext),
    }
    if name == "PostgreSQL":
        ways["not at all (other rows; not what rexis does)"] = lambda: patch.object(store, "writing", _beside(store))
    with store.writing() as session:
        session.add_all(SecretRow(name=str(number), value="") for number in range(_THREADS))
    rates: dict[str, list[float]] = {way: [] for way in ways}
    waits: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(_ROUNDS):
        for way, prepared in ways.items():
            with prepared():  # type: ignore[attr-defined]
                rate, waited = _round(store)
            rates[way].append(rate)
            waits[way] += waited
    for way in ways:
        worst = sorted(waits[way])[int(len(waits[way]) * 0.99)]
        print(f"| {name} | {way} | {statistics.median(rates[way]):.0f} | {worst * 1000:.0f} ms |")
    store.close()


def _round(store: Store) -> tuple[float, list[float]]:
    """Transactions a second, and how long each took."""
    waits: list[float] = []

    def work(row: str) -> None:
        for number in range(_EACH):
            began = time.perf_counter()
            with store.writing() as session:
                session.get_one(SecretRow, row).value = str(number)
            waits.append(time.perf_counter() - began)

    threads = [threading.Thread(target=work, args=(str(place),)) for place in range(_THREADS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _THREADS * _EACH / (time.perf_counter() - began), waits


def _beside(store: Store) -> Callable[[], object]:
    @contextmanager
    def writing() -> Iterator[Session]:
        with Session(store._engine) as session, session.begin():
            yield session

    return writing


@contextmanager
def _sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{Path(folder) / 'writers.sqlite'}"


@contextmanager
def _postgresql() -> Iterator[str]:
    with postgres() as server:
        yield server.url


if __name__ == "__main__":
    main()
