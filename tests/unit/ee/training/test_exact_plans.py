"""A coordinator refuses a plan whose optimiser does not commute with what the owner says of the keys."""

from __future__ import annotations

from typing import Any

import pytest

from rexis.ee.exactness import Step, names_of, powers_named, require_exact_plan, steps_of_plan
from rexis.ee.groups import ISOMETRY, NONE, Power
from rexis.protocol.digests import Digest
from rexis.protocol.errors import EncryptionError
from rexis.protocol.training import Optimiser, Schedule, TrainingPlan
from rexis.protocol.training_kinds import KeyPower, LossKind, OptimiserKind

SGD = Optimiser(kind=OptimiserKind.SGD, learning_rate_e9=10**7)
NESTEROV = Optimiser(
    kind=OptimiserKind.SGD,
    learning_rate_e9=10**7,
    momentum_e9=9 * 10**8,
    nesterov=True,
    weight_decay_e9=10**5,
    clip_norm_e9=10**9,
)
ADAMW = Optimiser(
    kind=OptimiserKind.ADAMW, learning_rate_e9=10**6, beta1_e9=9 * 10**8, beta2_e9=999 * 10**6, epsilon_e12=10**4
)
SIGNED = ["permute", "sign"]
DENSE = ["mix", "permute", "sign"]


def plan(optimiser: Optimiser, powers: list[str], **other: Any) -> TrainingPlan:
    return TrainingPlan(
        format="rexis-training-plan-v1",
        loss=LossKind.CROSS_ENTROPY,
        optimiser=optimiser,
        schedule=Schedule(),
        input_shape=[3],
        target_shape=[],
        steps=4,
        batch_size=2,
        checkpoint_interval=2,
        order_seed=Digest(bytes(32)),
        trainable=["w"],
        powers=[KeyPower(each) for each in powers],
        **other,
    )


@pytest.mark.parametrize(("optimiser", "powers"), [(SGD, DENSE), (NESTEROV, DENSE), (ADAMW, SIGNED), (ADAMW, [])])
def test_what_commutes_is_taken(optimiser: Optimiser, powers: list[str]) -> None:
    require_exact_plan(plan(optimiser, powers))


def test_rotations_of_a_plane_are_orthogonal() -> None:
    require_exact_plan(plan(SGD, ["mix", "plane", "sign"]))
    with pytest.raises(EncryptionError, match="keys that mix:"):
        require_exact_plan(plan(ADAMW, ["mix", "plane", "sign"]))


@pytest.mark.parametrize(
    ("optimiser", "powers", "why"),
    [
        (ADAMW, DENSE, "adamw does not commute with keys that mix: each element's update"),
        (SGD, ["permute", "scale"], "keys that scale are not orthogonal"),
    ],
)
def test_what_does_not_commute_is_refused_with_the_reason_unless_the_plan_allows_it(
    optimiser: Optimiser, powers: list[str], why: str
) -> None:
    with pytest.raises(EncryptionError, match=why) as refused:
        require_exact_plan(plan(optimiser, powers))
    assert refused.value.field == "plan.optimiser"
    assert "allowInexact" in str(refused.value.hint)
    require_exact_plan(plan(optimiser, powers, allow_inexact=True))


def test_steps_of_a_plan_are_those_of_its_options() -> None:
    assert steps_of_plan(SGD) == (Step.SGD,)
    assert steps_of_plan(NESTEROV) == (Step.SGD, Step.MOMENTUM, Step.NESTEROV, Step.WEIGHT_DECAY, Step.CLIP_NORM)
    assert steps_of_plan(ADAMW) == (Step.ADAMW,)


@pytest.mark.parametrize("powers", [NONE, ISOMETRY, Power(31)])
def test_powers_have_names_in_a_plan(powers: Power) -> None:
    names = names_of(powers)
    assert names == sorted(names)
    assert powers_named(names) == powers
