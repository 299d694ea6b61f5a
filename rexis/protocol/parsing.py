"""The one place where bytes from outside become typed, checked values.

JSON is read strictly (no duplicate keys, no floats, no NaN, bounded size and depth) and models refuse unknown fields
and coercion, so that a document has one meaning and one canonical form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from rexis.protocol.digests import Digest
from rexis.protocol.errors import MalformedError
from rexis.protocol.keccak import keccak

MAX_JSON_BYTES = 64 << 20
MAX_DEPTH = 32
MAX_SAFE_INTEGER = 2**53 - 1  # RFC 8259 §6: integers that every JSON reader agrees on

_T = TypeVar("_T")
_Document = TypeVar("_Document", bound="Strict")

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")
# All bytes but those that give JSON text its structure.
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
_SCAN = 1 << 20
_BACKSLASHES = re.compile(rb"\\*")


class Address(str):
    """An Ethereum address in its EIP-55 checksummed form."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object, field: str | None = None) -> Self:
        """Read a checksummed address; a wrong checksum is refused rather than mended."""
        if not isinstance(text, str) or not _ADDRESS.match(text):
            raise MalformedError("not an address", field=field, hint="0x and 40 hexadecimal digits")
        if text != cls.from_bytes(bytes.fromhex(text[2:])):
            raise MalformedError("address with a wrong checksum", field=field, hint="EIP-55 mixed case")
        return cls(text)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Checksum 20 raw bytes (EIP-55)."""
        if len(raw) != 20:
            raise MalformedError(f"an address is 20 bytes, not {len(raw)}")
        return cls(_checksummed(raw))

    def raw(self) -> bytes:
        """The 20 bytes."""
        return bytes.fromhex(self[2:])


@lru_cache(maxsize=4096)  # who takes part is few, and named in every document
def _checksummed(raw: bytes) -> str:
    lower = raw.hex()
    nibbles = keccak(lower.encode()).hex()
    return "0x" + "".join(c.upper() if int(n, 16) >= 8 else c for c, n in zip(lower, nibbles, strict=False))


ZERO_ADDRESS = Address("0x" + "0" * 40)


def parse_hex(text: object, field: str | None = None) -> bytes:
    """Read ``0x``-prefixed lower-case hexadecimal bytes."""
    if isinstance(text, bytes):
        return text
    if isinstance(text, str) and text.startswith("0x"):
        try:
            raw = bytes.fromhex(text[2:])
        except ValueError:
            raw = b""
        if to_hex(raw) == text:  # `fromhex` also takes upper case and white space
            return raw
    raise MalformedError("not hexadecimal bytes", field=field, hint="0x and lower-case digit pairs")


def to_hex(raw: bytes) -> str:
    """Write bytes as ``0x``-prefixed lower-case hexadecimal."""
    return "0x" + raw.hex()


def _digest(value: object) -> Digest:
    return value if isinstance(value, Digest) else _as_value_error(Digest.parse, value)


def _address(value: object) -> Address:
    return value if isinstance(value, Address) else _as_value_error(Address.parse, value)


def _hex_bytes(value: object) -> bytes:
    return _as_value_error(parse_hex, value)


def _as_value_error(read: Callable[[object], _T], value: object) -> _T:
    try:
        return read(value)
    except MalformedError as error:  # pydantic collects ValueErrors and adds the field's path
        raise ValueError(error.message + (f"; {error.hint}" if error.hint else "")) from None


def read_enum(kind: type[IntEnum]) -> BeforeValidator:
    """Read an enumeration by its text form (see :func:`enum_name`)."""
    names = {member.name.lower().replace("_", "-"): member for member in kind}

    def read(value: object) -> IntEnum:
        if isinstance(value, kind):
            return value
        if isinstance(value, str) and value in names:
            return names[value]
        raise ValueError(f"expected one of {', '.join(names)}")

    return BeforeValidator(read)


def enum_name(member: IntEnum) -> str:
    """The text form of an enumeration member: ``ZK_ONSITE`` is written ``zk-onsite``."""
    return member.name.lower().replace("_", "-")


class SolidityType:
    """Annotation: which Solidity type a field has in EIP-712 typed data."""

    def __init__(self, name: str) -> None:
        self.name = name


# An enumeration's field is Annotated[Kind, read_enum(Kind), WRITE_ENUM, UINT8]: written by name, hashed as uint8.
WRITE_ENUM = PlainSerializer(enum_name)
UINT8 = SolidityType("uint8")


def _written(pattern: str) -> WithJsonSchema:
    """For the API's description: a string of this form."""
    return WithJsonSchema({"type": "string", "pattern": pattern})


