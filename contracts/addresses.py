"""Where the contracts stand: computed from their code, on every chain the same, with no node asked.

They are deployed with CREATE2 (EIP-1014) through the deployer that most chains have at one address
(https://github.com/Arachnid/deterministic-deployment-proxy). An address is then a hash of the deployer, a salt and the
init code, which is creation code and constructor arguments; the arguments are in turn such addresses. Only this init
code can have run at such an address, so that what stands there has this code, these immutables and no storage but what
its own functions wrote. Comparing the code on chain could not show the last two.
"""

from __future__ import annotations

from functools import cache

from contracts.artefacts import CoreName, load
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.keccak import keccak
from rexis.protocol.parsing import Address

DEPLOYER = Address("0x4e59b44847b379578588920cA78FbF26c0B4956C")
SALT: Digest = sha256(b"rexis.contracts.v1\0")

# Constructor arguments. A contract comes after those that it refers to: so they are also deployed.
_ARGUMENTS: dict[CoreName, tuple[CoreName, ...]] = {
    "ModelRegistry": (),
    "EvidenceLog": ("ModelRegistry",),
    "Halo2VerifierReusable": (),
    "Certifier": ("EvidenceLog", "Halo2VerifierReusable"),
}


@cache
def init_code(name: CoreName) -> bytes:
    """Creation code with its constructor arguments: contracts of this deployment, ABI-encoded."""
    return load(name).bytecode + b"".join(
        address_of_contract(other).raw().rjust(32, b"\0") for other in _ARGUMENTS[name]
    )


@cache
def address_of_contract(name: CoreName) -> Address:
    """The address of a contract, on every chain."""
    return create2(init_code(name))


def create2(code: bytes) -> Address:
    """Where the deployer puts a contract of this init code (EIP-1014)."""
    return Address.from_bytes(keccak(b"\xff" + DEPLOYER.raw() + SALT + keccak(code))[12:])


def in_order() -> list[CoreName]:
    """The contracts of the log, in an order in which they can be deployed."""
    return list(_ARGUMENTS)
