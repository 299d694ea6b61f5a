"""Whole tasks, by the worker's own code (:mod:`provers.tiers`), checked by the verifier's own (:mod:`verifier`).

A task that would take too long is not run: its figures are computed from single proofs, and say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bench.costs.agreement import Bound, require_agreement, require_same
from bench.costs.checks import Checks, WrongResult
from bench.costs.circuit import Opened
from bench.costs.clock import Stopwatch, timed
from bench.costs.proof_parts import proof_bytes
from bench.costs.result import MEASURED, CircuitCost, Spread, TierCost
from bench.costs.scene import Job, Scene, with_second_opinion
from bench.costs.scope import ALTERED, Scope
from circuits.proving import SegmentProof
from provers.cache import ProofCache
from provers.dishonest import parse_fault
from provers.task import RecordProver, Task, read_dataset
from provers.tiers import TIERS, TierProver
from provers.tiers.computed import Computed
from rexis.protocol.certificate import Commitment
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.evidence import Evidence
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats, Integers
from rexis.protocol.sampling import altered_records, survival
from rexis.protocol.statement import Statement
from verifier.evidence import PROOFS, STATEMENT, TaskContext, walk_evidence
from verifier.opened import OpenedRecord
from verifier.report import Outcome, Verdict

PROBED = 2  # records of the small zk task whose proofs are also forged, and certified on chain
_CACHE_BYTES = 64 << 20
# What a dishonest worker does, and the verifier's step that finds it.
_FAULTS = {
    "foreign-signature": STATEMENT,
    "alter-outputs:1": PROOFS,
    "garbage-proofs": PROOFS,
    "swap-proofs": PROOFS,
}


@dataclass(frozen=True)
class TaskRun:
    """One run of one task. Times in seconds, of the whole task."""

    evidence: Evidence
    computed: Computed
    context: TaskContext
    inference: float
    commitment: float
    witness: float
    prove: float
    verify: float = 0.0


class _NoCache(ProofCache):
    """Every proof is made anew."""

    def __init__(self) -> None:
        pass

    def get(self, vk_digest: Digest, instances: Integers) -> bytes | None:
        return None

    def put(self, vk_digest: Digest, instances: Integers, proof: bytes) -> None:
        pass


class _Executor:
    """The scene's executor, timed."""

    def __init__(self, scene: Scene) -> None:
        self.provider = scene.executor.provider
        self.run: Stopwatch[Floats] = Stopwatch(scene.executor.run)


class _Prover:
    """A circuit's prover, timed."""

    def __init__(self, prover: RecordProver) -> None:
        self.outputs: Stopwatch[Integers] = Stopwatch(prover.outputs)
        self.trace: Stopwatch[list[Integers]] = Stopwatch(prover.trace)
        self.prove_segment: Stopwatch[SegmentProof] = Stopwatch(prover.prove_segment)

    @property
    def prove_s(self) -> float:
        """Of all proofs, with the values between their segments."""
        return self.trace.total + self.prove_segment.total


def run_task(
    job: Job,
    prover: RecordProver | None = None,
    proofs: ProofCache | None = None,
    fault: Callable[[Task, TierProver], TierProver] = lambda task, honest: honest,
) -> TaskRun:
    """Do one task as a worker does it, from the downloaded dataset to signed evidence.

    The block that draws a sample is made up here, after the statement: the wait for a block is no work.
    """
    scene, lease, downloaded = job.scene, job.lease, job.dataset_file()
    executor, timed_prover = _Executor(scene), None if prover is None else _Prover(prover)
    drawn: list[Digest] = []

    def commit(statement: Statement) -> Commitment:
        drawn.append(Digest(np.random.default_rng().bytes(32)))
        return Commitment(
            attempt=1, block_number=1, challenge_block_hash=drawn[-1], transaction=sha256(b"no transaction")
        )

    def open_circuit() -> RecordProver:
        if timed_prover is None:
            raise WrongResult("a tier without proofs asked for a circuit")
        return timed_prover

    begun = time.perf_counter()
    task = Task(
        lease=lease,
        account=scene.worker,
        dataset=read_dataset(downloaded, lease.request),
        executor=executor,
        open_circuit=open_circuit,
        proofs=_NoCache() if proofs is None else proofs,
        commit=commit,
        at=lambda stage, done, total: None,
    )
    worker = fault(task, TIERS[lease.request.policy.tier](task))
    worker.prepare()
    computed = worker.compute()
    evidence = worker.evidence(computed)
    total = time.perf_counter() - begun
    witness, prove = (0.0, 0.0) if timed_prover is None else (timed_prover.outputs.total, timed_prover.prove_s)
    return TaskRun(
        evidence=evidence,
        computed=computed,
        context=job.context(drawn[-1] if drawn else None),
        inference=executor.run.total,
        commitment=total - executor.run.total - witness - prove,
        witness=witness,
        prove=prove,
    )


def verified(evidence: Evidence, context: TaskContext) -> list[OpenedRecord]:
    """Check a task's evidence as a coordinator or an auditor does.

    Raises
    ------
    StepFailed
        It does not hold.
    WrongResult
        A step could not be taken.
    """
    verdict = Verdict()
    found = walk_evidence(evidence, context, verdict)
    if verdict.outcome != Outcome.VALID:
        raise WrongResult("; ".join(f"step {step.number}: {step.detail}" for step in verdict.unchecked))
    return found


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
