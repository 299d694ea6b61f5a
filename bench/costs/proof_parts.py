"""A record's proof, part by part. The only module here that knows what a proof consists of."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from circuits.build import ProvingCircuit
from circuits.proving import Proof
from circuits.verifying import Claim
from rexis.protocol.certificate import CircuitMaterial
from rexis.protocol.digests import Digest
from rexis.protocol.evidence import Evidence


@dataclass(frozen=True)
class Part:
    """What one call of the Solidity verifier is about."""

    vka: Sequence[Digest]
    data: bytes
    instances: Sequence[int]


def parts_of(circuit: ProvingCircuit, proof: Proof) -> list[Part]:
    """One for each segment of the circuit."""
    return [Part(circuit.artefacts.vka, proof.data, proof.instances)]


def claim_of(proof: Proof) -> Claim:
    """What a checker is asked about."""
    return Claim(proof.data, proof.inputs, proof.outputs)


def altered(proof: Proof) -> Claim:
    """The same proof, for outputs that are off by one."""
    return Claim(proof.data, proof.inputs, [proof.outputs[0] + 1, *proof.outputs[1:]])


def proof_bytes(evidence: Evidence) -> int:
    """Of all proofs in a task's evidence."""
    return sum(len(record.proof) for record in evidence.proofs)


def first_proof(evidence: Evidence, position: int) -> bytes:
    """Of the record at this position, for a circuit of one segment."""
    return evidence.proofs[position].proof


def material_of(circuit: ProvingCircuit) -> CircuitMaterial:
    """What a certificate holds of a circuit."""
    artefacts = circuit.artefacts
    return CircuitMaterial.from_object(
        {
            "settings": artefacts.settings.decode(),
            "vk": b64encode(artefacts.vk).decode(),
            "vka": [str(word) for word in artefacts.vka],
        }
    )


def logrows_of(circuit: ProvingCircuit) -> int:
    """Of the largest segment."""
    return circuit.artefacts.parsed.logrows


def sizes_of(circuit: ProvingCircuit) -> tuple[int, int]:
    """Bytes of the verifying and of the proving keys."""
    return len(circuit.artefacts.vk), sum(path.stat().st_size for path in circuit.folder.glob("pk*"))
