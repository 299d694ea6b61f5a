"""What a validator signs about a statement: the verdict of its own check."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from rexis.protocol.parsing import UINT8, WRITE_ENUM, DigestField, read_enum
from rexis.protocol.typed_data import Struct


class Finding(IntEnum):
    """What the check found. Who could not finish it signs nothing.

    ``VALID``: every step of verifying a certificate that has the statement held. ``INVALID``: an output that its worker
    committed to is not the model's, whoever hands over what. Evidence that is missing, or does not hold, shows no such
    thing.
    """

    VALID = 1
    INVALID = 2


FindingField = Annotated[Finding, read_enum(Finding), WRITE_ENUM, UINT8]


class ValidatorVerdict(Struct):
    """A finding about one statement. Its EIP-712 digest is what :mod:`rexis.protocol.bls` signs."""

    statement_digest: DigestField
    verdict: FindingField
