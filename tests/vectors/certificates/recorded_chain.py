"""anvil with a recorded state: the generator writes one, the tests load it with the same blocks and the same hashes."""

from __future__ import annotations

import lzma
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from contracts.devchain import DevChain

STATE = Path(__file__).parent / "chain-state.json.xz"

_STOP_S = 20.0
_BLOCK_S = 12
_FIRST_BLOCK_TIME = 1_767_225_600  # 2026-01-01


@contextmanager
def recording_chain(state: Path, past: Path | None = None) -> Iterator[DevChain]:
    """A fresh chain, one block a transaction; what happened on it is written to `state`, compressed, at the end.

    Parameters
    ----------
    past
        A recorded state to go on from, whose blocks stay what they are.
    """
    with TemporaryDirectory(prefix="rexis-vectors-") as folder:
        plain, before = Path(folder, "state.json"), Path(folder, "past.json")
        begin = ["--timestamp", str(_FIRST_BLOCK_TIME)]
        if past is not None:
            before.write_bytes(lzma.decompress(past.read_bytes()))
            begin = ["--load-state", str(before)]
        with _anvil([*begin, "--dump-state", str(plain)]) as chain:
            chain._request("anvil_setBlockTimestampInterval", [_BLOCK_S])
            yield chain
        deadline = time.monotonic() + _STOP_S
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
    chain = DevChain.launch(["--mnemonic-seed-unsafe", "1", *options])
    try:
        yield chain
    finally:
        chain.stop()
