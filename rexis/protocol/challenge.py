"""Which records a ``sampled`` task must prove: drawn from a block that nobody knew when the outputs were committed."""

from __future__ import annotations

from rexis.protocol.digests import Digest, sha256

_DOMAIN = b"rexis.challenge.v1\0"


def challenge_indices(statement_digest: Digest, block_hash: Digest, start: int, count: int, k: int) -> list[int]:
    """The ``min(k, count)`` distinct absolute record indices of a challenge, sorted.

    Parameters
    ----------
    statement_digest
        What was committed in block b.
    block_hash
        Hash of block b+1.
    start, count
        The task's record range.
    k
        Sample size.

    Notes
    -----
    Index c is SHA-256(seed ‖ u64be c) mod count; the bias is below count·2⁻²⁵⁶. Coupon collecting makes k close to
    count slow, so ``k ≥ count`` returns the whole range at once.
    """
    if k >= count:
        return list(range(start, start + count))
    seed = sha256(_DOMAIN, statement_digest, block_hash)
    chosen: set[int] = set()
    counter = 0
    while len(chosen) < k:
        draw = sha256(seed, counter.to_bytes(8, "big"))
        chosen.add(start + int.from_bytes(draw, "big") % count)
        counter += 1
    return sorted(chosen)
