"""The audit log of a coordinator: noted with what it is about, then chained, by however many processes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlmodel import select

from coordinator.audit import OURSELVES, Audit, record
from coordinator.store import Store
from coordinator.tables import AuditRow, NoticeRow
from rexis.auditlog import START, AuditError, verify_log


def note(store: Store, count: int, name: str = "job") -> None:
    with store.writing() as session:
        for number in range(count):
            record(session, number, OURSELVES, "job.submit", f"{name} {number}")


def test_notes_become_a_chain_in_their_order(database: str) -> None:
    store = Store(database)
    audit = Audit(store)
    assert audit.head() == START
    note(store, 2500)
    assert audit.chain() == 2500
    assert audit.chain() == 0
    entries = [*audit.after(0), *audit.after(1000), *audit.after(2000)]
    assert verify_log(entries) == audit.head()
    assert [entry.object for entry in entries] == [f"job {number}" for number in range(2500)]
    store.close()


def test_what_is_rolled_back_is_not_noted(database: str) -> None:
    store = Store(database)

    def fail() -> None:
        with store.writing() as session:
            record(session, 1, OURSELVES, "job.submit", "x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert Audit(store).chain() == 0
    store.close()


def test_several_processes_chain_each_note_once(database: str) -> None:
    stores = [Store(database) for _ in range(3)]

    def work(store: Store, name: str) -> None:
        for _ in range(10):
            note(store, 3, name)
            Audit(store).chain()

    threads = [threading.Thread(target=work, args=(store, str(number))) for number, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    audit = Audit(stores[0])
    audit.chain()
    entries = audit.after(0)
    verify_log(entries)
    assert len(entries) == 90
    assert len({(entry.object, number) for number, entry in enumerate(entries)}) == 90
    for name in "012":
        mine = [entry.object for entry in entries if entry.object.startswith(name)]
        assert mine == [f"{name} {number}" for _ in range(10) for number in range(3)]
    with stores[0].reading() as session:
        assert session.exec(select(NoticeRow)).first() is None
    for store in stores:
        store.close()


def test_a_row_that_is_removed_from_the_table_is_missed(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/db")
    audit = Audit(store)
    note(store, 5)
    audit.chain()
    with store.writing() as session:
        session.delete(session.get_one(AuditRow, 3))
    with pytest.raises(AuditError, match="entry 3"):
        verify_log(audit.after(0))
    store.close()
