"""The store means the same on both databases, and gets over a server that goes away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import QueuePool
from sqlmodel import select

from coordinator import engine
from coordinator.bell import Bell, heard
from coordinator.inventory import Inventory
from coordinator.relay import Relay
from coordinator.settings import Settings
from coordinator.store import Store
from coordinator.tables import BlobRow, BlobState, SecretRow, TokenRow
from rexis.protocol.digests import sha256
from rexis.protocol.errors import UnavailableError
from tests.databases import Databases


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    made = Store(database)
    yield made
    made.close()


@pytest.fixture
def postgresql(databases: Databases, tmp_path) -> Iterator[str]:  # type: ignore[no-untyped-def]
    with databases.migrated("postgresql", tmp_path) as url:
        yield url


def put(store: Store, value: str) -> None:
    with store.writing() as session:
        session.merge(SecretRow(name="x", value=value))


def value(store: Store) -> str:
    with store.reading() as session:
        return session.get_one(SecretRow, "x").value


def end_connections(url: str) -> None:
    """What a restart of the server does to its users."""
    admin = create_engine(url)
    with admin.connect() as connection:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}"))
    admin.dispose()


# --- transactions -----------------------------------------------------------------------------------------------------


def test_all_or_nothing(store: Store) -> None:
    put(store, "before")
    with pytest.raises(RuntimeError), store.writing() as session:
        session.get_one(SecretRow, "x").value = "half"
        session.flush()
        raise RuntimeError
    assert value(store) == "before"


def test_what_a_writer_reads_stays_true(store: Store) -> None:
    """Ten threads read, think and write; on no database is one of them overlooked."""
    put(store, "0")

    def count() -> None:
        for _ in range(5):
            with store.writing() as session:
                row = session.get_one(SecretRow, "x")
                seen = int(row.value)
                time.sleep(0.001)
                row.value = str(seen + 1)

    threads = [threading.Thread(target=count) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(store) == "50"


def test_a_reader_sees_one_state_and_waits_for_nobody(store: Store) -> None:
    put(store, "before")
    with store.reading() as session:
        assert session.get_one(SecretRow, "x").value == "before"
        put(store, "after")
        session.expire_all()
        assert session.get_one(SecretRow, "x").value == "before"
    with store.writing() as session:
        session.get_one(SecretRow, "x").value = "later"
        session.flush()
        assert value(store) == "after"


def test_whoever_notes_used_blobs_waits_for_no_writer_but_one_that_collects(postgresql: str) -> None:
    noter, writer = Store(postgresql), Store(postgresql)
    inventory, digest = Inventory(noter, lambda: 1), sha256(b"a blob")
    with writer.writing() as session:
        session.merge(SecretRow(name="x", value="1"))
        session.flush()
        inventory.expect({digest: 6})
    noting = threading.Thread(target=inventory.expect, args=({digest: 6},))
    with writer.writing(collecting=True) as session:
        session.get_one(BlobRow, str(digest)).fate = BlobState.REMOVING
        session.flush()
        noting.start()
        noting.join(0.3)
        assert noting.is_alive()
        session.get_one(BlobRow, str(digest)).fate = BlobState.LIVE
    noting.join(10)
    assert not noting.is_alive()
    with writer.writing(collecting=True) as session:
        session.get_one(BlobRow, str(digest)).fate = BlobState.REMOVING
    with pytest.raises(UnavailableError, match="just being removed"):
        inventory.expect({digest: 6})
    noter.close()
    writer.close()


def test_the_same_blobs_are_noted_by_many_at_once(store: Store) -> None:
    inventory = Inventory(store, lambda: 1)
    blobs = {sha256(bytes([each])): 1 for each in range(64)}
    backwards = dict(reversed(blobs.items()))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(inventory.expect, [blobs, backwards] * 20))
    with store.reading() as session:
        assert {row.digest for row in session.exec(select(BlobRow))} == {str(digest) for digest in blobs}


def test_the_same_row_twice_is_refused(store: Store) -> None:
    put(store, "x")
    with pytest.raises(IntegrityError), store.writing() as session:
        session.add(SecretRow(name="x", value="y"))


def test_large_numbers_and_odd_text_come_back(store: Store) -> None:
    with store.writing() as session:
        session.add(TokenRow(token_digest="ä%s:name?'\"\\", address="", expires_at=2**62))
    with store.reading() as session:
        assert session.get_one(TokenRow, "ä%s:name?'\"\\").expires_at == 2**62


def test_a_writer_within_a_writer_is_a_mistake(store: Store) -> None:
    with store.writing() as session:
        session.add(SecretRow(name="x", value="outer"))
        with pytest.raises(RuntimeError, match="within another one"):
            put(store, "inner")
    assert value(store) == "outer"


def test_waiting_for_a_thread_that_writes_has_an_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.store._PATIENCE_S", 0.1)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            put(store, "impatient")
        except UnavailableError as error:
            caught.append(error)

    with store.writing() as session:
        session.add(SecretRow(name="x", value="slow"))
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert [str(error.hint) for error in caught] == ["try again"]  # type: ignore[attr-defined]
    assert value(store) == "slow"
    put(store, "later")


# --- PostgreSQL's server ----------------------------------------------------------------------------------------------


def test_a_server_that_was_restarted_is_used_again(postgresql: str) -> None:
    store = Store(postgresql)
    put(store, "before")
    end_connections(postgresql)
    put(store, "after")
    assert value(store) == "after"
    store.close()


def test_a_connection_lost_in_the_middle_writes_nothing(postgresql: str) -> None:
    store = Store(postgresql)
    put(store, "before")
    with pytest.raises(DBAPIError), store.writing() as session:
        session.get_one(SecretRow, "x").value = "half"
        session.flush()
        end_connections(postgresql)
    assert value(store) == "before"
    store.close()


def test_a_writer_that_stands_still_does_not_hold_the_others_up(
    postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_IDLE_IN_TRANSACTION_MS", 300)
    store, others = Store(postgresql), Store(postgresql)
    put(store, "before")
    with pytest.raises(DBAPIError), store.writing() as session:
        session.get_one(SecretRow, "x").value = "half"
        session.flush()
        put(others, "meanwhile")  # waits until the server has enough
    assert value(store) == "meanwhile"
    store.close()
    others.close()


def test_waiting_for_another_writer_has_an_end(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_STATEMENT_MS", 300)
    store, others = Store(postgresql), Store(postgresql)
    with store.writing() as session:
        session.add(SecretRow(name="x", value="first"))
        session.flush()
        with pytest.raises(DBAPIError):
            put(others, "second")
    assert value(others) == "first"
    store.close()
    others.close()


def test_so_many_connections_and_no_more(postgresql: str) -> None:
    store = Store(postgresql, connections=3)
    pool = store._engine.pool
    assert isinstance(pool, QueuePool)
    gate = threading.Barrier(3, timeout=10)

    def read() -> None:
        with store.reading() as session:
            session.get(SecretRow, "x")
            gate.wait()

    threads = [threading.Thread(target=read) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pool.size() == 3 and pool.overflow() <= 0
    store.close()


def test_the_bell_travels_again_after_a_restart(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.relay._RECONNECT_S", 0.1)

    async def ring() -> bool:
        here, there = Bell(), Bell()
        here.start()
        there.start()
        async with Relay(postgresql, here).running(), Relay(postgresql, there).running():
            await asyncio.sleep(0.3)
            await asyncio.to_thread(end_connections, postgresql)
            await asyncio.sleep(1.0)
            event = there.listen()
            here.ring()
            await heard(event, 5.0)
            return event.is_set()

    assert asyncio.run(ring())


def test_who_waits_for_work_hears_of_nothing_else(postgresql: str) -> None:
    async def ring() -> list[bool]:
        here, there = Bell(), Bell()
        here.start()
        there.start()
        async with Relay(postgresql, here).running(), Relay(postgresql, there).running():
            await asyncio.sleep(0.3)
            told, works = there.listen(), [here.listen(work=True), there.listen(work=True)]
            here.ring(work=False)
            await heard(told, 5.0)
            before = [told.is_set(), *(work.is_set() for work in works)]
            here.ring()
            await heard(works[1], 5.0)
            return before + [work.is_set() for work in works]

    assert asyncio.run(ring()) == [True, False, False, True, True]


def test_a_database_that_is_not_there_is_said(tmp_path) -> None:  # type: ignore[no-untyped-def]
    url = f"postgresql+psycopg://user:secret@/rexis?host={tmp_path}"
    with pytest.raises(UnavailableError, match="the database cannot be used") as refused:
        Store(url)
    assert "secret" not in str(refused.value)


def test_the_environment_names_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REXIS_DATABASE_URL", "postgresql+psycopg://user@host/rexis")
    monkeypatch.setenv("REXIS_DATABASE_CONNECTIONS", "7")
    monkeypatch.setenv("REXIS_MIGRATE", "true")
    settings = Settings.load()
    assert settings.database == "postgresql+psycopg://user@host/rexis"
    assert (settings.database_connections, settings.migrate) == (7, True)
