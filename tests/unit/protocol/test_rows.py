"""Tensors that stay where they are: the same as those in memory, and refused where those are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rexis.protocol.circuit import NO_CIRCUIT, Circuit
from rexis.protocol.digests import ZERO_DIGEST, Digest
from rexis.protocol.errors import MerkleError, RexisError, TensorError
from rexis.protocol.merkle import MerkleRange, MerkleTree, merkle_root
from rexis.protocol.onsite import open_dataset
from rexis.protocol.policy import Tier
from rexis.protocol.records import TaskTrees, check_opening, encode_inputs, input_format, input_root
from rexis.protocol.rows import blocks
from rexis.protocol.tensors import (
    Dataset,
    Shard,
    load_tensors,
    open_outputs,
    open_tensors,
    pack_outputs,
    save_tensors,
    tensors_header,
    unpack_outputs,
)
from tests.unit.coordinator.fakes import make_dataset
from tests.unit.protocol.test_typed_data import request

DATA = make_dataset(count=37, width=30)
KINDS = [{"records", "salts"}]


def reading(blob: bytes) -> Callable[[int, int], bytes]:
    return lambda start, end: blob[start:end]


def opened(blob: bytes) -> Dataset:
    found = open_dataset(reading(blob), len(blob))
    assert isinstance(found, Dataset)
    return found


def test_opened_rows_are_those_in_memory() -> None:
    found = opened(DATA.to_bytes())
    assert (len(found), found.records.shape, found.records.dtype) == (37, (37, 30), np.float32)
    for wanted in (slice(0, 37), slice(5, 6), slice(30, 99), slice(8, 8), slice(None)):
        assert np.array_equal(found.records[wanted], DATA.records[wanted])
        assert np.array_equal(found.salts[wanted], DATA.salts[wanted])
    assert [start for start, _ in blocks(found.records, block_bytes=10 * 120)] == [0, 10, 20, 30]
    assert found.to_bytes() == DATA.to_bytes()


@pytest.mark.parametrize("tier", [Tier.COMMIT, Tier.ZK])
def test_opened_records_have_the_same_root(tier: Tier, pinned: Circuit) -> None:
    circuit = NO_CIRCUIT if tier == Tier.COMMIT else pinned
    found = opened(DATA.to_bytes())
    expected = MerkleTree(_leaves(tier, circuit)).root
    assert input_root(tier, circuit, found.records, found.salts) == expected
    assert input_root(tier, circuit, DATA.records, DATA.salts) == expected


def test_a_header_is_safetensors_own() -> None:
    float32, uint8 = np.dtype("<f4"), np.dtype("|u1")
    header = tensors_header([("records", float32, DATA.records.shape), ("salts", uint8, DATA.salts.shape)])
    assert header + DATA.records.tobytes() + DATA.salts.tobytes() == DATA.to_bytes()
    outputs = np.arange(6, dtype=np.int64).reshape(3, 1, 2)
    assert tensors_header([("outputs", outputs.dtype, outputs.shape)]) + outputs.tobytes() == pack_outputs(outputs)


@settings(max_examples=300)
@given(st.data())
def test_a_bent_blob_is_refused_wherever_safetensors_refuses_it(data: st.DataObject) -> None:
    blob = bytearray(make_dataset(count=3, width=2).to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, 8 + blob[0]))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 40))
    bent = bytes(blob[: len(blob) - cut])
    try:
        found = open_tensors(reading(bent), len(bent), KINDS, "x")
    except TensorError:
        return
    expected = load_tensors(bent, KINDS, "x")
    for name, rows in found.items():
        assert rows.shape == expected[name].shape
        assert rows[:].tobytes() == expected[name].tobytes()


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 9]},
        {"dtype": "F32", "shape": [1, -2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [1, 2], "data_offsets": [8, 16]},
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [1, 2], "data_offsets": [0]},
        [],
        3,
    ],
)
def test_a_description_that_is_none_is_refused(entry: object) -> None:
    text = json.dumps({"outputs": entry}).encode()
    blob = len(text).to_bytes(8, "little") + text + bytes(8)
    with pytest.raises(TensorError):
        open_tensors(reading(blob), len(blob), [{"outputs"}], "x")


@pytest.mark.parametrize("blob", [b"", b"\0" * 7, b"\xff" * 8, b"\x02" + bytes(7) + b"[]"])
def test_what_has_no_header_is_refused(blob: bytes) -> None:
    with pytest.raises(TensorError):
        open_tensors(reading(blob), len(blob), KINDS, "x")


def test_opened_outputs_are_checked_as_those_in_memory() -> None:
    good = np.arange(6, dtype=np.float32).reshape(3, 2)
    blobs = [pack_outputs(good), pack_outputs(good.astype(np.int64)), pack_outputs(good + np.float32("inf"))]
    for blob in blobs:
        for count, fixed in ((3, False), (3, True), (2, False)):
            try:
                expected = unpack_outputs(blob, count=count, fixed=fixed)
            except TensorError as error:
                with pytest.raises(TensorError, match=re.escape(error.message)):
                    open_outputs(reading(blob), len(blob), count=count, fixed=fixed)
            else:
                assert np.array_equal(open_outputs(reading(blob), len(blob), count=count, fixed=fixed)[:], expected)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=70), st.data())
def test_a_range_and_the_nodes_around_it_lead_to_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    tree = MerkleTree(leaves)
    assert merkle_root(leaves) == tree.root
    start = data.draw(st.integers(0, len(leaves) - 1))
    count = data.draw(st.integers(1, len(leaves) - start))
    mine, around = leaves[start : start + count], tree.around(start, count)
    found = MerkleRange(len(leaves), start, mine, around)
    assert found.root == tree.root
    assert [found.path(index) for index in range(start, start + count)] == [
        tree.path(index) for index in range(start, start + count)
    ]
    with pytest.raises(MerkleError):
        found.path(start + count)
    with pytest.raises(MerkleError):
        MerkleRange(len(leaves), start, mine, [*around, ZERO_DIGEST])
    for place in range(len(around)):
        with pytest.raises(MerkleError):
            MerkleRange(len(leaves), start, mine, around[:place] + around[place + 1 :])
        bent = [*around[:place], Digest(bytes(31) + b"\1"), *around[place + 1 :]]
        assert MerkleRange(len(leaves), start, mine, bent).root != tree.root
    changed = data.draw(st.integers(0, count - 1))
    mine[changed] += b"x"
    assert MerkleRange(len(leaves), start, mine, around).root != tree.root


@pytest.mark.parametrize("tier", [Tier.COMMIT, Tier.ZK])
@pytest.mark.parametrize(("start", "count"), [(0, 37), (8, 8), (5, 7), (36, 1)])
def test_a_shard_is_all_that_its_worker_needs(tier: Tier, start: int, count: int, pinned: Circuit) -> None:
    circuit = NO_CIRCUIT if tier == Tier.COMMIT else pinned
    root = input_root(tier, circuit, DATA.records, DATA.salts)
    around = MerkleTree(_leaves(tier, circuit)).around(start, count)
    mine = slice(start, start + count)
    sent = Shard(DATA.records[mine], DATA.salts[mine], start, 37, around).to_bytes()
    shard = Shard.from_bytes(sent, start=start, count=count, size=37)
    assert shard.root(tier, circuit) == root
    assert shard.misfit(circuit) is None or tier == Tier.COMMIT
    outputs = np.zeros((count, 2), dtype=np.float32 if tier == Tier.COMMIT else np.int64)
    trees = TaskTrees(tier, circuit, shard.records, shard.salts, start, outputs, size=37, around=around)
    whole = TaskTrees(tier, circuit, DATA.records, DATA.salts, start, outputs)
    assert (trees.input_root, trees.output_root) == (root, whole.output_root)
    for index in (start, start + count - 1):
        assert trees.open(index) == whole.open(index)
        check_opening(
            trees.open(index),
            tier=tier,
            circuit=circuit,
            input_root=root,
            input_size=37,
            output_root=trees.output_root,
            start=start,
            count=count,
        )
    with pytest.raises(TensorError):
        Shard.from_bytes(sent, start=start, count=count + 1, size=37)
    with pytest.raises(RexisError):
        bent = Shard(shard.records, shard.salts, start, 37, [*around, ZERO_DIGEST])
        assert bent.root(tier, circuit) != root
    swapped = Shard(shard.records, shard.salts[::-1].copy() ^ 1, start, 37, around)
    assert swapped.root(tier, circuit) != root


def test_a_shard_of_other_tensors_is_refused() -> None:
    nodes = np.zeros((2, 31), dtype=np.uint8)
    blob = save_tensors(records=DATA.records, salts=DATA.salts, nodes=nodes)
    with pytest.raises(TensorError, match="nodes"):
        Shard.from_bytes(blob, start=0, count=37, size=37)


def _leaves(tier: Tier, circuit: Circuit) -> list[bytes]:
    return list(input_format(tier, circuit).leaves(encode_inputs(tier, circuit, DATA.records), DATA.salts))


@pytest.fixture
def pinned() -> Circuit:
    return request().circuit
