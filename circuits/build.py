"""From an encrypted ONNX model to a circuit with its keys.

The same model, profile and SRS give the same settings, vk, pk and VKA on every machine, so that a worker or an auditor
who holds the encrypted model rebuilds all of it and compares one digest.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from circuits.artefacts import CircuitArtefacts, CircuitCache, read_vka
from circuits.boundary import variables_of
from circuits.chain import ChainSettings, join_keys, join_vkas
from circuits.memory import require_memory, require_room_in_certificate
from circuits.onnx_model import require_plain_model
from circuits.process import Ezkl
from circuits.profile import CircuitProfile
from circuits.salting import behind_salts
from circuits.segments import cut_model
from circuits.settings import CircuitSettings, canonical
from circuits.srs import Srs
from rexis.protocol.certificate import MAX_VKA_WORDS
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import CircuitError, DigestMismatchError

_KEY_DOMAIN = b"rexis.circuit-cache.v2\0"  # v1 took settings on trust


@dataclass(frozen=True)
class ProvingSegment:
    """A segment whose keys lie on this machine.

    Attributes
    ----------
    folder
        Entry of the cache: ``model.compiled``, ``pk``, ``vk``, ``vka``, ``settings.json``. Read only.
    """

    settings: CircuitSettings
    folder: Path


@dataclass(frozen=True)
class ProvingCircuit:
    """A circuit whose keys lie on this machine."""

    artefacts: CircuitArtefacts
    segments: tuple[ProvingSegment, ...]
    srs: Srs


def make_settings(onnx_bytes: bytes, profile: CircuitProfile, ezkl: Ezkl) -> CircuitSettings:
    """Canonical settings of a model as one circuit under a profile; the axis that counts records becomes 1.

    In a process of one thread: ezkl lays the circuit out in parallel only to count its rows, its threads race to be
    the first with a constant, and the count differs by one or two from run to run.

    Parameters
    ----------
    ezkl
        Gives the limits of that process.
    """
    require_plain_model(onnx_bytes)
    alone = ezkl.single_threaded()
    with tempfile.TemporaryDirectory(prefix="rexis-settings-") as name:
        model, out = Path(name, "model.onnx"), Path(name, "settings.json")
        given = _circuit_model(onnx_bytes, profile)
        model.write_bytes(given)
        run_args = profile.run_args() | {"variables": variables_of(given)}
        alone.call("settings", model=str(model), run_args=run_args, out=str(out))
        return CircuitSettings.parse(canonical(json.loads(out.read_bytes())))


def make_chain(segments: Sequence[bytes], profile: CircuitProfile, ezkl: Ezkl) -> ChainSettings:
    """Settings of a circuit of these segments (:func:`circuits.segments.cut_model`).

    Each reads its inputs at the scale at which the one before writes them.
    """
    made: list[CircuitSettings] = []
    for segment in segments:
        scale = made[-1].output_scale if made else profile.input_scale
        made.append(make_settings(segment, profile.model_copy(update={"input_scale": scale}), ezkl))
    return ChainSettings.of(profile.cuts, made)


def build_circuit(
    onnx_bytes: bytes, profile: CircuitProfile, srs: Srs, cache: CircuitCache, ezkl: Ezkl
) -> ProvingCircuit:
    """Settings and keys of an encrypted model: what a model owner runs before it registers.

    Raises
    ------
    CircuitError
        A model that ezkl cannot put into a circuit or that cannot be cut so, or an SRS for another logrows.
    TensorError
        A model with external data or control flow.
    ResourceError
        Not enough memory.
    """
    segments = _cut(onnx_bytes, profile.cuts)
    return _keyed(segments, make_chain(segments, profile, ezkl), srs, cache, ezkl)


def rebuilt(onnx_bytes: bytes, settings: bytes, srs: Srs, cache: CircuitCache, ezkl: Ezkl) -> ProvingCircuit:
    """Make a circuit again from the encrypted model and registered settings, which must be those of the model.

    Raises
    ------
    DigestMismatchError
        ezkl makes other settings of this model.
    CircuitError, TensorError, ResourceError
        As :func:`build_circuit`.
    """
    parsed = ChainSettings.parse(settings)
    segments = _cut(onnx_bytes, parsed.cuts)
    _require_settings_of(segments, parsed, ezkl)
    return _keyed(segments, parsed, srs, cache, ezkl)


def prepare_keys(
    onnx_bytes: bytes,
    settings: bytes,
    pinned: Circuit,
    srs: Srs,
    cache: CircuitCache,
    ezkl: Ezkl,
    waiting: Callable[[], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ProvingCircuit:
    """Rebuild a registered circuit from the encrypted model: what a worker runs, and an auditor who has the model.

    Parameters
    ----------
    settings
        Canonical settings, as registered.
    pinned
        The circuit of the job; every field must come out the same.
    waiting
        Called while another process makes the same keys; may raise, which ends the wait.
    progress
        Called with how many segments' keys are there, and of how many.

    Raises
    ------
    DigestMismatchError
        The model does not give the pinned vk (or settings, SRS or VKA): this is not the registered circuit's model.
    CircuitError, TensorError, ResourceError
        As :func:`build_circuit`.
    """
    parsed = ChainSettings.parse(settings)
    for what, found, expected in (
        ("settings", parsed.digest, pinned.settings_digest),
        ("SRS", srs.digest, pinned.srs_digest),
    ):
        if found != expected:
            raise DigestMismatchError(f"{what} have digest {found}, not the pinned {expected}")
    segments = _cut(onnx_bytes, parsed.cuts)
    circuit = _keyed(
        segments,
        parsed,
        srs,
        cache,
        ezkl,
        waiting,
        before=lambda: _require_settings_of(segments, parsed, ezkl),
        progress=progress,
    )
    circuit.artefacts.require(pinned)
    return circuit


def prepare_segment(
    onnx_bytes: bytes,
    artefacts: CircuitArtefacts,
    pinned: Circuit,
    segment: int,
    srs: Srs,
    cache: CircuitCache,
    ezkl: Ezkl,
    waiting: Callable[[], None] | None = None,
) -> ProvingSegment:
    """Rebuild one segment of a registered circuit: what a worker runs that helps with it.

    Parameters
    ----------
    artefacts
        Of the whole circuit, as registered: what this segment's are compared with.
    pinned, waiting
        As for :func:`prepare_keys`.

    Raises
    ------
    DigestMismatchError
        The artefacts are not the pinned ones, or the model gives other settings, vk or VKA for this segment.
    CircuitError
        As :func:`build_circuit`; or there is no such segment.
    TensorError, ResourceError
        As :func:`build_circuit`.
    """
    artefacts.require(pinned)
    if srs.digest != pinned.srs_digest:
        raise DigestMismatchError(f"SRS has digest {srs.digest}, not the pinned {pinned.srs_digest}")
    if not 0 <= segment < len(artefacts.segments):
        raise CircuitError(f"the circuit has {len(artefacts.segments)} segments, not {segment + 1}", field="segment")
    _require_srs_for(artefacts.parsed, srs)
    registered = artefacts.segments[segment]
    settings, part = registered.settings, _cut(onnx_bytes, artefacts.parsed.cuts)[segment]

    def require_settings() -> None:
        _require_same_settings([make_settings(part, settings.profile, ezkl)], [settings])

    made = _keyed_segment(part, settings, srs, cache, ezkl, waiting, require_settings)
    for what, found, expected in (
        ("vk", (made.folder / "vk").read_bytes(), registered.vk),
        ("VKA", read_vka((made.folder / "vka").read_bytes()), registered.vka),
    ):
        if found != expected:
            raise DigestMismatchError(f"the model gives another {what} for segment {segment} than the pinned one")
    return made


def _cut(onnx_bytes: bytes, cuts: Sequence[int]) -> list[bytes]:
    require_plain_model(onnx_bytes)
    return cut_model(onnx_bytes, cuts)


def _require_settings_of(segments: Sequence[bytes], settings: ChainSettings, ezkl: Ezkl) -> None:
    """Refuse settings that ezkl would not make of this model.

    The vk does not show it: the same vk comes of settings that name other scales for inputs and outputs, and then every
    committed value is read as a power of two too large or too small.
    """
    _require_same_settings(make_chain(segments, settings.profile, ezkl).segments, settings.segments)


def _require_same_settings(made: Sequence[CircuitSettings], pinned: Sequence[CircuitSettings]) -> None:
    names: set[str] = set()
    for ours, theirs in zip(made, pinned, strict=True):
        if ours.data != theirs.data:
            one, other = json.loads(ours.data), json.loads(theirs.data)
            names |= {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
    if names:
        raise DigestMismatchError(
            f"the model gives settings that are not the pinned ones: {', '.join(sorted(names))}", field="settings"
        )


def _require_srs_for(settings: ChainSettings, srs: Srs) -> None:
    if srs.logrows != settings.logrows:
        raise CircuitError(f"the circuit needs an SRS for logrows {settings.logrows}, this one is for {srs.logrows}")


def _keyed(
    segments: Sequence[bytes],
    settings: ChainSettings,
    srs: Srs,
    cache: CircuitCache,
    ezkl: Ezkl,
    waiting: Callable[[], None] | None = None,
    before: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], None] | None = None,
) -> ProvingCircuit:
    """The keys for settings that are the model's; `before` makes sure of that once, where they came from elsewhere."""
    _require_srs_for(settings, srs)
    require_room_in_certificate(settings.segments)
    sure = False

    def make_sure() -> None:
        nonlocal sure
        if not sure:
            before()
        sure = True

    made: list[ProvingSegment] = []
    for onnx_bytes, one in zip(segments, settings.segments, strict=True):
        made.append(_keyed_segment(onnx_bytes, one, srs, cache, ezkl, waiting, make_sure))
        if progress is not None:
            progress(len(made), len(segments))
    vka = join_vkas([read_vka((segment.folder / "vka").read_bytes()) for segment in made])
    if len(vka) > MAX_VKA_WORDS:
        raise CircuitError(f"the VKA has {len(vka)} words, a certificate holds {MAX_VKA_WORDS}", field="vka")
    artefacts = CircuitArtefacts(
        settings=settings.data,
        vk=join_keys([(segment.folder / "vk").read_bytes() for segment in made]),
        vka=vka,
        srs_digest=srs.digest,
    )
    return ProvingCircuit(artefacts, tuple(made), srs)


