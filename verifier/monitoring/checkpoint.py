"""What a monitor has scanned. It is written after a scan, never before: what is not in it is scanned again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from rexis.api import LoggedAnchor
from rexis.files import read_file, write_file
from rexis.protocol.parsing import AddressField, DigestField, Flag, Strict, UInt64

_MAX_BYTES = 16 << 20
# How far back a reorganisation is traced to the block that both histories have.
KEPT = 256


class ScannedBlock(Strict):
    """A block that was scanned, or the last of several."""

    number: UInt64
    hash: DigestField


class ChainAnchor(Strict):
    """An anchor that the chain has. `told` says whether an alert was about it."""

    anchor_id: UInt64
    root: DigestField
    size: UInt64
    block: UInt64
    told: Flag = False


class Followed(Strict):
    """A coordinator's log of anchors, as far as it was read, beside the chain's.

    Attributes
    ----------
    key
        Of the log; empty before it was read.
    size, peaks
        The tree over all entries that were read: see :class:`~rexis.protocol.merkle.GrowingTree`.
    note
        The last checkpoint that agreed with them, as the coordinator signed it: evidence, should it sign another story.
    shown
        Entries that the chain does not have, so far.
    unshown
        Anchors on chain that the log does not have, so far.
    matched
        The last of those that both have: a reorganisation may take them from the chain.
    """

    coordinator: AddressField
    key: str = ""
    size: UInt64 = 0
    peaks: list[DigestField] = Field(default_factory=list)
    note: str = ""
    shown: list[LoggedAnchor] = Field(default_factory=list)
    unshown: list[ChainAnchor] = Field(default_factory=list)
    matched: list[LoggedAnchor] = Field(default_factory=list)


class Checkpoint(Strict):
    """All up to the last block was scanned and told of.

    Attributes
    ----------
    chain_id, evidence_log
        The deployment that it is about.
    blocks
        In order; the last is where the next scan begins, those before find what a reorganisation left standing.
    followed
        None if no coordinator is asked.
    """

    chain_id: UInt64
    evidence_log: AddressField
    blocks: Annotated[list[ScannedBlock], Field(min_length=1, max_length=KEPT)]
    followed: Followed | None = None

    @classmethod
    def read(cls, path: Path) -> Checkpoint | None:
        """None if there is none yet."""
        if not path.exists():
            return None
        return cls.from_json(read_file(path, "monitor's state", max_bytes=_MAX_BYTES))

    def write(self, path: Path) -> None:
        """Replace the file, whole or not at all."""
        write_file(path, self.to_json() + b"\n", overwrite=True)
