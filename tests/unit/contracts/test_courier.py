"""One transaction until it is mined, whatever happens to node, process and fees."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from contracts import courier
from contracts.courier import Courier
from contracts.node import RevertError
from contracts.sending import Call, Fees, Receipt, Sender, Signed
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import UnavailableError
from rexis.protocol.parsing import ZERO_ADDRESS

CALL = Call(ZERO_ADDRESS, b"answer")


@dataclass
class FakeSender:
    """A node that mines what it is told to. Raw bytes are the nonce and the fee, as text."""

    mined: int = 0
    fee_cap: int | None = None
    market: int = 100
    takes: bool = True
    refuses: bool = False
    reverts: bool = False
    sent: list[bytes] = field(default_factory=list)
    receipts: dict[Digest, Receipt] = field(default_factory=dict)

    def gas(self, call: Call) -> int:
        if self.refuses:
            raise RevertError("the contract refused", None)
        return 21_000

    def fees(self) -> Fees:
        return Fees(self.market, 1)

    def nonces(self) -> tuple[int, int]:
        return self.mined, self.mined

    def sign(self, call: Call, gas: int, nonce: int, fees: Fees) -> Signed:
        raw = json.dumps([nonce, fees.most]).encode()
        return Signed(sha256(raw), raw, fees)

    def sign_again(self, raw: bytes, fees: Fees) -> Signed:
        return self.sign(CALL, 0, json.loads(raw)[0], fees)

    def broadcast(self, raw: bytes) -> None:
        if not self.takes:
            raise UnavailableError("no chain node answers")
        self.sent.append(raw)

    def receipt(self, digest: Digest) -> Receipt | None:
        return self.receipts.get(digest)

    def why_reverted(self, raw: bytes, block: int) -> RevertError:
        return RevertError("the contract refused", None)

    def mine(self, raw: bytes) -> None:
        self.mined = json.loads(raw)[0] + 1
        self.receipts[sha256(raw)] = Receipt(sha256(raw), 7, sha256(b"block"), 1, 1, not self.reverts)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "_POLL_S", 0.0)
    monkeypatch.setattr(courier, "_RESEND_S", 0.0)


def _sent(node: FakeSender, folder: Path, turns: Any, stuck_s: float = 1e6) -> Receipt:
    """Send while something happens at each turn."""
    left = list(turns)

    def waiting() -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    return Courier(cast(Sender, node), folder, stuck_s=stuck_s).send("one", CALL, waiting)


def nothing() -> None:
    pass


def test_what_was_signed_is_sent_again_after_a_restart(tmp_path: Path) -> None:
    node = FakeSender(mined=3)
    with pytest.raises(KeyboardInterrupt):
        _sent(node, tmp_path, [nothing, nothing])
    assert (tmp_path / "one.json").is_file()
    node.market = 10_000  # a new signature would be another one
    receipt = _sent(node, tmp_path, [nothing, lambda: node.mine(node.sent[-1]), nothing])
    assert (receipt.block, set(map(bytes, node.sent))) == (7, {node.sent[0]})
    assert not (tmp_path / "one.json").exists()


def test_one_that_no_block_takes_is_offered_more_for_and_any_of_them_counts(tmp_path: Path) -> None:
    node = FakeSender()
    receipt = _sent(node, tmp_path, [nothing, nothing, nothing, lambda: node.mine(node.sent[0]), nothing], stuck_s=0.0)
    assert receipt.hash == sha256(node.sent[0])
    assert json.loads(node.sent[1])[1] >= 100 * 9 // 8


def test_one_whose_nonce_another_used_is_signed_anew(tmp_path: Path) -> None:
    node = FakeSender()

    def elsewhere() -> None:
        node.mined = 5

    receipt = _sent(node, tmp_path, [nothing, elsewhere, nothing, nothing, lambda: node.mine(node.sent[-1]), nothing])
    assert json.loads(node.sent[-1])[0] == 5
    assert receipt.hash == sha256(node.sent[-1])


def test_a_node_that_is_away_is_waited_for(tmp_path: Path) -> None:
    node = FakeSender(takes=False)

    def back() -> None:
        node.takes = True

    _sent(node, tmp_path, [nothing, back, nothing, lambda: node.mine(node.sent[-1]), nothing])


def test_a_refusal_leaves_nothing_under_way(tmp_path: Path) -> None:
    with pytest.raises(RevertError):
        _sent(FakeSender(refuses=True), tmp_path, [nothing])
    node = FakeSender(reverts=True)
    with pytest.raises(RevertError):
        _sent(node, tmp_path, [nothing, lambda: node.mine(node.sent[-1]), nothing])
    assert not (tmp_path / "one.json").exists()
