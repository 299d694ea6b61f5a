"""A verifier that accepts everything, or nothing, is found out; and a process that is too slow is no wrong result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest

from bench.costs import circuit, measure
from bench.costs.checks import Checks
from bench.costs.circuit import check_proof
from bench.costs.proof_parts import Part
from bench.costs.result import Outcome, TierCost
from bench.costs.tiers import TierMeasurement
from circuits.build import ProvingCircuit
from circuits.process import ProcessGoneError
from circuits.proving import Proof
from circuits.verifying import Claim
from contracts.evm import Answer
from rexis.protocol.errors import CircuitError, UnavailableError
from tests.unit.bench.sample_report import tiers

HONEST = Part([], b"proof", [1, 2, 3])


class Artefacts:
    """Of nothing."""

    artefacts = srs = None


def _evm(accepts: Callable[[bytes, Sequence[int]], bool]) -> type:
    class Evm:
        def __init__(self, vka: object) -> None:
            pass

        def verify(self, proof: bytes, instances: Sequence[int]) -> Answer:
            return Answer(accepts(proof, instances), 1000)

    return Evm


def _checked(
    monkeypatch: pytest.MonkeyPatch,
    evm: type,
    off_chain: Callable[[Claim], bool],
) -> tuple[int | None, dict[str, Outcome]]:
    honest, false = Claim([b"proof"], [], [1, 2], [3]), Claim([b"proof"], [], [1, 2], [4])

    def verify(artefacts: object, claims: Sequence[Claim], srs: object) -> None:
        if not all(off_chain(claim) for claim in claims):
            raise CircuitError("it does not hold", field="proofs[0]")

    monkeypatch.setattr(circuit, "LocalVerifier", evm)
    monkeypatch.setattr(circuit, "verify_proofs", verify)
    monkeypatch.setattr(circuit, "parts_of", lambda *_: [HONEST])
    monkeypatch.setattr(circuit, "claim_of", lambda _: honest)
    monkeypatch.setattr(circuit, "altered", lambda _: false)
    checks = Checks()
    gas = check_proof("model", cast(ProvingCircuit, Artefacts()), cast(Proof, None), checks)
    return gas, {check.name: check.outcome for check in checks.found}


def _honest(proof: bytes, instances: Sequence[int]) -> bool:
    return (proof, instances) == (HONEST.data, HONEST.instances)


def test_verifiers_that_are_right_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    gas, found = _checked(monkeypatch, _evm(_honest), lambda claim: claim.outputs == [3])
    assert gas == 1000
    assert len(found) == 5
    assert set(found.values()) == {Outcome.OK}


@pytest.mark.parametrize(("accepts", "wrong"), [(True, 3), (False, 2)])
def test_verifiers_that_say_the_same_of_everything_fail(
    accepts: bool, wrong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, found = _checked(monkeypatch, _evm(lambda *_: accepts), lambda _: accepts)
    failed = [name for name, outcome in found.items() if outcome == Outcome.FAILED]
    assert len(failed) == wrong
    assert all(("refused" in name) is accepts for name in failed)


def test_without_an_evm_there_is_no_gas_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def __init__(self, vka: object) -> None:
            raise UnavailableError("there is no EVM here")

    gas, found = _checked(monkeypatch, Missing, lambda claim: claim.outputs == [3])
    assert gas is None
    assert Outcome.FAILED not in found.values()
    assert Outcome.SKIPPED in found.values()


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ProcessGoneError("took too long"), Outcome.SKIPPED), (CircuitError("no witness"), Outcome.FAILED)],
)
def test_tasks_before_a_failure_stay(error: CircuitError, outcome: Outcome) -> None:
    class Measurement:
        def measure(self) -> Iterator[TierCost]:
            yield tiers(0.1, None)[0]
            raise error

    checks = Checks()
    costs = measure.tasks_of(cast(TierMeasurement, cast(Any, Measurement())), "model", checks)
    assert [cost.tier for cost in costs] == ["commit"]
    assert [check.outcome for check in checks.found] == [outcome]
