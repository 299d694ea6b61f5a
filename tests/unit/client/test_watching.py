"""Following a job: parsing of events, resuming, and falling back to polls."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexis.protocol.errors import MalformedError, ResourceError
from rexis.watching import ServerEvent, parse_events

STREAM = (
    b": hello\n\nid: 3\nevent: change\ndata: {}\n\n"
    b"data: a\r\ndata:b\r\n\r\nretry: 5\nevent: end\ndata: x\n\nevent: cut\ndata: lost"
)
EVENTS = [ServerEvent("change", b"{}", 3), ServerEvent("message", b"a\nb", None), ServerEvent("end", b"x", None)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_events_do_not_depend_on_how_bytes_arrive(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in pairwise(places)]
    assert list(parse_events(iter(chunks))) == EVENTS


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for event in parse_events(iter([data])):
        assert event.data is not None


def test_an_endless_line_and_an_endless_event_are_refused() -> None:
    def line() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    def event() -> Iterator[bytes]:
        while True:
            yield b"data: " + b"x" * 1000 + b"\n"

    with pytest.raises(MalformedError):
        list(parse_events(line()))
    with pytest.raises(ResourceError):
        list(parse_events(event()))
