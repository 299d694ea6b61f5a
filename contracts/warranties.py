"""What disputes of tier ``commit`` are about: a worker's warranty, and what a challenger proved of a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contracts.chain import solidity
from contracts.onchain import public_instances
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import Address
from rexis.protocol.records import InputOpening


@dataclass(frozen=True)
class Warranty:
    """A worker's word, for one model, that its float32 outputs are near what one circuit gives.

    Attributes
    ----------
    tolerance
        In units of 2^-outputScale of the circuit.
    since
        First block whose anchors it covers.
    until
        Last such block; None as long as it has not been ended.
    """

    tolerance: int
    since: int
    until: int | None

    @classmethod
    def of(cls, found: Sequence[int]) -> Warranty | None:
        """From the contract's struct; None if it was never given."""
        since, until, tolerance = found
        return cls(tolerance, since, until or None) if since else None

    def covers(self, anchored_at: int) -> bool:
        """Whether it is about statements that were anchored in this block."""
        return self.since <= anchored_at and (self.until is None or anchored_at <= self.until)


@dataclass(frozen=True)
class GivenWarranty:
    """A warranty as the chain's event log has it."""

    worker: Address
    model_digest: Digest
    circuit_hash: Digest
    given_in: int


@dataclass(frozen=True)
class ProvenRecord:
    """A record of tier ``commit``, and the proof of what the model's circuit gives of it.

    Attributes
    ----------
    opening
        The record's float32 input.
    inputs, outputs
        The same in fixed point, and what comes out: payloads of the circuit's leaves, which are the proof's instances.
    """

    opening: InputOpening
    circuit: Circuit
    inputs: bytes
    outputs: bytes
    proof: bytes
    vka: Sequence[Digest]

    def argument(self) -> tuple[Any, ...]:
        """As the contract takes it."""
        return (
            self.opening.index,
            bytes(self.opening.salt),
            [bytes(node) for node in self.opening.input_path],
            bytes(self.opening.input),
            solidity(self.circuit),
            public_instances(self.inputs, self.outputs),
            self.proof,
            [bytes(word) for word in self.vka],
        )


@dataclass(frozen=True)
class Proven:
    """What the committed output of a challenged record has to be near.

    Attributes
    ----------
    outputs
        What the circuit gives, in units of 2^-`output_scale`; so is `tolerance`.
    """

    output_salt: Digest
    output_scale: int
    tolerance: int
    outputs: tuple[int, ...]

    @classmethod
    def of(cls, found: Any) -> Proven:
        """From the contract's struct."""
        salt, scale, tolerance, outputs = (
            found[name] for name in ("outputSalt", "outputScale", "tolerance", "outputs")
        )
        return cls(Digest(salt), scale, tolerance, tuple(outputs))

    def argument(self) -> tuple[Any, ...]:
        """As the contract takes it."""
        return bytes(self.output_salt), self.output_scale, self.tolerance, list(self.outputs)
