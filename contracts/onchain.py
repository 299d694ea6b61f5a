"""Where the contracts stand, and what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from eth_hash.auto import keccak

from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import Address, AddressField, Strict, UInt64
from rexis.protocol.records import Encoding, LeafFormat, Opening, Side
from rexis.protocol.typed_data import Domain

# BN254's scalar field, over which ezkl proves.
FIELD = 0x30644E72E131A029B85045B68181585D2833E84879B9709143E1F593F0000001


class Deployment(Strict):
    """Where the contracts of one deployment stand.

    Attributes
    ----------
    block
        The block from which on they exist; 0 if that is not known.
    """

    chain_id: UInt64
    model_registry: AddressField
    evidence_log: AddressField
    certifier: AddressField
    halo2_verifier: AddressField
    block: UInt64

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain of everything that is signed for this deployment."""
        return Domain(chain_id=self.chain_id, verifying_contract=self.evidence_log)


@dataclass(frozen=True)
class Registration:
    """One key epoch of a model in the ModelRegistry.

    Attributes
    ----------
    circuit_hash
        hashStruct of the circuit; that of ``NO_CIRCUIT`` for a model without one.
    registered_at, revoked_at
        Block numbers; `revoked_at` is None while active.
    """

    owner: Address
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


def public_instances(opening: Opening) -> list[int]:
    """A proof's public instances, from the record that it is about: inputs, then outputs, each modulo the field."""
    found: list[int] = []
    for side, payload in ((Side.INPUT, opening.input), (Side.OUTPUT, opening.output)):
        values = LeafFormat(side=side, encoding=Encoding.FIXED, scale=0).values(payload)
        found += [int(value) % FIELD for value in np.asarray(values)]
    return found
