"""What a statement pins about a proof system's circuit."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from pydantic import model_validator

from rexis.protocol.digests import ZERO_DIGEST
from rexis.protocol.parsing import UINT8, WRITE_ENUM, DigestField, UInt8, UInt32, read_enum
from rexis.protocol.typed_data import Struct


class Visibility(IntEnum):
    """Where the circuit's inputs stand in a proof; its outputs are public.

    ``public``: as they are. ``hashed``: as one Poseidon hash over the record and its salt values
    (:mod:`rexis.protocol.onsite`).
    """

    NONE = 0
    PUBLIC = 1
    HASHED = 2


VisibilityField = Annotated[Visibility, read_enum(Visibility), WRITE_ENUM, UINT8]


class Circuit(Struct):
    """The ezkl artefacts of one encrypted model at batch size 1, by digest.

    ezkl's reusable verifier accepts any VKA that anybody registered, so the statement itself pins the vka digest
    (Keccak-256) beside the vk, SRS and settings digests (SHA-256). Lengths are those of a record and of its output.
    Every field is zero where a tier uses no circuit.
    """

    vk_digest: DigestField
    vka_digest: DigestField
    srs_digest: DigestField
    settings_digest: DigestField
    visibility: VisibilityField
    input_scale: UInt8
    output_scale: UInt8
    input_length: UInt32
    output_length: UInt32

    @model_validator(mode="after")
    def _all_or_nothing(self) -> Circuit:
        if self.visibility == Visibility.NONE:
            if any(getattr(self, name) not in (0, ZERO_DIGEST) for name in type(self).model_fields):
                raise ValueError("visibility none needs every field of the circuit to be zero")
        elif self.input_length == 0 or self.output_length == 0:
            raise ValueError("a circuit has at least one input and one output")
        return self


NO_CIRCUIT = Circuit(
    vk_digest=ZERO_DIGEST,
    vka_digest=ZERO_DIGEST,
    srs_digest=ZERO_DIGEST,
    settings_digest=ZERO_DIGEST,
    visibility=Visibility.NONE,
    input_scale=0,
    output_scale=0,
    input_length=0,
    output_length=0,
)
