"""A development chain with the contracts on it, once for all tests here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from eth_account.signers.local import LocalAccount

from contracts.chain import Chain, Deployment
from contracts.devchain import DevChain, devchain
from rexis.protocol.signing import address_of, new_account


@pytest.fixture(scope="session")
def dev() -> Iterator[DevChain]:
    with devchain(block_time_s=0.2) as chain:
        yield chain


@pytest.fixture(scope="session")
def funded(dev: DevChain) -> Callable[[], LocalAccount]:
    """Makes fresh accounts with ether."""

    def make() -> LocalAccount:
        account = new_account()
        dev.fund(address_of(account))
        return account

    return make


@pytest.fixture(scope="session")
def deployment(dev: DevChain, funded: Callable[[], LocalAccount]) -> Deployment:
    return Chain.connect(dev.url, account=funded()).deploy_all()


@pytest.fixture
def chain(dev: DevChain, deployment: Deployment, funded: Callable[[], LocalAccount]) -> Chain:
    """A connection as an account of its own."""
    found = Chain.connect(dev.url, account=funded())
    found.attach(deployment)
    return found
