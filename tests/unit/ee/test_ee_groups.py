from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexis.ee.groups import (
    AVERAGING,
    FREE,
    ISOMETRY,
    KINDS,
    MAX_CONDITION,
    MONOMIAL,
    NONE,
    POSITIVE,
    SCALE_RANGE,
    AxisKey,
    DenseKey,
    MonomialKey,
    Power,
    draw,
    group_name,
    key_space,
)
from rexis.ee.stream import SecretStream
from rexis.protocol.errors import EncryptionError

seeds = st.binary(min_size=32, max_size=32)
sizes = st.integers(1, 40)
powers = st.sampled_from([Power(value) for value in range(16)])


def drawn(allowed: Power, seed: bytes, size: int) -> AxisKey:
    return draw(allowed, SecretStream(seed, "test"), size)


def matrix(key: AxisKey) -> np.ndarray:  # type: ignore[type-arg]
    return key.linear(np.eye(key.size)).T


@given(powers, seeds, sizes)
def test_each_action_is_undone_by_its_inverse(allowed: Power, seed: bytes, size: int) -> None:
    key = drawn(allowed, seed, size)
    values = np.random.default_rng(0).normal(size=(5, size))
    np.testing.assert_allclose(key.inverse(key.linear(values)), values, atol=1e-12)
    np.testing.assert_allclose(key.inverse_dual(key.dual(values)), values, atol=1e-12)
    if isinstance(key, MonomialKey):
        np.testing.assert_array_equal(key.inverse_order(key.order(values)), values)


@given(powers, powers, seeds, sizes, sizes)
def test_a_weight_under_dual_and_key_commutes_with_a_product(
    incoming: Power, outgoing: Power, seed: bytes, rows: int, columns: int
) -> None:
    a, k = (draw(p, SecretStream(seed, side), n) for p, side, n in ((incoming, "in", rows), (outgoing, "out", columns)))
    random = np.random.default_rng(0)
    values, weight = random.normal(size=(4, rows)), random.normal(size=(rows, columns))
    folded = k.linear(a.dual(weight.T).T)
    np.testing.assert_allclose(a.linear(values) @ folded, k.linear(values @ weight), atol=1e-10)


@given(powers, seeds, sizes)
def test_a_key_does_what_its_powers_say_and_no_more(allowed: Power, seed: bytes, size: int) -> None:
    found = matrix(drawn(allowed, seed, size))
    assert np.linalg.cond(found) <= MAX_CONDITION + 1e-9
    if Power.MIX not in allowed or size == 1:
        assert ((found != 0).sum(axis=0) == 1).all()
        factors = found[found != 0]
        assert Power.SIGN in allowed or (factors > 0).all()
        assert Power.SCALE in allowed or (np.abs(factors) == 1).all()
        assert (SCALE_RANGE[0] <= np.abs(factors)).all()
        assert (np.abs(factors) <= SCALE_RANGE[1]).all()
        if Power.PERMUTE not in allowed:
            assert (np.diag(found) != 0).all()
        return
    assert size < 3 or (np.abs(found) > 0).sum() > size  # it mixes
    if allowed != FREE:
        np.testing.assert_allclose(found @ found.T, np.eye(size), atol=1e-12)
        if allowed != ISOMETRY:
            np.testing.assert_allclose(found @ np.ones(size), 1.0, atol=1e-12)


@given(seeds, st.integers(2, 60))
def test_free_keys_are_not_orthogonal_and_keep_the_variance(seed: bytes, size: int) -> None:
    found = matrix(drawn(FREE, seed, size))
    values = np.linalg.svd(found, compute_uv=False)
    assert 1.99 < values[0] / values[-1] <= MAX_CONDITION + 1e-9
    assert not np.allclose(found @ found.T, np.eye(size) * (found @ found.T)[0, 0], atol=0.05)
    assert np.mean(np.sum(found**2, axis=1)) == pytest.approx(1.0)


@given(seeds, sizes)
def test_positive_keys_commute_with_relu(seed: bytes, size: int) -> None:
    key = drawn(POSITIVE, seed, size)
    values = np.random.default_rng(0).normal(size=(3, size))
    np.testing.assert_array_equal(np.maximum(key.linear(values), 0), key.linear(np.maximum(values, 0)))


