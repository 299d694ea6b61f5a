"""Where the contracts stand, and what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import model_validator

from contracts.addresses import address_of_contract
from rexis.protocol.certificate import Contracts
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ChainError
from rexis.protocol.field import SCALAR_FIELD
from rexis.protocol.keccak import keccak
from rexis.protocol.parsing import Address, AddressField, Strict, UInt64
from rexis.protocol.records import Encoding, LeafFormat, Side
from rexis.protocol.typed_data import Domain

# What ezkl proves over.
FIELD = SCALAR_FIELD


class Deployment(Strict):
    """The contracts of this version on one chain. Their addresses follow from their code (:mod:`contracts.addresses`).

    The addresses stand in the document for people and for other programs; others than these are refused.
    """

    chain_id: UInt64
    model_registry: AddressField
    evidence_log: AddressField
    certifier: AddressField
    halo2_verifier: AddressField

    @classmethod
    def on(cls, chain_id: int) -> Self:
        """The deployment on a chain, whether it is there yet or not."""
        return cls(chain_id=chain_id, **_addresses())

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain of everything that is signed for this deployment."""
        return Domain(chain_id=self.chain_id, verifying_contract=self.evidence_log)

    @model_validator(mode="after")
    def _stands_where_its_code_says(self) -> Self:
        for name, expected in _addresses().items():
            found = getattr(self, name)
            if found != expected:
                raise ValueError(f"{name} {found} is not this version's, which stands at {expected}")
        return self


def require_deployment(domain: Domain, contracts: Contracts) -> Deployment:
    """The deployment that somebody names, which must be this version's. Pure computation: no node is asked.

    Raises
    ------
    ChainError
        Names the address that does not follow from this version's code.
    """
    deployment = Deployment.on(domain.chain_id)
    for field, found, expected in (
        ("domain.verifyingContract", domain.verifying_contract, deployment.evidence_log),
        ("contracts.modelRegistry", contracts.model_registry, deployment.model_registry),
        ("contracts.certifier", contracts.certifier, deployment.certifier),
    ):
        if found != expected:
            raise ChainError(
                f"is {found}, this version's contract stands at {expected}",
                field=field,
                hint="made with another version of rexis, or with contracts that somebody made up",
            )
    return deployment


def _addresses() -> dict[str, Address]:
    return {
        "model_registry": address_of_contract("ModelRegistry"),
        "evidence_log": address_of_contract("EvidenceLog"),
        "certifier": address_of_contract("Certifier"),
        "halo2_verifier": address_of_contract("Halo2VerifierReusable"),
    }


@dataclass(frozen=True)
class Registration:
    """One key epoch of a model in the ModelRegistry.

    Attributes
    ----------
    registrant
        Who owned the model when this was registered. What it claims of this epoch counts, whoever owns the model now.
    circuit_hash
        hashStruct of the circuit; that of ``NO_CIRCUIT`` for a model without one.
    registered_at, revoked_at
        Block numbers; `revoked_at` is None while active.
    """

    registrant: Address
    circuit_hash: Digest
    vka_digest: Digest
    srs_digest: Digest
    registered_at: int
    revoked_at: int | None

    @property
    def active(self) -> bool:
        """Not revoked."""
        return self.revoked_at is None

    def has_circuit(self, circuit: Circuit) -> bool:
        """Whether this is the circuit that was registered."""
        return bytes(self.circuit_hash) == circuit.hash_struct()


@dataclass(frozen=True)
class Anchored:
    """A root in the EvidenceLog."""

    anchor_id: int
    root: Digest
    size: int
    block: int
    submitter: Address


@dataclass(frozen=True)
class Committed:
    """A commitment in the EvidenceLog. `attempt` counts from 1 for each submitter and task."""

    submitter: Address
    task_id: Digest
    attempt: int
    statement_digest: Digest
    block: int


@dataclass(frozen=True)
class AnchorProof:
    """Where a statement's digest stands in an anchored tree."""

    anchor_id: int
    leaf_index: int
    path: Sequence[Digest]


def vka_digest(vka: Sequence[Digest]) -> Digest:
    """Keccak-256 of the concatenated words, as ezkl's reusable verifier computes it."""
    return Digest(keccak(b"".join(vka)))


def public_instances(inputs: bytes, outputs: bytes, *, hashed: bool = False) -> list[int]:
    """A proof's public instances, from the payloads that it is about: inputs, then outputs, each modulo the field.

    Parameters
    ----------
    hashed
        `inputs` is a hash, the only instance in the inputs' place.
    """
    first = Encoding.HASH if hashed else Encoding.FIXED
    return residues(inputs, first) + residues(outputs, Encoding.FIXED)


def residues(payload: bytes, encoding: Encoding) -> list[int]:
    """A payload's integers modulo the field."""
    values = LeafFormat(side=Side.INPUT, encoding=encoding, scale=0).values(payload)
    return [int(value) % FIELD for value in np.asarray(values)]