UInt8 = Annotated[int, Field(strict=True, ge=0, lt=2**8), SolidityType("uint8")]
UInt16 = Annotated[int, Field(strict=True, ge=0, lt=2**16), SolidityType("uint16")]
UInt32 = Annotated[int, Field(strict=True, ge=0, lt=2**32), SolidityType("uint32")]
UInt64 = Annotated[int, Field(strict=True, ge=0, le=MAX_SAFE_INTEGER), SolidityType("uint64")]
Flag = Annotated[bool, Field(strict=True), SolidityType("bool")]
DigestField = Annotated[
    Digest, BeforeValidator(_digest), PlainSerializer(str), _written("^0x[0-9a-f]{64}$"), SolidityType("bytes32")
]
AddressField = Annotated[
    Address, BeforeValidator(_address), PlainSerializer(str), _written("^0x[0-9a-fA-F]{40}$"), SolidityType("address")
]
HexBytes = Annotated[bytes, BeforeValidator(_hex_bytes), PlainSerializer(to_hex), _written("^0x([0-9a-f]{2})*$")]


class Strict(BaseModel):
    """Base of every document: frozen, camelCase outside, no unknown fields, no coercion.

    Attributes
    ----------
    LONG
        Names of fields that can be long: documents, or lists of them.
    """

    LONG: ClassVar[tuple[str, ...]] = ()

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        arbitrary_types_allowed=True,
    )

    @classmethod
    def from_json(cls, data: bytes, *, max_bytes: int = MAX_JSON_BYTES) -> Self:
        """Parse a JSON document; see :func:`load_json` for what is refused."""
        return cls.from_object(load_json(data, max_bytes=max_bytes))

    @classmethod
    def from_object(cls, value: object) -> Self:
        """Check a decoded JSON value against this model's schema.

        Raises
        ------
        MalformedError
            Names the first field at fault and how many others there are.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False, include_context=False)
            first = faults[0]
            path = ".".join(str(part) for part in first["loc"]) or cls.__name__
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise MalformedError(first["msg"].removeprefix("Value error, ") + more, field=path) from None

    def to_object(self) -> dict[str, Any]:
        """The JSON value of this document, with camelCase names."""
        return self.model_dump(by_alias=True)

    def shallow(self) -> dict[str, Any]:
        """As :meth:`to_object`, but for the fields that can be long, which stay what they are."""
        found = self.model_dump(by_alias=True, exclude=set(self.LONG))
        return found | {to_camel(name): getattr(self, name) for name in self.LONG}

    def to_json(self) -> bytes:
        """Canonical bytes: :func:`canonical_json` of :meth:`to_object`."""
        return canonical_json(self.to_object())


def read_elements(data: bytes, start: int, end: int, first: str, kind: type[_Document], most: int) -> list[_Document]:
    """The elements of a list of documents in canonical form, read one by one.

    Parameters
    ----------
    start, end
        The list's text, between its brackets.
    first
        The first name in each element's text.
    most
        Elements that there may be.

    Raises
    ------
    MalformedError
        That is not what stands there.
    """
    # "},{" stands in no string of this form before a quote: that would have a backslash.
    between, found = b'},{"' + first.encode() + b'":', list[_Document]()
    while start < end:
        stop = data.find(between, start, end) + 1 or end
        written = data[start:stop]
        document = kind.from_json(written, max_bytes=len(data))
        if len(found) == most or canonical_json(document.to_object())[:-1] != written:
            raise MalformedError("not a list in canonical form")
        share_field_sets(document)
        found.append(document)
        start = stop + 1
    if found and start != end + 1:
        raise MalformedError("not a list in canonical form")
    return found


def share_field_sets(document: Strict) -> None:
    """Have a document and those within it share what pydantic keeps for each: the set of fields that were given.

    Half of the memory of a certificate's task is such sets. Nothing here asks for them, and pydantic copies a set
    before it changes it.
    """
    kind = type(document)
    if document.__pydantic_fields_set__ == _fields(kind):
        object.__setattr__(document, "__pydantic_fields_set__", _fields(kind))
    for value in document.__dict__.values():
        if isinstance(value, Strict):
            share_field_sets(value)
        elif isinstance(value, list) and value and isinstance(value[0], Strict):
            for each in value:
                share_field_sets(each)


@lru_cache(maxsize=256)
def _fields(kind: type[Strict]) -> set[str]:
    return set(kind.model_fields)


def load_json(data: bytes, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Decode JSON, refusing what has more than one reading.

    Raises
    ------
    MalformedError
        Too large, not UTF-8, not JSON, a duplicate key, a float, NaN/Infinity, an integer beyond 2⁵³−1, or nesting
        beyond 32 levels.
    """
    if len(data) > max_bytes:
        raise MalformedError(f"document of {len(data)} bytes, over the limit of {max_bytes}")
    require_shallow(data)
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_refuse_float,
            parse_constant=_refuse_float,
            parse_int=_bounded_int,
        )
    except UnicodeDecodeError:
        raise MalformedError("document is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise MalformedError(
            f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            hint="is the file truncated?",
        ) from None


