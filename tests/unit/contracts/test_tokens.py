"""Amounts, as people write and read them."""

from __future__ import annotations

import pytest

from contracts.tokens import Token
from rexis.protocol.errors import MalformedError
from rexis.protocol.parsing import ZERO_ADDRESS

COIN, CENTS = Token(ZERO_ADDRESS, "coins", 18), Token(ZERO_ADDRESS, "TKN", 2)


@pytest.mark.parametrize(
    ("token", "text", "amount"),
    [
        (COIN, "1", 10**18),
        (COIN, "0.000000000000000001", 1),
        (COIN, "340282366920938463463.374607431768211455", 2**128 - 1),
        (CENTS, "1.5", 150),
        (CENTS, "150wei", 150),
        (CENTS, "007.500", 750),
    ],
)
def test_an_amount_is_read_exactly(token: Token, text: str, amount: int) -> None:
    assert token.amount(text) == amount


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not an amount"),
        ("-1", "is not an amount"),
        ("0", "is not an amount"),
        ("NaN", "is not an amount"),
        ("Infinity", "is not an amount"),
        ("1e3", "is not an amount"),
        ("9" * 40, "too much"),
        ("ten", "is not an amount"),
        ("1.001", "has more than 2 decimals"),
        ("1.5wei", "has more than 0 decimals"),
    ],
)
def test_what_is_no_amount_is_refused(text: str, says: str) -> None:
    with pytest.raises(MalformedError, match=says):
        CENTS.amount(text)


def test_an_amount_is_written_exactly() -> None:
    assert [CENTS.text(amount) for amount in (0, 5, 150, 10_000)] == ["0 TKN", "0.05 TKN", "1.5 TKN", "100 TKN"]
    assert COIN.amount(COIN.text(123456789).removesuffix(" coins")) == 123456789
