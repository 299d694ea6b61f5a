"""Plans: a recommendation meets what was asked for, recomputed; without one, the budget that would do does."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.chain import ChainSettings
from circuits.cost import estimate_of, total
from circuits.planning import (
    ANCHOR_GAS,
    COMMIT_GAS,
    Assurance,
    Budget,
    Job,
    Option,
    Prices,
    Strength,
    plan,
)
from circuits.settings import CircuitSettings, canonical
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.sampling import altered_records, exact_survival, log_survival
from tests.unit.circuits.settings_document import document

TESTS = Path(__file__).parents[2]
SETTINGS = canonical(document())
CIRCUIT = estimate_of(CircuitSettings.parse(SETTINGS))
PERCENT = Fraction(1, 100)


def job(records: int, **changes: object) -> Job:
    return replace(Job(records, (CIRCUIT,), 32, len(SETTINGS)), **changes)  # type: ignore[arg-type]


def policy(option: Option) -> Policy:
    return Policy(
        tier=option.tier,
        sample_size=option.sample_size,
        shard_size=option.shard_size,
        max_attempts=option.max_attempts,
        abs_tolerance_e9=0,
        rel_tolerance_e9=0,
        rung=Rung.EE_OUTSOURCED,
        validators=0,
        certify_on_chain=option.certify_on_chain,
    )


jobs = st.builds(
    job,
    st.integers(1, 5000),
    max_attempts=st.integers(1, 4),
    workers=st.integers(1, 5),
    task_seconds=st.sampled_from([30.0, 3600.0]),
)
assurances = st.builds(
    Assurance,
    st.sampled_from(Strength),
    altered=st.fractions(PERCENT, 1, max_denominator=200).filter(lambda f: f < 1),
    confidence=st.fractions(Fraction(1, 2), Fraction(99_999, 100_000)).filter(lambda f: f < 1),
    each_task=st.booleans(),
)
budgets = st.builds(
    Budget,
    cpu_seconds=st.floats(10, 1e5),
    gas=st.floats(1e5, 1e9),
    money=st.floats(0.01, 100),
    memory_bytes=st.sampled_from([float(64 << 20), math.inf]),
)
prices = st.builds(Prices, st.floats(0, 1), st.floats(0, 1))


def sizes(of: Job, option: Option) -> Iterator[int]:
    for start in range(0, of.records, option.shard_size):
        yield min(option.shard_size, of.records - start)


@settings(deadline=None)
@given(jobs, assurances, budgets, prices)
def test_a_recommendation_meets_what_was_asked_for(of: Job, wanted: Assurance, budget: Budget, price: Prices) -> None:
    found = plan(of, wanted, budget, price)
    assert [each.tier for each in found.options] == [Tier.COMMIT, Tier.SAMPLED, Tier.ZK, Tier.ZK]
    if (option := found.recommended) is None:
        assert all(each.objections for each in found.options)
        return
    assert policy(option)
    shards = list(sizes(of, option))
    assert len(shards) == option.tasks >= min(of.workers, of.records)
    proofs = {
        Tier.COMMIT: 0,
        Tier.SAMPLED: sum(min(option.sample_size, size) for size in shards),
        Tier.ZK: of.records,
    }[option.tier]
    assert option.proofs == proofs
    assert option.strength >= wanted.strength
    assert proofs * CIRCUIT.cpu_seconds <= option.cpu_seconds <= budget.cpu_seconds
    gas = ANCHOR_GAS * len(shards) + COMMIT_GAS * len(shards) * (option.tier == Tier.SAMPLED)
    if option.certify_on_chain:
        gas += CIRCUIT.gas * of.records
    assert gas <= option.gas <= budget.gas
    assert option.money == pytest.approx(
        option.cpu_seconds / 3600 * price.cpu_hour + option.gas / 1e6 * price.million_gas
    )
    assert option.money <= budget.money
    assert option.needed_bytes <= budget.memory_bytes
    if option.tier == Tier.SAMPLED and wanted.strength == Strength.SAMPLED:
        missed = math.log(1 - wanted.confidence)
        if wanted.each_task:
            worst = max(
                log_survival(size, altered_records(size, wanted.altered), option.sample_size, of.max_attempts)
                for size in shards
            )
        else:
            worst = spread_evenly(of, wanted, option, shards)
        assert worst <= missed + 1e-9


def spread_evenly(of: Job, wanted: Assurance, option: Option, shards: list[int]) -> float:
    """Logarithm of the survival of a cheat that alters as much of each task as of the next, and begins anywhere."""
    altered = altered_records(of.records, wanted.altered)
    worst = -math.inf
    for first in range(len(shards)):
        left, survives = altered, 0.0
        for place, size in enumerate(shards[first:] + shards[:first]):
            here = min(size, -(-left // (len(shards) - place)))
            survives += log_survival(size, here, option.sample_size, of.max_attempts)
            left -= here
        if left == 0:
            worst = max(worst, survives)
        if first == 50:
            break
    return worst


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(1, 12), st.sampled_from([Fraction(1, 10), Fraction(1, 3), Fraction(1, 2)]))
def test_the_least_probability_is_that_of_every_way_to_cheat(records: int, shard: int, share: Fraction) -> None:
    wanted = Assurance(Strength.SAMPLED, share, Fraction(3, 4))
    of = job(records, max_attempts=2)
    found = plan(of, wanted, Budget()).options[1]
    shards = list(sizes(of, found))
    altered = altered_records(records, share)
    ways = (way for way in itertools.product(*(range(size + 1) for size in shards)) if sum(way) == altered)
    worst = max(
        math.prod(
            exact_survival(size, here, min(found.sample_size, size), 2) if here else Fraction(1)
            for size, here in zip(shards, way, strict=True)
        )
        for way in ways
    )
    assert 1 - worst == pytest.approx(found.caught)
    assert found.caught >= 0.75 - 1e-9


@settings(deadline=None)
@given(jobs, assurances, budgets)
def test_without_a_recommendation_the_budget_that_is_named_would_do(of: Job, wanted: Assurance, budget: Budget) -> None:
    found = plan(of, wanted, budget)
    if found.recommended is not None:
        assert (found.nearest, found.affordable) == (None, None)
        return
    assert found.nearest is not None
    enough = Budget(found.nearest.cpu_seconds, found.nearest.gas, memory_bytes=found.nearest.needed_bytes)
    again = plan(replace(of, task_seconds=math.inf), wanted, enough)
    assert again.recommended is not None
    if found.affordable is not None:
        assert found.affordable.sample_size >= 1
        assert found.affordable.cpu_seconds <= budget.cpu_seconds
        assert found.affordable.gas <= budget.gas


def test_tiers_and_why_not() -> None:
    found = plan(job(10_000), Assurance(Strength.SAMPLED, 5 * PERCENT, Fraction(999, 1000)), Budget())
    commit, sampled, zk, _ = found.options
    assert found.recommended is sampled
    assert (sampled.sample_size, sampled.shard_size, sampled.tasks) == (155, 10_000, 1)  # docs/sampled.md
    assert any("proves nothing" in each for each in commit.objections)
    assert sampled.certificate_bytes < zk.certificate_bytes
    every = plan(job(10_000), Assurance(Strength.EVERY), Budget(cpu_seconds=3600))
    assert any("budget is 60 min" in each for each in every.options[2].objections)
    assert any("never that nothing was" in each for each in every.options[1].objections)
    assert every.recommended is None
    assert every.nearest is not None
    assert every.nearest.tier == Tier.ZK
    assert every.affordable is not None
    assert (
        plan(job(10), Assurance(Strength.SIGNED), Budget()).recommended
        == plan(job(10), Assurance(Strength.SIGNED), Budget()).options[0]
    )


def test_a_chain_of_circuits_costs_as_all_of_them_and_needs_the_largest() -> None:
    large = replace(CIRCUIT, peak_bytes=1 << 33)
    one = plan(job(100), Assurance(Strength.EVERY), Budget()).options[2]
    two = plan(job(100, segments=(CIRCUIT, large)), Assurance(Strength.EVERY), Budget()).options[2]
    assert total([CIRCUIT, large]).needed_bytes == two.needed_bytes == 1 << 33
    assert two.cpu_seconds == pytest.approx(2 * one.cpu_seconds)
    assert two.proof_bytes == 2 * one.proof_bytes
    on_chain = plan(job(100, segments=(CIRCUIT, CIRCUIT)), Assurance(Strength.ON_CHAIN), Budget())
    assert on_chain.recommended is None
    assert on_chain.options[3].objections == ("the Certifier contract checks circuits of one segment, this one has 2",)


def test_gas_is_that_of_the_contracts_snapshots() -> None:
    snapshots = json.loads((TESTS.parent / "contracts/snapshots/gas.json").read_bytes())
    assert int(snapshots["EvidenceLog.anchor"]) == ANCHOR_GAS
    assert int(snapshots["EvidenceLog.commit"]) == COMMIT_GAS


@pytest.mark.parametrize(
    "case", ["commit-without-openings", "sampled", "zk-two-tasks", "zk-certified-on-chain", "segments"]
)
def test_certificates_have_the_size_that_is_said(case: str) -> None:
    """With the circuit's own sizes; what is estimated here is the document around them."""
    data = (TESTS / "vectors/certificates" / case / "certificate.json").read_bytes()
    read = json.loads(data)
    request, policy, circuit = read["request"], read["request"]["policy"], read["circuit"]
    made = [each["proofs"] for task in read["tasks"] for each in task["evidence"]["proofs"]]
    segments, settings_bytes = (CIRCUIT,), 0
    if circuit is not None:
        chain = ChainSettings.parse(circuit["settings"].encode())
        settings_bytes, count = len(chain.data), len(chain.segments)
        segments = tuple(
            replace(
                CIRCUIT,
                columns=replace(CIRCUIT.columns, instances=segment.input_length + segment.output_length),
                proof_bytes=len(proof) // 2 - 1,
                vk_bytes=len(circuit["vk"]) * 3 // 4 // count,
                vka_bytes=32 * (len(circuit["vka"]) // count),
            )
            for segment, proof in zip(chain.segments, made[0], strict=True)
        )
    pinned, records = request["circuit"], request["recordCount"]
    of = Job(
        records,
        segments,
        values=pinned["inputLength"] + pinned["outputLength"],
        settings_bytes=settings_bytes,
        workers=-(-records // policy["shardSize"]),
    )
    tier = Tier[policy["tier"].upper()]
    found = next(
        each
        for each in plan(of, Assurance(Strength.SIGNED), Budget()).options
        if each.tier == tier and each.certify_on_chain == policy["certifyOnChain"]
    )
    assert found.tasks == len(read["tasks"])
    others = (len(made) - found.proofs) * (2 * sum(each.proof_bytes for each in segments) + 700)
    assert found.certificate_bytes + others == pytest.approx(len(data), rel=0.05)