def canonical_json(value: object) -> bytes:
    """Sorted keys, no white space, ASCII, one trailing newline: the form that digests and seals are taken over."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii") + b"\n"


def canonical_parts(value: Strict | Mapping[str, object]) -> Iterator[bytes]:
    """:func:`canonical_json` of an object or a document, in pieces, so that nobody holds it all.

    Lists come element by element, and of documents the members that can be long by themselves (:attr:`Strict.LONG`).
    """
    yield from _parts(value)
    yield b"\n"


def _parts(value: object) -> Iterator[bytes]:
    if isinstance(value, Strict) and _is_long(value):
        yield from _parts(value.shallow())
    elif isinstance(value, Strict):
        yield _written_form(value.to_object())
    elif isinstance(value, Mapping):
        yield b"{"
        for place, name in enumerate(sorted(value)):
            yield b"," * (place > 0) + _written_form(name) + b":"
            member = value[name]
            yield from _parts(member) if isinstance(member, Strict | list) else (_written_form(member),)
        yield b"}"
    elif isinstance(value, list):
        yield b"["
        for position, element in enumerate(value):
            yield b"," * (position > 0)
            yield from _parts(element) if isinstance(element, Strict) else (_written_form(element),)
        yield b"]"
    else:
        yield _written_form(value)


def _is_long(document: Strict) -> bool:
    """Whether a list that can be long has more than one element. In one piece the others take half of the time."""
    members = (getattr(document, name) for name in document.LONG)
    return any(_is_long(one) if isinstance(one, Strict) else len(one) > 1 for one in members)


def _written_form(value: object) -> bytes:
    return canonical_json(value)[:-1]


def require_shallow(data: bytes) -> None:
    """Refuse JSON text nested deeper than :data:`MAX_DEPTH`, before anything recursive reads it.

    Takes time in proportion to the text and a few megabytes, whatever the text is, unless it is mostly backslashes.
    """
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return  # as most documents, in a twentieth of the time

    import numpy as np

    # CPython's C scanner recurses once a level and can exhaust the C stack before it raises RecursionError.
    # Without escaped backslashes and then without escaped quotes, each quote begins or ends a string. What is left of a
    # text that is no JSON may count wrongly after its first fault, where the scanner stops.
    depth = quotes = 0
    for part in _unescaped(data):
        structure = np.frombuffer(part.translate(None, _NOT_STRUCTURE), np.uint8)
        if not structure.size:
            continue
        seen = quotes + np.cumsum(structure == ord('"'), dtype=np.int64)
        opens = (structure == ord("[")) | (structure == ord("{"))
        closes = (structure == ord("]")) | (structure == ord("}"))
        levels = depth + np.cumsum(np.where(seen % 2 == 0, opens.astype(np.int64) - closes, 0))
        if levels.max() > MAX_DEPTH:
            raise MalformedError(f"document is nested deeper than {MAX_DEPTH} levels")
        depth, quotes = int(levels[-1]), int(seen[-1])


def _unescaped(data: bytes) -> Iterator[bytes]:
    """The text without escaped backslashes and escaped quotes, in parts that cut no escape in two."""
    start = 0
    while start < len(data):
        end = min(start + _SCAN, len(data))
        if data.endswith(b"\\", start, end):
            end = _BACKSLASHES.match(data, end).end() + 1  # type: ignore[union-attr]  # and what the last one escapes
        yield data[start:end].replace(b"\\\\", b"").replace(b'\\"', b"")
        start = end


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise MalformedError(f"duplicate key {key!r}")
        found[key] = value
    return found


def _refuse_float(text: str) -> Any:
    raise MalformedError(f"number {text!r} is not an integer", hint="rexis documents hold integers only")


def _bounded_int(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_SAFE_INTEGER:
        raise MalformedError(f"integer {text[:24]} is beyond 2^53-1")
    return int(text)
