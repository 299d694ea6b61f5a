"""What a requester asks of the evidence: tier, sample size, tolerances."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from pydantic import Field, model_validator

from rexis.protocol.parsing import UINT8, WRITE_ENUM, Flag, UInt32, UInt64, read_enum
from rexis.protocol.typed_data import Struct

MAX_SHARD = 1 << 20
MAX_VALIDATORS = 256
"""Slots of the ValidatorQuorum contract."""


class Tier(IntEnum):
    """How much a worker must show. Order: stronger is larger."""

    COMMIT = 1
    SAMPLED = 2
    ZK = 3


class Rung(IntEnum):
    """The privacy ladder's rung that a job names."""

    EE_OUTSOURCED = 1
    EE_PRIVATE_WEIGHTS = 2
    ZK_ONSITE = 3


TierField = Annotated[Tier, read_enum(Tier), WRITE_ENUM, UINT8]
RungField = Annotated[Rung, read_enum(Rung), WRITE_ENUM, UINT8]


class Policy(Struct):
    """What evidence a job wants.

    Attributes
    ----------
    tier
        See :class:`Tier`.
    sample_size
        ``sampled``: records proved per task (≥ 1). ``commit``: records opened in the certificate. ``zk``: 0.
    shard_size
        Records per task, 1 … 2²⁰.
    max_attempts
        Commitments allowed per task; a cheat survives `a` attempts with at most a·(1−f)^k.
    abs_tolerance_e9, rel_tolerance_e9
        |re-executed − committed| ≤ abs + rel·|re-executed|, in units of 10⁻⁹.
    rung
        See :class:`Rung`. ``ee-private-weights`` needs the model owner's claim (:mod:`rexis.protocol.rung`),
        ``zk-onsite`` a tier that proves, and a circuit with hashed inputs (:mod:`rexis.protocol.onsite`).
    validators
        How many validators must have signed the verdict on each statement, beside its threshold by stake; at most 256.
        *Whose* verdict it must be, no policy says: who reads the certificate decides whom to trust
        (``rexis verify --quorum``).
    certify_on_chain
        ``zk`` only: have the Certifier contract check every proof.
    """

    tier: TierField
    sample_size: UInt32
    shard_size: Annotated[UInt32, Field(ge=1, le=MAX_SHARD)]
    max_attempts: Annotated[UInt32, Field(ge=1, le=100)]
    abs_tolerance_e9: UInt64
    rel_tolerance_e9: UInt64
    rung: RungField
    validators: Annotated[UInt32, Field(le=MAX_VALIDATORS)]
    certify_on_chain: Flag

    @model_validator(mode="after")
    def _consistent(self) -> Policy:
        if self.tier == Tier.SAMPLED and self.sample_size < 1:
            raise ValueError("tier sampled needs sampleSize of at least 1")
        if self.tier == Tier.ZK and self.sample_size != 0:
            raise ValueError("tier zk proves every record: sampleSize must be 0")
        if self.certify_on_chain and self.tier != Tier.ZK:
            raise ValueError("certifyOnChain needs tier zk")
        if self.rung == Rung.ZK_ONSITE:
            if self.tier == Tier.COMMIT:
                raise ValueError("rung zk-onsite rests on proofs: it needs tier sampled or zk")
            if self.certify_on_chain:
                raise ValueError(
                    "the Certifier contract takes public inputs only: rung zk-onsite cannot be certified on chain"
                )
        if self.validators and self.tier == Tier.COMMIT and self.sample_size < 1:
            raise ValueError("validators run opened records again: tier commit needs sampleSize of at least 1")
        return self
