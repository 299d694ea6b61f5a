"""Step 20: every proof again, by ezkl's Solidity verifier in an EVM on this machine.

It shares no code with step 10: another implementation of the same verifier, in another language, over another library's
field and pairing arithmetic (:mod:`contracts.evm`). What the two have in common, and this cannot find: the circuit
itself, and the VKA, which ezkl derived from the vk. Of the VKA it checks without ezkl that its digest is the pinned one
and that its G2 points are those of the pinned SRS.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from circuits.artefacts import vka_digest_of
from circuits.srs import g2_words, read_srs
from circuits.verifying import MAX_PROOF_BYTES
from contracts.evm import LocalVerifier
from contracts.onchain import public_instances
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
    vka: Sequence[Digest],
    pinned: Circuit,
    srs: Path | None,
    proofs: Sequence[RecordProof],
    openings: Sequence[Opening],
    first: Sequence[str | None] | None,
) -> str:
    """Ask the Solidity verifier about each proof, with public instances made of the record's committed bytes.

    Parameters
    ----------
    vka
        The certificate's words; their digest must be the one that `pinned` names.
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
    found = vka_digest_of(vka)
    if found != pinned.vka_digest:
        raise DigestMismatchError(
            f"the VKA has digest {found}, not the pinned {pinned.vka_digest}", field="circuit.vka"
        )
    if srs is not None and g2_words(read_srs(srs, pinned.srs_digest)) != tuple(vka[_G2_WORDS]):
        raise DigestMismatchError("the VKA's points are not those of the pinned SRS", field="circuit.vka")
    accepted, gas = evm_answers(vka, pinned.visibility, proofs, openings)
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
    return f"an EVM accepts {len(accepted)} proofs, {other}; at most {gas} gas; {points}"


def evm_answers(
    vka: Sequence[Digest], visibility: Visibility, proofs: Sequence[RecordProof], openings: Sequence[Opening]
) -> tuple[list[bool], int]:
    """Whether the Solidity verifier accepts each proof, and the most gas that one took.

    The contract ignores what stands after a proof's end, which would make one proof many; rexis refuses it, off chain
    by ezkl's reading of the proof, here by its last word: a proof that holds without it had bytes to spare.
    """
    verifier = LocalVerifier(vka)
    accepted, most = [], 0
    for proof, opening in zip(proofs, openings, strict=True):
        data, instances = proof.proof, public_instances(opening, visibility)
        if not _WORD < len(data) <= MAX_PROOF_BYTES or len(data) % _WORD:
            accepted.append(False)
            continue
        answer = verifier.verify(data, instances)
        accepted.append(answer.accepted and not verifier.verify(data[:-_WORD], instances).accepted)
        most = max(most, answer.gas)
    return accepted, most
