"""Which optimiser commutes with which keys, and why.

Under fixed keys the encrypted parameters are a linear image of the plain ones, ``θ' = T θ``, and both models have the
same loss for every θ: ``L'(T θ) = L(θ)``. By the chain rule the encrypted gradient is ``g' = T⁻ᵀ g``. Every key that is
drawn for training is orthogonal, so T is, and ``g' = T g``: the gradient is encrypted as the parameter is. A step is
exact if the update that it makes of ``T g`` is T times the update that it makes of ``g``. That is a question about the
optimiser alone, and the table :data:`RULES` answers it. Needs neither torch nor a model.

A coordinator asks :func:`require_exact_plan` with what the owner says of the keys; the owner's own side looks at the
keys themselves (:func:`powers_along`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from rexis.ee.groups import FREE, ISOMETRY, NONE, AxisKey, MonomialKey, Power
from rexis.ee.layout import Axis, Keyring
from rexis.protocol.errors import EncryptionError
from rexis.protocol.training import Optimiser, TrainingPlan
from rexis.protocol.training_kinds import KeyPower, OptimiserKind

SIGNED = Power.PERMUTE | Power.SIGN
_ROUNDING = 1e-9


class Step(StrEnum):
    """One part of what an optimiser does. A real one has several: SGD with momentum, after clipping."""

    SGD = "sgd"
    MOMENTUM = "momentum"
    NESTEROV = "nesterov"
    WEIGHT_DECAY = "weight decay"
    CLIP_NORM = "clip by global norm"
    CLIP_VALUE = "clip by value"
    ADAM = "adam"
    ADAMW = "adamw"
    RMSPROP = "rmsprop"
    ADAGRAD = "adagrad"


@dataclass(frozen=True)
class Rule:
    """The largest set of powers that a step is exact under, and the reason."""

    powers: Power
    reason: str


_LINEAR = "a sum of gradients and parameters with the same number before each element, so that T passes through"
_ODD = (
    "each element's update is a function of that element's own gradients, odd in their sign: "
    "it may move and change sign with its element, but not be mixed with others"
)
RULES: dict[Step, Rule] = {
    Step.SGD: Rule(ISOMETRY, _LINEAR),
    Step.MOMENTUM: Rule(ISOMETRY, _LINEAR),
    Step.NESTEROV: Rule(ISOMETRY, _LINEAR),
    Step.WEIGHT_DECAY: Rule(ISOMETRY, _LINEAR),
    Step.CLIP_NORM: Rule(ISOMETRY, "the global norm of T g is that of g, and the gradient is only scaled"),
    Step.CLIP_VALUE: Rule(SIGNED, _ODD),
    Step.ADAM: Rule(SIGNED, _ODD),
    Step.ADAMW: Rule(SIGNED, _ODD),
    Step.RMSPROP: Rule(SIGNED, _ODD),
    Step.ADAGRAD: Rule(SIGNED, _ODD),
}


@dataclass(frozen=True)
class Exactness:
    """Whether steps commute with keys, and what decides it."""

    exact: bool
    reason: str


def largest(steps: Iterable[Step]) -> Power:
    """The largest set of powers that all `steps` are exact under."""
    found = ISOMETRY
    for step in steps:
        found &= RULES[step].powers
    return found


def exactness(steps: Iterable[Step], powers: Power) -> Exactness:
    """Whether training with `steps` under keys with `powers` gives what training in the clear gives.

    Under keys with :attr:`Power.SCALE` nothing is exact: T is not orthogonal then, and ``g' = T⁻ᵀ g ≠ T g``.
    """
    if Power.SCALE in powers:
        return Exactness(
            False, "keys that scale are not orthogonal, so that gradients are not encrypted as weights are"
        )
    for step in steps:
        excess = powers & ~(
            RULES[step].powers | Power.PLANE
        )  # on a plane, the other powers are orthogonal as elsewhere
        if excess != NONE:
            names = ", ".join(str(each.name).lower() for each in excess)
            return Exactness(False, f"{step} does not commute with keys that {names}: {RULES[step].reason}")
    return Exactness(True, "; ".join(dict.fromkeys(RULES[step].reason for step in steps)))


def require_exact(steps: Iterable[Step], powers: Power) -> None:
    """Refuse steps that do not commute with the keys.

    Raises
    ------
    EncryptionError
        They do not; the message says which and why.
    """
    steps = tuple(steps)
    found = exactness(steps, powers)
    if not found.exact:
        raise EncryptionError(
            f"training would not be exact: {found.reason}",
            field="optimiser",
            hint="draw the keys for this optimiser, or train with plain SGD, momentum and weight decay",
        )


def require_exact_plan(plan: TrainingPlan) -> None:
    """Refuse a plan whose optimiser does not commute with what the plan says of the keys, unless it allows that.

    Raises
    ------
    EncryptionError
        Training would not be exact, and the plan does not have `allowInexact`; the message says why.
    """
    found = exactness(steps_of_plan(plan.optimiser), powers_named(plan.powers))
    if not found.exact and not plan.allow_inexact:
        raise EncryptionError(
            f"training would not be exact: {found.reason}",
            field="plan.optimiser",
            hint="encrypt the model for this optimiser, use sgd, or set allowInexact and accept other weights",
        )


def steps_of_plan(optimiser: Optimiser) -> tuple[Step, ...]:
    """The steps of a plan's optimiser, clipping included."""
    kinds = {OptimiserKind.SGD: Step.SGD, OptimiserKind.ADAM: Step.ADAM, OptimiserKind.ADAMW: Step.ADAMW}
    further = {
        Step.MOMENTUM: optimiser.momentum_e9,
        Step.NESTEROV: optimiser.nesterov,
        Step.WEIGHT_DECAY: optimiser.weight_decay_e9,
        Step.CLIP_NORM: optimiser.clip_norm_e9,
    }
    return (kinds[optimiser.kind], *(step for step, used in further.items() if used))


