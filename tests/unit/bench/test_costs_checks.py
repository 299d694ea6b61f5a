"""What counts as a wrong result."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from bench.costs.agreement import Bound, agreement, require_agreement, require_same
from bench.costs.checks import Checks, WrongResult
from bench.costs.result import Outcome
from bench.costs.scope import full_scope, smoke_scope
from circuits.process import ProcessGoneError
from circuits.profile import tuned_models
from models.zoo import names
from rexis.protocol.errors import CircuitError, MalformedError, NotFoundError, RexisError, UnavailableError
from verifier.report import StepFailed


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.OK),
        (WrongResult("off by one"), Outcome.FAILED),
        (CircuitError("no witness"), Outcome.FAILED),
        (UnavailableError("no EVM"), Outcome.SKIPPED),
    ],
)
def test_what_is_raised_decides(error: Exception | None, outcome: Outcome) -> None:
    checks = Checks()
    with checks.that("name", "about"):
        if error is not None:
            raise error
    assert [check.outcome for check in checks.found] == [outcome]


def test_a_fault_of_the_benchmark_itself_is_not_swallowed() -> None:
    checks = Checks()
    with pytest.raises(KeyError), checks.that("name", "about"):
        raise KeyError("x")


def test_a_process_that_took_too_long_says_nothing_about_the_result() -> None:
    checks = Checks()
    with pytest.raises(ProcessGoneError), checks.that("name", "about", unless=(ProcessGoneError,)):
        raise ProcessGoneError("took too long")
    assert checks.found == []


def _raising(error: RexisError) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        (_raising(StepFailed(10, "proofs", "does not hold")), Outcome.OK),
        (_raising(StepFailed(9, "openings", "leads elsewhere")), Outcome.FAILED),
        (_raising(CircuitError("something else")), Outcome.FAILED),
        (lambda: None, Outcome.FAILED),
    ],
    ids=["refused", "refused for another reason", "not checked", "accepted"],
)
def test_a_lie_must_be_refused_at_its_step(act: Callable[[], object], outcome: Outcome) -> None:
    checks = Checks()
    checks.refused("a lie", "about", 10, act)
    assert [check.outcome for check in checks.found] == [outcome]


def test_decisions_may_differ_by_the_bounds_share_and_not_more() -> None:
    expected = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (100, 1))
    found = expected.copy()
    found[0] = (0.0, 1.0)
    bound = Bound(0.99, math.inf)
    assert agreement(found, expected, bound) == 0.99
    assert require_agreement(found, expected, bound).startswith("99 of 100")
    found[1] = (0.0, 1.0)
    with pytest.raises(WrongResult, match="2 of 100"):
        require_agreement(found, expected, bound)


@pytest.mark.parametrize(("error", "alike"), [(4.9, 1.0), (5.1, 0.0), (math.nan, 0.0)])
def test_a_regression_decides_alike_within_the_bounds_error(error: float, alike: float) -> None:
    expected = np.array([[100.0]], dtype=np.float32)
    assert agreement(expected + np.float32(error), expected, Bound(0.99, 5.0)) == alike


@pytest.mark.parametrize("error", [0.1, math.nan])
def test_outputs_of_tier_commit_are_the_plain_models(error: float) -> None:
    expected = np.array([[1.0, -2.0]], dtype=np.float32)
    require_same(expected * np.float32(1 + 1e-6), expected)
    with pytest.raises(WrongResult):
        require_same(expected + np.float32(error), expected)


def test_the_whole_scope_is_the_zoo_and_the_smoke_scope_has_a_model_with_a_circuit_and_one_without() -> None:
    assert full_scope().models == names()
    proved, *bare = smoke_scope().models
    assert proved in tuned_models()
    assert len(bare) == (set(names()) > set(tuned_models()))
    assert not set(bare) & set(tuned_models())


def test_a_scope_names_models_and_tiers_that_exist() -> None:
    assert full_scope().only(("dna",), ("commit",)).models == ("dna",)
    assert not full_scope().only((), ("commit",)).proves
    with pytest.raises(NotFoundError, match="no_such_model"):
        full_scope().only(("no_such_model",), ())
    with pytest.raises(MalformedError, match="lite"):
        full_scope().only((), ("lite",))
