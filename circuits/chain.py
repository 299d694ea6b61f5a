"""A circuit as a chain of segments (:mod:`circuits.segments`), and its settings, keys and VKA as single blobs.

Nearly every circuit has one segment, and its blobs are ezkl's own. Those of several segments are joined, so that a
statement pins them by the same three digests:

* settings: ``{"cuts":[…],"format":"rexis-chain-v1","segments":[…]}``, canonical, each segment's own canonical settings;
* verifying keys: :data:`_KEYS_MAGIC`, then for each key its length (u32 big-endian) and its bytes;
* VKAs: for each its number of words, as a word, and the words.

ezkl proves segments without a link between them. The link is that a checker uses the same integers as the public
outputs of one segment and as the public inputs of the next (:mod:`circuits.verifying`); it means something only if both
read them alike, so that a chain has one layout and one scale at each boundary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from circuits.profile import CircuitProfile
from circuits.settings import CircuitSettings, canonical
from rexis.protocol.circuit import Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import CircuitError, MalformedError
from rexis.protocol.evidence import MAX_SEGMENTS
from rexis.protocol.parsing import require_shallow

FORMAT = "rexis-chain-v1"
MAX_CHAIN_BYTES = 8 << 20
_KEYS_MAGIC = b"rexis.vk-chain.v1\0"
_LENGTH_BYTES = 4
_WORD = 32


@dataclass(frozen=True)
class ChainSettings:
    """Settings of all segments of a circuit. Made by :meth:`parse` and :meth:`of` only.

    Attributes
    ----------
    data
        The blob that ``settingsDigest`` is of.
    cuts
        Where the model is cut; one fewer than there are segments.
    """

    data: bytes
    cuts: tuple[int, ...]
    segments: tuple[CircuitSettings, ...]

    @classmethod
    def of(cls, cuts: Sequence[int], segments: Sequence[CircuitSettings]) -> Self:
        """The chain of these segments.

        Raises
        ------
        CircuitError
            They do not fit one another.
        """
        found = cls(_joined(cuts, segments), tuple(cuts), tuple(segments))
        found._require_chain()
        return found

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read settings of one segment or of several.

        Raises
        ------
        CircuitError
            Not canonical, segments that do not fit one another, or one that :meth:`CircuitSettings.parse` refuses.
        """
        if len(data) > MAX_CHAIN_BYTES:
            raise CircuitError(f"settings of {len(data)} bytes are over the limit", field="settings")
        document = _chain_document(data)
        if document is None:
            return cls(data, (), (CircuitSettings.parse(data),))
        try:
            cuts, parts = document["cuts"], document["segments"]
            segments = [CircuitSettings.parse(canonical(part)) for part in parts]
            if not all(type(cut) is int for cut in cuts) or len(segments) < 2 or _joined(cuts, segments) != data:
                raise CircuitError("settings of segments are not canonical", field="settings")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise CircuitError(f"not settings of segments: {type(error).__name__}", field="settings") from None
        return cls.of(cuts, segments)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the blob."""
        return sha256(self.data)

    @property
    def profile(self) -> CircuitProfile:
        """The profile that the whole circuit was made with."""
        return self.segments[0].profile.model_copy(update={"cuts": self.cuts})

    @property
    def logrows(self) -> int:
        """Every segment has ``2^logrows`` rows."""
        return self.segments[0].logrows

    @property
    def input_scale(self) -> int:
        """Of the records."""
        return self.segments[0].input_scale

    @property
    def output_scale(self) -> int:
        """Of the last segment's outputs."""
        return self.segments[-1].output_scale

    @property
    def visibility(self) -> Visibility:
        """Where the record stands in a proof."""
        return self.segments[0].visibility

    @property
    def input_length(self) -> int:
        """Values in one record."""
        return self.segments[0].input_length

    @property
    def witness_length(self) -> int:
        """Values that go into the first segment: the record's, and its salt's where they are hashed."""
        return self.segments[0].witness_length

    @property
    def public_inputs(self) -> int:
        """Instances of the first segment's proof that stand for the record."""
        return self.segments[0].public_inputs

    @property
    def output_length(self) -> int:
        """Values in one output."""
        return self.segments[-1].output_length

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Values on each boundary."""
        return tuple(segment.output_length for segment in self.segments[:-1])

    def _require_chain(self) -> None:
        if not 1 <= len(self.segments) <= MAX_SEGMENTS or len(self.cuts) != len(self.segments) - 1:
            raise CircuitError(
                f"{len(self.segments)} segments and {len(self.cuts)} cuts; a circuit has 1 to {MAX_SEGMENTS} segments",
                field="settings.segments",
            )
        if any(a >= b for a, b in zip((0, *self.cuts), self.cuts, strict=False)):
            raise CircuitError("cuts ascend from 1", field="settings.cuts")
        first = self.segments[0].profile
        if len(self.segments) > 1 and self.visibility == Visibility.HASHED:
            raise CircuitError("hashed inputs need one segment: boundaries are public", field="settings.segments")
        for place, (before, after) in enumerate(zip(self.segments, self.segments[1:], strict=False), start=1):
            where = f"settings.segments.{place}"
            if after.profile.model_copy(update={"input_scale": first.input_scale}) != first:
                raise CircuitError("segments differ in more than the scale of their inputs", field=where)
            if before.output_scale != after.input_scale or after.input_scale != after.profile.input_scale:
                raise CircuitError(
                    f"reads inputs of scale {after.input_scale}, the segment before writes {before.output_scale}",
                    field=where,
                )
            if before.output_length != after.input_length:
                raise CircuitError(
                    f"takes {after.input_length} values, the segment before gives {before.output_length}", field=where
                )


def join_keys(keys: Sequence[bytes]) -> bytes:
    """Verifying keys as one blob; a single one stays as it is."""
    if len(keys) == 1:
        return keys[0]
    return _KEYS_MAGIC + b"".join(len(key).to_bytes(_LENGTH_BYTES, "big") + key for key in keys)


def split_keys(blob: bytes, count: int) -> tuple[bytes, ...]:
    """Inverse of :func:`join_keys` for so many segments.

    Raises
    ------
    CircuitError
        It holds another number of keys, or something after them.
    """
    if count == 1:
        return (blob,)
    if not blob.startswith(_KEYS_MAGIC):
        raise CircuitError("these are not the verifying keys of several segments", field="vk")
    keys, at = [], len(_KEYS_MAGIC)
    for _ in range(count):
        length = int.from_bytes(blob[at : at + _LENGTH_BYTES], "big")
        at += _LENGTH_BYTES
        keys.append(blob[at : at + length])
        at += length
    if not all(keys) or at != len(blob):
        raise CircuitError(f"the verifying keys are not those of {count} segments", field="vk")
    return tuple(keys)


def join_vkas(vkas: Sequence[Sequence[Digest]]) -> tuple[Digest, ...]:
    """VKAs as one list of words; a single one stays as it is."""
    if len(vkas) == 1:
        return tuple(vkas[0])
    return tuple(word for vka in vkas for word in (Digest(len(vka).to_bytes(_WORD, "big")), *vka))


def split_vkas(words: Sequence[Digest], count: int) -> tuple[tuple[Digest, ...], ...]:
    """Inverse of :func:`join_vkas` for so many segments.

    Raises
    ------
    CircuitError
        The words are those of another number of segments.
    """
    if count == 1:
        return (tuple(words),)
    vkas, at = [], 0
    for _ in range(count):
        length = int.from_bytes(words[at], "big") if at < len(words) else 0
        vkas.append(tuple(words[at + 1 : at + 1 + length]))
        at += 1 + length
    if not all(vkas) or at != len(words):
        raise CircuitError(f"the VKA's words are not those of {count} segments", field="vka")
    return tuple(vkas)


def _joined(cuts: Sequence[int], segments: Sequence[CircuitSettings]) -> bytes:
    if len(segments) == 1:
        return segments[0].data
    inner = b",".join(segment.data for segment in segments)
    places = json.dumps(list(cuts), separators=(",", ":")).encode()
    return b'{"cuts":%b,"format":"%b","segments":[%b]}' % (places, FORMAT.encode(), inner)


def _chain_document(data: bytes) -> dict[str, Any] | None:
    """The document if it is one of several segments; None if it is, or claims to be, ezkl's own."""
    try:
        require_shallow(data)
        document = json.loads(data)
    except (MalformedError, ValueError, RecursionError) as error:
        raise CircuitError(f"not settings: {type(error).__name__}", field="settings") from None
    return document if isinstance(document, dict) and document.get("format") == FORMAT else None
