"""Small changes that attacks have in common."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np

from rexis.protocol.parsing import parse_hex, to_hex
from tests.vectors.certificates.issuer import Document


def shifted(index: int, honest: bytes) -> bytes:
    """A record's payload with its first value changed a little, in either encoding (two values a record)."""
    if len(honest) == 8:
        floats = np.frombuffer(honest, dtype="<f4").copy()
        floats[0] += 0.5
        return floats.tobytes()
    integers = np.frombuffer(honest, dtype=">i8").copy()
    integers[0] += 1
    return integers.tobytes()


def flipped(text: str, position: int = -1) -> str:
    """Hexadecimal bytes with the lowest bit of one byte turned."""
    raw = bytearray(parse_hex(text))
    raw[position] ^= 1
    return to_hex(bytes(raw))


def first(document: Document, part: str, **changes: Any) -> Document:
    """The document with fields of a part of its first task changed: ``evidence``, ``commitment`` or ``anchor``."""
    made = deepcopy(document)
    made["tasks"][0][part] = {**made["tasks"][0][part], **changes}
    return made


def opening(document: Document, position: int = 0, **changes: Any) -> Document:
    """The document with fields of one opening of its first task changed."""
    made = deepcopy(document)
    openings = made["tasks"][0]["evidence"]["openings"]
    openings[position] = {**openings[position], **changes}
    return made


def proof(document: Document, text: str, position: int = 0) -> Document:
    """The document with the bytes of one proof of its first task replaced."""
    made = deepcopy(document)
    made["tasks"][0]["evidence"]["proofs"][position]["proofs"] = [text]
    return made
