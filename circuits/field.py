"""Signed integers as elements of BN254's scalar field: the one place where the two meet.

A negative integer ``x`` stands as ``r - |x|``. ezkl writes elements as 32 little-endian bytes in hexadecimal, Solidity
takes them as ``uint256``.
"""

from __future__ import annotations

from collections.abc import Sequence

from rexis.protocol.errors import MalformedError
from rexis.protocol.field import SCALAR_FIELD

MODULUS = SCALAR_FIELD
# Integers of records are int64; beyond that nothing that rexis commits can stand.
_LIMIT = 1 << 63


def to_field(value: int) -> int:
    """The field element of a signed integer.

    Raises
    ------
    MalformedError
        The integer does not fit int64, so no record holds it.
    """
    value = int(value)
    if not -_LIMIT <= value < _LIMIT:
        raise MalformedError("an instance lies outside int64")
    return value % MODULUS


def from_field(element: int) -> int:
    """The signed integer of a field element; inverse of :func:`to_field`."""
    if not 0 <= element < MODULUS:
        raise MalformedError("not a canonical field element")
    value = element if element <= MODULUS // 2 else element - MODULUS
    if not -_LIMIT <= value < _LIMIT:
        raise MalformedError("a field element lies outside int64")
    return value


def to_ezkl(value: int) -> str:
    """A signed integer as ezkl writes it."""
    return element_to_ezkl(to_field(value))


def from_ezkl(text: str) -> int:
    """The signed integer that ezkl wrote; inverse of :func:`to_ezkl`."""
    return from_field(element_from_ezkl(text))


def element_to_ezkl(element: int) -> str:
    """A field element as ezkl writes it: 64 hexadecimal digits, little-endian, no prefix."""
    return element.to_bytes(32, "little").hex()


def element_from_ezkl(text: str) -> int:
    """The field element that ezkl wrote; inverse of :func:`element_to_ezkl`."""
    return int.from_bytes(bytes.fromhex(text), "little")


def instances_from(inputs: Sequence[int], outputs: Sequence[int], *, hashed: bool = False) -> list[int]:
    """Public instances of a proof, as field elements: the inputs, then the outputs.

    Parameters
    ----------
    inputs, outputs
        Fixed-point integers of one record, flattened in C order.
    hashed
        `inputs` is one hash, a field element already.

    Raises
    ------
    MalformedError
        A value that no record, and no hash, can be.
    """
    if not hashed:
        return [to_field(value) for value in (*inputs, *outputs)]
    if not all(0 <= element < MODULUS for element in inputs):
        raise MalformedError("a hash is not a canonical field element")
    return [*inputs, *(to_field(value) for value in outputs)]
