"""One coordinator over a chain in memory, without its background loops: tests take each step themselves."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from starlette.testclient import TestClient

from coordinator.app import create_app
from coordinator.services import Coordinator
from rexis.protocol.signing import new_account
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, make_coordinator
from tests.unit.coordinator.scene import Scene

SERVER = os.environ.get("REXIS_TEST_POSTGRESQL")


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


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database's URL: of SQLite, and of a new one on the PostgreSQL server that REXIS_TEST_POSTGRESQL names.

    Its user must be one who may make databases.
    """
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/state.db"
        return
    if SERVER is None:
        pytest.skip("REXIS_TEST_POSTGRESQL names no server")
    name = f"rexis_test_{secrets.token_hex(6)}"
    server = create_engine(SERVER, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        yield make_url(SERVER).set(database=name).render_as_string(hide_password=False)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()
