"""A tiny real circuit: 4-3-2 MLP, 2^10 rows, set up once a session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from circuits.artefacts import CircuitCache
from circuits.build import ProvingCircuit, build_circuit
from circuits.process import EzklProcess
from circuits.srs import Srs, ensure_development_srs
from tests.integration.circuits.tiny_circuit import TINY, mlp


@pytest.fixture(scope="session")
def ezkl() -> Iterator[EzklProcess]:
    pytest.importorskip("ezkl")
    with EzklProcess() as process:
        yield process


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("circuits")


@pytest.fixture(scope="session")
def srs(work: Path, ezkl: EzklProcess) -> Srs:
    return ensure_development_srs(TINY.logrows, work)


@pytest.fixture(scope="session")
def circuit(work: Path, srs: Srs, ezkl: EzklProcess) -> ProvingCircuit:
    return build_circuit(mlp(0), TINY, srs, CircuitCache(work / "owner"), ezkl)
