"""What a monitor tells of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rexis.protocol.digests import Digest


class AlertKind(StrEnum):
    """Why somebody should look."""

    NEW_MODEL_VERSION = "new-model-version"
    REVOCATION = "revocation"
    PROPOSED_OWNER = "proposed-owner"
    NEW_OWNER = "new-owner"
    UNKNOWN_ANCHOR = "unknown-anchor"
    UNKNOWN_COMMITMENT = "unknown-commitment"
    FOREIGN_STATEMENT = "foreign-statement"
    REORGANISATION = "reorganisation"
    FORK = "fork"


@dataclass(frozen=True)
class Alert:
    """Something to look at.

    Attributes
    ----------
    id
        The same whenever the same thing is told again: kind, and what it is about (mostly a block's hash and the
        position in it).
    """

    id: str
    kind: AlertKind
    block: int
    detail: str
    transaction: Digest | None = None

    def to_object(self) -> dict[str, Any]:
        """As a line of the command's output."""
        where = {"block": self.block, "transaction": str(self.transaction) if self.transaction else None}
        return {"id": self.id, "alert": self.kind.value, **where, "detail": self.detail}
