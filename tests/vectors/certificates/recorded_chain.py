"""anvil with a recorded state: the generator writes one, the tests load it with the same blocks and the same hashes."""

from __future__ import annotations

import lzma
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from contracts.devchain import CHAIN_ID, DevChain, find_anvil
from rexis.protocol.errors import UnavailableError

STATE = Path(__file__).parent / "chain-state.json.xz"

_START_S = 20.0
_BLOCK_S = 12
_FIRST_BLOCK_TIME = 1_767_225_600  # 2026-01-01
# The shell ends anvil when its standard input closes, also if this process is killed.
_GUARD = '"$@" </dev/null & child=$!; trap "kill $child" TERM; read -r _; kill $child; wait $child 2>/dev/null'


@contextmanager
def recording_chain(state: Path) -> Iterator[DevChain]:
    """A fresh chain, one block a transaction; what happened on it is written to `state`, compressed, at the end."""
    with TemporaryDirectory(prefix="rexis-vectors-") as folder:
        plain = Path(folder, "state.json")
        with _anvil(["--timestamp", str(_FIRST_BLOCK_TIME), "--dump-state", str(plain)]) as chain:
            chain._request("anvil_setBlockTimestampInterval", [_BLOCK_S])
            yield chain
        deadline = time.monotonic() + _START_S
        while not plain.is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        state.write_bytes(lzma.compress(plain.read_bytes(), preset=9))


@contextmanager
def recorded_chain(state: Path = STATE) -> Iterator[DevChain]:
    """The recorded chain, running. What is done to it is not recorded."""
    with TemporaryDirectory(prefix="rexis-vectors-") as folder:
        plain = Path(folder, "state.json")
        plain.write_bytes(lzma.decompress(state.read_bytes()))
        with _anvil(["--load-state", str(plain)]) as chain:
            yield chain


@contextmanager
def _anvil(options: list[str]) -> Iterator[DevChain]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [
        str(find_anvil()), "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID),
        "--mnemonic-seed-unsafe", "1", "--accounts", "1", "--balance", "0", "--quiet", *options,
    ]  # fmt: skip
    process = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "sh", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    chain = DevChain(process, f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + _START_S
        while not chain.is_up():
            if time.monotonic() > deadline:
                raise UnavailableError(f"anvil did not start within {_START_S:g} s on port {port}")
            time.sleep(0.05)
        yield chain
    finally:
        chain.stop()