def powers_named(names: Iterable[KeyPower]) -> Power:
    """What a plan says of keys, as the groups have it."""
    found = NONE
    for name in names:
        found |= Power[name.name]
    return found


def names_of(powers: Power) -> list[KeyPower]:
    """Undoes :func:`powers_named`; sorted, as a plan has them."""
    return sorted(KeyPower[str(each.name)] for each in powers)


def powers_along(keyring: Keyring, axes: Iterable[Axis]) -> Power:
    """What all keys along `axes` do, taken together."""
    found = NONE
    variables = {factor.variable for axis in axes for factor in axis}
    for variable in variables & keyring.segments.keys():
        found |= powers_along(keyring, keyring.segments[variable])
    for element in keyring.elements:
        if variables.intersection(element.members):
            for key in element.keys:
                found |= powers_of(key)
    return found


def powers_of(key: AxisKey) -> Power:
    """The smallest group that holds `key`, from its values: a saved key needs no plan to say what it is exact under."""
    if isinstance(key, MonomialKey):
        found = NONE
        if not np.array_equal(key.permutation, np.arange(key.size)):
            found |= Power.PERMUTE
        if (key.factor < 0.0).any():
            found |= Power.SIGN
        return found if (np.abs(key.factor) == 1.0).all() else found | Power.SCALE
    return ISOMETRY if key.condition < 1.0 + _ROUNDING else FREE


def steps_of(optimiser: Any) -> tuple[Step, ...]:
    """The steps of a ``torch.optim`` optimiser, from its class and its options. Clipping is not part of it.

    Raises
    ------
    EncryptionError
        An optimiser that :data:`RULES` says nothing about.
    """
    kinds = {"Adam": Step.ADAM, "AdamW": Step.ADAMW, "RMSprop": Step.RMSPROP, "Adagrad": Step.ADAGRAD, "SGD": Step.SGD}
    kind = type(optimiser).__name__
    if kind not in kinds:
        raise EncryptionError(
            f"nothing is known about how {kind} commutes with keys",
            field="optimiser",
            hint=f"known: {', '.join(kinds)}",
        )
    options = optimiser.param_groups
    flags = {"momentum": Step.MOMENTUM, "nesterov": Step.NESTEROV, "weight_decay": Step.WEIGHT_DECAY}
    return (kinds[kind], *(step for flag, step in flags.items() if any(group.get(flag) for group in options)))
