"""A real chain, and coordinators served over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

from contracts.chain import Chain, Deployment
from contracts.devchain import DevChain
from rexis.protocol.errors import UnavailableError
from rexis.protocol.signing import address_of, new_account
from tests.integration.coordinator.rig import Rig


@pytest.fixture(scope="session")
def dev() -> Iterator[DevChain]:
    try:
        chain = DevChain.start(block_time_s=0.3)
    except UnavailableError as error:
        pytest.skip(str(error))
    yield chain
    chain.stop()


@pytest.fixture(scope="session")
def funded(dev: DevChain) -> Callable[[], LocalAccount]:
    def make() -> LocalAccount:
        account = new_account()
        dev.fund(address_of(account))
        return account

    return make


@pytest.fixture(scope="session")
def deployment(dev: DevChain, funded: Callable[[], LocalAccount]) -> Deployment:
    return Chain.connect(dev.url, account=funded()).deploy_all()


@pytest.fixture
def rig(tmp_path: Path, dev: DevChain, deployment: Deployment, funded: Callable[[], LocalAccount]) -> Iterator[Rig]:
    made = Rig(tmp_path, dev, deployment, owner=funded(), account=funded())
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a chain that has the contracts, as a file to start others with."""
    state = tmp_path_factory.mktemp("deployed") / "state.json"
    chain = DevChain.start(block_time_s=None, state=state)
    account = new_account()
    chain.fund(address_of(account))
    Chain.connect(chain.url, account=account).deploy_all()
    chain.stop()
    return state
