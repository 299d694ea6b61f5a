"""Which policy gives a requester's assurance within a budget, and what each of the others would take.

A job's cost follows from how many proofs it takes, from what one takes (:mod:`circuits.cost`), and from the shape of
the certificate and the gas of the contracts' calls, which are constants here. What a sample is worth is
:mod:`rexis.protocol.sampling`'s to say. Nothing is asked of a chain, a coordinator or a worker.

Not counted: the plain inference of every record, which takes microseconds; a task that is done again by another worker.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from fractions import Fraction

from circuits.cost import Estimate, Total, total
from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES
from rexis.protocol.evidence import MAX_EVIDENCE_BYTES
from rexis.protocol.policy import MAX_SHARD, Tier
from rexis.protocol.sampling import (
    altered_records,
    job_log_survival,
    job_sample_size_for,
    log_survival,
    sample_size_for,
)

MAX_TASKS = 10_000  # of a job that a coordinator takes
# contracts/snapshots/gas.json
ANCHOR_GAS = 74_029
COMMIT_GAS = 91_491
# What Certifier.certifyRecord takes beside the verifier, measured on anvil: for a record, for each of its values, for
# each node of its three paths, and once a task.
_CERTIFY_GAS, _CERTIFY_VALUE, _CERTIFY_NODE, CERTIFY_FIRST = 103_000, 750, 1_500, 30_000
# Characters of canonical JSON (docs/protocol.md §5), without what is counted below.
_DOCUMENT, _TASK, _COMMITMENT, _OPENING, _PROOF = 1_780, 1_900, 200, 140, 42
_DIGEST = 69  # in quotes, with a comma
_VALUE_BYTES = 8  # of a record's values, in hexadecimal
_SETTINGS_ESCAPES = 1.15  # quotes within a JSON string


class Strength(IntEnum):
    """What evidence shows of a job's outputs. Larger is more."""

    SIGNED = 0
    SAMPLED = 1
    EVERY = 2
    ON_CHAIN = 3


@dataclass(frozen=True)
class Assurance:
    """What a requester wants to know.

    Attributes
    ----------
    strength
        ``SIGNED``: who claimed the outputs, and when. ``SAMPLED``: altered outputs are caught with some probability.
        ``EVERY``: each output is proved. ``ON_CHAIN``: a contract has checked each proof.
    altered, confidence
        ``SAMPLED``: whoever alters this fraction or more is caught with this probability. For tier ``sampled`` these
        are also the example where something else is wanted.
    each_task
        The fraction is one of each task, not of the job.
    """

    strength: Strength
    altered: Fraction = Fraction(5, 100)
    confidence: Fraction = Fraction(99, 100)
    each_task: bool = False


@dataclass(frozen=True)
class Prices:
    """Money for an hour of a worker's processor time, and for a million gas."""

    cpu_hour: float = 0.0
    million_gas: float = 0.0


@dataclass(frozen=True)
class Budget:
    """What a job may take at most: of all workers' processor time, gas, money, and memory of one worker."""

    cpu_seconds: float = math.inf
    gas: float = math.inf
    money: float = math.inf
    memory_bytes: float = math.inf


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes
    ----------
    segments
        Estimates of the segments of the circuit that a record goes through, one after the other.
    values
        Of a record and its output.
    settings_bytes
        Of the settings, which the certificate carries.
    max_attempts
        Commitments allowed per task: draws that a cheat has.
    workers
        Each sets the circuit up, and there are as many tasks, where there are as many records.
    task_seconds
        Processor time that a task should take at most.
    """

    records: int
    segments: tuple[Estimate, ...]
    values: int
    settings_bytes: int
    max_attempts: int = 3
    workers: int = 1
    task_seconds: float = 3600.0


@dataclass(frozen=True)
class Option:
    """A policy, what it shows and what it takes.

    Attributes
    ----------
    caught
        Least probability with which whoever alters the assurance's fraction is caught by the evidence alone.
    cpu_seconds
        Of all workers: set-up, outputs of the circuit for all records, proofs.
    needed_bytes
        Memory of a worker.
    gas
        At most: an anchor and, for tier ``sampled``, a commitment a task; a certification a record.
    objections
        Why it is not what was asked for; empty if it is.
    """

    tier: Tier
    sample_size: int
    shard_size: int
    max_attempts: int
    certify_on_chain: bool
    tasks: int
    proofs: int
    caught: float
    cpu_seconds: float
    needed_bytes: int
    proof_bytes: int
    certificate_bytes: int
    gas: int
    money: float
    objections: tuple[str, ...] = ()

    @property
    def strength(self) -> Strength:
        """What it shows."""
        if self.tier == Tier.ZK:
            return Strength.ON_CHAIN if self.certify_on_chain else Strength.EVERY
        return Strength.SAMPLED if self.tier == Tier.SAMPLED else Strength.SIGNED


@dataclass(frozen=True)
class Plan:
    """Options, one for each way to show something, weakest first; and the one to take.

    Attributes
    ----------
    recommended
        The cheapest without an objection; None if there is none.
    nearest
        Without a recommendation: the cheapest that gives the assurance, whose costs are the budget that would do.
    affordable
        Without a recommendation: the sample that catches most within the budget; None if not even one record a task
        can be proved.
    """

    options: tuple[Option, ...]
    recommended: Option | None
    nearest: Option | None
    affordable: Option | None


def plan(job: Job, assurance: Assurance, budget: Budget, prices: Prices | None = None) -> Plan:
    """Compare the tiers for a job.

    Parameters
    ----------
    prices
        Nothing costs money without.
    """
    desk = _Desk(job, assurance, budget, prices or Prices())
    options = tuple(desk.best(candidates) for candidates in desk.kinds())
    fitting = [each for each in options if not each.objections]
    if fitting:
        return Plan(options, min(fitting, key=_cost), None, None)
    enough = [each for each in options if desk.gives_assurance(each)]
    return Plan(options, None, min(enough, key=_cost, default=None), desk.affordable())


def caught(job: Job, assurance: Assurance, shard_size: int, sample_size: int) -> float:
    """Probability with which a sample catches whoever alters the assurance's fraction of the job, or of a task."""
    return -math.expm1(_log_survival(job, assurance, shard_size, sample_size))


