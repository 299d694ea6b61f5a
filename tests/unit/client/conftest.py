"""A client and a server that it talks to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from rexis.client import RexisClient
from rexis.transport import Retry

from .fake_coordinator import FakeCoordinator, serving


@pytest.fixture
def server() -> Iterator[FakeCoordinator]:
    fake = FakeCoordinator()
    with serving(fake):
        yield fake


@pytest.fixture
def account() -> LocalAccount:
    wallet: LocalAccount = Account.from_key(b"\x09" * 32)
    return wallet


@pytest.fixture
def client(server: FakeCoordinator, account: LocalAccount) -> Iterator[RexisClient]:
    with RexisClient(server.url, account, retry=Retry(attempts=3, base_seconds=0.0)) as made:
        yield made
