"""Datasets of rung ``zk-onsite``, their leaves, and openings of hashes."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from rexis.protocol.circuit import NO_CIRCUIT, Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import MalformedError, MerkleError, TensorError
from rexis.protocol.field import SCALAR_FIELD
from rexis.protocol.onsite import (
    SALT_LIMIT,
    SALT_VALUES,
    HashedDataset,
    PrivateDataset,
    read_dataset,
    read_own_dataset,
    salted,
)
from rexis.protocol.policy import Tier
from rexis.protocol.records import (
    Hashes,
    Integers,
    Opening,
    TaskTrees,
    check_opening,
    encode_inputs,
    hash_salts,
    input_root,
)
from rexis.protocol.tensors import Dataset

RECORDS = np.arange(12, dtype=np.float32).reshape(3, 4)
OUTPUTS = np.arange(6, dtype=np.int64).reshape(3, 2)


def stand_in(rows: Integers) -> Hashes:
    """Not Poseidon, but 32 bytes below the field's order."""
    found = b"".join(b"\0" + hashlib.sha256(row.tobytes()).digest()[1:] for row in rows)
    return np.frombuffer(found, dtype=np.uint8).reshape(-1, 32)


def private() -> PrivateDataset:
    return PrivateDataset.of(RECORDS, 7, stand_in)


def circuit(**changes: Any) -> Circuit:
    some = {name: sha256(name.encode()) for name in ("vk_digest", "vka_digest", "srs_digest", "settings_digest")}
    fields = {"visibility": Visibility.HASHED, "input_scale": 7, "output_scale": 7, "input_length": 4}
    return Circuit(**{**some, **fields, "output_length": 2, **changes})


def test_salts_are_fresh_and_fit_the_circuit() -> None:
    one, other = private(), private()
    assert not np.array_equal(one.secrets, other.secrets)
    assert len({row.tobytes() for data in (one, other) for row in data.public.hashes}) == 6
    rows = salted(np.array([[1, -2, 3, 4]]), one.secrets[:1])
    assert rows.shape == (1, 4 + SALT_VALUES)
    assert rows[0, :4].tolist() == [1, -2, 3, 4]
    assert 0 <= rows[0, 4:].min() <= rows[0, 4:].max() < SALT_LIMIT
    assert b"".join(int(value).to_bytes(2, "big") for value in rows[0, 4:]) == one.secrets[0].tobytes()


def test_only_hashes_travel() -> None:
    data = private()
    blob = data.public.to_bytes()
    travelled = read_dataset(blob)
    assert isinstance(travelled, HashedDataset)
    assert sha256(blob) == data.digest
    assert np.array_equal(travelled.hashes, data.public.hashes)
    for tensor in (data.records, data.secrets):
        assert not any(row.tobytes()[:8] in blob for row in tensor)
    with pytest.raises(TensorError, match="never leaves"):
        read_dataset(data.to_bytes())
    with pytest.raises(TensorError, match="hashes only"):
        read_own_dataset(blob)
    again = read_own_dataset(data.to_bytes())
    assert isinstance(again, PrivateDataset)
    assert again.digest == data.digest
    plain = Dataset(RECORDS, np.zeros((3, 32), dtype=np.uint8))
    assert isinstance(read_dataset(plain.to_bytes()), Dataset)


def test_malformed_datasets() -> None:
    data = private()
    with pytest.raises(TensorError, match="field's order"):
        HashedDataset(np.full((1, 32), 255, dtype=np.uint8), 7)
    with pytest.raises(TensorError, match="hashes"):
        HashedDataset(data.public.hashes[:, :31], 7)
    with pytest.raises(TensorError, match="no hashes"):
        HashedDataset(data.public.hashes[:0], 7)
    with pytest.raises(TensorError, match="scale"):
        HashedDataset(data.public.hashes, 33)
    with pytest.raises(TensorError, match="secrets"):
        PrivateDataset(RECORDS, data.secrets[:, :5], data.public)
    with pytest.raises(TensorError, match="hashes"):
        PrivateDataset(RECORDS[:2], data.secrets[:2], data.public)


def test_records_and_hashes_are_not_mixed_up() -> None:
    data, plain = private(), Dataset(RECORDS, np.zeros((3, 32), dtype=np.uint8))
    public = circuit(visibility=Visibility.PUBLIC)
    assert data.misfit(circuit()) is data.public.misfit(circuit()) is plain.misfit(public) is None
    for found in (
        plain.misfit(circuit()),
        data.misfit(public),
        data.public.misfit(public),
        data.misfit(circuit(input_length=5)),
        data.public.misfit(circuit(input_scale=8)),
    ):
        assert found is not None
    for tier, what, records in (
        (Tier.ZK, circuit(), plain.committed),
        (Tier.ZK, public, data.committed),
        (Tier.COMMIT, NO_CIRCUIT, data.committed),
    ):
        with pytest.raises(TensorError, match="the dataset holds"):
            encode_inputs(tier, what, records)


def checked(opening: Opening, trees: TaskTrees, what: Circuit | None = None) -> Any:
    return check_opening(
        opening,
        tier=Tier.ZK,
        circuit=what or circuit(),
        input_root=trees.input_root,
        input_size=3,
        output_root=trees.output_root,
        start=0,
        count=3,
    )


def test_openings_show_the_hash() -> None:
    data = private()
    trees = TaskTrees(Tier.ZK, circuit(), data.committed, data.leaf_salts, 0, OUTPUTS)
    assert trees.input_root == input_root(Tier.ZK, circuit(), data.committed, data.leaf_salts)
    opening = trees.open(1)
    assert opening.input == data.public.hashes[1].tobytes()
    inputs, outputs = checked(opening, trees)
    assert inputs.tolist() == [int.from_bytes(opening.input, "big")]
    assert outputs.tolist() == [2, 3]

    other = trees.open(2)
    for changes, error in (
        ({"salt": Digest(bytes(32))}, MalformedError),
        ({"input": other.input}, MalformedError),  # its salt is another
        ({"input": other.input, "salt": other.salt}, MerkleError),
        ({"input": opening.input * 2}, MalformedError),
        ({"input": SCALAR_FIELD.to_bytes(32, "big")}, MalformedError),
        ({"output": other.output}, MerkleError),
    ):
        with pytest.raises(error):
            checked(opening.model_copy(update=changes), trees)


def test_a_leaf_says_that_it_is_a_hash() -> None:
    """Four fixed-point values have as many bytes as a hash: the encoding keeps them apart."""
    values = np.array([[1, 2, 3, 4]] * 3, dtype=np.int64)
    public = circuit(visibility=Visibility.PUBLIC)
    hashes = np.frombuffer(values.astype(">i8").tobytes(), dtype=np.uint8).reshape(3, 32)
    trees = TaskTrees(Tier.ZK, public, (values / 2**7).astype(np.float32), hash_salts(hashes), 0, OUTPUTS)
    opening = trees.open(0)
    assert opening.input == hashes[0].tobytes()
    checked(opening, trees, public)
    with pytest.raises(MerkleError):
        checked(opening, trees)
