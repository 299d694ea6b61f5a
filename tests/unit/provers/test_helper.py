"""Helping with others' tasks: what is checked before a piece is made, and what ends one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from circuits.chain import ChainSettings
from circuits.proving import SegmentProof
from provers.circuit import LocalDesk
from provers.onchain import Unchecked
from provers.onsite import OwnDatasets
from provers.task import CircuitFiles
from rexis.api import Piece, Stage
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import ChainError, DigestMismatchError, EvidenceError, ResourceError
from rexis.protocol.policy import Tier
from rexis.protocol.records import Integers, quantise
from rexis.protocol.statement import JobRequest
from rexis.protocol.tensors import pack_values
from tests.unit.provers.bench import REQUESTER, Bench, lease_of, slow
from tests.unit.provers.fakes import (
    CIRCUIT,
    DOMAIN,
    INPUT_SCALE,
    FakeChain,
    linear_model,
    make_dataset,
    make_lease,
    proof_text,
)

RECORDS = quantise(make_dataset(5).records, INPUT_SCALE)
VALUES = [RECORDS, *FakeChain().trace(RECORDS)]
VKA = [sha256(b"word")]
SEGMENT = 1


class FakeSettings:
    """Two boundaries of three values."""

    boundaries = (3, 3)


class FakeSegment:
    """One segment of a :class:`FakeChain`."""

    at_once = 1

    def __init__(self, chain: FakeChain, segment: int) -> None:
        self._chain, self._segment = chain, segment

    def outputs(self, inputs: Integers) -> Integers:
        return self._chain.run_segment(self._segment, inputs)

    def prove(self, inputs: Integers) -> SegmentProof:
        return self._chain.prove_segment(self._segment, inputs)


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> FakeChain:
    """Stands in for ezkl."""
    fake = FakeChain()

    def opened(
        self: LocalDesk,
        pinned: Circuit,
        files: CircuitFiles,
        vk: Path,
        vka: Sequence[Digest],
        segment: int,
    ) -> FakeSegment:
        assert (pinned, vka, vk.read_bytes()) == (CIRCUIT, VKA, b"vk")
        assert files.model.read_bytes() == linear_model()
        assert (files.settings.read_bytes(), files.srs.read_bytes()) == (b"settings", b"srs")
        return FakeSegment(fake, segment)

    monkeypatch.setattr(LocalDesk, "open_segment", opened)
    monkeypatch.setattr(ChainSettings, "parse", lambda data: FakeSettings())
    bench.coordinator.blobs[sha256(b"vk")] = b"vk"
    return fake


def piece_of(bench: Bench, values: Sequence[Integers] = VALUES, **changes: Any) -> Piece:
    """A piece of the middle segment, whose values can be fetched."""
    blob = pack_values(values)
    bench.coordinator.blobs[sha256(blob)] = blob
    lease = make_lease(Tier.ZK, make_dataset(5), REQUESTER)
    piece = Piece(
        piece_id="1" * 32,
        expires_at="2030-01-01T00:00:00Z",
        heartbeat_seconds=1,
        domain=lease.domain,
        request=lease.request,
        request_signature=lease.request_signature,
        segment=SEGMENT,
        records=len(RECORDS),
        values=sha256(blob),
        vka=VKA,
    )
    return piece.model_copy(update=changes)


def help_with(bench: Bench, *pieces: Piece) -> Any:
    bench.coordinator.pieces = list(pieces)
    return bench.run()


@pytest.mark.parametrize("segment", [0, 1, 2])
def test_a_piece_is_made_and_handed_in(bench: Bench, chain: FakeChain, segment: int) -> None:
    done = help_with(bench, piece_of(bench, segment=segment))
    (proofs,) = done.handed_in_pieces
    inputs, outputs = VALUES[segment : segment + 2]
    assert proofs.proofs == [proof_text(*row) for row in zip(inputs, outputs, strict=True)]
    assert (done.left, done.failures) == ([], [])
    assert bench.display.stages[0] == Stage.FETCH
    assert bench.display.stages[-1] == Stage.UPLOAD


def test_tasks_come_first(bench: Bench, chain: FakeChain) -> None:
    bench.coordinator.pieces = [piece_of(bench)]
    done = bench.run(lease_of(Tier.COMMIT), lease_of(Tier.COMMIT))
    assert (len(done.handed_in), len(done.handed_in_pieces)) == (2, 1)


def test_finished_proofs_are_not_made_again(bench: Bench, chain: FakeChain) -> None:
    done = help_with(bench, piece_of(bench), piece_of(bench))
    assert len(chain.proved) == len(RECORDS)
    assert done.handed_in_pieces[0] == done.handed_in_pieces[1]


@pytest.mark.parametrize("place", [SEGMENT, SEGMENT + 1])
def test_values_that_are_not_the_segments_are_not_proved(bench: Bench, chain: FakeChain, place: int) -> None:
    """A lead that lies about a boundary wastes no proof, and nobody is blamed for it but the lead."""
    lied = [part.copy() for part in VALUES]
    lied[place][3, 0] += 2
    done = help_with(bench, piece_of(bench, lied))
    ((code, detail),) = done.left
    assert code == EvidenceError.code
    assert "other outputs than the task's lead says" in detail
    assert (chain.proved, done.handed_in_pieces) == ([], [])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"domain": DOMAIN.model_copy(update={"chain_id": 1})}, "conflict"),
        ({"request_signature": bytes(65)}, "bad-signature"),
        ({"records": 4}, "bad-tensor"),
        ({"request": make_lease(Tier.COMMIT, make_dataset(5), REQUESTER).request}, "bad-signature"),
    ],
)
def test_a_piece_that_follows_from_no_request_is_left(
    bench: Bench, chain: FakeChain, changes: dict[str, Any], code: str
) -> None:
    done = help_with(bench, piece_of(bench, **changes))
    assert [found for found, _ in done.left] == [code]
    assert (chain.proved, done.handed_in_pieces) == ([], [])


def test_a_model_that_is_not_on_chain_is_not_proved(bench: Bench, chain: FakeChain) -> None:
    class Revoked(Unchecked):
        def require_model(self, request: JobRequest) -> None:
            raise ChainError("model was revoked")

    bench.chain = Revoked()
    assert help_with(bench, piece_of(bench)).left == [("chain", "model was revoked")]
    assert Stage.SETUP not in bench.display.stages


@pytest.mark.parametrize("error", [ResourceError("no room"), DigestMismatchError("another vk")])
def test_a_segment_that_cannot_be_set_up_is_left_and_the_worker_goes_on(
    bench: Bench, chain: FakeChain, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    opened, failures = LocalDesk.open_segment, [error]

    def fail_once(self: LocalDesk, *arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return opened(self, *arguments)

    monkeypatch.setattr(LocalDesk, "open_segment", fail_once)
    done = help_with(bench, piece_of(bench), piece_of(bench))
    assert [code for code, _ in done.left] == [getattr(error, "code", "")]
    assert len(done.handed_in_pieces) == 1


def test_refused_proofs_do_not_end_the_worker(bench: Bench, chain: FakeChain, caplog: pytest.LogCaptureFixture) -> None:
    bench.coordinator.refuses_pieces = EvidenceError("segment 1: proof 0 does not hold")
    assert len(help_with(bench, piece_of(bench), piece_of(bench)).handed_in_pieces) == 2
    assert caplog.text.count("proof 0 does not hold") >= 2


def test_an_error_of_our_own_is_told_without_its_text(
    bench: Bench, chain: FakeChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise ValueError("holds who knows what")

    monkeypatch.setattr("provers.helper.unpack_values", lambda *_, **__: broken())
    assert help_with(bench, piece_of(bench)).left == [("internal", "the worker failed: ValueError")]


def test_a_lost_piece_is_dropped(bench: Bench, chain: FakeChain) -> None:
    bench.coordinator.lost = True
    slow(chain, lambda: len(bench.coordinator.progress) > 1)
    done = help_with(bench, piece_of(bench))
    assert (done.handed_in_pieces, done.left) == ([], [])
    assert len(chain.proved) <= 1


def test_a_stop_leaves_the_piece(bench: Bench, chain: FakeChain) -> None:
    slow(chain, lambda: bench.request_stop() or True)
    done = help_with(bench, piece_of(bench), piece_of(bench))
    assert [code for code, _ in done.left] == ["stopped"]
    assert (done.handed_in_pieces, done.released) == ([], [])


@pytest.mark.parametrize(
    ("fault", "lie"),
    [
        ("garbage-proofs", lambda proofs, right: all(a != b for a, b in zip(proofs, right, strict=True))),
        ("swap-proofs", lambda proofs, right: proofs == right[1:] + right[:1]),
        ("foreign-signature", lambda proofs, right: proofs == right),
    ],
)
def test_a_dishonest_helper_lies_about_proofs(
    bench: Bench, chain: FakeChain, fault: str, lie: Callable[[list[bytes], list[bytes]], bool]
) -> None:
    bench.options["dishonest"] = fault
    (handed_in,) = help_with(bench, piece_of(bench)).handed_in_pieces
    inputs, outputs = VALUES[SEGMENT : SEGMENT + 2]
    assert lie(handed_in.proofs, [proof_text(*row) for row in zip(inputs, outputs, strict=True)])


@pytest.mark.parametrize("own", [0, 1])
def test_a_worker_on_the_data_owners_machine_helps_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, own: int
) -> None:
    """It works on its own datasets only."""
    monkeypatch.setattr(OwnDatasets, "__len__", lambda self: own)
    turns: list[int] = []
    asked: list[int] = []

    def idle() -> None:
        turns.append(1)
        if len(turns) == 3:
            bench.request_stop()

    bench.coordinator.when_idle = idle
    monkeypatch.setattr(bench.coordinator, "piece", lambda: asked.append(1))
    bench.run()
    assert len(asked) == (0 if own else 2)
