"""One coordinator over a chain in memory, without its background loops: tests take each step themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from coordinator.app import create_app
from coordinator.services import Coordinator
from rexis.protocol.signing import new_account
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, make_coordinator
from tests.unit.coordinator.scene import Scene


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger(new_account())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def coordinator(tmp_path: Path, ledger: FakeLedger, clock: FakeClock) -> Iterator[Coordinator]:
    made = make_coordinator(tmp_path, ledger, clock)
    yield made
    made.close()


@pytest.fixture
def http(coordinator: Coordinator) -> TestClient:
    return TestClient(create_app(coordinator), base_url="http://127.0.0.1:8080")


@pytest.fixture
def scene(coordinator: Coordinator, ledger: FakeLedger) -> Scene:
    return Scene(coordinator, ledger)
