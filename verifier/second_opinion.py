"""Step 20: every proof again, by ezkl's Solidity verifier in an EVM on this machine.

It shares no code with step 10: another implementation of the same verifier, in another language, over another library's
field and pairing arithmetic (:mod:`contracts.evm`). What the two have in common, and this cannot find: the circuit
itself, and the VKA, which ezkl derived from the vk. Of the VKA it checks without ezkl that its digest is the pinned one
and that its G2 points are those of the pinned SRS.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from circuits.artefacts import vka_digest_of
from circuits.chain import ChainSettings, split_vkas
from circuits.srs import g2_words, read_srs
from circuits.verifying import MAX_PROOF_BYTES
from contracts.evm import LocalVerifier
from contracts.onchain import public_instances
from rexis.protocol.certificate import CircuitMaterial
from rexis.protocol.circuit import Circuit, Visibility
from rexis.protocol.digests import Digest
from rexis.protocol.errors import DigestMismatchError, EvidenceError
from rexis.protocol.evidence import RecordProof
from rexis.protocol.records import Opening

SECOND_OPINION = 20
# Where the VKA holds G2 and −s·G2, eight coordinates (``ec_pairing`` in contracts/src/vendor).
_G2_WORDS = slice(16, 24)
_WORD = 32


def check_second_opinion(
    material: CircuitMaterial,
    pinned: Circuit,
    srs: Path | None,
    proofs: Sequence[RecordProof],
    openings: Sequence[Opening],
    first: Sequence[str | None] | None,
) -> str:
    """Ask the Solidity verifier about each proof, with public instances made of the record's committed bytes.

    Of a circuit of several segments all proofs of a record must be accepted, each with the same bytes of a boundary as
    the segment before or after it.

    Parameters
    ----------
    material
        The certificate's artefacts. Of the VKA the digest must be the one that `pinned` names.
    srs
        None if it is not at hand: then its points are not compared.
    openings
        One a proof; they have been found in the committed trees.
    first
        What ezkl found, by proof: None for a good one, else its reason. None as a whole if it gave no answer.

    Raises
    ------
    EvidenceError
        The Solidity verifier rejects a proof, or the two disagree about one, in whichever direction.
    DigestMismatchError
        Another VKA, or one of another SRS.
    UnavailableError
        There is no EVM here, or it came to no answer.
    """
    found = vka_digest_of(material.vka)
    if found != pinned.vka_digest:
        raise DigestMismatchError(
            f"the VKA has digest {found}, not the pinned {pinned.vka_digest}", field="circuit.vka"
        )
    vkas = split_vkas(material.vka, len(ChainSettings.parse(material.settings.encode()).segments))
    if srs is not None:
        expected = g2_words(read_srs(srs, pinned.srs_digest))
        if any(expected != vka[_G2_WORDS] for vka in vkas):
            raise DigestMismatchError("the VKA's points are not those of the pinned SRS", field="circuit.vka")
    hashed = pinned.visibility == Visibility.HASHED
    accepted, gas = evm_answers(vkas, proofs, openings, hashed=hashed)
    for position, opening in enumerate(openings):
        if first is not None and accepted[position] != (first[position] is None):
            ezkl, evm = ("rejects", "accepts") if accepted[position] else ("accepts", "rejects")
            raise EvidenceError(
                f"DISAGREEMENT: ezkl {ezkl} the proof of record {opening.index}, the Solidity verifier {evm} it",
                field="evidence.proofs",
                hint="one of the two verifiers is wrong: rely on neither, and report it with this certificate",
            )
    rejected = [opening.index for opening, good in zip(openings, accepted, strict=True) if not good]
    if rejected:
        raise EvidenceError(
            f"the Solidity verifier rejects the proof of record {rejected[0]} too ({len(rejected)} of {len(accepted)})",
            field="evidence.proofs",
        )
    points = "VKA's points are the SRS's" if srs is not None else "no SRS to compare the VKA's points with"
    other = "as did ezkl" if first is not None else "ezkl gave no answer to compare with"
    count = f"{len(accepted)} proofs" if len(vkas) == 1 else f"{len(accepted)} records' {len(vkas)} proofs each"
    return f"an EVM accepts {count}, {other}; at most {gas} gas a proof; {points}"


def evm_answers(
    vkas: Sequence[Sequence[Digest]],
    proofs: Sequence[RecordProof],
    openings: Sequence[Opening],
    *,
    hashed: bool = False,
) -> tuple[list[bool], int]:
    """Whether the Solidity verifier accepts all proofs of each record, and the most gas that one took.

    Parameters
    ----------
    vkas
        One a segment of the circuit.
    hashed
        The openings hold hashes in the place of inputs; the circuit has one segment.
    """
    verifiers = [LocalVerifier(vka) for vka in vkas]
    accepted, most = [], 0
    for proof, opening in zip(proofs, openings, strict=True):
        payloads = [opening.input, *proof.boundaries, opening.output]
        good = len(proof.proofs) == len(verifiers) == len(payloads) - 1
        if good:
            for verifier, data, ends in zip(verifiers, proof.proofs, itertools.pairwise(payloads), strict=True):
                accepts, gas = _accepts(verifier, data, public_instances(*ends, hashed=hashed))
                good, most = good and accepts, max(most, gas)
        accepted.append(good)
    return accepted, most


def _accepts(verifier: LocalVerifier, data: bytes, instances: list[int]) -> tuple[bool, int]:
    """Whether a proof holds, and the gas.

    The contract ignores what stands after a proof's end, which would make one proof many; rexis refuses it, off chain
    by ezkl's reading of the proof, here by its last word: a proof that holds without it had bytes to spare.
    """
    if not _WORD < len(data) <= MAX_PROOF_BYTES or len(data) % _WORD:
        return False, 0
    answer = verifier.verify(data, instances)
    return answer.accepted and not verifier.verify(data[:-_WORD], instances).accepted, answer.gas
