"""What chains and nodes do to a coordinator: whatever it is, nothing is anchored twice, and nothing is forgotten."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hexbytes import HexBytes
from sqlmodel import select

from contracts.devchain import DevChain
from coordinator.chain import Ledger
from coordinator.services import Coordinator
from coordinator.tables import AnchorState, SignedRow, TransactionStatus
from rexis.api import JobState
from rexis.protocol.errors import UnavailableError
from tests.integration.coordinator.world import GWEI, World, start_world
from tests.unit.coordinator.fakes import Crash
from verifier.report import Outcome


@pytest.fixture
def world(tmp_path: Path, deployed: Path) -> Iterator[World]:
    made = start_world(tmp_path, deployed)
    yield made
    made.close()


def test_a_node_that_is_away_and_comes_back_without_what_waited(world: World) -> None:
    job = world.work()
    world.turn()
    assert world.transactions(TransactionStatus.OPEN)
    port = urlsplit(world.dev.url).port
    world.dev.stop()
    with pytest.raises(UnavailableError, match="no chain node answers"):
        world.turn()
    world.dev = DevChain.start(block_time_s=None, port=port, state=world.folder / "state.json")
    world.dev.hold()
    world.finish(job)
    assert len(world.transactions()) == 1


def test_another_endpoint_takes_over(world: World) -> None:
    world.restart(rpc="http://127.0.0.1:9", fallback_rpcs=[world.dev.url])
    world.finish(world.work())


@pytest.mark.parametrize("delivered", [True, False], ids=("after the node had it", "before the node had it"))
def test_dying_while_a_transaction_is_sent(world: World, monkeypatch: pytest.MonkeyPatch, delivered: bool) -> None:
    job = world.work()
    send = Ledger.broadcast

    def die(ledger: Ledger, raw: bytes) -> None:
        if delivered:
            send(ledger, raw)
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "broadcast", die)
        with pytest.raises(Crash):
            world.turn()
    (before,) = world.transactions()
    world.restart()
    world.finish(job)
    (after,) = world.transactions()
    assert after.tx_hash == before.tx_hash


def test_a_reorganisation_before_the_anchor_is_final(world: World) -> None:
    job = world.work()
    world.turn()
    world.dev.mine()
    world.turn()
    (anchor,) = world.anchors()
    assert anchor.state == AnchorState.MINED
    world.dev.drop(1)
    world.turn()
    (anchor,) = world.anchors()
    assert (anchor.state, anchor.block) == (AnchorState.SENT, None)
    world.finish(job)
    assert len(world.transactions()) == 1


def test_a_reorganisation_after_which_somebody_else_has_the_nonce(world: World) -> None:
    job = world.work()
    world.turn()
    world.dev.mine()
    world.turn()
    world.dev.drop(1)
    world.elsewhere(world.next_nonce())
    world.dev.mine()
    world.finish(job)
    assert [row.status for row in world.transactions()] == [TransactionStatus.LOST, TransactionStatus.FINAL]


def test_a_reorganisation_deeper_than_the_confirmations(world: World) -> None:
    """The certificate that was given out does not hold any more, and is replaced by one that does."""
    job = world.work()
    world.finish(job)
    old = world.certificate(job)
    world.dev.drop(world.dev_head() - world.anchors()[0].block + 1)  # type: ignore[operator]
    assert world.verify(old).outcome == Outcome.INVALID
    world.dev.mine(17)  # final blocks are looked at from time to time only
    world.turn()
    view = world.scene.job(job)
    assert (view.state, view.certificate_digest) == (JobState.ANCHORING, None)
    world.finish(job)
    assert world.certificate(job) != old


def test_a_transaction_that_offers_too_little(world: World) -> None:
    job = world.work()
    world.turn()
    world.dev.raise_base_fee(500 * GWEI)
    world.dev.mine()
    world.turn()
    (row,) = world.transactions()
    assert row.status == TransactionStatus.OPEN
    world.clock.pass_seconds(181)
    world.turn()
    with world.coordinator._store.reading() as session:
        fees = sorted(row.max_fee for row in session.exec(select(SignedRow)))
    assert len(fees) == 2
    assert fees[1] > 500 * GWEI
    world.finish(job)
    (row,) = world.transactions()
    assert row.cost_gwei is not None
    assert row.cost_gwei > 0


def test_the_first_of_two_signatures_may_be_mined_after_all(world: World) -> None:
    job = world.work()
    world.turn()
    (first,) = world.transactions()
    world.clock.pass_seconds(181)
    world.turn()  # no block came: it offers more
    (second,) = world.transactions()
    assert second.tx_hash != first.tx_hash
    world.dev.forget()
    reader = Ledger.connect(world.dev.url, account=world.account)
    reader.broadcast(bytes(HexBytes(first.raw)))  # type: ignore[arg-type]
    world.dev.mine()
    world.finish(job)
    (row,) = world.transactions()
    assert row.tx_hash == first.tx_hash


def test_a_cap_on_fees_holds_and_says_so(world: World) -> None:
    world.restart(max_fee_gwei=3)
    job = world.work()
    world.turn()
    world.dev.raise_base_fee(500 * GWEI)
    world.dev.mine()
    world.clock.pass_seconds(181)
    with pytest.raises(UnavailableError, match="above the limit"):
        world.turn()
    with world.coordinator._store.reading() as session:
        assert all(row.max_fee <= 3 * GWEI for row in session.exec(select(SignedRow)))
    world.restart()  # its operator raised the cap
    world.finish(job)


def test_a_wallet_that_is_used_elsewhere_too(world: World) -> None:
    job = world.work()
    world.elsewhere(world.next_nonce())
    with pytest.raises(UnavailableError, match="not ours"):
        world.turn()
    world.dev.mine()
    world.turn()
    world.elsewhere(world.next_nonce(), gwei=50)  # dearer than ours, of the same nonce
    world.finish(job)
    assert [row.status for row in world.transactions()] == [TransactionStatus.LOST, TransactionStatus.FINAL]


def test_a_database_that_was_restored_from_before_the_anchor(world: World) -> None:
    job = world.work()
    world.coordinator.anchoring._plan(world.dev_head())
    folder, backup = world.folder / "data", world.folder / "backup"
    world.coordinator.close()
    shutil.copytree(folder, backup)
    world.restart()
    world.turn()
    world.dev.mine()
    world.coordinator.close()
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    world.restart()
    world.finish(job)


def test_two_coordinators_on_one_database_and_one_account(world: World) -> None:
    job = world.work()
    pair = [world.start(), world.start()]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(6):
            list(pool.map(_run, pair))
            world.dev.mine()
    world.finish(job)
    assert len(world.transactions()) == 1


def _run(coordinator: Coordinator) -> None:
    coordinator.anchoring.run()
