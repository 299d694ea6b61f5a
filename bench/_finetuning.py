"""Trainings to measure: zoo networks with fresh weights, in the clear and under EE, and a large transformer."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.layers import MLP, Attention, Block
from models.zoo import training_split
from rexis.ee.training import EncryptedTraining, Loss, steps_of, tensors_of
from rexis.ee.training.exporting import export
from rexis.protocol.digests import sha256
from rexis.protocol.training import PLAN_FORMAT, Optimiser, Schedule, TrainingPlan
from rexis.protocol.training_kinds import LossKind, OptimiserKind
from rexis.training.session import Trainer

BATCH = 32
OPTIMISERS = {
    "SGD": Optimiser(
        kind=OptimiserKind.SGD, learning_rate_e9=10_000_000, momentum_e9=900_000_000, weight_decay_e9=1_000_000
    ),
    "AdamW": Optimiser(
        kind=OptimiserKind.ADAMW,
        learning_rate_e9=1_000_000,
        beta1_e9=900_000_000,
        beta2_e9=999_000_000,
        epsilon_e12=10_000,
        weight_decay_e9=10_000_000,
    ),
}


@dataclass(frozen=True)
class Work:
    """What a :class:`~rexis.training.session.Trainer` is made of."""

    model: bytes
    plan: TrainingPlan
    records: NDArray[np.float32]

    def trainer(self, *, device: str = "cpu", threads: int = 1, floats: torch.dtype = torch.float32) -> Trainer:
        """A fresh one."""
        return Trainer(self.model, self.plan, self.records, device=device, threads=threads, floats=floats)


class Large(nn.Module):
    """A transformer encoder over ``[batch, 32, 384]`` with 6 blocks and 10.7 million weights."""

    TOKENS, WIDTH, BLOCKS = 32, 384, 6

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(0.1 * torch.randn(1, self.TOKENS, self.WIDTH))
        self.blocks = nn.Sequential(
            *(
                Block(
                    Attention(self.TOKENS, self.WIDTH, 6),
                    MLP(self.WIDTH, 4 * self.WIDTH),
                    (nn.LayerNorm(self.WIDTH), nn.LayerNorm(self.WIDTH)),
                )
                for _ in range(self.BLOCKS)
            )
        )
        self.norm = nn.LayerNorm(self.WIDTH)
        self.head = nn.Linear(self.WIDTH, 4)

    def forward(self, records: Tensor) -> Tensor:
        """Logits ``[batch, 4]``."""
        return self.head(self.norm(self.blocks(records + self.position)).mean(dim=1))


def network_and_data(name: str) -> tuple[nn.Module, Loss, Tensor, Tensor]:
    """A zoo model's network with fresh weights, and its training records; regression targets are standardised."""
    records, labels = training_split(name)
    source = importlib.import_module(f"models.{name}")
    torch.manual_seed(0)
    network = source.RECIPE.network() if hasattr(source, "RECIPE") else source.build_network(0).float()
    if labels.dtype.kind == "f":
        scaled = (labels - labels.mean(axis=0)) / labels.std(axis=0)
        return network.eval(), Loss.SQUARED, torch.from_numpy(records), torch.from_numpy(scaled).float()
    return network.eval(), Loss.CROSS_ENTROPY, torch.from_numpy(records), torch.from_numpy(labels).long()


def clear_work(name: str, optimiser: Optimiser, *, steps: int, interval: int, freeze: bool = False) -> Work:
    """Training a zoo network in the clear.

    Parameters
    ----------
    freeze
        Weights whose gradient is rounding errors alone stay as they are.
    """
    module, loss, records, targets = network_and_data(name)
    exported = export(module, records[:4], loss)
    model = exported.holding({key: each.detach().numpy() for key, each in tensors_of(module).items()})
    trained = [exported.places[key].constant for key, _ in module.named_parameters()]
    found = _work(model, trained, loss, optimiser, records, targets, steps, interval)
    if not freeze:
        return found
    moving = moving_weights(found)
    return Work(model, found.plan.model_copy(update={"trainable": moving}), found.records)


def both_works(name: str, kind: str, *, steps: int, interval: int) -> tuple[Work, Work]:
    """Training a zoo network in the clear, and the same under EE."""
    module, loss, records, targets = network_and_data(name)
    like = torch.optim.SGD if kind == "SGD" else torch.optim.AdamW
    options = {"momentum": 0.9} if kind == "SGD" else {}
    training = EncryptedTraining.compile(
        module, records[:4], loss=loss, steps=steps_of(like(module.parameters(), lr=0.1, **options)), seed=bytes(32)
    )
    plain = clear_work(name, OPTIMISERS[kind], steps=steps, interval=interval)
    trained = plain.plan.trainable
    hidden, labels = training.encrypt_inputs(records), training.encrypt_targets(targets)
    return plain, _work(training.model, trained, loss, OPTIMISERS[kind], hidden, labels, steps, interval)


def large_work(*, steps: int, interval: int, batch: int = 16, blocks: int = Large.BLOCKS) -> Work:
    """AdamW on :class:`Large`, on random records."""
    torch.manual_seed(0)
    module = Large()
    module.blocks = module.blocks[:blocks]
    module.eval()
    records, targets = torch.randn(64, Large.TOKENS, Large.WIDTH), torch.arange(64) % 4
    exported = export(module, records[:2], Loss.CROSS_ENTROPY)
    model = exported.holding({key: each.detach().numpy() for key, each in tensors_of(module).items()})
    trained = [exported.places[key].constant for key, _ in module.named_parameters()]
    made = _work(model, trained, Loss.CROSS_ENTROPY, OPTIMISERS["AdamW"], records, targets, steps, interval)
    return Work(model, made.plan.model_copy(update={"batch_size": batch}), made.records)


def moving_weights(work: Work) -> list[str]:
    """Trainable constants whose gradient, in float64, is more than rounding errors."""
    plain = OPTIMISERS["SGD"].model_copy(update={"weight_decay_e9": 0})
    stepping = Work(work.model, work.plan.model_copy(update={"optimiser": plain}), work.records)
    trainer = stepping.trainer(floats=torch.float64)
    before = {name: each.detach().clone() for name, each in trainer.graph.weights.items()}
    trainer.step()
    moved = {name: float((each.detach() - before[name]).norm()) for name, each in trainer.graph.weights.items()}
    return sorted(name for name, way in moved.items() if way > 1e-12 * max(moved.values()))


def _work(
    model: bytes,
    trained: list[str],
    loss: Loss,
    optimiser: Optimiser,
    records: Tensor,
    targets: Tensor,
    steps: int,
    interval: int,
) -> Work:
    plan = TrainingPlan(
        format=PLAN_FORMAT,
        loss=LossKind[loss.name],
        optimiser=optimiser,
        schedule=Schedule(),
        input_shape=list(records.shape[1:]),
        target_shape=list(targets.shape[1:]),
        steps=steps,
        batch_size=BATCH,
        checkpoint_interval=interval,
        order_seed=sha256(b"bench.training"),
        trainable=sorted(trained),
        powers=[],
    )
    rows = [each.reshape(len(each), -1).numpy().astype(np.float32) for each in (records, targets)]
    return Work(model, plan, np.concatenate(rows, axis=1))
