"""A coordinator's log of anchors beside a real chain: what an honest one shows, and each lie that a monitor catches.

What a real coordinator shows is compared in :mod:`tests.integration.coordinator.test_anchor_log`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account.signers.local import LocalAccount

from contracts.chain import Chain
from contracts.devchain import DevChain
from contracts.logs import LogReader
from rexis.api import AnchorLeaves, LoggedAnchor, LogKey
from rexis.exports.anchor_log import key_text, log_entry, origin_of
from rexis.exports.note import NoteKey, sign_note
from rexis.exports.tlog import TreeHead
from rexis.protocol.digests import sha256
from rexis.protocol.errors import ChainError, NotFoundError, UnavailableError
from rexis.protocol.merkle import GrowingTree, merkle_root
from rexis.protocol.parsing import Address
from rexis.protocol.signing import address_of, new_account, sign_text
from verifier.monitoring.alerts import Alert, AlertKind
from verifier.monitoring.checkpoint import Checkpoint
from verifier.monitoring.monitor import Monitor, Watched

GRACE = 2


class Teller:
    """A coordinator's log, honest until a test changes what it shows."""

    def __init__(self, chain: Chain, wallet: LocalAccount) -> None:
        self.chain, self.wallet = chain, wallet
        self.origin = origin_of(chain.deployment.domain, address_of(wallet))
        self.private = Ed25519PrivateKey.generate()
        self.signer = wallet
        self.entries: list[LoggedAnchor] = []
        self.under: list[AnchorLeaves] = []
        self.signed_entries: list[LoggedAnchor] | None = None
        self.silent = False

    def write(self, *names: str, on_chain: bool = True, worker: Address | None = None) -> LoggedAnchor:
        """Anchor statements, and show them."""
        statements = [sha256(self.wallet.address.encode(), name.encode()) for name in names]
        root, size = merkle_root(statements), len(statements)
        anchor_id, block, transaction = 10**6, self.chain.block_number(), sha256(b"invented")
        if on_chain:
            made, sent = self.chain.anchor(root, size)
            anchor_id, block, transaction = made.anchor_id, made.block, sent.hash
        self.entries.append(
            LoggedAnchor(
                index=len(self.entries),
                root=root,
                size=size,
                anchor_id=anchor_id,
                block_number=block,
                transaction=transaction,
            )
        )
        self.under.append(AnchorLeaves(statements=statements, workers=[worker or address_of(self.wallet)] * size))
        return self.entries[-1]

    def log_key(self) -> LogKey:
        if self.silent:
            raise UnavailableError("no answer")
        key = NoteKey.of(self.origin, self.private)
        return LogKey(key=str(key), signature=sign_text(self.signer, key_text(key)))

    def log_checkpoint(self) -> str:
        tree = GrowingTree()
        entries = self.entries if self.signed_entries is None else self.signed_entries
        tree.extend(log_entry(each.root, each.size) for each in entries)
        return sign_note(TreeHead(self.origin, tree.size, tree.root).text(), self.origin, self.private)

    def anchors(self, start: int) -> list[LoggedAnchor]:
        return self.entries[start : start + 2]

    def anchor_leaves(self, index: int) -> AnchorLeaves:
        if index >= len(self.under):
            raise NotFoundError("no such anchor")
        return self.under[index]


@pytest.fixture
def teller(coordinator: Chain, wallet: LocalAccount) -> Teller:
    return Teller(coordinator, wallet)


class Watch:
    """A monitor with a state of its own, scanning again and again."""

    def __init__(self, dev: DevChain, reader: LogReader, teller: Teller, state: Path) -> None:
        self._dev, self._reader, self._teller, self.state = dev, reader, teller, state
        self._start = reader.block_number() + 1

    def scan(self, *, mine: int = 0, **watched: Any) -> list[Alert]:
        """What it tells after so many more blocks."""
        if mine:
            self._dev.mine(mine)
        found: list[Alert] = []
        quiet = {"models": [sha256(b"no model")], "submitter": address_of(self._teller.wallet)}
        monitor = Monitor(
            self._reader,
            self.state,
            Watched(**(quiet | watched)),
            start=self._start,
            source=self._teller,
            grace=GRACE,
        )
        monitor.scan(found.append)
        return found

    def forks(self, *, mine: int = 0) -> list[str]:
        found = self.scan(mine=mine)
        assert {alert.kind for alert in found} <= {AlertKind.FORK}
        return [alert.detail for alert in found]


