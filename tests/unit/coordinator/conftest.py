"""One coordinator over a chain in memory, without its background loops: tests take each step themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from coordinator.app import create_app
from coordinator.services import Coordinator
from rexis.protocol.signing import new_account
from tests.databases import KINDS, Databases
from tests.s3 import S3, serving_s3
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, make_coordinator
from tests.unit.coordinator.scene import Scene


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    with serving_s3() as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def blob_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Where blobs are: a folder (None), and a new bucket of a real S3 API."""
    if request.param == "folder":
        return None
    server: S3 = request.getfixturevalue("s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{server.bucket()}/some/prefix"


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger(new_account())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


# About requests, roles, files and figures: their SQL is that of the modules which run on each kind of database, or of
# those of their tests that are marked `each_database`.
_ONE_KIND = {
    "test_auth",
    "test_blobs",
    "test_certifying",
    "test_evidence",
    "test_front",
    "test_http",
    "test_job_commands",
    "test_jobs",
    "test_key_rotation",
    "test_large_data",
    "test_members",
    "test_observing",
    "test_pieces",
    "test_routes_by_role",
    "test_uploads",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that uses a database, or a coordinator, runs on each kind, unless it need not."""
    module = metafunc.module.__name__.rpartition(".")[2]
    each = module not in _ONE_KIND or metafunc.definition.get_closest_marker("each_database") is not None
    for name in {"database", "empty_database"} & set(metafunc.fixturenames):
        metafunc.parametrize(name, KINDS if each else KINDS[:1], indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with all tables."""
    with databases.migrated(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def empty_database(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables."""
    with databases.empty(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def coordinator(tmp_path: Path, database: str, ledger: FakeLedger, clock: FakeClock) -> Iterator[Coordinator]:
    made = make_coordinator(tmp_path, ledger, clock, database_url=database)
    yield made
    made.close()


@pytest.fixture
def http(coordinator: Coordinator) -> TestClient:
    return TestClient(create_app(coordinator), base_url="http://127.0.0.1:8080")


@pytest.fixture
def scene(coordinator: Coordinator, ledger: FakeLedger) -> Scene:
    return Scene(coordinator, ledger)
