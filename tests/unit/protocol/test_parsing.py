from __future__ import annotations

import contextlib
import json
import time
import tracemalloc
from unittest.mock import patch

import pytest
from eth_utils import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from rexis.protocol import parsing
from rexis.protocol.errors import MalformedError
from rexis.protocol.parsing import (
    MAX_DEPTH,
    Address,
    canonical_json,
    canonical_parts,
    load_json,
    parse_hex,
    require_shallow,
)


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
    assert b"".join(canonical_parts({"b": value, "a": [value, value], "": {}})) == canonical_json(
        {"a": [value, value], "b": value, "": {}}
    )
    assert json.loads(data) == value


def test_an_empty_object_is_written_in_pieces() -> None:
    assert b"".join(canonical_parts({})) == canonical_json({}) == b"{}\n"


@given(st.binary(min_size=20, max_size=20))
def test_address_checksum_is_eip_55(raw: bytes) -> None:
    address = Address.from_bytes(raw)
    assert address == to_checksum_address(raw)
    assert Address.parse(str(address)) == address
    assert address.raw() == raw


@given(st.text(alphabet='"\\\\[]{}n a', max_size=60))
def test_depth_is_that_of_a_reader_byte_by_byte(text: str) -> None:
    """Up to the first fault; here, as far as the text is JSON at all."""
    try:
        json.loads(text)
    except ValueError:
        return
    require_shallow(text.encode())


@given(
    st.recursive(st.text(alphabet='"\\\\[]{}n', max_size=6), lambda inner: st.lists(inner, max_size=3), max_leaves=40),
    st.integers(20, 40),
)
def test_depth_of_json_is_counted_exactly(value: object, levels: int) -> None:
    def depth(found: object) -> int:
        return 1 + max(map(depth, found), default=0) if isinstance(found, list) else 0

    for _ in range(levels):
        value = ['[[\\\\"', value]
    data = json.dumps(value).encode()
    if depth(value) > MAX_DEPTH:
        with pytest.raises(MalformedError, match="nested deeper"):
            require_shallow(data)
    else:
        require_shallow(data)


@given(st.text(alphabet='"\\\\[]{}n', max_size=40), st.integers(1, 9))
def test_depth_does_not_depend_on_where_the_text_is_cut(text: str, scan: int) -> None:
    def outcome() -> str:
        try:
            require_shallow(b"[" * 20 + text.encode() + b"[" * 10 + b"]" * 40)
        except MalformedError as error:
            return error.message
        return ""

    whole = outcome()
    with patch.object(parsing, "_SCAN", scan):
        assert outcome() == whole


@pytest.mark.parametrize(
    "unit", [b'\\"', b'"\\', b'"', b'""', b"\\", b"a", b"0,", b"[]", b"{}", b'"[', b"[" * 32 + b"]" * 32], ids=repr
)
@pytest.mark.parametrize("before", [b"", b'"'])
def test_hostile_text_takes_time_and_memory_in_proportion(unit: bytes, before: bytes) -> None:
    data = before + unit * ((8 << 20) // len(unit))
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with contextlib.suppress(MalformedError):
            require_shallow(data)
        assert time.perf_counter() - began < 5  # the quadratic reader took hours
        assert tracemalloc.get_traced_memory()[1] < 3 * len(data) + (64 << 20)
    finally:
        tracemalloc.stop()


def test_depth_is_counted_over_the_parts_of_a_long_text() -> None:
    filler = b'"' + b"[" * 3 + b'",'
    long = b"[" * MAX_DEPTH + filler * (1 << 20) + b"1" + b"]" * MAX_DEPTH
    require_shallow(long)
    with pytest.raises(MalformedError, match="nested deeper"):
        require_shallow(long.replace(b"1]", b"[1]]"))


def test_parse_hex_takes_memory_in_proportion() -> None:
    text = "0x" + "00" * (4 << 20)
    tracemalloc.start()
    try:
        assert parse_hex(text) == bytes(4 << 20)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(text)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text", ["0x1", "0xAB", "ab", "0x ab", "0xab\n", "0xab cd", "0xAb", "0X00", "0x\u0663\u0663", "00", "", 3, None]
)
def test_parse_hex_refuses(text: object) -> None:
    with pytest.raises(MalformedError):
        parse_hex(text)
