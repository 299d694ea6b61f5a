"""Secret randomness that a 32-byte seed determines: SHAKE-256 (FIPS 202 §6.2) as an extendable-output function.

NumPy's own generators are not cryptographic: from some outputs their state, and so the rest of a key, can be computed.
"""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
from numpy.typing import NDArray

from rexis.protocol.errors import EncryptionError

SEED_BYTES = 32
_DOMAIN = b"rexis.ee.stream.v1\0"

Floats = NDArray[np.float64]


def fresh_seed() -> bytes:
    """32 bytes from the operating system."""
    return secrets.token_bytes(SEED_BYTES)


class SecretStream:
    """Draws for one purpose.

    Parameters
    ----------
    seed
        The 32-byte root secret.
    label
        What the draws are for. Streams of different labels are independent.

    Raises
    ------
    EncryptionError
        The seed is not 32 bytes.
    """

    def __init__(self, seed: bytes, label: str) -> None:
        if len(seed) != SEED_BYTES:
            raise EncryptionError(f"a seed is {SEED_BYTES} bytes, not {len(seed)}", field="seed")
        self._prefix = _DOMAIN + seed + label.encode() + b"\0"
        self._calls = 0

    def __repr__(self) -> str:
        return "SecretStream(...)"

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        block = hashlib.shake_256(self._prefix + self._calls.to_bytes(8, "big"))
        self._calls += 1
        return block.digest(count)

    def uniform(self, low: float, high: float, size: int) -> Floats:
        """`size` draws from [low, high), with 53 random bits each."""
        words = np.frombuffer(self.take(8 * size), dtype="<u8") >> np.uint64(11)
        return low + (high - low) * (words.astype(np.float64) * 2.0**-53)

    def normal(self, size: int) -> Floats:
        """`size` standard normal draws (Box–Muller)."""
        half = (size + 1) // 2
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(0.0, 1.0, half)))
        angle = self.uniform(0.0, 2.0 * np.pi, half)
        return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:size]

    def permutation(self, size: int) -> NDArray[np.int64]:
        """A uniform permutation of range(size): the order of `size` random 64-bit words."""
        words = np.frombuffer(self.take(8 * size), dtype="<u8")
        return np.argsort(words, kind="stable").astype(np.int64)
