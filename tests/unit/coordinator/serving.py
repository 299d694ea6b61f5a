"""A coordinator over a socket, and the environment in which `rexis` finds it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from eth_account.signers.local import LocalAccount

from coordinator.app import create_app
from coordinator.main import _listen
from coordinator.services import Coordinator
from rexis.files import write_file
from tests.unit.coordinator.fakes import FakeLedger, make_coordinator

PASSPHRASE = "for tests only"


@contextmanager
def serving(folder: Path, ledger: FakeLedger, **settings: object) -> Iterator[Coordinator]:
    """A coordinator as of :func:`make_coordinator`, on a free port of the loopback interface."""
    listener = _listen("127.0.0.1", 0)
    made = make_coordinator(folder, ledger, port=listener.getsockname()[1], **settings)
    server = uvicorn.Server(uvicorn.Config(create_app(made), log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield made
    finally:
        server.should_exit = True
        thread.join(10)
        made.close()


def use(patch: pytest.MonkeyPatch, coordinator: Coordinator, account: LocalAccount, wallet: Path) -> None:
    """Have commands talk to `coordinator` as `account`, whose wallet is written to a file."""
    write_file(wallet, json.dumps(account.encrypt(PASSPHRASE, iterations=2)).encode(), private=True)
    patch.setenv("REXIS_COORDINATOR", f"http://127.0.0.1:{coordinator.settings.port}")
    patch.setenv("REXIS_WALLET", str(wallet))
    patch.setenv("REXIS_PASSPHRASE", PASSPHRASE)
