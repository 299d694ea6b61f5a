"""A worker with everything around it in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from provers import errand as errand_module
from provers import keeper as keeper_module
from provers import worker as worker_module
from provers.cache import ProofCache
from provers.executor import OnnxExecutor
from provers.task import Task
from rexis.protocol.policy import Tier
from rexis.protocol.signing import new_account
from tests.unit.provers.bench import Bench
from tests.unit.provers.fakes import FakeBoard, FakeCircuit, linear_model, make_commitment, make_dataset, make_lease

MakeTask = Callable[..., Task]


@pytest.fixture
def circuit() -> FakeCircuit:
    return FakeCircuit()


@pytest.fixture
def board() -> FakeBoard:
    return FakeBoard()


@pytest.fixture
def make_task(tmp_path: Path, circuit: FakeCircuit, board: FakeBoard) -> MakeTask:
    """Makes the first task of a job over `count` records."""

    def make(tier: Tier, count: int = 8, sample_size: int = 2) -> Task:
        model = tmp_path / "model.onnx"
        model.write_bytes(linear_model())
        dataset = make_dataset(count + 3)
        return Task(
            lease=make_lease(tier, dataset, new_account(), sample_size=sample_size, shard=count),
            account=new_account(),
            dataset=dataset,
            executor=OnnxExecutor(model),
            open_circuit=lambda: circuit,
            proofs=ProofCache(tmp_path / "proofs", max_bytes=1 << 20),
            commit=lambda statement: make_commitment(),
            at=lambda stage, done, total: None,
            board=board,
        )

    return make


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause is long."""
    monkeypatch.setattr(worker_module, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(worker_module, "_LONGEST_PAUSE_S", 0.02)
    monkeypatch.setattr(errand_module, "_CHALLENGE_POLL_S", 0.01)
    monkeypatch.setattr(keeper_module, "_RETRY_S", 0.01)
    monkeypatch.setattr(keeper_module, "_TICK_S", 0.01)


@pytest.fixture
def bench(tmp_path: Path, quick: None) -> Bench:
    return Bench(tmp_path / "cache")
