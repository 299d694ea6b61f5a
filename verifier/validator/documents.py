"""What a validator tells the process that checks for it, and what that answers; and what it shows of itself."""

from __future__ import annotations

from typing import Literal

from rexis.api import Time
from rexis.protocol.parsing import AddressField, DigestField, HexBytes, Strict, UInt8, UInt32
from rexis.protocol.typed_data import Domain
from rexis.protocol.validation import FindingField

Kind = Literal["valid", "refuted", "refused", "undecided"]
State = Literal["starting", "idle", "judging", "draining", "stopped"]


class Check(Strict):
    """One certificate to check: against this node, with these files, for this job of this deployment."""

    rpc: str
    artifacts: str
    allow_development_chain: bool
    allow_development_srs: bool
    job_id: DigestField
    domain: Domain


class FoundStatement(Strict):
    """A finding about one statement."""

    statement: DigestField
    verdict: FindingField


class Judgement(Strict):
    """What came of a check.

    Attributes
    ----------
    kind
        ``valid``: every step held. ``refuted``: outputs that a worker committed to are not the model's. ``refused``:
        the certificate does not hold, which says nothing for sure of any statement. ``undecided``: something was
        missing.
    findings
        What may be signed: all statements as valid, the refuted ones as invalid, or nothing.
    reason
        The step that failed or could not be taken.
    """

    kind: Kind
    findings: list[FoundStatement]
    reason: str | None


class Tally(Strict):
    """How many jobs came to what since the validator started; `handed_in` counts statements."""

    valid: UInt32 = 0
    refuted: UInt32 = 0
    refused: UInt32 = 0
    undecided: UInt32 = 0
    handed_in: UInt32 = 0


class ValidatorStatus(Strict):
    """One running validator, as it shows itself in its folder."""

    pid: UInt32
    state: State
    account: AddressField
    slot: UInt8
    public_key: HexBytes
    quorum: AddressField
    coordinator: str
    started_at: Time
    updated_at: Time
    job_id: DigestField | None
    trouble: str | None
    tally: Tally