@pytest.fixture
def watch(dev: DevChain, reader: LogReader, teller: Teller, tmp_path: Path) -> Watch:
    return Watch(dev, reader, teller, tmp_path / "state")


def test_an_honest_coordinator_is_not_told_of(teller: Teller, watch: Watch) -> None:
    assert watch.forks(mine=1) == []
    for names in (("a",), ("b", "c", "d"), ("e", "f")):
        teller.write(*names)
    assert watch.forks(mine=GRACE + 1) == []
    teller.write("g")
    assert watch.forks() == []
    assert watch.forks(mine=GRACE + 1) == []
    state = Checkpoint.read(watch.state)
    assert state is not None
    assert state.followed is not None
    assert (state.followed.size, state.followed.shown, state.followed.unshown) == (4, [], [])


def test_an_anchor_that_is_hidden_is_told_once_and_late(teller: Teller, watch: Watch) -> None:
    teller.write("shown")
    hidden = teller.write("hidden")
    del teller.entries[1:]
    assert watch.forks() == []
    (told,) = watch.forks(mine=GRACE)
    assert f"anchor {hidden.anchor_id} on chain" in told
    assert watch.forks(mine=GRACE) == []
    teller.entries.append(hidden)  # at last
    assert watch.forks() == []


def test_an_anchor_that_is_invented_is_told(teller: Teller, watch: Watch) -> None:
    invented = teller.write("invented", on_chain=False)
    assert watch.forks(mine=1) == []
    (told,) = watch.forks(mine=GRACE)
    assert str(invented.root) in told
    assert "wrote none on chain" in told
    assert watch.forks(mine=1) == []


def test_an_anchor_of_a_block_that_is_far_away_is_told_at_once(teller: Teller, watch: Watch) -> None:
    far = teller.write("far", on_chain=False)
    teller.entries[0] = far.model_copy(update={"block_number": far.block_number + 10**6})
    (told,) = watch.forks(mine=1)
    assert "wrote none on chain" in told


def test_an_anchor_of_somebody_else_is_not_the_coordinators(dev: DevChain, teller: Teller, watch: Watch) -> None:
    other = new_account()
    dev.fund(address_of(other))
    stranger = Chain.connect(dev.url, account=other)
    stranger.attach(teller.chain.deployment)
    shown = teller.write("theirs", on_chain=False)
    made, _ = stranger.anchor(shown.root, shown.size)
    teller.entries[0] = shown.model_copy(update={"anchor_id": made.anchor_id, "block_number": made.block})
    (told,) = watch.forks(mine=GRACE + 1)
    assert "wrote none on chain" in told


def test_leaves_that_do_not_give_the_root_are_told(teller: Teller, watch: Watch) -> None:
    teller.write("a", "b")
    teller.write("c")
    teller.write("d")
    wrong = teller.under[0].statements
    teller.under[0] = AnchorLeaves(statements=wrong[::-1], workers=teller.under[0].workers)
    teller.under[1] = AnchorLeaves(statements=teller.under[1].statements, workers=[])
    del teller.under[2]
    first, second, third = watch.forks(mine=1)
    assert "2 leaves do not give root" in first
    assert "not every leaf has a worker" in second
    assert "no such anchor" in third


def test_another_story_about_an_old_anchor_is_told_with_both_signatures(teller: Teller, watch: Watch) -> None:
    teller.write("a")
    teller.write("b")
    assert watch.forks(mine=1) == []
    before = teller.log_checkpoint()
    changed = teller.entries[0].model_copy(update={"root": sha256(b"another")})
    teller.signed_entries = [changed, teller.entries[1]]
    (told,) = watch.forks(mine=1)
    assert before in told
    assert teller.log_checkpoint() in told
    assert watch.forks() == [told]  # it goes on until somebody has looked
    teller.signed_entries = None
    assert watch.forks() == []


