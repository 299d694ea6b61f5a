from __future__ import annotations

import json

import pytest
from eth_utils import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from rexis.protocol.errors import MalformedError
from rexis.protocol.parsing import Address, canonical_json, load_json, parse_hex


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"a":1,"a":2}', "duplicate key"),
        (b'{"a":1.0}', "not an integer"),
        (b'{"a":1e3}', "not an integer"),
        (b'{"a":NaN}', "not an integer"),
        (b'{"a":-Infinity}', "not an integer"),
        (b'{"a":9007199254740992}', "beyond 2"),
        (b'{"a":' + b"9" * 5000 + b"}", "beyond 2"),
        (b'{"a":', "not JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b"[" * 200_000, "nested deeper"),
        (b'{"]":' * 200_000, "nested deeper"),
        (b'"' + b"[" * 100 + b'"x', "not JSON"),
        (b" " * 100, "over the limit"),
    ],
)
def test_load_json_refuses(data: bytes, text: str) -> None:
    with pytest.raises(MalformedError, match=text):
        load_json(data, max_bytes=64 if data.isspace() else 1 << 22)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=12,
    )
)
def test_canonical_json_round_trips(value: object) -> None:
    data = canonical_json(value)
    assert load_json(data) == value
    assert canonical_json(load_json(data)) == data
    assert json.loads(data) == value


@given(st.binary(min_size=20, max_size=20))
def test_address_checksum_is_eip_55(raw: bytes) -> None:
    address = Address.from_bytes(raw)
    assert address == to_checksum_address(raw)
    assert Address.parse(str(address)) == address
    assert address.raw() == raw


@pytest.mark.parametrize("text", ["0x1", "0xAB", "ab", "0x ab", "0xab\n", 3, None])
def test_parse_hex_refuses(text: object) -> None:
    with pytest.raises(MalformedError):
        parse_hex(text)
