"""Checking proofs and artefacts that strangers made. Needs no keys, no model and no network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from circuits.artefacts import CircuitArtefacts, SegmentArtefacts, read_vka, vka_digest_of
from circuits.chain import ChainSettings
from circuits.field import instances_from
from circuits.memory import total_bytes
from circuits.process import EzklProcess
from circuits.settings import CircuitSettings
from circuits.srs import Srs
from rexis.protocol.circuit import Visibility
from rexis.protocol.digests import Digest
from rexis.protocol.errors import CircuitError, DigestMismatchError

MAX_PROOF_BYTES = 1 << 20  # measured: 2 to 10 kB
MAX_VK_BYTES = 64 << 20
# A hostile vk or settings file must not take the checker's machine with it: at most this, and of a small machine less.
_MEMORY_LIMIT = 16 << 30
_SHARE_OF_MACHINE = 0.75
_SECONDS_PER_CALL = 120.0
_PROOFS_PER_CALL = 64
_shared: ContextVar[EzklProcess | None] = ContextVar("_shared", default=None)


@dataclass(frozen=True)
class Claim:
    """Proofs of one record, and the public values that they must be about.

    Attributes
    ----------
    proofs
        One a segment.
    boundaries
        The values between the segments, as the prover names them. Nothing is believed of them: each is what one proof
        must have as outputs and the next as inputs, so that only values that make both true are accepted.
    inputs, outputs
        Fixed-point integers from the committed record, or its committed hash as the only input. Never from the prover's
        proof file.
    """

    proofs: Sequence[bytes]
    boundaries: Sequence[Sequence[int]]
    inputs: Sequence[int]
    outputs: Sequence[int]


def verify_proofs(artefacts: CircuitArtefacts, claims: Sequence[Claim], srs: Srs) -> None:
    """Check every claim, in one child process.

    What this shows: the circuit of this *vk* maps the inputs to the outputs; for several segments, that there are
    boundary values with which each segment's circuit does its part. That the vk is the registered one is the caller's
    to check (:meth:`CircuitArtefacts.require`), and that it is the right model's follows from a rebuild.

    Raises
    ------
    CircuitError
        The first claim that does not hold, by position and reason.
    DigestMismatchError
        Another SRS than the circuit's.
    """
    for position, reason in enumerate(check_proofs(artefacts, claims, srs)):
        if reason is not None:
            raise CircuitError(f"proof {position} does not hold: {reason}", field=f"proofs[{position}]")


def check_proofs(artefacts: CircuitArtefacts, claims: Sequence[Claim], srs: Srs) -> list[str | None]:
    """As :func:`verify_proofs`, but go on after a bad claim: None for each good one, else why not."""
    reasons = [_shape_fault(claim, artefacts.parsed) for claim in claims]
    with _process() as ezkl:
        for place, segment in enumerate(artefacts.segments):
            left = [position for position, reason in enumerate(reasons) if reason is None]
            if not left:
                break
            prefix = f"segment {place}: " if len(artefacts.segments) > 1 else ""
            links = [_link(claims[position], place) for position in left]
            for position, reason in zip(left, _check_links(segment, links, srs, artefacts, ezkl), strict=True):
                reasons[position] = None if reason is None else prefix + reason
    return reasons


@dataclass(frozen=True)
class Link:
    """One segment's part of a claim."""

    proof: bytes
    inputs: Sequence[int]
    outputs: Sequence[int]


def links_of(proofs: Sequence[bytes], inputs: NDArray[np.int64], outputs: NDArray[np.int64]) -> list[Link]:
    """Proofs of one segment for n records, with its inputs and outputs ``[n, …]``."""
    return [Link(*parts) for parts in zip(proofs, inputs.tolist(), outputs.tolist(), strict=True)]


def check_segment(artefacts: CircuitArtefacts, segment: int, links: Sequence[Link], srs: Srs) -> list[str | None]:
    """As :func:`check_proofs`, but of a single segment: None for each proof that holds, else why not."""
    registered = artefacts.segments[segment]
    sizes = registered.settings.public_inputs, registered.settings.output_length
    reasons = [_link_fault(link, sizes) for link in links]
    left = [position for position, reason in enumerate(reasons) if reason is None]
    if left:
        with _process() as ezkl:
            found = _check_links(registered, [links[position] for position in left], srs, artefacts, ezkl)
        for position, reason in zip(left, found, strict=True):
            reasons[position] = reason
    return reasons


def _link(claim: Claim, place: int) -> Link:
    """The same values are a segment's outputs and the next one's inputs."""
    values = (claim.inputs, *claim.boundaries, claim.outputs)
    return Link(claim.proofs[place], values[place], values[place + 1])


def _link_fault(link: Link, sizes: tuple[int, int]) -> str | None:
    fault = _size_fault(link.proof)
    if fault is None and (len(link.inputs), len(link.outputs)) != sizes:
        fault = f"{len(link.inputs)} inputs and {len(link.outputs)} outputs, the segment has {sizes[0]} and {sizes[1]}"
    return fault


