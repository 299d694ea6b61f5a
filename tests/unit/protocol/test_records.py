from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import sha256, tensor_digest
from rexis.protocol.errors import MalformedError, MerkleError, TensorError
from rexis.protocol.policy import Tier
from rexis.protocol.records import TaskTrees, check_opening, dequantise, distance, quantise
from rexis.protocol.tensors import Dataset, pack_outputs, unpack_outputs
from tests.unit.protocol.test_typed_data import request

CIRCUIT = request().circuit
RNG = np.random.default_rng(7)
RECORDS = RNG.normal(size=(11, 30)).astype(np.float32)
SALTS = RNG.integers(0, 256, (11, 32)).astype(np.uint8)
FIXED = RNG.integers(-(2**20), 2**20, (5, 2)).astype(np.int64)
FLOATS = RNG.normal(size=(5, 2)).astype(np.float32)


def trees(tier: Tier) -> TaskTrees:
    circuit = NO_CIRCUIT if tier == Tier.COMMIT else CIRCUIT
    return TaskTrees(tier, circuit, RECORDS, SALTS, 4, FLOATS if tier == Tier.COMMIT else FIXED)


@pytest.mark.parametrize("tier", [Tier.COMMIT, Tier.ZK])
def test_openings_give_the_values_back(tier: Tier) -> None:
    made = trees(tier)
    circuit = NO_CIRCUIT if tier == Tier.COMMIT else CIRCUIT
    where = {"input_root": made.input_root, "input_size": 11, "output_root": made.output_root, "start": 4, "count": 5}
    for index in range(4, 9):
        inputs, outputs = check_opening(made.open(index), tier=tier, circuit=circuit, **where)
        if tier == Tier.COMMIT:
            assert np.array_equal(inputs, RECORDS[index])
            assert np.array_equal(outputs, FLOATS[index - 4])
        else:
            assert np.array_equal(inputs, quantise(RECORDS[index], 7))
            assert np.array_equal(outputs, FIXED[index - 4])
    opening = made.open(5)
    for change in (
        {"index": 6},
        {"salt": sha256(b"other")},
        {"input": made.open(6).input},
        {"output": made.open(6).output},
        {"input_path": made.open(6).input_path},
        {"output_path": []},
    ):
        with pytest.raises(MerkleError):
            check_opening(opening.model_copy(update=change), tier=tier, circuit=circuit, **where)
    for change in ({"index": 3}, {"index": 9}, {"input": b""}, {"input": b"123"}):
        with pytest.raises(MalformedError):
            check_opening(opening.model_copy(update=change), tier=tier, circuit=circuit, **where)


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
    st.integers(0, 20),
)
def test_quantise_rounds_half_away_from_zero(values: list[float], scale: int) -> None:
    found = quantise(np.array(values, dtype=np.float32), scale)
    for value, integer in zip(values, found, strict=True):
        exact = abs(value) * 2**scale
        assert int(integer) == int(math.copysign(math.floor(exact + 0.5), value))


@given(st.lists(st.integers(-(2**23), 2**23), min_size=1, max_size=20), st.integers(0, 20))
def test_quantise_undoes_dequantise(values: list[int], scale: int) -> None:
    integers = np.array(values, dtype=np.int64)
    assert np.array_equal(quantise(dequantise(integers, scale), scale), integers)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_quantise_refuses(bad: float) -> None:
    with pytest.raises(TensorError):
        quantise(np.array([0, bad], dtype=np.float32), 7)


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=4),
    st.integers(0, 32),
    st.data(),
)
def test_distance_is_the_least_tolerance_that_holds(values: list[float], scale: int, data: st.DataObject) -> None:
    integers = data.draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=len(values), max_size=len(values)))
    found = distance(np.array(values, dtype=np.float32), np.array(integers, dtype=np.int64), scale)
    exact = max(abs(Fraction(x) * 2**scale - y) for x, y in zip(values, integers, strict=True))
    assert found - 1 < exact <= found


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [1.0, 2.0]])
def test_distance_refuses(values: list[float]) -> None:
    with pytest.raises(TensorError):
        distance(np.array(values, dtype=np.float32), np.zeros(1, dtype=np.int64), 7)


def test_dataset_round_trip_and_digest() -> None:
    dataset = Dataset(RECORDS, SALTS)
    again = Dataset.from_bytes(dataset.to_bytes())
    assert np.array_equal(again.records, RECORDS)
    assert again.digest == dataset.digest


@pytest.mark.parametrize(
    ("blob", "text"),
    [
        (b"", "not safetensors"),
        (Dataset(RECORDS, SALTS).to_bytes()[:-1], "not safetensors"),
        (Dataset(RECORDS, SALTS).to_bytes()[:40], "not safetensors"),
        (save({"records": RECORDS}), "expected exactly"),
        (save({"records": RECORDS, "salts": SALTS, "labels": SALTS}), "expected exactly"),
        (save({"records": RECORDS.astype(np.float64), "salts": SALTS}), "dtype is float64"),
        (save({"records": RECORDS[0], "salts": SALTS}), "shape"),
        (save({"records": RECORDS[:0], "salts": SALTS[:0]}), "shape"),
        (save({"records": RECORDS, "salts": SALTS[:5]}), "salts"),
        (save({"records": np.where(RECORDS > 2, np.nan, RECORDS).astype(np.float32), "salts": SALTS}), "NaN"),
    ],
)
def test_dataset_refuses(blob: bytes, text: str) -> None:
    with pytest.raises(TensorError, match=text):
        Dataset.from_bytes(blob)


def test_outputs_refuse() -> None:
    assert np.array_equal(unpack_outputs(pack_outputs(FIXED), count=5, fixed=True), FIXED)
    with pytest.raises(TensorError, match="dtype"):
        unpack_outputs(pack_outputs(FLOATS), count=5, fixed=True)
    with pytest.raises(TensorError, match="shape"):
        unpack_outputs(pack_outputs(FIXED), count=4, fixed=True)
    with pytest.raises(TensorError, match="NaN"):
        unpack_outputs(pack_outputs(FLOATS * np.float32("nan")), count=5, fixed=False)


def test_tensor_digest_pins_bytes_dtype_and_shape() -> None:
    x = np.zeros((2, 3), dtype=np.float32)
    assert tensor_digest(x) == tensor_digest(np.asfortranarray(x))
    assert tensor_digest(x) != tensor_digest(x.reshape(3, 2))
    assert tensor_digest(x) != tensor_digest(x.astype(np.int32))
    with pytest.raises(TensorError):
        tensor_digest(x * np.float32("inf"))
    with pytest.raises(TensorError):
        tensor_digest(x.astype(np.float16))
