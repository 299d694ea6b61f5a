"""The chain node under faults: its blocks are on disk, as old as its last write, and what waits in it is not."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

from contracts.chain import Chain
from contracts.devchain import CHAIN_ID, DevChain, find_anvil
from tests.faults.processes import STOP_S, wait_until

BLOCK_S = 0.5
# A node that is killed loses fewer blocks than this, or the run says so: deeper, no confirmations would help.
CONFIRMATIONS = 12
_WRITE_S = 2
_FRESH_S = 3.0
_PATIENCE_S = 60.0
_COPIES = 3


class ChainNode:
    """anvil that writes its state every two seconds, and when it ends in good order.

    Killed, it comes back without its newest blocks: to everybody who uses it that is a reorganisation. Transactions
    that were in them, or waited, it has forgotten.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log, self._past = folder / "chain.log", folder / "past"
        self._state = folder / "chain.json"
        self._copies = [folder / f"chain.{number}.json" for number in range(_COPIES)]
        self._command = [
            str(find_anvil()), "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID),
            "--block-time", f"{BLOCK_S:g}", "--mnemonic-random", "--accounts", "1", "--balance", "0", "--quiet",
            "--state", str(self._state), "--state-interval", str(_WRITE_S),
            "--cache-path", str(self._past), "--max-persisted-states", "200",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes]
        self.start()
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="chain", daemon=True)
        self._keeper.start()

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        shutil.rmtree(self._past, ignore_errors=True)
        self._past.mkdir()
        with self._log.open("ab") as stream:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        self.dev = DevChain(self._process, self.url)
        wait_until(self.dev.is_up, _PATIENCE_S, "the chain node answers")

    def stop(self) -> None:
        """End it; its blocks are written first."""
        self.thaw()
        self._process.terminate()
        self._process.wait(STOP_S)

    def close(self) -> None:
        """End it for good."""
        self._stopping.set()
        self._keeper.join(STOP_S)
        self.stop()

    def kill(self) -> int:
        """``kill -9``, between two writes or in the middle of one; returns how many blocks that cost.

        It then starts from what it wrote last or, if that was cut off, from a copy of what it wrote before.
        """
        wait_until(self._wrote_lately, _PATIENCE_S, "the chain node writes its state")
        head = Chain.connect(self.url).block_number()
        self._process.kill()
        self._process.wait()
        for file in (self._state, *sorted(self._copies, key=_written_at, reverse=True)):
            newest = _newest_block(file)
            if newest is not None:
                break
        assert newest is not None, "nothing that the chain node wrote is whole"
        lost = max(0, head - newest)
        assert lost < CONFIRMATIONS, f"the chain node lost {lost} blocks, more than it was given the time for"
        if file != self._state:
            shutil.copyfile(file, self._state)
        self.start()
        return lost

    def freeze(self) -> None:
        """Let it hang: connections are taken and not answered."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def _wrote_lately(self) -> bool:
        return time.time() - _written_at(self._state) < _FRESH_S

    def _keep(self) -> None:
        """Copy what it writes: the next write begins by cutting the file to nothing."""
        number = 0
        while not self._stopping.wait(_WRITE_S):
            if self._state.is_file():
                shutil.copyfile(self._state, self._copies[number % _COPIES])
                number += 1


def _written_at(file: Path) -> float:
    return file.stat().st_mtime if file.is_file() else 0.0


def _newest_block(file: Path) -> int | None:
    """Number of the newest block in a state file; None unless it is whole, and of one block.

    anvil reads the blocks first and the accounts afterwards: those of a block later, at times.
    """
    try:
        state = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    newest = int(state["best_block_number"])
    sent = Counter(str(one["info"]["from"]).lower() for one in state["transactions"])
    nonces = {str(address).lower(): int(account["nonce"]) for address, account in state["accounts"].items()}
    numbers = {int(block["header"]["number"], 16) for block in state["blocks"]}
    whole = int(state["block"]["number"], 16) == newest and numbers == set(range(newest + 1))
    return newest if whole and all(nonces.get(sender) == count for sender, count in sent.items()) else None