def _log_survival(job: Job, assurance: Assurance, shard_size: int, sample_size: int) -> float:
    attempts, share = job.max_attempts, assurance.altered
    if assurance.each_task:
        return max(
            log_survival(size, altered_records(size, share), sample_size, attempts)
            for size in _sizes(job.records, shard_size)
        )
    return job_log_survival(job.records, shard_size, altered_records(job.records, share), sample_size, attempts)


@dataclass(frozen=True)
class _Desk:
    """The parameters that all options share."""

    job: Job
    assurance: Assurance
    budget: Budget
    prices: Prices

    @property
    def record(self) -> Total:
        return total(self.job.segments)

    def kinds(self) -> Iterator[list[Option]]:
        """For each way to show something, all candidates."""
        yield [self.option(Tier.COMMIT, shard) for shard in self.shards()]
        yield [self.option(Tier.SAMPLED, shard, self.sample(shard)) for shard in self.shards()]
        yield [self.option(Tier.ZK, shard) for shard in self.shards()]
        yield [self.option(Tier.ZK, shard, certify=True) for shard in self.shards()]

    def best(self, candidates: Sequence[Option]) -> Option:
        return min(candidates, key=lambda each: (len(each.objections), *_cost(each)))

    def shards(self) -> list[int]:
        """Records a task: powers of two, and one that gives each worker a task; at least as many tasks as workers."""
        records, most = self.job.records, -(-self.job.records // self.job.workers)
        found = {1 << power for power in range(MAX_SHARD.bit_length())} | {min(most, MAX_SHARD)}
        found = {each for each in found if each <= most and -(-records // each) >= min(self.job.workers, records)}
        return sorted(each for each in found if -(-records // each) <= MAX_TASKS) or [max(found)]

    def sample(self, shard: int) -> int:
        job, wanted = self.job, self.assurance
        if wanted.each_task:
            sizes = _sizes(job.records, shard)
            return max(sample_size_for(size, wanted.altered, wanted.confidence, job.max_attempts) for size in sizes)
        return job_sample_size_for(job.records, shard, wanted.altered, wanted.confidence, job.max_attempts)

    def option(self, tier: Tier, shard: int, sample: int = 0, *, certify: bool = False) -> Option:
        job, record = self.job, self.record
        sizes = _sizes(job.records, shard)
        tasks = -(-job.records // shard)
        full, rest = divmod(job.records, shard)
        each = {Tier.COMMIT: 0, Tier.SAMPLED: sample, Tier.ZK: shard}[tier]
        proofs = full * min(each, shard) + min(each, rest)
        computing = job.workers * sum(one.setup_seconds for one in job.segments)
        computing += sum(one.witness_seconds for one in job.segments) * job.records
        gas = tasks * ANCHOR_GAS + tasks * COMMIT_GAS * (tier == Tier.SAMPLED)
        if certify:
            nodes = _depth(tasks) + _depth(job.records) + _depth(max(sizes))
            gas += certify_gas(record, nodes) * job.records + CERTIFY_FIRST * tasks
        cpu = 0.0 if tier == Tier.COMMIT else computing + proofs * record.cpu_seconds
        found = {Tier.COMMIT: 0.0, Tier.SAMPLED: caught(job, self.assurance, shard, sample), Tier.ZK: 1.0}
        made = Option(
            tier=tier,
            sample_size=sample,
            shard_size=shard,
            max_attempts=job.max_attempts,
            certify_on_chain=certify,
            tasks=tasks,
            proofs=proofs,
            caught=found[tier],
            cpu_seconds=cpu,
            needed_bytes=0 if tier == Tier.COMMIT else record.needed_bytes,
            proof_bytes=proofs * record.proof_bytes,
            certificate_bytes=_certificate_bytes(job, record, tier, tasks, max(sizes), proofs, certify=certify),
            gas=gas,
            money=cpu / 3600 * self.prices.cpu_hour + gas / 1e6 * self.prices.million_gas,
        )
        return replace(made, objections=tuple(self.objections(made)))

    def gives_assurance(self, option: Option) -> bool:
        wanted = self.assurance
        if wanted.strength == Strength.SAMPLED == option.strength:
            return option.caught >= wanted.confidence
        return option.strength >= wanted.strength

    def objections(self, option: Option) -> Iterator[str]:
        """Why an option is not what was asked for."""
        if not self.gives_assurance(option):
            yield _TOO_WEAK[option.strength]
        budget, job = self.budget, self.job
        if option.cpu_seconds > budget.cpu_seconds:
            took, there = shown_time(option.cpu_seconds), shown_time(budget.cpu_seconds)
            yield f"takes {took} of processor time, the budget is {there}"
        if option.gas > budget.gas:
            yield f"takes {option.gas:,} gas, the budget is {int(budget.gas):,}"
        if option.money > budget.money:
            yield f"costs {option.money:.2f}, the budget is {budget.money:.2f}"
        if option.needed_bytes > budget.memory_bytes:
            yield f"needs {option.needed_bytes >> 20} MiB a worker, there are {int(budget.memory_bytes) >> 20} MiB"
        if option.certify_on_chain and len(job.segments) > 1:
            yield f"the Certifier contract checks circuits of one segment, this one has {len(job.segments)}"
        if option.tasks > MAX_TASKS:
            yield f"has {option.tasks} tasks, a coordinator takes {MAX_TASKS}; split the job"
        if option.certificate_bytes > MAX_CERTIFICATE_BYTES:
            yield (
                f"the certificate has {option.certificate_bytes >> 20} MiB, the limit is "
                f"{MAX_CERTIFICATE_BYTES >> 20} MiB; split the job"
            )
        per_task = -(-option.proofs // option.tasks)
        if 2 * per_task * self.record.proof_bytes > MAX_EVIDENCE_BYTES:
            yield f"a task's evidence is over {MAX_EVIDENCE_BYTES >> 20} MiB"
        seconds = per_task * self.record.cpu_seconds
        if option.tier != Tier.COMMIT and seconds > job.task_seconds and option.shard_size > 1:
            yield f"a task takes {shown_time(seconds)}, at most {shown_time(job.task_seconds)} are wanted"

    def affordable(self) -> Option | None:
        """The sample that catches most within the budget."""
        found = []
        for shard in self.shards():
            low, high = 0, min(shard, self.job.records)
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if self._within_budget(shard, middle) else (low, middle - 1)
            if low:
                found.append(self.option(Tier.SAMPLED, shard, low))
        return max(found, key=lambda each: (each.caught, -each.gas), default=None)

    def _within_budget(self, shard: int, sample: int) -> bool:
        weakest = replace(self, assurance=replace(self.assurance, strength=Strength.SIGNED))
        return not weakest.option(Tier.SAMPLED, shard, sample).objections


_TOO_WEAK = {
    Strength.SIGNED: "proves nothing: records can be opened and executed again by whoever has the encrypted model",
    Strength.SAMPLED: "finds that much was altered, never that nothing was",
    Strength.EVERY: "no contract checks the proofs",
}


def certify_gas(record: Total, nodes: int) -> int:
    """Gas of a transaction that has the Certifier check a record's proof, but for the first of a task.

    Parameters
    ----------
    nodes
        Of the paths to the anchor, the input root and the output root.
    """
    return record.gas + _CERTIFY_GAS + _CERTIFY_VALUE * record.instances + _CERTIFY_NODE * nodes


def _depth(leaves: int) -> int:
    """Nodes of a path in a tree of so many leaves, at most."""
    return (leaves - 1).bit_length()


def _cost(option: Option) -> tuple[float, ...]:
    return option.money, option.cpu_seconds, option.gas, option.certificate_bytes


def _sizes(records: int, shard: int) -> list[int]:
    """Sizes of tasks that there are."""
    tasks, rest = divmod(records, shard)
    return [shard] * (tasks > 0) + [rest] * (rest > 0)


def _certificate_bytes(
    job: Job, record: Total, tier: Tier, tasks: int, shard: int, proofs: int, *, certify: bool
) -> int:
    task = _TASK + _DIGEST * _depth(tasks) + _COMMITMENT * (tier == Tier.SAMPLED)
    opening = _OPENING + _DIGEST * (_depth(job.records) + _depth(shard)) + 2 * _VALUE_BYTES * job.values
    between = (record.instances - job.values) // 2  # once an output and once an input
    proof = _PROOF + 2 * record.proof_bytes + 2 * _VALUE_BYTES * between + _DIGEST * certify
    found = _DOCUMENT + tasks * task + proofs * (opening + proof)
    if tier != Tier.COMMIT:
        found += sum(4 * each.vk_bytes // 3 + _DIGEST * (each.vka_bytes // 32) for each in job.segments)
        found += int(_SETTINGS_ESCAPES * job.settings_bytes)
    return found


def shown_time(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
