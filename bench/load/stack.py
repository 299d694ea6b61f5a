"""Real processes around one database: a chain, coordinators, and who else is measured."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx

from contracts.chain import Chain
from contracts.devchain import DevChain
from rexis.files import write_file
from rexis.protocol.errors import UnavailableError
from rexis.protocol.parsing import Address
from rexis.protocol.signing import address_of, new_account

_START_S = 60.0
_STOP_S = 20.0


class Stack:
    """A chain with the contracts, and coordinators over one database.

    Parameters
    ----------
    settings
        Further ``REXIS_…`` variables of the coordinators, the database among them.
    """

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self._ends = ExitStack()
        self.chain = DevChain.start(block_time_s=1.0)
        self._ends.callback(self.chain.stop)
        self.account = new_account()
        self.fund(address_of(self.account))
        self.deployment = Chain.connect(self.chain.url, account=self.account).deploy_all()
        passphrase = secrets.token_hex(16)
        wallet = folder / "wallet.json"
        write_file(wallet, json.dumps(self.account.encrypt(passphrase, iterations=2)).encode(), private=True)
        (folder / "deployment.json").write_bytes(self.deployment.to_json())
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REXIS_")},
            "REXIS_DATA_DIR": str(folder / "data"),
            "REXIS_RPC": self.chain.url,
            "REXIS_DEPLOYMENT": str(folder / "deployment.json"),
            "REXIS_WALLET": str(wallet),
            "REXIS_PASSPHRASE": passphrase,
            "REXIS_ANCHOR_SECONDS": "1",
            **settings,
        }
        self.coordinators: list[subprocess.Popen[bytes]] = []
        self.urls: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self.coordinators:
            process.terminate()
        for process in self.coordinators:
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._ends.close()

    @property
    def address(self) -> Address:
        """The coordinators' account."""
        return address_of(self.account)

    def fund(self, address: Address) -> None:
        """Give an account ether."""
        self.chain.fund(address)

    def start_coordinator(self, *, duties: bool = True) -> str:
        """Start one more and wait until it answers; returns its URL.

        Parameters
        ----------
        duties
            Whether it does what coordinators do on their own.
        """
        port, log = free_port(), self.folder / f"coordinator-{len(self.coordinators)}.log"
        with log.open("ab") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "coordinator"],
                env={**self._environment, "REXIS_PORT": str(port), "REXIS_DUTIES": str(duties).lower()},
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            )  # fmt: skip
        self.coordinators.append(process)
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx.get(f"{url}/healthz", trust_env=False).is_success:
                    self.urls.append(url)
                    return url
            except httpx.HTTPError:
                time.sleep(0.1)
        raise UnavailableError(f"the coordinator did not start: {log.read_text()[-1000:]}")


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
