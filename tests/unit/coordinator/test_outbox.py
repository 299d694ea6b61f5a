"""Transactions in memory: what is signed, what is counted, and what becomes of commitments when blocks are dropped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlmodel import select

from coordinator.services import Coordinator
from coordinator.tables import CommitmentRow, LeaseRow, Outcome, Purpose, SignedRow, TransactionRow, TransactionStatus
from rexis.api import JobState, TaskState
from rexis.protocol.digests import sha256
from rexis.protocol.errors import ConflictError, UnavailableError
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, make_coordinator
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_recovery import Sampled


def transactions(coordinator: Coordinator) -> list[TransactionRow]:
    with coordinator._store.reading() as session:
        return list(session.exec(select(TransactionRow).order_by(TransactionRow.id)))  # type: ignore[arg-type]


def post(coordinator: Coordinator, ledger: FakeLedger, subject: str) -> None:
    call = ledger.anchoring(sha256(subject.encode()), 1)
    coordinator.outbox.post(Purpose.ANCHOR, subject, call, lambda session, row: None)


def test_one_transaction_for_a_purpose_and_its_subject(coordinator: Coordinator, ledger: FakeLedger) -> None:
    ledger.holding = True
    for subject in ("a", "b", "a"):
        post(coordinator, ledger, subject)
    assert [(row.subject, row.nonce) for row in transactions(coordinator)] == [("a", 0), ("b", 1)]


def test_what_was_spent_is_kept(coordinator: Coordinator, ledger: FakeLedger) -> None:
    post(coordinator, ledger, "a")
    assert coordinator.outbox.advance()
    (row,) = transactions(coordinator)
    assert (row.status, row.gas_used, row.cost_gwei) == (TransactionStatus.FINAL, 21_000, 21_000)


def test_a_nonce_that_nobody_has_any_more_is_filled(
    coordinator: Coordinator, ledger: FakeLedger, clock: FakeClock
) -> None:
    """A stranger's transaction came before ours, and the block that had it was dropped for good."""
    ledger.holding, ledger.strangers = True, 1
    post(coordinator, ledger, "a")
    ledger.strangers = 0
    coordinator.outbox.advance()
    assert len(transactions(coordinator)) == 1
    clock.pass_seconds(181)
    ledger.head += 1
    coordinator.outbox.advance()
    ours, filler = transactions(coordinator)
    assert (ours.nonce, filler.nonce, filler.purpose) == (1, 0, Purpose.FILLER)
    ledger.mine()
    coordinator.outbox.advance()
    assert {row.status for row in transactions(coordinator)} == {TransactionStatus.FINAL}


def test_only_what_is_next_is_offered_more_for(coordinator: Coordinator, ledger: FakeLedger, clock: FakeClock) -> None:
    ledger.holding = True
    for subject in ("a", "b"):
        post(coordinator, ledger, subject)
    clock.pass_seconds(181)
    coordinator.outbox.advance()
    with coordinator._store.reading() as session:
        signed = session.exec(select(SignedRow)).all()
    first, second = transactions(coordinator)
    assert sorted(row.max_fee for row in signed if row.transaction == first.id) == [100, 113]
    assert [row.max_fee for row in signed if row.transaction == second.id] == [100]


def test_there_is_a_bound_on_what_waits(coordinator: Coordinator, ledger: FakeLedger) -> None:
    ledger.holding = True
    room = coordinator.outbox.room()
    post(coordinator, ledger, "a")
    assert coordinator.outbox.room() == room - 1


def test_a_commitment_whose_block_is_dropped_draws_from_the_block_that_it_gets(
    tmp_path: Path, ledger: FakeLedger, clock: FakeClock
) -> None:
    scene = Scene(make_coordinator(tmp_path, ledger, clock, confirmations=3), ledger)
    sampled = Sampled(scene)
    sampled.take()
    sampled.commit()
    sampled.send()
    commitments = scene.coordinator.commitments
    challenge = lambda: commitments.challenge(sampled.lease.lease_id, sampled.worker.address)  # noqa: E731
    ledger.head += 1
    commitments.follow()
    assert challenge() is None  # its block may still be dropped
    ledger.drop(2)
    commitments.follow()
    with scene.coordinator._store.reading() as session:
        assert session.get_one(CommitmentRow, sampled.lease.lease_id).block is None
    ledger.mine()
    ledger.head += 4
    commitments.follow()
    commitments.follow()
    found = challenge()
    assert found is not None
    assert found.challenge_block_hash == ledger.block_hash(found.block_number + 1)
    assert len(ledger.commitments) == 1
    scene.coordinator.close()


def test_a_challenge_that_the_chain_took_back_ends_the_lease_without_fault(scene: Scene, ledger: FakeLedger) -> None:
    sampled = Sampled(scene, max_attempts=3)
    sampled.take()
    sampled.commit()
    sampled.send()
    ledger.head += 1
    commitments = scene.coordinator.commitments
    assert commitments.challenge(sampled.lease.lease_id, sampled.worker.address) is not None
    ledger.drop(2)
    ledger.mine()
    ledger.head += 20
    for _ in range(3):
        commitments.follow()
    with scene.coordinator._store.reading() as session:
        assert session.get_one(LeaseRow, sampled.lease.lease_id).outcome == Outcome.CANCELLED
    task = sampled.view().tasks[0]
    assert (task.state, task.faults) == (TaskState.PENDING, [])


def test_no_certificate_of_a_challenge_that_the_chain_took_back(scene: Scene, ledger: FakeLedger) -> None:
    made = scene.coordinator.certificates
    sampled = Sampled(scene)
    sampled.take()
    sampled.commit()
    sampled.send()
    ledger.head += 1
    found = scene.coordinator.commitments.challenge(sampled.lease.lease_id, sampled.worker.address)
    assert found is not None
    ledger.fork, ledger.forked_at = 1, found.block_number + 1
    task = SimpleNamespace(commitment=found, certified=(), anchor=SimpleNamespace(anchor_id=0))
    with pytest.raises(ConflictError, match="whose hash had drawn the records to prove"):
        made._require_on_chain([task])  # type: ignore[list-item]
    assert sampled.view().state == JobState.RUNNING


def test_a_transaction_of_the_wallet_that_is_not_ours(coordinator: Coordinator, ledger: FakeLedger) -> None:
    ledger.mempool[0] = b'{"what": "nothing", "nonce": 0, "fee": 1}'
    with pytest.raises(UnavailableError, match="nonce 0 waits to be mined that is not ours"):
        post(coordinator, ledger, "a")
    assert transactions(coordinator) == []


def test_two_processes_sign_at_once(database: str, tmp_path: Path, ledger: FakeLedger, clock: FakeClock) -> None:
    ledger.holding = True
    pair = [make_coordinator(tmp_path / name, ledger, clock, database_url=database) for name in "ab"]
    with ThreadPoolExecutor(2) as threads:
        done = [threads.submit(post, one, ledger, str(number)) for number in range(8) for one in pair]
    assert [one.exception() for one in done] == [None] * 16
    rows = transactions(pair[0])
    assert sorted(row.nonce for row in rows) == list(range(8))
    assert sorted(row.subject for row in rows) == [str(number) for number in range(8)]
    for one in pair:
        one.close()
