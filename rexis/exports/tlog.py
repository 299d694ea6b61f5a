"""Checkpoints and inclusion proofs of transparency logs (c2sp.org/tlog-checkpoint, c2sp.org/tlog-proof)."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from rexis.exports.note import MAX_NOTE_BYTES, NoteKey, open_note
from rexis.protocol.digests import Digest
from rexis.protocol.errors import MalformedError
from rexis.protocol.merkle import MAX_PATH, check_inclusion

_PROOF = "c2sp.org/tlog-proof@v1"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class TreeHead:
    """What a checkpoint says: the log's origin, how many entries it has, and the root over them."""

    origin: str
    size: int
    root: Digest

    def text(self) -> str:
        """The text to sign."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"

    @classmethod
    def opened(cls, checkpoint: str, key: NoteKey) -> Self:
        """The head in a checkpoint that `key` signed; the log's origin must be the key's name.

        Raises
        ------
        MalformedError, SignatureError
            It is none, another log's, or not signed by this key.
        """
        lines = open_note(checkpoint, key)[:-1].split("\n")
        if len(lines) < 3 or not all(lines):
            raise MalformedError("no checkpoint: it needs origin, size and root")
        origin, size, root = lines[:3]
        if origin != key.name:
            raise MalformedError(f"the checkpoint is of log {origin!r}, not of {key.name!r}")
        return cls(origin, _number(size), _hash(root))


@dataclass(frozen=True)
class LogProof:
    """That an entry is in a log, checkable without the log.

    Attributes
    ----------
    path
        From the entry's sibling up (RFC 6962 §2.1.1).
    checkpoint
        The signed note.
    """

    index: int
    path: Sequence[Digest]
    checkpoint: str

    def text(self) -> str:
        """The file's content; its name ends in ``.tlog-proof``."""
        return "\n".join([_PROOF, f"index {self.index}", *map(_base64, self.path), "", self.checkpoint])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a file's content. Extra data, which nothing authenticates, is passed over."""
        if len(text.encode()) > 2 * MAX_NOTE_BYTES:
            raise MalformedError("too long for a tlog-proof")
        head, blank, checkpoint = text.partition("\n\n")
        first, *lines = head.split("\n")
        if lines and lines[0].startswith("extra "):
            lines = lines[1:]
        if first != _PROOF or not blank or not lines or not lines[0].startswith("index "):
            raise MalformedError(f"no {_PROOF}")
        if len(lines) > MAX_PATH + 1:
            raise MalformedError(f"a path of more than {MAX_PATH} hashes")
        return cls(_number(lines[0].removeprefix("index ")), [_hash(line) for line in lines[1:]], checkpoint)

    def check(self, entry: bytes, key: NoteKey) -> TreeHead:
        """The head of the log that has `entry`, as `key` signed it.

        Raises
        ------
        MalformedError, SignatureError, MerkleError
            The checkpoint is not that log's, or the path does not lead from the entry to its root.
        """
        head = TreeHead.opened(self.checkpoint, key)
        check_inclusion(head.root, head.size, self.index, entry, self.path, "entry")
        return head


def _base64(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")


def _hash(text: str) -> Digest:
    try:
        return Digest(b64decode(text, validate=True))
    except ValueError:
        raise MalformedError("no SHA-256 in base64") from None


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise MalformedError("no decimal number without leading zeroes")
    return int(text)
