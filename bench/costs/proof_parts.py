"""A record's proof, part by part. The only module here that knows what a proof consists of."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from circuits.build import ProvingCircuit, make_chain
from circuits.cost import estimate_of, total
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile
from circuits.proving import Proof
from circuits.segments import cut_model
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
    return [
        Part(artefacts.vka, segment.data, segment.instances)
        for artefacts, segment in zip(circuit.artefacts.segments, proof.segments, strict=True)
    ]


def claim_of(proof: Proof) -> Claim:
    """What a checker is asked about."""
    return Claim(proof.proofs, proof.boundaries, proof.inputs, proof.outputs)


def altered(proof: Proof) -> Claim:
    """The same proof, for outputs that are off by one."""
    return Claim(proof.proofs, proof.boundaries, proof.inputs, [proof.outputs[0] + 1, *proof.outputs[1:]])


def proof_bytes(evidence: Evidence) -> int:
    """Of all proofs in a task's evidence."""
    return sum(len(data) for record in evidence.proofs for data in record.proofs)


def single_proofs(evidence: Evidence) -> list[bytes] | None:
    """Of each record, for a circuit of one segment; None for one of several, which the Certifier does not take."""
    if any(len(record.proofs) > 1 for record in evidence.proofs):
        return None
    return [record.proofs[0] for record in evidence.proofs]


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
    """Of every segment."""
    return circuit.artefacts.parsed.logrows


def proof_cpu_seconds(model: bytes, profile: CircuitProfile, ezkl: EzklProcess) -> float:
    """Processor time of a proof of one record, all segments together, by the cost model."""
    settings = make_chain(cut_model(model, profile.cuts), profile, ezkl).segments
    return total([estimate_of(segment) for segment in settings]).cpu_seconds


def sizes_of(circuit: ProvingCircuit) -> tuple[int, int]:
    """Bytes of the verifying and of the proving keys."""
    keys = [(segment.folder / "pk").stat().st_size for segment in circuit.segments]
    return len(circuit.artefacts.vk), sum(keys)
