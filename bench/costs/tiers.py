"""Whole tasks, tier by tier (:mod:`bench.costs.task`). A task that would take too long is not run: its figures are
computed from single proofs, and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from bench.costs.agreement import Bound, require_agreement, require_same
from bench.costs.checks import Checks
from bench.costs.circuit import Opened
from bench.costs.clock import timed
from bench.costs.proof_parts import proof_bytes
from bench.costs.result import MEASURED, CircuitCost, Spread, TierCost
from bench.costs.scene import Job, Scene, with_second_opinion
from bench.costs.scope import ALTERED, Scope
from bench.costs.task import TaskRun, run_task, verified
from provers.cache import ProofCache
from provers.dishonest import parse_fault
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats
from rexis.protocol.sampling import altered_records, survival
from verifier.evidence import PROOFS, STATEMENT

PROBED = 2  # records of the small zk task whose proofs are also forged, and certified on chain
_CACHE_BYTES = 64 << 20
# What a dishonest worker does, and the verifier's step that finds it.
_FAULTS = {
    "foreign-signature": STATEMENT,
    "alter-outputs:1": PROOFS,
    "garbage-proofs": PROOFS,
    "swap-proofs": PROOFS,
}


class TierMeasurement:
    """The tasks of one model.

    Parameters
    ----------
    circuit
        None for a model without one: then there is tier ``commit`` alone.
    commit_peak_bytes
        Of a worker that does one task of tier ``commit``, by itself.
    """

    def __init__(
        self,
        scene: Scene,
        scope: Scope,
        checks: Checks,
        circuit: tuple[Opened, CircuitCost] | None,
        commit_peak_bytes: Callable[[Job], int],
    ) -> None:
        self._scene, self._scope, self._checks, self._circuit = scene, scope, checks, circuit
        self._commit_peak_bytes = commit_peak_bytes
        self._evidence_bytes_per_proof = 0.0
        self.probe: TaskRun | None = None

    def measure(self) -> Iterator[TierCost]:
        """One after another, by size of task."""
        scope = self._scope
        if self._circuit is not None and scope.proves:
            self.probe = self._probe(*self._circuit)
        for records in scope.tasks:
            commit = self._commit(records)
            if "commit" in scope.tiers:
                yield commit
            if self._circuit is None:
                continue
            if "sampled" in scope.tiers:
                for sample in scope.samples:
                    yield self._proved(Tier.SAMPLED, records, sample, commit, *self._circuit)
            if "zk" in scope.tiers:
                yield self._proved(Tier.ZK, records, None, commit, *self._circuit)

    def _commit(self, records: int) -> TierCost:
        job = self._scene.job(Tier.COMMIT, records, 0, None)
        runs = [self._checked(run_task(job)) for _ in range(self._scope.repeats + 1)][1:]  # the first one warms up
        with self._checks.that("decrypted outputs of tier commit are the plain model's", self._about(records)) as seen:
            seen(require_same(self._decrypted(runs[-1]), self._scene.reference(records)))
        peak: int | None = None
        with self._checks.that("a worker by itself does tier commit", self._about(records)):
            peak = self._commit_peak_bytes(job)
        return _cost(runs, "commit", None, records, peak, caught=0.0)

    def _proved(
        self, tier: Tier, records: int, sample: int | None, commit: TierCost, opened: Opened, cost: CircuitCost
    ) -> TierCost:
        scope, number = self._scope, records if sample is None else min(sample, records)
        expected = records * cost.witness.median + number * cost.prove.median
        repeats = min(scope.repeats, int(scope.cell_seconds / expected))
        name, caught = tier.name.lower(), sample_caught(records, number)
        if repeats == 0:
            return self._computed(name, records, sample, number, caught, commit, cost)
        job = self._scene.job(tier, records, sample or 0, opened.circuit)
        runs = [self._checked(run_task(job, opened.prover)) for _ in range(repeats)]
        with self._checks.that(
            f"decrypted outputs of tier {name} decide as the plain model", self._about(records)
        ) as seen:
            expected_outputs, bound = self._scene.reference(records), Bound.of(self._scene.name)
            seen(require_agreement(self._decrypted(runs[-1]), expected_outputs, bound))
        return _cost(runs, name, sample, records, cost.prove_peak_bytes, caught=caught)

    def _computed(
        self,
        tier: str,
        records: int,
        sample: int | None,
        number: int,
        caught: float,
        commit: TierCost,
        cost: CircuitCost,
    ) -> TierCost:
        """From the circuit's single proofs and the same task at tier ``commit``."""
        return TierCost(
            tier=tier,
            sample=sample,
            records=records,
            basis=f"computed from {cost.prove.runs} measured proofs",
            inference=Spread.computed(commit.inference.median),
            commitment=Spread.computed(commit.commitment.median),
            witness=Spread.computed(records * cost.witness.median),
            prove=Spread.computed(number * cost.prove.median),
            verify=Spread.computed(cost.verify.median + (number - 1) * cost.verify_next.median),
            evidence_bytes=round(number * self._evidence_bytes_per_proof),
            proof_bytes=number * cost.proof_bytes,
            peak_bytes=cost.prove_peak_bytes,
            caught=caught,
        )

    def _probe(self, opened: Opened, cost: CircuitCost) -> TaskRun:
        """A small zk task, checked twice over; and what becomes of lies about it."""
        job, about = self._scene.job(Tier.ZK, PROBED, 0, opened.circuit), self._about(PROBED)
        proofs = ProofCache(self._scene.folder / "proofs", max_bytes=_CACHE_BYTES)
        honest = self._checked(run_task(job, opened.prover, proofs))
        self._evidence_bytes_per_proof = len(honest.evidence.to_json()) / PROBED
        with self._checks.that("evidence holds, by ezkl and in an EVM", about):
            verified(honest.evidence, with_second_opinion(honest.context))
        for name, step in _FAULTS.items():
            lie = run_task(job, opened.prover, proofs, parse_fault(name))
            self._checks.refused(
                f"a worker's lie is refused: {name}", about, step, partial(verified, lie.evidence, lie.context)
            )
        return honest

    def _checked(self, run: TaskRun) -> TaskRun:
        """With the time of its verification; evidence that does not hold is a wrong result."""
        tier = run.context.request.policy.tier.name.lower()
        seconds = 0.0
        with self._checks.that(f"evidence of tier {tier} holds", self._about(run.context.count)):
            seconds, _ = timed(lambda: verified(run.evidence, run.context))
        return replace(run, verify=seconds)

    def _decrypted(self, run: TaskRun) -> Floats:
        return self._scene.decrypted(run.computed.outputs, run.context.request.circuit)

    def _about(self, records: int) -> str:
        return f"{self._scene.name}, {records} records"


def _cost(
    runs: list[TaskRun], tier: str, sample: int | None, records: int, peak: int | None, caught: float
) -> TierCost:
    proved = tier != "commit"
    return TierCost(
        tier=tier,
        sample=sample,
        records=records,
        basis=MEASURED,
        inference=Spread.of([run.inference for run in runs]),
        commitment=Spread.of([run.commitment for run in runs]),
        witness=Spread.of([run.witness for run in runs]) if proved else None,
        prove=Spread.of([run.prove for run in runs]) if proved else None,
        verify=Spread.of([run.verify for run in runs]),
        evidence_bytes=len(runs[-1].evidence.to_json()),
        proof_bytes=proof_bytes(runs[-1].evidence),
        peak_bytes=peak,
        caught=caught,
    )


def sample_caught(records: int, sample: int) -> float:
    """Probability that a sample meets one of the outputs that a cheat altered."""
    return 1 - survival(records, altered_records(records, ALTERED), sample)
