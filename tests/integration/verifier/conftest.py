"""The recorded chain and one ezkl process, once for all vectors; a chain of its own for what a monitor follows."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

import circuits.verifying
from circuits.process import EzklProcess
from contracts.chain import Chain
from contracts.devchain import DevChain
from contracts.logs import LogReader
from rexis.protocol.signing import address_of, new_account
from tests.vectors.certificates.recorded_chain import recorded_chain

TRAININGS = Path(__file__).parents[2] / "vectors/training"


@pytest.fixture(scope="session")
def chain_of_vectors() -> Iterator[DevChain]:
    with recorded_chain() as dev:
        yield dev


@pytest.fixture(scope="session")
def chain_of_trainings() -> Iterator[DevChain]:
    with recorded_chain(TRAININGS / "chain-state.json.xz") as dev:
        yield dev


@pytest.fixture(scope="session")
def trainings_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the training vectors name by digest."""
    folder = tmp_path_factory.mktemp("artifacts")
    with zipfile.ZipFile(TRAININGS / "artifacts.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_ezkl_process() -> Iterator[None]:
    """The verifier starts a child for each call, which takes a fifth of a second; here a module's tests share one."""
    with EzklProcess(memory_limit=16 << 30) as ezkl, pytest.MonkeyPatch.context() as patch:
        patch.setattr(circuits.verifying, "_process", lambda: nullcontext(ezkl))
        yield


@pytest.fixture(scope="session")
def dev() -> Iterator[DevChain]:
    """A chain without blocks of its own accord."""
    chain = DevChain.start(block_time_s=None)
    yield chain
    chain.stop()


@pytest.fixture
def wallet(dev: DevChain) -> LocalAccount:
    """A funded account of the test's own."""
    account = new_account()
    dev.fund(address_of(account))
    return account


@pytest.fixture
def coordinator(dev: DevChain, wallet: LocalAccount) -> Chain:
    """The wallet's connection, with the contracts."""
    chain = Chain.connect(dev.url, account=wallet)
    chain.deploy_all()
    return chain


@pytest.fixture
def reader(dev: DevChain, coordinator: Chain) -> LogReader:
    found = LogReader.connect(dev.url)
    found.discover()
    return found
