"""Transfers while the coordinator is killed: real processes, over a folder and over an S3 API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from contracts.onchain import Deployment
from rexis.client import RexisClient
from rexis.files import write_file
from rexis.protocol.digests import sha256
from rexis.protocol.errors import DigestMismatchError, RexisError
from rexis.protocol.signing import new_account
from rexis.transport import Retry
from tests.s3 import serving_s3

MIB = 1 << 20


@pytest.fixture
def data() -> bytes:
    return os.urandom(40 * MIB)


@dataclass
class Server:
    """A coordinator process. Its chain answers nothing, and is not asked."""

    folder: Path
    environment: dict[str, str]
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "coordinator"],
                env=os.environ | self.environment | {"REXIS_PORT": str(self.port)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/healthz").is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def kill_for(self, seconds: float) -> None:
        self.kill()
        time.sleep(seconds)
        self.start()


@pytest.fixture(scope="module", params=["folder", "s3"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tmp_path = tmp_path_factory.mktemp("server")
    with ExitStack() as stack:
        write_file(
            tmp_path / "wallet.json", json.dumps(new_account().encrypt("x", iterations=2)).encode(), private=True
        )
        (tmp_path / "deployment.json").write_bytes(Deployment.on(31337).to_json())
        environment = {
            "REXIS_DATA_DIR": str(tmp_path / "data"),
            "REXIS_RPC": "http://127.0.0.1:9",
            "REXIS_DEPLOYMENT": str(tmp_path / "deployment.json"),
            "REXIS_WALLET": str(tmp_path / "wallet.json"),
            "REXIS_PASSPHRASE": "x",
        }
        if request.param == "s3":
            s3 = stack.enter_context(serving_s3())
            environment |= s3.environment | {"REXIS_BLOB_URL": f"s3://{s3.bucket()}"}
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        made = Server(tmp_path, environment, port)
        made.start()
        stack.callback(made.kill)
        yield made


def test_a_transfer_goes_on_after_the_coordinator_was_killed(server: Server, data: bytes, tmp_path: Path) -> None:
    """Up and down; only what was not there yet is sent again, and the interrupted writes leave no blob."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    retry = Retry(attempts=300, base_seconds=0.4, cap_seconds=0.4)
    with RexisClient(server.url, new_account(), retry=retry) as client:
        moved, killed = Moved(), threading.Event()

        def kill_once(done: int, total: int) -> None:
            moved(done, total)
            if done >= 20 * MIB and not killed.is_set():
                killed.set()
                time.sleep(0.3)  # what is on its way arrives
                threading.Thread(target=server.kill_for, args=(0.2,)).start()
                time.sleep(0.1)

        assert client.upload_blob(source, progress=kill_once) == sha256(data)
        assert killed.is_set()
        # A part of 8 MiB, and what was in the sockets, had not been stored.
        assert len(data) <= moved.bytes <= len(data) + 20 * MIB
        assert moved.restarts == 1
        assert client.has_blob(sha256(data))

        moved, killed = Moved(), threading.Event()
        assert client.download_blob(sha256(data), target, progress=kill_once).read_bytes() == data
        assert killed.is_set()
        assert moved.bytes == len(data), "no byte was fetched twice"


def test_bytes_that_changed_on_the_way_are_no_blob(server: Server, data: bytes, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(data)

    def change(done: int, _total: int) -> None:
        if done >= 30 * MIB:
            with source.open("r+b") as stream:
                stream.seek(35 * MIB)
                stream.write(bytes([data[35 * MIB] ^ 1]))

    with RexisClient(server.url, new_account(), retry=Retry(attempts=2, base_seconds=0.0)) as client:
        with pytest.raises(DigestMismatchError):
            client.upload_blob(source, progress=change)
        assert not client.has_blob(sha256(data))


def test_several_clients_upload_one_blob_at_once(server: Server, data: bytes) -> None:
    """Two of one wallet share an upload; another wallet has its own."""
    retry = Retry(attempts=200, base_seconds=0.05, cap_seconds=0.05)
    one, other = new_account(), new_account()
    failures: list[RexisError] = []

    def upload(number: int) -> None:
        with RexisClient(server.url, other if number == 2 else one, retry=retry) as client:
            try:
                client.upload_blob(data)
                assert client.has_blob(sha256(data))
            except RexisError as error:
                failures.append(error)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


class Moved:
    """Adds up the bytes that were moved; each time that the place goes back is a restart."""

    def __init__(self) -> None:
        self.bytes = self.restarts = self._at = 0

    def __call__(self, done: int, total: int) -> None:
        if done > self._at:
            self.bytes += done - self._at
        elif done < self._at:
            self.restarts += 1
        self._at = done
