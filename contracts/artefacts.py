"""What the package knows of the compiled contracts: ABI, bytecode, custom errors. Needs neither Node nor forge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from rexis.protocol.keccak import keccak

# The log: one deployment a chain, which nobody governs. Around it, any number of deployments with terms of their own.
CoreName = Literal["ModelRegistry", "EvidenceLog", "Certifier", "Halo2VerifierReusable"]
AccountabilityName = Literal["Disputes", "WorkerRegistry", "JobEscrow", "ValidatorQuorum"]
ContractName = Literal[CoreName, AccountabilityName]
CONTRACTS: tuple[ContractName, ...] = get_args(ContractName)

# Solidity's own errors: `require` with a reason, and a failed assertion, overflow, index out of range …
_BUILT_IN = (("Error", "reason", "string"), ("Panic", "code", "uint256"))


@dataclass(frozen=True)
class Artefact:
    """One compiled contract.

    Attributes
    ----------
    abi
        JSON ABI.
    bytecode
        Creation code, without constructor arguments.
    compiler
        solc version and settings that gave these bytes.
    """

    name: ContractName
    abi: Sequence[Mapping[str, Any]]
    bytecode: bytes
    compiler: Mapping[str, Any]


@dataclass(frozen=True)
class ContractError:
    """A decoded revert: the custom error's name and arguments."""

    name: str
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={_text(value)}' for key, value in self.arguments.items())})"


@cache
def load(name: ContractName) -> Artefact:
    """The artefact of a contract, from the package's own files."""
    raw = json.loads(files("contracts").joinpath("abi", f"{name}.json").read_text(encoding="utf-8"))
    return Artefact(
        name=name,
        abi=raw["abi"],
        bytecode=bytes.fromhex(raw["bytecode"][2:]),
        compiler=raw["compiler"],
    )


def decode_revert(data: bytes) -> ContractError | None:
    """Decode the return data of a revert; None if it is empty or of no contract of ours."""
    from eth_abi.abi import decode  # only here: an auditor without a chain node need not wait for it
    from eth_abi.exceptions import DecodingError

    known = _errors().get(data[:4])
    if known is None:
        return None
    name, names, types = known
    try:
        return ContractError(name, dict(zip(names, decode(types, data[4:]), strict=True)))
    except DecodingError:
        return None


@cache
def _errors() -> Mapping[bytes, tuple[str, list[str], list[str]]]:
    found: dict[bytes, tuple[str, list[str], list[str]]] = {}
    for name, argument, kind in _BUILT_IN:
        found[keccak(f"{name}({kind})".encode())[:4]] = (name, [argument], [kind])
    for contract in CONTRACTS:
        for item in load(contract).abi:
            if item["type"] == "error":
                types = [member["type"] for member in item["inputs"]]
                selector = keccak(f"{item['name']}({','.join(types)})".encode())[:4]
                found[selector] = (item["name"], [member["name"] for member in item["inputs"]], types)
    return found


def _text(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
