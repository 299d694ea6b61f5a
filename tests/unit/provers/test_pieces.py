"""One task's proofs by several workers: what its lead does, whatever its helpers do."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

import pytest

from provers import pieces as pieces_module
from provers.task import Task
from provers.tiers import TIERS
from rexis.api import PieceState, Stage
from rexis.protocol.errors import LeaseError, ResourceError
from rexis.protocol.evidence import Evidence
from rexis.protocol.policy import Tier
from rexis.protocol.records import boundary_values
from tests.unit.provers.conftest import MakeTask
from tests.unit.provers.fakes import FakeBoard, FakeChain, proof_text

RECORDS, SEGMENTS = 8, 3


@pytest.fixture
def circuit() -> FakeChain:
    return FakeChain()


@pytest.fixture
def task(make_task: MakeTask) -> Task:
    return make_task(Tier.ZK, RECORDS)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set how many seconds pass between two looks at the clock."""

    def set_clock(step: float) -> None:
        seconds = itertools.count(0.0, step)
        monkeypatch.setattr(pieces_module.time, "monotonic", lambda: next(seconds))

    return set_clock


def evidence_of(task: Task) -> Evidence:
    prover = TIERS[task.request.policy.tier](task)
    prover.prepare()
    return prover.evidence(prover.compute())


def require_right(evidence: Evidence, circuit: FakeChain, records: int = RECORDS) -> None:
    """Every segment's proof is there, and about what the one before gave."""
    assert len(evidence.proofs) == records
    for opening, proof in zip(evidence.openings, evidence.proofs, strict=True):
        inputs = boundary_values(opening.input)
        values = [inputs, *circuit.trace(inputs[None])]
        values = [part.reshape(-1) for part in values]
        assert proof.proofs == [proof_text(*link) for link in itertools.pairwise(values)]
        assert [boundary_values(part).tolist() for part in proof.boundaries] == [part.tolist() for part in values[1:-1]]


def true_proofs(board: FakeBoard, segment: int) -> list[bytes]:
    inputs, outputs = board.offered[segment : segment + 2]
    return [proof_text(*row) for row in zip(inputs, outputs, strict=True)]


def test_without_helpers_the_lead_does_all(task: Task, board: FakeBoard, circuit: FakeChain) -> None:
    require_right(evidence_of(task), circuit)
    assert len(circuit.proved) == RECORDS * SEGMENTS
    assert [part.shape for part in board.offered] == [(RECORDS, width) for width in (3, 3, 3, 2)]
    assert board.waits == 0


def test_only_the_sample_is_offered(make_task: MakeTask, board: FakeBoard, circuit: FakeChain) -> None:
    require_right(evidence_of(make_task(Tier.SAMPLED, 40, sample_size=3)), circuit, 3)
    assert [len(part) for part in board.offered] == [3] * (SEGMENTS + 1)


def test_what_helpers_make_is_not_made_again(task: Task, board: FakeBoard, circuit: FakeChain) -> None:
    def helps(board: FakeBoard) -> None:
        if 2 not in board.made:
            board.make(2, true_proofs(board, 2))

    board.helps = helps
    require_right(evidence_of(task), circuit)
    assert len(circuit.proved) == RECORDS * 2
    board.helps = lambda board: None
    require_right(evidence_of(task), circuit)  # and is kept: another lease, the same proofs
    assert len(circuit.proved) == RECORDS * 2


def test_the_lead_waits_for_a_helper(task: Task, board: FakeBoard, circuit: FakeChain) -> None:
    def helps(board: FakeBoard) -> None:
        if board.waits < 5:
            board.hold(1)
        elif 1 not in board.made:
            board.make(1, true_proofs(board, 1))

    board.helps = helps
    require_right(evidence_of(task), circuit)
    assert board.waits == 5
    assert len(circuit.proved) == RECORDS * 2