def _keyed_segment(
    onnx_bytes: bytes,
    settings: CircuitSettings,
    srs: Srs,
    cache: CircuitCache,
    ezkl: Ezkl,
    waiting: Callable[[], None] | None,
    before: Callable[[], None],
) -> ProvingSegment:
    def build(folder: Path) -> None:
        require_memory(settings)
        before()
        model = folder / "model.onnx"
        model.write_bytes(_circuit_model(onnx_bytes, settings.profile))
        (folder / "settings.json").write_bytes(settings.data)
        paths = {name: str(folder / name) for name in ("vk", "pk", "vka")}
        ezkl.call(
            "keys",
            model=str(model),
            settings=str(folder / "settings.json"),
            srs=str(srs.path),
            compiled=str(folder / "model.compiled"),
            **paths,
        )
        model.unlink()

    return ProvingSegment(settings, cache.entry(_cache_key(onnx_bytes, settings, srs), build, waiting))


def _circuit_model(onnx_bytes: bytes, profile: CircuitProfile) -> bytes:
    """What is compiled: the encrypted model, behind salt values if its inputs are hashed."""
    return behind_salts(onnx_bytes) if profile.input_visibility == "hashed" else onnx_bytes


def _cache_key(onnx_bytes: bytes, settings: CircuitSettings, srs: Srs) -> Digest:
    """The settings name ezkl's version; the pk follows from these three alone."""
    return sha256(_KEY_DOMAIN, sha256(onnx_bytes), settings.digest, srs.digest)
