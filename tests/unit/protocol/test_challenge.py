from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rexis.protocol.challenge import challenge_indices
from rexis.protocol.digests import Digest, sha256


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**40), st.integers(1, 300), st.integers(1, 40))
def test_challenge_is_a_sorted_sample_of_the_range(block: bytes, start: int, count: int, k: int) -> None:
    found = challenge_indices(sha256(b"s"), Digest(block), start, count, k)
    assert found == sorted(set(found))
    assert len(found) == min(k, count)
    assert start <= found[0]
    assert found[-1] < start + count


def test_challenge_depends_on_statement_and_block() -> None:
    base = challenge_indices(sha256(b"s"), sha256(b"b"), 0, 10**6, 8)
    assert base != challenge_indices(sha256(b"t"), sha256(b"b"), 0, 10**6, 8)
    assert base != challenge_indices(sha256(b"s"), sha256(b"c"), 0, 10**6, 8)


def test_challenge_is_uniform() -> None:
    """Chi-square over 20 bins of 4000 draws; 19 degrees of freedom, 99.9 % quantile 43.8. Deterministic."""
    counts = np.zeros(20)
    for number in range(1000):
        for index in challenge_indices(sha256(bytes([number % 256, number // 256])), sha256(b"b"), 0, 20, 4):
            counts[index] += 1
    assert float(((counts - 200) ** 2 / 200).sum()) < 43.8