def test_a_piece_that_was_left_is_the_leads(task: Task, board: FakeBoard, circuit: FakeChain) -> None:
    def helps(board: FakeBoard) -> None:
        if board.waits == 0:
            board.hold(1)
        elif 1 not in board.mine and board.states[1] == PieceState.HELD:
            board.states[1] = PieceState.OPEN

    board.helps = helps
    require_right(evidence_of(task), circuit)
    assert board.waits == 1
    assert len(circuit.proved) == RECORDS * SEGMENTS


@pytest.mark.parametrize(
    "proofs",
    [
        lambda right: [b"garbage", *right[1:]],
        lambda right: right[1:] + right[:1],
        lambda right: right[:-1],
        lambda right: [*right, right[0]],
        lambda right: [],
    ],
)
def test_what_the_coordinator_lets_pass_is_checked_again(
    task: Task,
    board: FakeBoard,
    circuit: FakeChain,
    proofs: Callable[[list[bytes]], list[bytes]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The lead signs for all, so it does not believe that anybody has checked."""
    board.helps = lambda board: None if 1 in board.made else board.make(1, proofs(true_proofs(board, 1)))
    require_right(evidence_of(task), circuit)
    assert len(circuit.proved) == RECORDS * SEGMENTS
    assert "proofs of segment 1 are of no use" in caplog.text


def test_helpers_that_do_nothing_cost_some_patience(
    task: Task, board: FakeBoard, circuit: FakeChain, slow: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    def helps(board: FakeBoard) -> None:
        for segment in (1, 2):
            if segment not in board.mine and board.states[segment] == PieceState.OPEN:
                board.hold(segment)

    board.helps = helps
    slow(1.0)
    require_right(evidence_of(task), circuit)
    assert 25 < board.waits <= 35  # seconds, for both together
    assert caplog.text.count("long in coming") == 2


def test_helpers_that_hold_all_from_the_beginning(
    task: Task, board: FakeBoard, circuit: FakeChain, slow: Callable[[float], None]
) -> None:
    board.helps = lambda board: [board.hold(at) for at, state in enumerate(board.states) if state == PieceState.OPEN]  # type: ignore[assignment, return-value]
    slow(10.0)
    require_right(evidence_of(task), circuit)
    assert 55 < board.waits < 75


def test_where_nothing_can_be_offered_the_lead_goes_on(
    task: Task, board: FakeBoard, circuit: FakeChain, caplog: pytest.LogCaptureFixture
) -> None:
    board.refuses = ResourceError("the values are too large")
    require_right(evidence_of(task), circuit)
    assert "nobody can help with this task: the values are too large" in caplog.text


def test_a_lost_lease_ends_the_task(task: Task, board: FakeBoard, circuit: FakeChain) -> None:
    board.refuses = LeaseError("given to another worker")
    with pytest.raises(LeaseError):
        evidence_of(task)
    assert circuit.proved == []


def test_progress_counts_everybodys_proofs(make_task: MakeTask, board: FakeBoard) -> None:
    told: list[tuple[int, int]] = []

    def at(stage: Stage, done: int, total: int) -> None:
        if stage == Stage.PROVE:
            told.append((done, total))

    task = make_task(Tier.ZK, RECORDS)
    board.helps = lambda board: None if 2 in board.made else board.make(2, true_proofs(board, 2))
    evidence_of(Task(**{**vars(task), "at": at}))
    total = RECORDS * SEGMENTS
    assert told[-1] == (total, total)
    assert {done for done, _ in told[1:]} >= set(range(RECORDS, total + 1))
    assert sorted(done for done, _ in told) == [done for done, _ in told]


def test_a_lead_that_is_told_to_stop_does(task: Task, board: FakeBoard, caplog: pytest.LogCaptureFixture) -> None:
    class Stopped(Exception):
        pass

    def wait(seconds: float) -> None:
        raise Stopped

    board.helps = lambda board: board.hold(1)
    board.wait = wait  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING), pytest.raises(Stopped):
        evidence_of(task)
