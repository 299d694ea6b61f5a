"""EIP-712 typed structured data: type strings, struct hashes and digests of our documents.

A :class:`Struct` is a strict document whose fields carry their Solidity types, so the JSON schema and the signed type
string cannot drift apart. Tested against ``eth_account``'s encoder and against Solidity.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, get_args

from pydantic.fields import FieldInfo

from rexis.protocol.digests import Digest
from rexis.protocol.keccak import keccak
from rexis.protocol.parsing import Address, AddressField, SolidityType, Strict, UInt64

_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
NAME = "rexis"
VERSION = "1"


class Struct(Strict):
    """A document that can be hashed and signed as EIP-712 typed data."""

    @classmethod
    def type_string(cls) -> str:
        """``encodeType``: this struct, then the structs it refers to, sorted by name (EIP-712 §encodeType)."""
        nested = sorted(cls._all_nested() - {cls}, key=lambda t: t.__name__)
        return cls._own_type() + "".join(t._own_type() for t in nested)

    def hash_struct(self) -> bytes:
        """``hashStruct(s) = keccak256(typeHash ‖ encodeData(s))``."""
        type_hash, names = _layout(type(self))
        return keccak(type_hash + b"".join([_word(getattr(self, name)) for name in names]))

    @classmethod
    def _own_type(cls) -> str:
        members = ",".join(f"{_type_name(field)} {field.alias or name}" for name, field in cls.model_fields.items())
        return f"{cls.__name__}({members})"

    @classmethod
    def _all_nested(cls) -> set[type[Struct]]:
        found: set[type[Struct]] = set()
        for field in cls.model_fields.values():
            kind = _solidity_type(field)
            if isinstance(kind, type):
                found |= {kind} | kind._all_nested()
        return found


class Domain(Strict):
    """Which chain and which EvidenceLog a signature is for.

    Attributes
    ----------
    chain_id
        EIP-155 chain id.
    verifying_contract
        Address of the EvidenceLog.
    """

    chain_id: UInt64
    verifying_contract: AddressField

    def separator(self) -> bytes:
        """The EIP-712 domain separator, 32 bytes."""
        return _separator(self.chain_id, self.verifying_contract)

    def digest(self, struct: Struct) -> Digest:
        """The 32 bytes that are signed: ``keccak256(0x19 0x01 ‖ domainSeparator ‖ hashStruct)``."""
        return _digest(self, struct)


def _solidity_type(field: FieldInfo) -> str | type[Struct]:
    for item in field.metadata:
        if isinstance(item, SolidityType):
            return item.name
    annotation = field.annotation
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Struct):
            return candidate
    raise TypeError(f"field {field!r} has no Solidity type")


def _type_name(field: FieldInfo) -> str:
    kind = _solidity_type(field)
    return kind if isinstance(kind, str) else kind.__name__


@cache
def _layout(struct: type[Struct]) -> tuple[bytes, tuple[str, ...]]:
    """``typeHash`` of a struct, and its members in order. They never change, and statements are many."""
    return keccak(struct.type_string().encode()), tuple(struct.model_fields)


@lru_cache(maxsize=64)
def _separator(chain_id: int, contract: Address) -> bytes:
    return keccak(
        keccak(_DOMAIN_TYPE)
        + keccak(NAME.encode())
        + keccak(VERSION.encode())
        + chain_id.to_bytes(32, "big")
        + contract.raw().rjust(32, b"\0")
    )


# A job's request is hashed for each of its tasks, and a statement by each step that names it; comparing them is cheap.
@lru_cache(maxsize=1024)
def _digest(domain: Domain, struct: Struct) -> Digest:
    return Digest(keccak(b"\x19\x01" + domain.separator() + struct.hash_struct()))


@lru_cache(maxsize=256)  # a policy or circuit: the same in all statements of a job
def _nested(struct: Struct) -> bytes:
    return struct.hash_struct()


def _word(value: Any) -> bytes:
    if isinstance(value, Struct):
        return _nested(value)
    if isinstance(value, Digest):
        return bytes(value)
    if isinstance(value, Address):
        return value.raw().rjust(32, b"\0")
    if isinstance(value, int):  # bool and IntEnum included
        return int(value).to_bytes(32, "big")
    raise TypeError(f"cannot encode {type(value).__name__}")
