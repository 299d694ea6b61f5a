"""Poseidon over rows of integers, as a circuit with hashed inputs computes it."""

from __future__ import annotations

import numpy as np

from circuits.process import EzklProcess
from rexis.protocol.records import HASH_BYTES, Hashes, Integers

_ROWS_PER_CALL = 256


def poseidon(rows: Integers, ezkl: EzklProcess) -> Hashes:
    """One hash a row, uint8 ``[n, 32]``, big-endian.

    Raises
    ------
    CircuitError
        ezkl refused.
    """
    found: list[str] = []
    for start in range(0, len(rows), _ROWS_PER_CALL):
        found += ezkl.call("hash", rows=rows[start : start + _ROWS_PER_CALL].tolist())
    return np.frombuffer(bytes.fromhex("".join(found)), dtype=np.uint8).reshape(-1, HASH_BYTES)
