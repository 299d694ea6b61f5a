"""Bytes that are nearly right: those of a valid document, changed here and there."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from rexis.protocol.parsing import canonical_json

_WEIRD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**53 - 1, 2**53, -(2**63), [], {}, [[]], {"": None}, [None] * 100),
    *("", "0x", "0x0", "0x" + "f" * 64, "0x" + "0" * 40, "a" * 5000, "\x00", "\ud800", "\u202e", "é", "zk", "sampled"),
    *("2026-13-41T99:99:99Z", "1e9", "NaN", "../../etc/passwd", "file:///etc/passwd", "__class__"),
]


@st.composite
def altered(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid document with something wrong: cut off, flipped, doubled, another value somewhere; or just any bytes."""
    how = draw(st.sampled_from(["json", "json", "json", "flip", "flip", "cut", "insert", "repeat", "anything"]))
    if how == "anything":
        return draw(st.binary(max_size=200))
    if how == "json":
        try:
            return canonical_json(_replaced(draw, json.loads(valid)))
        except ValueError:
            how = "flip"
    place = draw(st.integers(0, max(0, len(valid) - 1)))
    if how == "cut":
        return valid[:place]
    if how == "insert":
        return valid[:place] + draw(st.binary(min_size=1, max_size=20)) + valid[place:]
    if how == "repeat":
        return valid[:place] + valid[place : place + 50] * draw(st.integers(2, 40)) + valid[place:]
    changed = bytearray(valid)
    for _ in range(draw(st.integers(1, 8))):
        changed[draw(st.integers(0, min(len(valid), draw(st.sampled_from([64, 512, 1 << 30]))) - 1))] = draw(
            st.integers(0, 255)
        )
    return bytes(changed)


def _replaced(draw: st.DrawFn, document: Any) -> Any:
    """A document with one value, name or element of it changed, left out or doubled."""
    if isinstance(document, dict) and document and draw(st.integers(0, 9)):
        name = draw(st.sampled_from(sorted(document)))
        return {**document, name: _replaced(draw, document[name])}
    if isinstance(document, list) and document and draw(st.integers(0, 9)):
        place = draw(st.integers(0, len(document) - 1))
        return [*document[:place], _replaced(draw, document[place]), *document[place + 1 :]]
    how = draw(st.sampled_from(["weird", "weird", "without", "doubled", "more"]))
    if isinstance(document, dict) and how == "without":
        gone = draw(st.sampled_from(sorted(document) or [""]))
        return {name: value for name, value in document.items() if name != gone}
    if isinstance(document, dict) and how == "more":
        return {**document, "more": draw(st.sampled_from(_WEIRD))}
    if isinstance(document, list) and how in ("doubled", "more"):
        return document * 2 if how == "doubled" else [*document, draw(st.sampled_from(_WEIRD))]
    if isinstance(document, str) and document and how in ("without", "doubled"):
        return document[1:] if how == "without" else document * 2
    if isinstance(document, int) and how == "more":
        return document + draw(st.sampled_from([-1, 1, 2**32]))
    return draw(st.sampled_from(_WEIRD))
