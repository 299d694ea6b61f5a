from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexis.ee.groups import (
    GROUPS,
    MAX_CONDITION,
    SCALE_RANGE,
    AffineKey,
    AxisKey,
    Group,
    PermutationScaleKey,
    draw_offset,
)
from rexis.ee.stream import SecretStream
from rexis.protocol.errors import EncryptionError

seeds = st.binary(min_size=32, max_size=32)
sizes = st.integers(1, 40)
groups = st.sampled_from(GROUPS)


def drawn(group: Group, seed: bytes, size: int) -> AxisKey:
    stream = SecretStream(seed, "test")
    return group.draw(stream, size).moved(draw_offset(stream, size))


@given(groups, seeds, sizes)
def test_invert_undoes_apply(group: Group, seed: bytes, size: int) -> None:
    key = drawn(group, seed, size)
    values = np.random.default_rng(0).normal(size=(5, size))
    np.testing.assert_allclose(key.invert(key.apply(values)), values, atol=1e-12)


@given(groups, groups, seeds, sizes, sizes)
def test_folding_both_sides_commutes_with_a_product(
    incoming: Group, outgoing: Group, seed: bytes, rows: int, columns: int
) -> None:
    a = incoming.draw(SecretStream(seed, "in"), rows)
    k = outgoing.draw(SecretStream(seed, "out"), columns)
    random = np.random.default_rng(0)
    values, weight = random.normal(size=(4, rows)), random.normal(size=(rows, columns))
    folded = k.fold_outgoing(a.fold_incoming(weight, 0), 1)
    np.testing.assert_allclose(a.apply(values) @ folded, k.apply(values @ weight), atol=1e-10)
    np.testing.assert_allclose(k.fold_outgoing(a.fold_incoming(weight.T, 1), 0), folded.T, atol=1e-12)


@given(groups, seeds, sizes)
def test_arrays_describe_the_key(group: Group, seed: bytes, size: int) -> None:
    key = drawn(group, seed, size)
    again = group.from_arrays(size, key.arrays())
    values = np.random.default_rng(0).normal(size=(3, size))
    np.testing.assert_array_equal(again.apply(values), key.apply(values))


@given(seeds, st.integers(2, 60))
def test_affine_keys_are_well_conditioned_not_orthogonal_and_keep_the_variance(seed: bytes, size: int) -> None:
    matrix = AffineKey.draw(SecretStream(seed, "test"), size).matrix
    values = np.linalg.svd(matrix, compute_uv=False)
    assert 1.99 < values[0] / values[-1] <= MAX_CONDITION + 1e-9
    assert not np.allclose(matrix @ matrix.T, np.eye(size) * (matrix @ matrix.T)[0, 0], atol=0.05)
    assert np.mean(np.sum(matrix**2, axis=1)) == pytest.approx(1.0)


@given(seeds, sizes)
def test_permutation_scale_keys_commute_with_relu(seed: bytes, size: int) -> None:
    key = PermutationScaleKey.draw(SecretStream(seed, "test"), size)
    values = np.random.default_rng(0).normal(size=(3, size))
    np.testing.assert_array_equal(np.maximum(key.apply(values), 0), key.apply(np.maximum(values, 0)))
    assert key.scale.min() >= SCALE_RANGE[0]
    assert key.scale.max() <= SCALE_RANGE[1]


def test_keys_cannot_be_changed_and_show_nothing() -> None:
    for group in GROUPS:
        key = drawn(group, bytes(32), 4)
        with pytest.raises(ValueError, match="read-only"):
            key.offset[0] = 1.0
        assert repr(key) == f"{group.__name__}(size=4)"


@pytest.mark.parametrize(
    ("group", "arrays"),
    [
        (AffineKey, {"matrix": [1.0, 0.0, 0.0, 1.0]}),
        (AffineKey, {"matrix": [1.0, 0.0, 0.0], "offset": [0.0, 0.0]}),
        (AffineKey, {"matrix": [1.0, 1.0, 1.0, 1.0], "offset": [0.0, 0.0]}),
        (AffineKey, {"matrix": [1.0, 0.0, 0.0, 9.0], "offset": [0.0, 0.0]}),
        (AffineKey, {"matrix": [1.0, 0.0, 0.0, np.nan], "offset": [0.0, 0.0]}),
        (PermutationScaleKey, {"permutation": [0.0, 0.0], "scale": [1.0, 1.0], "offset": [0.0, 0.0]}),
        (PermutationScaleKey, {"permutation": [0.5, 1.0], "scale": [1.0, 1.0], "offset": [0.0, 0.0]}),
        (PermutationScaleKey, {"permutation": [1.0, 0.0], "scale": [1.0, -1.0], "offset": [0.0, 0.0]}),
        (PermutationScaleKey, {"permutation": [1.0, 0.0], "scale": [1.0, 1.0], "offset": [np.inf, 0.0]}),
    ],
)
def test_arrays_outside_the_group_are_refused(group: Group, arrays: dict[str, list[float]]) -> None:
    with pytest.raises(EncryptionError):
        group.from_arrays(2, {name: np.array(values) for name, values in arrays.items()})


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