def _size_fault(proof: bytes) -> str | None:
    return None if 0 < len(proof) <= MAX_PROOF_BYTES else f"a proof has 1 to {MAX_PROOF_BYTES} bytes, not {len(proof)}"


def _check_links(
    segment: SegmentArtefacts, links: Sequence[Link], srs: Srs, artefacts: CircuitArtefacts, ezkl: EzklProcess
) -> list[str | None]:
    reasons: list[str | None] = []
    with _files(segment.settings, segment.vk, srs, artefacts.srs_digest) as files:
        for start in range(0, len(links), _PROOFS_PER_CALL):
            sent = [
                {"proof": link.proof.hex(), "instances": _instances(link, segment.settings)}
                for link in links[start : start + _PROOFS_PER_CALL]
            ]
            reasons += ezkl.call("verify", **files, claims=sent)
    return reasons


def rebuilt_vka(settings: CircuitSettings, vk: bytes, srs: Srs) -> tuple[Digest, ...]:
    """The words that the Solidity verifier must be given for this vk, made from vk, settings and SRS.

    Raises
    ------
    CircuitError
        ezkl cannot read the vk under these settings.
    """
    with (
        _files(settings, vk, srs, srs.digest) as files,
        _process() as ezkl,
        tempfile.TemporaryDirectory(prefix="rexis-vka-") as folder,
    ):
        out = Path(folder, "vka")
        ezkl.call("vka", **files, out=str(out))
        return read_vka(out.read_bytes())


def require_vka(artefacts: CircuitArtefacts, srs: Srs) -> None:
    """Raise :class:`DigestMismatchError` unless each segment's VKA is the one of its vk."""
    for segment in artefacts.segments:
        found, given = (vka_digest_of(vka) for vka in (rebuilt_vka(segment.settings, segment.vk, srs), segment.vka))
        if found != given:
            raise DigestMismatchError(f"the vk has VKA digest {found}, not {given}", field="circuit.vka")


def _shape_fault(claim: Claim, settings: ChainSettings) -> str | None:
    count = len(settings.segments)
    if (len(claim.proofs), len(claim.boundaries)) != (count, count - 1):
        return (
            f"{len(claim.proofs)} proofs with {len(claim.boundaries)} boundaries between them; the circuit has {count} "
            f"segments, and {count - 1} boundaries"
        )
    for proof in claim.proofs:
        fault = _size_fault(proof)
        if fault is not None:
            return fault
    names = ["inputs", *(f"values on boundary {place}" for place in range(count - 1)), "outputs"]
    sizes = [settings.public_inputs, *settings.boundaries, settings.output_length]
    for what, values, expected in zip(names, (claim.inputs, *claim.boundaries, claim.outputs), sizes, strict=True):
        if len(values) != expected:
            return f"{len(values)} {what}, the circuit has {expected}"
    for place, segment in enumerate(settings.segments):
        _instances(_link(claim, place), segment)
    return None


def _instances(link: Link, settings: CircuitSettings) -> list[int]:
    """Public instances as field elements; :class:`MalformedError` for values that no record, and no hash, can be."""
    inputs, outputs = ([int(value) for value in values] for values in (link.inputs, link.outputs))
    return instances_from(inputs, outputs, hashed=settings.visibility == Visibility.HASHED)


@contextmanager
def one_process() -> Iterator[None]:
    """Within, all checks share one child process, which starts with the first: a start takes as long as ten proofs."""
    with _new_process() as ezkl:
        token = _shared.set(ezkl)
        try:
            yield
        finally:
            _shared.reset(token)


def _process() -> AbstractContextManager[EzklProcess]:
    shared = _shared.get()
    return _new_process() if shared is None else nullcontext(shared)


def _new_process() -> EzklProcess:
    limit = min(_MEMORY_LIMIT, int(total_bytes() * _SHARE_OF_MACHINE))
    return EzklProcess(memory_limit=limit, timeout=_SECONDS_PER_CALL)


@contextmanager
def _files(settings: CircuitSettings, vk: bytes, srs: Srs, srs_digest: Digest) -> Iterator[dict[str, str]]:
    if srs.digest != srs_digest:
        raise DigestMismatchError(f"SRS {srs.path} has digest {srs.digest}, not the pinned {srs_digest}")
    if srs.logrows != settings.logrows:
        raise CircuitError(f"the circuit needs an SRS for logrows {settings.logrows}, this one is for {srs.logrows}")
    if len(vk) > MAX_VK_BYTES:
        raise CircuitError(f"a vk of {len(vk)} bytes is over the limit", field="vk")
    with tempfile.TemporaryDirectory(prefix="rexis-check-") as name:
        folder = Path(name)
        (folder / "settings.json").write_bytes(settings.data)
        (folder / "vk").write_bytes(vk)
        yield {"vk": str(folder / "vk"), "settings": str(folder / "settings.json"), "srs": str(srs.path)}
