"""A development chain: anvil, in a process of its own that ends with this one.

Its accounts are drawn at random and not used; give a fresh account ether with :meth:`DevChain.fund`.
"""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from requests.exceptions import RequestException
from web3 import HTTPProvider
from web3.types import RPCEndpoint

from rexis.protocol.errors import UnavailableError
from rexis.protocol.parsing import Address

CHAIN_ID = 31337
ETHER = 10**18

_ROOT = Path(__file__).resolve().parent.parent
_START_S = 20.0
_STOP_S = 5.0
# The shell ends anvil when its standard input closes: the only end that also comes if this process is killed. What
# anvil keeps of past blocks' states, megabytes each, goes with it.
_GUARD = (
    'past=$(mktemp -d); "$@" --cache-path "$past" --max-persisted-states 200 </dev/null & child=$!; '
    'trap "kill $child" TERM; read -r _; kill $child; wait $child 2>/dev/null; rm -rf "$past"'
)


def find_anvil() -> Path:
    """The anvil binary: the one from ``npm ci``, else one on the PATH.

    Raises
    ------
    UnavailableError
        There is none.
    """
    machine = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), platform.machine())
    native = f"@foundry-rs/anvil-{platform.system().lower()}-{machine}"
    bundled = _ROOT / "node_modules" / native / "bin" / "anvil"
    if bundled.is_file():
        return bundled
    on_path = shutil.which("anvil")
    if on_path is None:
        raise UnavailableError("no development chain: anvil is not installed", hint="run: make setup")
    return Path(on_path)


class DevChain:
    """A running anvil.

    Attributes
    ----------
    url
        Its JSON-RPC endpoint, on the loopback interface.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.url = url
        self._process = process
        self._provider = HTTPProvider(url, request_kwargs={"timeout": 5.0}, exception_retry_configuration=None)

    @classmethod
    def start(
        cls,
        *,
        port: int | None = None,
        block_time_s: float | None = 1.0,
        chain_id: int = CHAIN_ID,
        state: Path | None = None,
    ) -> DevChain:
        """Start anvil and wait until it answers.

        Parameters
        ----------
        port
            TCP port; a free one if None.
        block_time_s
            A block every so many seconds, with or without transactions: challenges wait for the next block. If None, a
            block for each transaction, and those that are asked for.
        state
            A file that the chain is read from, if it is there, and written to when it stops. What waits to be mined is
            not in it.

        Raises
        ------
        UnavailableError
            anvil is not installed, the port is taken, or it did not start.
        """
        options = ["--mnemonic-random"]
        options += [] if block_time_s is None else ["--block-time", f"{block_time_s:g}"]
        options += [] if state is None else ["--state", str(state)]
        return cls.launch(options, port=port, chain_id=chain_id)

    @classmethod
    def launch(cls, options: Sequence[str], *, port: int | None = None, chain_id: int = CHAIN_ID) -> DevChain:
        """Start anvil with more of its own options, and wait until it answers.

        Parameters
        ----------
        options
            Of anvil, the source of its accounts among them.
        port, chain_id
            As in :meth:`start`.

        Raises
        ------
        UnavailableError
            As of :meth:`start`.
        """
        anvil = find_anvil()
        port = _free_port() if port is None else port
        if _answers(port):
            raise UnavailableError(f"port {port} is taken", hint="stop what listens there, or choose another")
        command = [
            str(anvil), "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(chain_id),
            "--accounts", "1", "--balance", "0", "--quiet", *options,
        ]  # fmt: skip
        process = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        chain = cls(process, f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if chain.is_up():
                return chain
            time.sleep(0.05)
        chain.stop()
        raise UnavailableError(f"anvil did not start within {_START_S:g} s on port {port}")

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return "result" in self._provider.make_request(RPCEndpoint("eth_chainId"), [])
        except RequestException:
            return False

    def fund(self, address: Address, ether: float = 100.0) -> None:
        """Set an account's balance."""
        self._request("anvil_setBalance", [address, hex(int(ether * ETHER))])

    def mine(self, blocks: int = 1) -> None:
        """Make blocks at once."""
        self._request("anvil_mine", [hex(blocks)])

    def drop(self, blocks: int) -> None:
        """A reorganisation: the newest blocks are made anew, without their transactions, which nobody has any more."""
        self._request("anvil_reorg", [blocks, []])

    def hold(self, holding: bool = True) -> None:
        """Let transactions wait until :meth:`mine`, or no more."""
        self._request("evm_setAutomine", [not holding])

    def raise_base_fee(self, wei: int) -> None:
        """Of the next block, per gas."""
        self._request("anvil_setNextBlockBaseFeePerGas", [hex(wei)])

    def forget(self) -> None:
        """Forget all transactions that wait to be mined, as a node does that is full or restarted."""
        self._request("anvil_dropAllTransactions", [])

    def stop(self) -> None:
        """End the process. Harmless if it has ended."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait(_STOP_S)

    def _request(self, method: str, parameters: list[Any]) -> None:
        try:
            answer = self._provider.make_request(RPCEndpoint(method), parameters)
        except RequestException:
            raise UnavailableError(f"the development chain at {self.url} has gone") from None
        if "error" in answer:
            raise UnavailableError(f"the development chain refused {method}", hint="is it anvil?")


@contextmanager
def devchain(*, port: int | None = None, block_time_s: float = 1.0) -> Iterator[DevChain]:
    """A development chain for the length of a ``with`` block."""
    chain = DevChain.start(port=port, block_time_s=block_time_s)
    try:
        yield chain
    finally:
        chain.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
