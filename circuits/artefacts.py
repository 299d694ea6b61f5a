"""A circuit's public artefacts, and the cache of what is expensive to make."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from circuits.chain import ChainSettings, split_keys, split_vkas
from circuits.settings import CircuitSettings
from rexis.locks import locked
from rexis.protocol.certificate import MAX_VKA_WORDS
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest, digest_stream, sha256
from rexis.protocol.errors import DigestMismatchError, MalformedError
from rexis.protocol.keccak import keccak

_WORD = 32
MANIFEST = "manifest.json"
"""In every entry of the cache: SHA-256 of its other files, by name."""

_Stamps = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class SegmentArtefacts:
    """What a checker needs of one segment, apart from the SRS file."""

    settings: CircuitSettings
    vk: bytes
    vka: tuple[Digest, ...]


@dataclass(frozen=True)
class CircuitArtefacts:
    """What a checker needs of a circuit, apart from the SRS file. All digests follow from the bytes.

    Attributes
    ----------
    settings
        Canonical settings; for several segments, of all of them (:mod:`circuits.chain`).
    vk
        ezkl's verifying key, or those of the segments.
    vka
        The reusable Solidity verifier's artefact: 32-byte words, in the order of ``registerVka``; or the segments'.
    srs_digest
        SHA-256 of the SRS that vk and VKA were made with.
    """

    settings: bytes
    vk: bytes
    vka: tuple[Digest, ...]
    srs_digest: Digest

    @cached_property
    def parsed(self) -> ChainSettings:
        """The settings, checked."""
        return ChainSettings.parse(self.settings)

    @cached_property
    def segments(self) -> tuple[SegmentArtefacts, ...]:
        """The segments, in the order in which they follow one another.

        Raises
        ------
        CircuitError
            Keys or VKA are not those of so many segments.
        """
        settings = self.parsed.segments
        keys, vkas = split_keys(self.vk, len(settings)), split_vkas(self.vka, len(settings))
        return tuple(SegmentArtefacts(*parts) for parts in zip(settings, keys, vkas, strict=True))

    @property
    def vka_digest(self) -> Digest:
        """Keccak-256 of the concatenated words, as ``registerVka`` computes it."""
        return vka_digest_of(self.vka)

    @cached_property
    def description(self) -> Circuit:
        """What a statement pins."""
        return Circuit(
            vk_digest=sha256(self.vk),
            vka_digest=self.vka_digest,
            srs_digest=self.srs_digest,
            settings_digest=self.parsed.digest,
            visibility=self.parsed.visibility,
            input_scale=self.parsed.input_scale,
            output_scale=self.parsed.output_scale,
            input_length=self.parsed.input_length,
            output_length=self.parsed.output_length,
        )

    def require(self, pinned: Circuit) -> None:
        """Raise :class:`DigestMismatchError` unless these are the artefacts that `pinned` describes."""
        for name in type(pinned).model_fields:
            found, expected = getattr(self.description, name), getattr(pinned, name)
            if found != expected:
                raise DigestMismatchError(f"circuit has {name} {found}, not the pinned {expected}", field=name)
        _ = self.segments  # keys and VKA come apart


def vka_digest_of(words: Sequence[bytes]) -> Digest:
    """Keccak-256 of concatenated 32-byte words."""
    return Digest(keccak(b"".join(words)))


def read_vka(data: bytes) -> tuple[Digest, ...]:
    """The words of ezkl's VKA file: a u64 little-endian count, then 32 bytes each (bincode)."""
    count = int.from_bytes(data[:8], "little")
    if not 0 < count <= MAX_VKA_WORDS or len(data) != 8 + _WORD * count:
        raise MalformedError(f"a file of {len(data)} bytes is not a VKA")
    return tuple(Digest(data[start : start + _WORD]) for start in range(8, len(data), _WORD))


class CircuitCache:
    """Folders by digest, each built once and complete or not there at all, for many processes at a time.

    An entry holds the SHA-256 of each of its files. They are compared when an object of this class opens the entry
    for the first time, and again whenever a file's size or time has changed since; a damaged entry is built anew.

    Parameters
    ----------
    root
        Folder of the cache; made when needed. Its size is the operator's: a pk has tens to hundreds of MB.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._checked: dict[Digest, _Stamps] = {}

    def entry(self, key: Digest, build: Callable[[Path], None], waiting: Callable[[], None] | None = None) -> Path:
        """The folder for `key`; if it is not there or damaged, `build` fills a new one, under a lock.

        A build that raises, or that a kill cut short, leaves nothing that a later call would take for complete.

        Parameters
        ----------
        waiting
            Called while another process builds the entry; may raise, which ends the wait.
        """
        folder = self._root / key.hex()
        if self._is_whole(key, folder):
            return folder
        self._root.mkdir(parents=True, exist_ok=True)
        with locked(self._root / f".{key.hex()}.lock", waiting):
            if self._is_whole(key, folder):
                return folder
            part = self._root / f".{key.hex()}.part"
            for stale in (folder, part):
                shutil.rmtree(stale, ignore_errors=True)
            part.mkdir()
            try:
                build(part)
                files = sorted(path.name for path in part.iterdir())
                digests = {name: str(_digest_of(part / name)) for name in files}
                (part / MANIFEST).write_text(json.dumps(digests))
                for path in (*part.iterdir(), part):
                    _sync(path)
                part.rename(folder)
                _sync(self._root)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            self._checked[key] = _stamps(folder)
        return folder

    def _is_whole(self, key: Digest, folder: Path) -> bool:
        try:
            stamps = _stamps(folder)
            if self._checked.get(key) == stamps:
                return True
            digests = json.loads((folder / MANIFEST).read_bytes())
            if not isinstance(digests, dict) or digests.keys() != stamps.keys() - {MANIFEST}:
                return False
            whole = all(str(_digest_of(folder / name)) == digest for name, digest in digests.items())
        except (OSError, ValueError):
            return False
        if whole:
            self._checked[key] = stamps
        return whole


def _stamps(folder: Path) -> _Stamps:
    """Size and time of change of every file: the same ones mean that nobody has written in the meantime."""
    stats = {path.name: path.stat() for path in folder.iterdir()}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def _digest_of(path: Path) -> Digest:
    with path.open("rb") as stream:
        return digest_stream(stream)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
