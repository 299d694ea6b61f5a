"""Signed integers and field elements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.field import MODULUS, from_ezkl, from_field, instances_from, to_ezkl, to_field
from rexis.protocol.errors import MalformedError

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


@given(INT64)
def test_round_trip(value: int) -> None:
    assert from_field(to_field(value)) == value
    assert from_ezkl(to_ezkl(value)) == value


def test_negative_stands_as_modulus_minus_value() -> None:
    assert to_field(-5) == MODULUS - 5
    # As ezkl 23.0.5 wrote it in a witness:
    assert from_ezkl("000000f093f5e1439170b97948e833285d588181b64550b829a031e1724e6430") == -1


def test_inputs_come_before_outputs() -> None:
    assert instances_from([1, -2], [3]) == [1, MODULUS - 2, 3]


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, MODULUS])
def test_integers_beyond_int64_are_refused(value: int) -> None:
    with pytest.raises(MalformedError):
        to_field(value)


@pytest.mark.parametrize("element", [-1, MODULUS, MODULUS // 2, 1 << 64])
def test_elements_that_are_no_int64_are_refused(element: int) -> None:
    with pytest.raises(MalformedError):
        from_field(element)
