"""What one run measures, and how often."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

from circuits.profile import tuned_models
from models.zoo import load_manifest, names
from rexis.protocol.errors import MalformedError

TIERS = ("commit", "sampled", "zk")
ALTERED = Fraction(1, 20)
"""Of a task's outputs: what a cheat is assumed to alter where the report says how likely it is caught."""


@dataclass(frozen=True)
class Scope:
    """Sizes and repetitions.

    Attributes
    ----------
    tasks
        Records per task.
    samples
        Sample sizes of tier ``sampled``.
    repeats
        Runs of one task, at most.
    proofs
        Single proofs of a model, at most; fewer where one takes long.
    cell_seconds
        What the runs of one task may take together; a task that takes longer is computed from single proofs instead.
    call_seconds
        What one call of ezkl may take (set-up, a proof).
    peer_seconds
        What one call of the peer ezkl may take; calibration is one.
    proof_cpu_seconds
        Circuits whose proof takes more processor time than this, by the cost model, are left out.
    anchors
        Batch sizes of anchors.
    """

    models: tuple[str, ...]
    tiers: tuple[str, ...]
    smoke: bool
    tasks: tuple[int, ...]
    samples: tuple[int, ...]
    repeats: int
    proofs: int
    cell_seconds: float
    call_seconds: float
    peer_seconds: float
    proof_cpu_seconds: float
    anchors: tuple[int, ...]

    def only(self, models: tuple[str, ...], tiers: tuple[str, ...]) -> Self:
        """The same for these models and tiers; none named means all of the scope's.

        Raises
        ------
        NotFoundError, MalformedError
            There is no such model or tier.
        """
        for name in models:
            load_manifest(name)
        for tier in tiers:
            if tier not in TIERS:
                raise MalformedError(f"no tier {tier!r}", field="tiers", hint=f"one of {', '.join(TIERS)}")
        return replace(self, models=models or self.models, tiers=tiers or self.tiers)

    @property
    def proves(self) -> bool:
        """Whether a tier with proofs is measured."""
        return any(tier != "commit" for tier in self.tiers)


def full_scope() -> Scope:
    """Every zoo model."""
    return Scope(
        models=names(),
        tiers=TIERS,
        smoke=False,
        tasks=(64, 256),
        samples=(1, 4, 16),
        repeats=3,
        proofs=5,
        cell_seconds=30.0,
        call_seconds=240.0,
        peer_seconds=120.0,
        proof_cpu_seconds=150.0,
        anchors=(1, 4, 16, 64, 256, 1024),
    )


def smoke_scope() -> Scope:
    """One model with a circuit and one without, if there is one; small tasks. Every part and every check once."""
    bare = [name for name in names() if name not in tuned_models()]
    return Scope(
        models=("breast_cancer", *bare[:1]),
        tiers=TIERS,
        smoke=True,
        tasks=(4,),
        samples=(2,),
        repeats=1,
        proofs=2,
        cell_seconds=600.0,
        call_seconds=600.0,
        peer_seconds=600.0,
        proof_cpu_seconds=60.0,
        anchors=(1, 8),
    )
