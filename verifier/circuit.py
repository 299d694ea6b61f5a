"""Steps 5, 10 and 13: the circuit's artefacts, the proofs made with it, and its relation to the encrypted model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from circuits.artefacts import CircuitArtefacts, CircuitCache
from circuits.build import prepare_keys
from circuits.chain import ChainSettings
from circuits.cost import estimate_of, total
from circuits.process import EzklProcess, ProcessGoneError
from circuits.srs import SrsKind, read_srs, srs_kind
from circuits.verifying import Claim, check_proofs, check_segment, links_of, require_vka
from rexis.protocol.certificate import CircuitMaterial
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest
from rexis.protocol.errors import EvidenceError, UnavailableError
from rexis.protocol.evidence import RecordProof
from rexis.protocol.records import Integers, boundary_values
from verifier.opened import OpenedRecord

# Set-up of a stranger's model, which takes what the largest honest circuits take.
_MEMORY_LIMIT = 64 << 30
_SECONDS_PER_CALL = 3600.0


def artefacts_of(material: CircuitMaterial | None, pinned: Circuit) -> CircuitArtefacts:
    """Embedded artefacts, after comparing every digest and every number that the request pins.

    Raises
    ------
    DigestMismatchError, CircuitError, EvidenceError
        Names the artefact, or the setting that would make a proof mean something else.
    """
    if material is None:
        raise EvidenceError("is missing, but the tier proves with one", field="circuit")
    artefacts = CircuitArtefacts(
        settings=material.settings.encode(),
        vk=material.vk,
        vka=tuple(material.vka),
        srs_digest=pinned.srs_digest,
    )
    artefacts.require(pinned)
    return artefacts


def needed_bytes(settings: bytes) -> int:
    """Memory that a worker needs to set a circuit up and prove with it, one segment at a time, by the estimate."""
    return total([estimate_of(each) for each in ChainSettings.parse(settings).segments]).needed_bytes


def needed_by_segment(settings: bytes) -> tuple[int, ...]:
    """As :func:`needed_bytes`, of each segment: what a worker needs that proves this one only."""
    return tuple(estimate_of(each).needed_bytes for each in ChainSettings.parse(settings).segments)


def boundaries_of(settings: bytes) -> tuple[int, ...]:
    """Values on each boundary between a circuit's segments, by its settings; empty for a single segment."""
    return ChainSettings.parse(settings).boundaries


def check_vka(artefacts: CircuitArtefacts, srs: Path) -> None:
    """The VKA, which the contract uses, is the one of the vk, which is used off chain."""
    with _undecided_if_gone():
        require_vka(artefacts, read_srs(srs))


def reasons_against(
    artefacts: CircuitArtefacts, srs: Path | None, proofs: Sequence[RecordProof], records: Sequence[OpenedRecord]
) -> list[str | None]:
    """Check the proofs of each record, with public instances made of its committed values and of its boundaries.

    Returns
    -------
    list
        None for each record whose proofs all hold, else why not.

    Raises
    ------
    UnavailableError
        The SRS is not at hand, or ezkl is not installed.
    """
    if srs is None:
        raise UnavailableError("proofs cannot be checked without the SRS", hint="give --srs FILE")
    claims = [
        Claim(
            proof.proofs,
            [boundary_values(payload).tolist() for payload in proof.boundaries],
            record.inputs.tolist(),
            record.outputs.tolist(),
        )
        for proof, record in zip(proofs, records, strict=True)
    ]
    with _undecided_if_gone():
        return check_proofs(artefacts, claims, read_srs(srs))


def reasons_against_segment(
    artefacts: CircuitArtefacts, srs: Path, segment: int, proofs: Sequence[bytes], inputs: Integers, outputs: Integers
) -> list[str | None]:
    """As :func:`reasons_against`, but proofs of one segment, against its inputs and outputs ``[n, …]``."""
    with _undecided_if_gone():
        return check_segment(artefacts, segment, links_of(proofs, inputs, outputs), read_srs(srs))


def require_all_hold(reasons: Sequence[str | None], records: Sequence[OpenedRecord]) -> None:
    """Raise :class:`EvidenceError` with the first record whose proof does not hold."""
    for record, reason in zip(records, reasons, strict=True):
        if reason is not None:
            raise EvidenceError(f"the proof of record {record.index} does not hold: {reason}", field="evidence.proofs")


def check_rebuilt(artefacts: CircuitArtefacts, pinned: Circuit, model: bytes, srs: Path) -> None:
    """Compile the encrypted model again: it must give the pinned settings and verifying key."""
    ezkl = EzklProcess(memory_limit=_MEMORY_LIMIT, timeout=_SECONDS_PER_CALL)
    with _undecided_if_gone(), ezkl, tempfile.TemporaryDirectory(prefix="rexis-rebuild-") as folder:
        prepare_keys(model, artefacts.settings, pinned, read_srs(srs), CircuitCache(Path(folder)), ezkl)


@contextmanager
def _undecided_if_gone() -> Iterator[None]:
    """A process that crashed or took too long has found nothing against the certificate, and nothing for it."""
    try:
        yield
    except ProcessGoneError as error:
        raise UnavailableError(error.message, hint=error.hint) from None


def proofs_can_be_checked() -> bool:
    """Whether ezkl is installed here."""
    return find_spec("ezkl") is not None


def srs_is_development(digest: Digest) -> bool:
    """Whether an SRS is anything but one of the pinned files of the perpetual powers of tau."""
    return srs_kind(digest) == SrsKind.DEVELOPMENT
