"""One small training, and pieces to make others of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from models.zoo import load_model_bytes, training_split
from rexis.protocol.digests import sha256
from rexis.protocol.training import PLAN_FORMAT, Optimiser, Schedule, TrainingPlan
from rexis.protocol.training_kinds import LossKind, OptimiserKind, ScheduleKind

SGD = Optimiser(kind=OptimiserKind.SGD, learning_rate_e9=10_000_000, momentum_e9=900_000_000, weight_decay_e9=1_000_000)
ADAMW = Optimiser(
    kind=OptimiserKind.ADAMW,
    learning_rate_e9=1_000_000,
    beta1_e9=900_000_000,
    beta2_e9=999_000_000,
    epsilon_e12=10_000,
    weight_decay_e9=10_000_000,
    clip_norm_e9=1_000_000_000,
)


@dataclass(frozen=True)
class Case:
    """What a trainer is made of."""

    model: bytes
    plan: TrainingPlan
    records: NDArray[np.float32]

    def but(self, **changes: object) -> Case:
        """The same with another plan."""
        return Case(self.model, self.plan.model_copy(update=changes), self.records)


def floats_of(model: bytes) -> list[str]:
    """Float initialisers that are weights."""
    graph = onnx.load_model_from_string(model).graph
    buffers = ("running_mean", "running_var", "padding", "cos", "sin")
    return sorted(
        each.name
        for each in graph.initializer
        if each.data_type == onnx.TensorProto.FLOAT and not each.name.endswith(buffers)
    )


def case_of(name: str, model: bytes, optimiser: Optimiser = SGD, **plan: object) -> Case:
    """Training a model on a zoo model's records."""
    inputs, labels = training_split(name)
    classes = labels.dtype.kind in "iu"
    targets = labels.astype(np.float32).reshape(len(labels), -1)
    fields: dict[str, object] = {
        "loss": LossKind.CROSS_ENTROPY if classes else LossKind.SQUARED,
        "optimiser": optimiser,
        "schedule": Schedule(kind=ScheduleKind.COSINE, warmup_steps=3),
        "steps": 12,
        "batch_size": 16,
        "checkpoint_interval": 4,
        "trainable": floats_of(model),
    }
    made = TrainingPlan(
        format=PLAN_FORMAT,
        input_shape=list(inputs.shape[1:]),
        target_shape=[] if classes else list(labels.shape[1:]),
        order_seed=sha256(b"the order of a test"),
        powers=[],
        **{**fields, **plan},
    )
    return Case(model, made, np.concatenate([inputs.reshape(len(inputs), -1), targets], axis=1).astype(np.float32))


@pytest.fixture(scope="session")
def small() -> Case:
    """The smallest zoo model under AdamW with clipping."""
    return case_of("breast_cancer", load_model_bytes("breast_cancer"), ADAMW)
