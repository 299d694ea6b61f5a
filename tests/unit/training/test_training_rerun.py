"""What re-executing a segment finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from models.zoo import load_model_bytes
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.training import BILLION, DEFAULT_ABS_TOLERANCE_E9, DEFAULT_REL_TOLERANCE_E9, Optimiser
from rexis.protocol.transcript import State, deviations
from rexis.training.platforms import this_platform
from rexis.training.rerun import Rerunner
from rexis.training.session import Losses, Trainer
from tests.unit.training.conftest import ADAMW, SGD, Case, case_of

TOLERANCE = DEFAULT_REL_TOLERANCE_E9 / BILLION


@dataclass(frozen=True)
class Segment:
    """What a worker committed for one."""

    before: State
    after: State
    root: Digest
    losses: Losses


def worked(case: Case, *, start: State | None = None, skip: int = 0) -> Segment:
    """Segment 1 as somebody worked it out, honestly or not."""
    trainer = Trainer(case.model, case.plan, case.records)
    first, last = case.plan.step_of(1), case.plan.step_of(2)
    if start is None:
        trainer.advance(first)
        start = trainer.state()
    trainer.load(first + skip, start)
    losses = trainer.advance(last - first - skip)
    after = trainer.state()
    trainer.load(last, after)
    return Segment(start, after, trainer.root, losses)


def checked(case: Case, committed: Segment) -> tuple[bool, float]:
    """Whether the bits are the same, and the largest distance relative to the way."""
    again = Rerunner(case.model, case.plan, case.records).run(1, committed.before)
    found = deviations(again.before, committed.after, again.after)
    same = again.root == committed.root
    assert not same or np.array_equal(again.losses, committed.losses)
    return same, max(relative for relative, _ in found.values())


@pytest.mark.parametrize("optimiser", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_an_honest_segment_gives_the_same_bits(small: Case, optimiser: Optimiser) -> None:
    case = small.but(optimiser=optimiser)

    assert checked(case, worked(case)) == (True, 0.0)


@pytest.mark.parametrize("optimiser", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("lie", ["rate", "skipped", "repeated", "momentum", "optimiser", "data", "order", "batch"])
def test_a_dishonest_segment_is_caught_by_bits_and_by_distance(small: Case, optimiser: Optimiser, lie: str) -> None:
    case = small.but(optimiser=optimiser)
    start = worked(case).before
    rate = optimiser.learning_rate_e9
    other = {
        "rate": {"learning_rate_e9": rate + rate // 100},
        "momentum": {"momentum_e9": 890_000_000} if optimiser == SGD else {"beta2_e9": 990_000_000},
        "optimiser": {"weight_decay_e9": optimiser.weight_decay_e9 * 100},
    }
    if lie in other:
        forged = worked(case.but(optimiser=optimiser.model_copy(update=other[lie])), start=start)
    elif lie == "data":
        records = case.records.copy()
        records[:, 3] *= 1.1
        forged = worked(Case(case.model, case.plan, records), start=start)
    elif lie == "order":
        forged = worked(case.but(order_seed=sha256(b"another order")), start=start)
    elif lie == "batch":
        forged = worked(case.but(batch_size=15), start=start)
    else:
        forged = worked(case, start=start, skip=1 if lie == "skipped" else -1)

    same, relative = checked(case, forged)

    assert not same
    assert relative > TOLERANCE


@pytest.mark.parametrize("name", ["dna", "breast_cancer"])
def test_honest_work_elsewhere_is_within_the_tolerance(name: str) -> None:
    """Other orders of sums, by two threads; and float64, from which two machines lie on two sides at most."""
    case = case_of(name, load_model_bytes(name), ADAMW)
    again = worked(case)
    for options in ({"threads": 2}, {"floats": torch.float64}):
        other = Trainer(case.model, case.plan, case.records, **options)  # type: ignore[arg-type]
        other.load(case.plan.step_of(1), again.before)
        other.advance(case.plan.checkpoint_interval)
        committed = {key: value.astype(np.float32) for key, value in other.state().items()}
        for relative, absolute in deviations(again.before, committed, again.after).values():
            assert 2 * relative < TOLERANCE or 2 * absolute < DEFAULT_ABS_TOLERANCE_E9 / BILLION


def test_a_swapped_optimiser_is_caught(small: Case) -> None:
    """SGD without momentum against AdamW's declared state: moments that stand still are no moments."""
    start = worked(small).before
    plain = small.but(optimiser=Optimiser(kind=SGD.kind, learning_rate_e9=SGD.learning_rate_e9))
    weights = {name: value for name, value in start.items() if name.startswith("weight/")}
    after = worked(plain, start=weights).after

    again = Rerunner(small.model, small.plan, small.records).run(1, start)

    assert max(relative for relative, _ in deviations(start, {**start, **after}, again.after).values()) > TOLERANCE


def test_the_platform_names_this_machine() -> None:
    here = this_platform(threads=2)

    assert here.device == "cpu"
    assert here.threads == 2
    assert here.machine.endswith("arithmetic-1")
    assert this_platform(threads=2) == here
