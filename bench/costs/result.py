"""What was measured, as values. Times in seconds, sizes in bytes, gas in units of gas."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

MEASURED = "measured"
MANY = 10


@dataclass(frozen=True)
class Spread:
    """Median of some runs, and how far they lie apart.

    Attributes
    ----------
    low, high
        Least and largest; of :data:`MANY` runs and more the quartiles, since a few of them met something else.
    runs
        0 for a figure that was computed from others; then all three are the same.
    """

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of one run or more."""
        low, high = min(values), max(values)
        if len(values) >= MANY:
            low, _, high = statistics.quantiles(values, n=4)
        return cls(statistics.median(values), low, high, len(values))

    @classmethod
    def computed(cls, value: float) -> Self:
        """A figure that nobody measured as such."""
        return cls(value, value, value, 0)


class Outcome(StrEnum):
    """Of a check."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """A result that was compared with what it has to be."""

    about: str
    name: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class TierCost:
    """One task at one tier.

    Attributes
    ----------
    sample
        Records drawn and proved; None where the tier draws none.
    basis
        :data:`MEASURED`, or what the figures were computed from.
    inference
        The encrypted model in ONNX Runtime over the task's records.
    commitment
        What the worker does beside computing and proving: checks its inputs, builds the trees, opens, signs.
    witness
        The circuit's exact outputs for every record.
    prove
        All proofs of the task; each is checked once by its prover.
    verify
        Of the evidence, by whoever checks it: signature, openings, proofs.
    peak_bytes
        Largest resident set of the process that works: ezkl's child, or for tier ``commit`` a worker by itself.
    caught
        Probability that a worker that altered a twentieth of the outputs is found out by checking this evidence.
    """

    tier: str
    sample: int | None
    records: int
    basis: str
    inference: Spread
    commitment: Spread
    witness: Spread | None
    prove: Spread | None
    verify: Spread
    evidence_bytes: int
    proof_bytes: int
    peak_bytes: int | None
    caught: float

    @property
    def label(self) -> str:
        """How tables and plots call it."""
        return self.tier if self.sample is None else f"{self.tier} k={self.sample}"

    @property
    def overhead_s(self) -> float:
        """The worker's time beyond inference (median)."""
        return sum(part.median for part in (self.commitment, self.witness, self.prove) if part is not None)

    @property
    def extra_s_per_record(self) -> float:
        """The worker's and the checker's time beyond inference, a record (median)."""
        return (self.overhead_s + self.verify.median) / self.records


@dataclass(frozen=True)
class CircuitCost:
    """One circuit: set-up and single warm proofs.

    Attributes
    ----------
    segments
        Proofs that one record takes.
    logrows
        Each segment has ``2^logrows`` rows.
    setup_peak_bytes, prove_peak_bytes
        Largest resident set of ezkl's child while making keys, and while proving with keys that lie ready.
    evm_gas
        Of ``verifyProof`` for one record, in an EVM without a chain; None without an EVM.
    max_error, agreement
        Decrypted outputs against the plain model's: largest difference, and share of records decided alike.
    """

    segments: int
    logrows: int
    setup: Spread
    witness: Spread
    prove: Spread
    verify: Spread
    verify_next: Spread
    proof_bytes: int
    vk_bytes: int
    pk_bytes: int
    setup_peak_bytes: int
    prove_peak_bytes: int
    evm_gas: int | None
    max_error: float
    agreement: float


@dataclass(frozen=True)
class ModelCost:
    """One zoo model.

    Attributes
    ----------
    no_circuit
        Why there is none; None if there is one.
    """

    name: str
    modality: str
    parameters: int
    record_values: int
    outputs: int
    plain: Spread
    encrypted: Spread
    records: int
    circuit: CircuitCost | None
    no_circuit: str | None
    tiers: list[TierCost]


@dataclass(frozen=True)
class AnchorCost:
    """One anchor of a batch of statements."""

    batch: int
    gas: int

    @property
    def gas_per_task(self) -> float:
        """Each task's share."""
        return self.gas / self.batch


@dataclass(frozen=True)
class Certified:
    """One model's circuit on chain: gas of its registration, and of certifying one record after another."""

    model: str
    register_vka: int | None
    first_record: int | None
    next_record: int | None


@dataclass(frozen=True)
class ChainCost:
    """Gas of transactions on a development chain; None for what no measured model needed."""

    commit: int
    register_model: int | None
    anchors: list[AnchorCost]
    certified: list[Certified]


@dataclass(frozen=True)
class PeerCost:
    """Another way to the same model's outputs, measured in the same run.

    Attributes
    ----------
    setup, work, verify
        What is done once for a model, then for each record by whoever computes, and by whoever checks.
    shows, hides
        What the result is worth to a checker, and what whoever computes does not see.
    reason
        Why there are no figures; None if there are.
    """

    peer: str
    model: str
    shows: str
    hides: str
    setup: Spread | None = None
    work: Spread | None = None
    verify: Spread | None = None
    sent_bytes: float | None = None
    proof_bytes: int | None = None
    peak_bytes: int | None = None
    max_error: float | None = None
    agreement: float | None = None
    note: str = ""
    reason: str | None = None


@dataclass(frozen=True)
class Machine:
    """Where the figures come from."""

    system: str
    processor: str
    cores: int
    memory_bytes: int
    load_before: float
    load_after: float


@dataclass(frozen=True)
class Report:
    """All of one run."""

    command: str
    smoke: bool
    began: str
    seconds: float
    commit: str | None
    machine: Machine
    versions: dict[str, str]
    models: list[ModelCost]
    chain: ChainCost | None
    no_chain: str | None
    peers: list[PeerCost]
    checks: list[Check] = field(default_factory=list)

    @property
    def right(self) -> int:
        """How many results were what they have to be."""
        return sum(check.outcome == Outcome.OK for check in self.checks)

    @property
    def failed(self) -> list[Check]:
        """Results that were wrong."""
        return [check for check in self.checks if check.outcome == Outcome.FAILED]