@given(powers, seeds, sizes)
def test_arrays_describe_the_key(allowed: Power, seed: bytes, size: int) -> None:
    key = drawn(allowed, seed, size)
    again = KINDS[key.kind].from_arrays(size, key.arrays())
    values = np.random.default_rng(0).normal(size=(3, size))
    np.testing.assert_array_equal(again.linear(values), key.linear(values))


def test_keys_cannot_be_changed_and_show_nothing() -> None:
    for allowed, name in ((FREE, "DenseKey"), (POSITIVE, "MonomialKey")):
        key = drawn(allowed, bytes(32), 4)
        for array in key.arrays().values():
            if array.base is not None or not array.flags.owndata or array is getattr(key, "factor", None):
                with pytest.raises(ValueError, match="read-only"):
                    array[0] = 1.0
        assert repr(key) == f"{name}(size=4)"


@pytest.mark.parametrize(
    ("kind", "arrays"),
    [
        (DenseKey, {}),
        (DenseKey, {"matrix": [1.0, 0.0, 0.0]}),
        (DenseKey, {"matrix": [1.0, 1.0, 1.0, 1.0]}),
        (DenseKey, {"matrix": [1.0, 0.0, 0.0, 9.0]}),
        (DenseKey, {"matrix": [1.0, 0.0, 0.0, np.nan]}),
        (DenseKey, {"matrix": [1.0, 0.0, 0.0, 1.0], "more": [1.0]}),
        (MonomialKey, {"permutation": [0.0, 0.0], "factor": [1.0, 1.0]}),
        (MonomialKey, {"permutation": [0.5, 1.0], "factor": [1.0, 1.0]}),
        (MonomialKey, {"permutation": [1.0, 2.0], "factor": [1.0, 1.0]}),
        (MonomialKey, {"permutation": [1.0, 0.0], "factor": [1.0, 3.0]}),
        (MonomialKey, {"permutation": [1.0, 0.0], "factor": [1.0, 0.0]}),
        (MonomialKey, {"permutation": [1.0, 0.0], "factor": [1.0, np.inf]}),
    ],
)
def test_arrays_outside_the_group_are_refused(kind: type[AxisKey], arrays: dict[str, list[float]]) -> None:
    with pytest.raises(EncryptionError):
        kind.from_arrays(2, {name: np.array(values) for name, values in arrays.items()})


def test_a_dense_key_has_no_order() -> None:
    with pytest.raises(EncryptionError, match="no order"):
        drawn(FREE, bytes(32), 3).order(np.ones(3))


def test_groups_have_names_and_sizes() -> None:
    assert group_name(FREE, 4) == "invertible"
    assert group_name(ISOMETRY, 4) == "orthogonal"
    assert group_name(AVERAGING, 4) == "orthogonal fixing ones"
    assert group_name(MONOMIAL, 4) == "permutation × scale"
    assert group_name(POSITIVE, 4) == "permutation × positive scale"
    assert group_name(Power.PERMUTE | Power.SIGN, 4) == "permutation × sign"
    assert group_name(NONE, 4) == group_name(Power.PERMUTE, 1) == "trivial"
    assert key_space(Power.PERMUTE, 5) == (pytest.approx(math.log2(120)), 0)
    assert key_space(MONOMIAL, 5) == (pytest.approx(math.log2(120) + 5), 5)
    assert key_space(ISOMETRY, 5) == (0, 10)
    assert key_space(AVERAGING, 5) == (0, 6)
    assert key_space(FREE, 5) == (0, 25)


def test_streams_of_different_labels_seeds_and_calls_differ() -> None:
    stream = SecretStream(bytes(32), "a")
    draws = [stream.take(16), stream.take(16)]
    draws += [SecretStream(bytes(32), "b").take(16), SecretStream(bytes([1]) * 32, "a").take(16)]
    assert len(set(draws)) == 4
    assert SecretStream(bytes(32), "a").take(16) == draws[0]


def test_draws_have_the_distribution_they_promise() -> None:
    stream = SecretStream(bytes(32), "a")
    uniform, normal = stream.uniform(-1.0, 1.0, 20_000), stream.normal(20_001)
    assert (uniform.min() >= -1.0) and (uniform.max() < 1.0) and abs(uniform.mean()) < 0.03
    assert abs(normal.mean()) < 0.03
    assert abs(normal.std() - 1.0) < 0.02
    assert sorted(stream.permutation(100)) == list(range(100))