def test_other_entries_than_those_that_are_signed_are_told(teller: Teller, watch: Watch) -> None:
    teller.write("a")
    teller.write("b")
    teller.signed_entries = [teller.entries[0], teller.entries[1].model_copy(update={"size": 2})]
    (told,) = watch.forks(mine=1)
    assert "another one is signed" in told


def test_a_log_that_shrinks_is_told(teller: Teller, watch: Watch) -> None:
    teller.write("a")
    teller.write("b")
    assert watch.forks(mine=1) == []
    teller.signed_entries = teller.entries[:1]
    (told,) = watch.forks()
    assert "1 entries by its checkpoint, but had 2" in told


def test_a_log_that_withholds_what_it_signed_is_told(teller: Teller, watch: Watch) -> None:
    shown = teller.write("a")
    teller.signed_entries = [shown, shown]
    (told,) = watch.forks(mine=1)
    assert "shows 1 entries, its checkpoint says 2" in told
    teller.entries = [shown, shown]
    assert "shows entry 0 where 1 should stand" in watch.forks()[0]


@pytest.mark.parametrize("fault", ["key-changes", "key-not-signed", "another-origin"])
def test_a_key_that_is_not_the_coordinators_is_told(teller: Teller, watch: Watch, fault: str) -> None:
    teller.write("a")
    if fault == "key-changes":
        assert watch.forks(mine=1) == []
        teller.private = Ed25519PrivateKey.generate()
    elif fault == "key-not-signed":
        teller.signer = new_account()
    else:
        teller.origin = "example.org/log"
    (told,) = watch.forks(mine=1)
    assert "key" in told


def test_a_silent_coordinator_does_not_hide_what_is_on_chain(teller: Teller, watch: Watch, dev: DevChain) -> None:
    hidden = teller.write("a")
    teller.silent = True
    dev.mine(GRACE)
    found: list[Alert] = []
    with pytest.raises(UnavailableError):
        Monitor(
            watch._reader,
            watch.state,
            Watched(submitter=address_of(teller.wallet)),
            start=watch._start,
            source=teller,
            grace=GRACE,
        ).scan(found.append)
    assert [alert.id for alert in found] == [f"fork:not-shown:{hidden.anchor_id}"]


def test_a_statement_by_my_key_that_was_only_anchored(teller: Teller, watch: Watch) -> None:
    mine = address_of(new_account())
    teller.write("known", worker=mine)
    teller.write("foreign", worker=mine)
    teller.write("of another")
    (known,), (foreign,), _ = (leaves.statements for leaves in teller.under)
    (told,) = watch.scan(mine=1, workers=[mine], known=[known])
    assert told.kind == AlertKind.FOREIGN_STATEMENT
    assert str(foreign) in told.detail


def test_a_reorganisation_that_keeps_the_anchors_is_no_fork(dev: DevChain, teller: Teller, watch: Watch) -> None:
    dev.mine(1)
    assert watch.forks() == []
    lost = teller.write("a")
    assert watch.forks() == []
    dev.drop(1)
    again = Chain.connect(dev.url, account=teller.wallet)  # the old connection counts the lost transaction
    again.attach(teller.chain.deployment)
    again.anchor(lost.root, lost.size)  # as the outbox would, in another block
    found = watch.scan(mine=GRACE + 1)
    assert [alert.kind for alert in found] == [AlertKind.REORGANISATION]


def test_a_reorganisation_that_loses_an_anchor_is_a_fork(dev: DevChain, teller: Teller, watch: Watch) -> None:
    dev.mine(1)
    assert watch.forks() == []
    lost = teller.write("a")
    assert watch.forks() == []
    dev.drop(1)
    found = watch.scan(mine=GRACE + 1)
    assert [alert.kind for alert in found] == [AlertKind.REORGANISATION, AlertKind.FORK]
    assert str(lost.root) in found[1].detail


def test_a_state_of_another_coordinator_is_refused(reader: LogReader, teller: Teller, watch: Watch) -> None:
    watch.scan(mine=1)
    for submitter, source in ((None, None), (address_of(new_account()), teller)):
        with pytest.raises(ChainError, match="follows"):
            Monitor(reader, watch.state, Watched(submitter=submitter), source=source).scan(_refuse)


def _refuse(alert: Alert) -> None:
    raise AssertionError(alert)
