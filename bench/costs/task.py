"""One task, by the worker's own code (:mod:`provers.tiers`), checked by the verifier's own (:mod:`verifier`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.costs.checks import WrongResult
from bench.costs.clock import Stopwatch
from bench.costs.scene import Job, Scene
from circuits.proving import SegmentProof
from provers.cache import ProofCache
from provers.task import RecordProver, Task, read_dataset
from provers.tiers import TIERS, TierProver
from provers.tiers.computed import Computed
from rexis.protocol.certificate import Commitment
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.evidence import Evidence
from rexis.protocol.records import Floats, Integers
from rexis.protocol.statement import Statement
from verifier.evidence import TaskContext, walk_evidence
from verifier.opened import OpenedRecord
from verifier.report import Outcome, Verdict


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
    """A circuit's prover, timed; one proof at a time, so that times add up."""

    at_once = 1

    def __init__(self, prover: RecordProver) -> None:
        self.outputs: Stopwatch[Integers] = Stopwatch(prover.outputs)
        self.trace: Stopwatch[list[Integers]] = Stopwatch(prover.trace)
        self.prove_segment: Stopwatch[SegmentProof] = Stopwatch(prover.prove_segment)
        self.check_segment = prover.check_segment

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
