"""Checking proofs and artefacts that strangers made. Needs no keys, no model and no network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from circuits.artefacts import CircuitArtefacts, read_vka, vka_digest_of
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


@dataclass(frozen=True)
class Claim:
    """A proof, and the public values that the checker itself rebuilt for it.

    Attributes
    ----------
    inputs, outputs
        Fixed-point integers from the committed record, or its committed hash as the only input. Never from the prover's
        proof file.
    """

    proof: bytes
    inputs: Sequence[int]
    outputs: Sequence[int]


def verify_proofs(artefacts: CircuitArtefacts, claims: Sequence[Claim], srs: Srs) -> None:
    """Check every claim, in one child process.

    What this shows: the circuit of this *vk* maps the inputs to the outputs. That the vk is the registered one is the
    caller's to check (:meth:`CircuitArtefacts.require`), and that it is the right model's follows from a rebuild.

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
    settings = artefacts.parsed
    reasons = [_shape_fault(claim, settings) for claim in claims]
    open_claims = [position for position, reason in enumerate(reasons) if reason is None]
    with _files(artefacts.settings, artefacts.vk, srs, artefacts.srs_digest) as files, _process() as ezkl:
        for start in range(0, len(open_claims), _PROOFS_PER_CALL):
            batch = open_claims[start : start + _PROOFS_PER_CALL]
            sent = [
                {
                    "proof": claims[position].proof.hex(),
                    "instances": _instances(claims[position], settings),
                }
                for position in batch
            ]
            for position, reason in zip(batch, ezkl.call("verify", **files, claims=sent), strict=True):
                reasons[position] = reason
    return reasons


def vka_digest(vk: bytes, settings: bytes, srs: Srs) -> Digest:
    """The digest that the Solidity verifier must know this vk by, rebuilt from vk, settings and SRS.

    Raises
    ------
    CircuitError
        ezkl cannot read the vk under these settings.
    """
    with _files(settings, vk, srs, srs.digest) as files, _process() as ezkl, tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "vka")
        ezkl.call("vka", **files, out=str(out))
        return vka_digest_of(read_vka(out.read_bytes()))


def require_vka(artefacts: CircuitArtefacts, srs: Srs) -> None:
    """Raise :class:`DigestMismatchError` unless the artefacts' VKA is the one of their vk."""
    found = vka_digest(artefacts.vk, artefacts.settings, srs)
    if found != artefacts.vka_digest:
        raise DigestMismatchError(f"the vk has VKA digest {found}, not {artefacts.vka_digest}", field="circuit.vka")


def _shape_fault(claim: Claim, settings: CircuitSettings) -> str | None:
    if not 0 < len(claim.proof) <= MAX_PROOF_BYTES:
        return f"a proof has 1 to {MAX_PROOF_BYTES} bytes, not {len(claim.proof)}"
    for what, values, expected in (
        ("inputs", claim.inputs, settings.public_inputs),
        ("outputs", claim.outputs, settings.output_length),
    ):
        if len(values) != expected:
            return f"{len(values)} {what}, the circuit has {expected}"
    _instances(claim, settings)
    return None


def _instances(claim: Claim, settings: CircuitSettings) -> list[int]:
    inputs, outputs = ([int(value) for value in values] for values in (claim.inputs, claim.outputs))
    return instances_from(inputs, outputs, hashed=settings.visibility == Visibility.HASHED)


def _process() -> EzklProcess:
    limit = min(_MEMORY_LIMIT, int(total_bytes() * _SHARE_OF_MACHINE))
    return EzklProcess(memory_limit=limit, timeout=_SECONDS_PER_CALL)


@contextmanager
def _files(settings: bytes, vk: bytes, srs: Srs, srs_digest: Digest) -> Iterator[dict[str, str]]:
    parsed = CircuitSettings.parse(settings)
    if srs.digest != srs_digest:
        raise DigestMismatchError(f"SRS {srs.path} has digest {srs.digest}, not the pinned {srs_digest}")
    if srs.logrows != parsed.logrows:
        raise CircuitError(f"the circuit needs an SRS for logrows {parsed.logrows}, this one is for {srs.logrows}")
    if len(vk) > MAX_VK_BYTES:
        raise CircuitError(f"a vk of {len(vk)} bytes is over the limit", field="vk")
    with tempfile.TemporaryDirectory(prefix="rexis-check-") as name:
        folder = Path(name)
        (folder / "settings.json").write_bytes(settings)
        (folder / "vk").write_bytes(vk)
        yield {"vk": str(folder / "vk"), "settings": str(folder / "settings.json"), "srs": str(srs.path)}
