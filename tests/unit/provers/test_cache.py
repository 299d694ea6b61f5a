"""Caches: bounded, checked, and whole after a crash."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from provers.cache import BlobCache, ProofCache
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import NotFoundError


class Source:
    """Blobs by digest; counts the fetches."""

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {sha256(blob): blob for blob in blobs}
        self.fetched: list[Digest] = []

    def fetch(self, digest: Digest, to: Path) -> None:
        self.fetched.append(digest)
        if digest not in self.blobs:
            raise NotFoundError("no such blob")
        to.write_bytes(self.blobs[digest])


def test_a_blob_is_fetched_once(tmp_path: Path) -> None:
    source = Source(b"model")
    for _ in range(2):
        cache = BlobCache(tmp_path / "blobs", max_bytes=100, fetch=source.fetch)
        assert cache.get(sha256(b"model")).read_bytes() == b"model"
    assert len(source.fetched) == 1
    assert (tmp_path / "blobs").stat().st_mode & 0o077 == 0


def test_a_damaged_blob_is_fetched_again(tmp_path: Path) -> None:
    source = Source(b"model")
    cache = BlobCache(tmp_path, max_bytes=100, fetch=source.fetch)
    cache.get(sha256(b"model")).write_bytes(b"damaged")
    assert cache.get(sha256(b"model")).read_bytes() == b"model"
    assert len(source.fetched) == 2


def test_the_least_recently_used_blob_goes_first(tmp_path: Path) -> None:
    old, mid, new = b"a" * 40, b"b" * 40, b"c" * 40
    source = Source(old, mid, new)
    cache = BlobCache(tmp_path, max_bytes=100, fetch=source.fetch)
    for age, blob in ((10, old), (5, mid)):
        path = cache.get(sha256(blob))
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    cache.done()
    cache.get(sha256(new))
    assert {path.read_bytes() for path in tmp_path.glob("sha256-*")} == {mid, new}


def test_blobs_in_use_stay_even_for_another_worker(tmp_path: Path) -> None:
    held, other = b"a" * 80, b"b" * 80
    source = Source(held, other)
    first = BlobCache(tmp_path, max_bytes=100, fetch=source.fetch)
    second = BlobCache(tmp_path, max_bytes=100, fetch=source.fetch)
    path = first.get(sha256(held))
    second.get(sha256(other))
    assert path.exists()
    first.done()
    second.get(sha256(other))
    assert not path.exists()


def test_an_error_of_the_source_comes_through(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        BlobCache(tmp_path, max_bytes=100, fetch=Source().fetch).get(sha256(b"nobody has it"))


def test_proofs_are_found_by_key_and_instances(tmp_path: Path) -> None:
    vk, instances = sha256(b"vk"), np.array([1, -2, 3])
    ProofCache(tmp_path, max_bytes=1000).put(vk, instances, b"proof")
    again = ProofCache(tmp_path, max_bytes=1000)
    assert again.get(vk, instances) == b"proof"
    assert again.get(vk, np.array([1, -2, 4])) is None
    assert again.get(sha256(b"other"), instances) is None


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 40])
def test_a_damaged_proof_counts_as_none(tmp_path: Path, damage: bytes) -> None:
    cache = ProofCache(tmp_path, max_bytes=1000)
    vk, instances = sha256(b"vk"), np.array([1])
    cache.put(vk, instances, b"proof")
    next(tmp_path.glob("*.proof")).write_bytes(damage)
    assert cache.get(vk, instances) is None


def test_proofs_are_bounded(tmp_path: Path) -> None:
    cache = ProofCache(tmp_path, max_bytes=300)
    for value in range(10):
        cache.put(sha256(b"vk"), np.array([value]), bytes(68))
    assert len(list(tmp_path.glob("*.proof"))) == 3
