"""The same steps give the same bits, wherever they are taken up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.zoo import load_model_bytes
from rexis.protocol.errors import TensorError, TrainingError
from rexis.protocol.training import BILLION, Optimiser, batch_records
from rexis.protocol.training_kinds import LossKind, OptimiserKind
from rexis.protocol.transcript import initial_state, state_root_of
from rexis.training.exporting import initial_weights
from rexis.training.session import Trainer
from tests.unit.training.conftest import ADAMW, SGD, Case, case_of

_AGAIN = """
import sys
from pathlib import Path
import numpy as np
from rexis.protocol.training import TrainingPlan
from rexis.training.session import Trainer
folder = Path(sys.argv[1])
plan = TrainingPlan.from_json((folder / "plan").read_bytes())
trainer = Trainer((folder / "model").read_bytes(), plan, np.load(folder / "records.npy"))
trainer.advance(plan.steps)
sys.stdout.write(str(trainer.root))
"""


def trainer_of(case: Case, **options: object) -> Trainer:
    return Trainer(case.model, case.plan, case.records, **options)  # type: ignore[arg-type]


def test_the_first_state_is_the_base_models(small: Case) -> None:
    weights = initial_weights(small.model, small.plan.trainable)

    assert trainer_of(small).root == state_root_of(0, 0, initial_state(small.plan, weights))


def test_another_process_gives_the_same_bits(small: Case, tmp_path: Path) -> None:
    here = trainer_of(small)
    here.advance(small.plan.steps)
    (tmp_path / "model").write_bytes(small.model)
    (tmp_path / "plan").write_bytes(small.plan.to_json())
    np.save(tmp_path / "records.npy", small.records)

    there = subprocess.run(
        [sys.executable, "-c", _AGAIN, str(tmp_path)], capture_output=True, check=True, text=True, timeout=300
    )

    assert there.stdout == str(here.root)


@pytest.mark.parametrize(
    "optimiser", [SGD, SGD.model_copy(update={"momentum_e9": 0}), ADAMW], ids=["momentum", "sgd", "adamw"]
)
def test_going_on_from_any_state_gives_the_same_bits(small: Case, optimiser: Optimiser) -> None:
    case = small.but(optimiser=optimiser)
    whole = trainer_of(case)
    losses = whole.advance(case.plan.steps)
    for stop in (1, 7):
        first = trainer_of(case)
        before = first.advance(stop)
        state = first.state()

        second = trainer_of(case)
        second.advance(3)
        second.load(stop, state)
        after = second.advance(case.plan.steps - stop)

        assert second.root == whole.root
        assert np.array_equal(np.concatenate([before, after]), losses)


@pytest.mark.parametrize("optimiser", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_training_is_what_torch_does_to_the_same_network(small: Case, optimiser: Optimiser) -> None:
    case = small.but(optimiser=optimiser)
    stored = initial_weights(case.model, case.plan.trainable)
    weights = {name: torch.from_numpy(each).requires_grad_() for name, each in stored.items()}
    layers = [(weights[f"{place}.weight"], weights[f"{place}.bias"]) for place in (0, 2, 4)]
    trainer = trainer_of(case)
    how = case.plan.optimiser
    rate = how.learning_rate_e9 / BILLION
    leaves = [each for pair in layers for each in pair]
    if how.kind == OptimiserKind.SGD:
        own: torch.optim.Optimizer = torch.optim.SGD(leaves, lr=rate, momentum=0.9, weight_decay=1e-3)
    else:
        own = torch.optim.AdamW(leaves, lr=rate, weight_decay=1e-2)
    losses = []
    for step in range(case.plan.steps):
        rows = batch_records(case.plan, len(case.records), step)
        x = torch.from_numpy(case.records[rows, :-1])
        for place, (weight, bias) in enumerate(layers):
            x = torch.nn.functional.linear(x, weight, bias)
            x = torch.relu(x) if place < len(layers) - 1 else x
        own.zero_grad()
        loss = torch.nn.functional.cross_entropy(x, torch.from_numpy(case.records[rows, -1]).long())
        loss.backward()
        if how.clip_norm_e9:
            torch.nn.utils.clip_grad_norm_(leaves, how.clip_norm_e9 / BILLION)
        for group in own.param_groups:
            group["lr"] = case.plan.learning_rate(step)
        own.step()
        losses.append(float(loss.detach()))

    assert trainer.advance(case.plan.steps) == pytest.approx(losses, rel=1e-5)
    for name, value in trainer.state().items():
        if name.startswith("weight/"):
            assert value == pytest.approx(weights[name.removeprefix("weight/")].detach().numpy(), rel=1e-4, abs=1e-6)


def test_torch_is_left_as_it_was(small: Case) -> None:
    torch.set_num_threads(2)
    trainer_of(small, threads=1).step()

    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()


def test_tokens_and_regressions_are_trained_too() -> None:
    for name in ("dna", "diabetes"):
        trainer = trainer_of(case_of(name, load_model_bytes(name)))
        assert np.isfinite(trainer.advance(3)).all()


def test_a_training_that_diverges_is_refused(small: Case) -> None:
    far = Optimiser(kind=OptimiserKind.SGD, learning_rate_e9=9 * 10**15)

    with pytest.raises(TrainingError, match="the loss of step"):
        trainer_of(small.but(optimiser=far)).advance(small.plan.steps)


def test_what_does_not_fit_is_refused_before_the_first_step(small: Case) -> None:
    with pytest.raises(TrainingError, match="no float32 initialiser 'nothing'"):
        trainer_of(small.but(trainable=["nothing"]))
    with pytest.raises(TensorError, match="float32 \\[n, 31\\]"):
        trainer_of(Case(small.model, small.plan, small.records[:, 1:]))
    wrong = small.records.copy()
    wrong[5, -1] = 2.0
    with pytest.raises(TensorError, match="class numbers from 0 to 1"):
        trainer_of(Case(small.model, small.plan, wrong))
    wrong[5, -1] = 0.5
    with pytest.raises(TensorError, match="whole numbers"):
        trainer_of(Case(small.model, small.plan, wrong))
    with pytest.raises(TrainingError, match="which targets"):
        trainer_of(small.but(loss=LossKind.SQUARED, target_shape=[1]))
    with pytest.raises(TrainingError, match="no device 'cuda:77'"):
        trainer_of(small, device="cuda:77")


def test_no_step_is_taken_beyond_the_plan(small: Case) -> None:
    with pytest.raises(TrainingError, match="the plan has 12 steps"):
        trainer_of(small).advance(13)


def test_a_state_of_something_else_is_refused(small: Case) -> None:
    trainer = trainer_of(small)
    state = trainer.state()

    with pytest.raises(TensorError, match="tensors of this plan's state"):
        trainer.load(0, {name: each for name, each in state.items() if not name.startswith("exp_avg/")})
    with pytest.raises(TensorError, match="is not float32"):
        trainer.load(0, {name: each.astype(np.float64) for name, each in state.items()})
