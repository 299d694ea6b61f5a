"""Signed notes (c2sp.org/signed-note): text that named Ed25519 keys have signed, as Go's ``sumdb/note`` has it."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from rexis.protocol.digests import sha256
from rexis.protocol.errors import MalformedError, SignatureError

MAX_NOTE_BYTES = 64 << 10
_ED25519 = b"\x01"  # signature type
_ID = 4
# Key names have neither spaces nor "+"; Python's \s has all of Unicode's.
_NAME = re.compile(r"[^\s+]+")
_SIGNATURE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/=]+)")


@dataclass(frozen=True)
class NoteKey:
    """A public key under a name, written ``name+id+base64``."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form; :class:`MalformedError` for another kind of key, or an id that is not this key's."""
        name, _, rest = text.partition("+")
        shown, _, encoded = rest.partition("+")
        try:
            raw = b64decode(encoded, validate=True)
        except ValueError:
            raw = b""
        if not _NAME.fullmatch(name) or raw[:1] != _ED25519 or len(raw) != 33:
            raise MalformedError("no Ed25519 key of a note", hint="name+id+base64, as sumdb/note writes it")
        found = cls(name, raw[1:])
        if shown != found.id.hex():
            raise MalformedError(f"the key has id {found.id.hex()}, not {shown[:8]}")
        return found

    @classmethod
    def of(cls, name: str, private: Ed25519PrivateKey) -> Self:
        """The public half of a key under a name."""
        if not _NAME.fullmatch(name):
            raise MalformedError("a key's name has neither spaces nor +")
        return cls(name, private.public_key().public_bytes_raw())

    @property
    def id(self) -> bytes:
        """Four bytes that say which key a signature is of."""
        return sha256(self.name.encode(), b"\n", _ED25519, self.public)[:_ID]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(_ED25519 + self.public).decode()}"


def sign_note(text: str, name: str, private: Ed25519PrivateKey) -> str:
    """The note: the text, which ends with a newline, and one signature."""
    if not text.endswith("\n"):
        raise MalformedError("a note's text ends with a newline")
    signature = NoteKey.of(name, private).id + private.sign(text.encode())
    return f"{text}\n— {name} {b64encode(signature).decode()}\n"


def open_note(note: str, key: NoteKey) -> str:
    """The text of a note that `key` signed. Signatures of other keys are passed over.

    Raises
    ------
    MalformedError
        It is no note.
    SignatureError
        It has no signature of this key, or a wrong one.
    """
    if len(note.encode()) > MAX_NOTE_BYTES:
        raise MalformedError(f"a note of more than {MAX_NOTE_BYTES} bytes")
    text, blank, signatures = note.rpartition("\n\n")
    text += "\n"
    if not blank or not signatures.endswith("\n") or any(sign < " " and sign != "\n" for sign in note):
        raise MalformedError("no signed note")
    signed = False
    for line in signatures[:-1].split("\n"):
        name, signature = _read_signature(line)
        if (name, signature[:_ID]) == (key.name, key.id):
            _check(key, signature[_ID:], text)
            signed = True
    if not signed:
        raise SignatureError(f"the note has no signature of {key.name}")
    return text


def _read_signature(line: str) -> tuple[str, bytes]:
    found = _SIGNATURE.fullmatch(line)
    try:
        raw = b64decode(found[2], validate=True) if found else b""
    except ValueError:
        raw = b""
    if found is None or len(raw) <= _ID:
        raise MalformedError("no line of a note's signature")
    return found[1], raw


def _check(key: NoteKey, signature: bytes, text: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, text.encode())
    except InvalidSignature:
        raise SignatureError(f"the note's signature is not that of {key.name}") from None
