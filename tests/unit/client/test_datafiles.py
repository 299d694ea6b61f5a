"""Dataset files that are written and read some records at a time."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from rexis.datafiles import open_dataset_file, write_dataset
from rexis.files import reader
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, sha256, tensor_digest
from rexis.protocol.errors import NotFoundError, RexisError, TensorError
from rexis.protocol.policy import Tier
from rexis.protocol.records import Salts, input_root
from rexis.protocol.tensors import Dataset

RECORDS = np.random.default_rng(3).normal(size=(100_000, 3)).astype(np.float32)


def salts(records: Digest, start: int, count: int) -> Salts:
    rows = [sha256(records, index.to_bytes(8, "big")) for index in range(start, start + count)]
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(count, 32)


def test_a_file_written_in_blocks_is_the_one_written_at_once(tmp_path: Path) -> None:
    path = tmp_path / "dataset"
    blocks = (RECORDS[start : start + 7000] for start in range(0, len(RECORDS), 7000))
    digest, shape = write_dataset(path, len(RECORDS), blocks, salts)
    whole = Dataset(RECORDS, salts(tensor_digest(RECORDS), 0, len(RECORDS)))
    assert (digest, shape) == (whole.digest, RECORDS.shape)
    assert path.read_bytes() == whole.to_bytes()
    found = open_dataset_file(path)
    assert input_root(Tier.COMMIT, NO_CIRCUIT, found.records, found.leaf_salts) == input_root(
        Tier.COMMIT, NO_CIRCUIT, whole.records, whole.salts
    )


def test_what_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> object:
        yield RECORDS[:5]
        raise TensorError("record 5 holds NaN")

    with pytest.raises(TensorError):
        write_dataset(tmp_path / "dataset", 10, broken(), salts)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_none_or_becomes_shorter_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        reader(tmp_path / "none", "dataset")
    with pytest.raises(RexisError, match="regular"):
        reader(tmp_path, "dataset")
    (tmp_path / "x").write_bytes(bytes(100))
    read, size = reader(tmp_path / "x", "dataset")
    assert (read(3, 5), size) == (b"\0\0", 100)
    (tmp_path / "x").write_bytes(bytes(50))
    with pytest.raises(RexisError, match="shorter"):
        read(0, size)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """64 MB: written, opened and hashed."""
    block = np.zeros((256, 4096), dtype=np.float32)
    tracemalloc.start()
    try:
        write_dataset(tmp_path / "dataset", 4096, (block for _ in range(16)), salts)
        found = open_dataset_file(tmp_path / "dataset")
        input_root(Tier.COMMIT, NO_CIRCUIT, found.records, found.leaf_salts)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "dataset").stat().st_size > 64 << 20
    assert peak < 32 << 20
