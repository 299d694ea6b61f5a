"""Training jobs: the plan that a request pins, and what follows from it for every step.

See ``docs/protocol.md`` §6. Everything that decides a step's result stands in the plan, the base model or the dataset;
so two who hold these take the same steps.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, WrapValidator, field_validator, model_validator

from rexis.protocol.digests import Digest, sha256
from rexis.protocol.parsing import MAX_SAFE_INTEGER, DigestField, Flag, Strict, UInt32, UInt64, load_json
from rexis.protocol.policy import Rung, Tier
from rexis.protocol.statement import JobRequest, Kind
from rexis.protocol.training_kinds import KeyPower, LossKind, OptimiserKind, ScheduleKind

PLAN_FORMAT = "rexis-training-plan-v1"
MAX_STEPS = 1 << 24
MAX_SEGMENTS = 1 << 12
MAX_TENSORS = 1 << 12
BILLION = 10**9
# What is measured in docs/training.md: steps between checkpoints, and how far honest segments lie apart elsewhere.
DEFAULT_INTERVAL = 50
DEFAULT_REL_TOLERANCE_E9 = 1_000_000
DEFAULT_ABS_TOLERANCE_E9 = 1_000

_ORDER_DOMAIN = b"rexis.order.v1\0"

Indices = NDArray[np.int64]
Parts = Annotated[UInt64, Field(le=BILLION)]
"""A number from 0 to 1 in units of 10⁻⁹."""


class Optimiser(Strict):
    """An update rule with its constants, in units of 10⁻⁹ (`epsilon` 10⁻¹²). What a rule does not have is 0.

    Attributes
    ----------
    learning_rate_e9
        The largest one; see :class:`Schedule`.
    momentum_e9, nesterov
        Of ``sgd``.
    beta1_e9, beta2_e9, epsilon_e12
        Of ``adam`` and ``adamw``.
    weight_decay_e9
        Added to the gradient (``sgd``, ``adam``), or decoupled (``adamw``).
    clip_norm_e9
        Gradients are scaled down to this global norm; 0 for never.
    """

    kind: OptimiserKind
    learning_rate_e9: Annotated[UInt64, Field(ge=1)]
    momentum_e9: Parts = 0
    nesterov: Flag = False
    beta1_e9: Parts = 0
    beta2_e9: Parts = 0
    epsilon_e12: UInt64 = 0
    weight_decay_e9: UInt64 = 0
    clip_norm_e9: UInt64 = 0

    @model_validator(mode="after")
    def _consistent(self) -> Optimiser:
        adaptive = self.kind != OptimiserKind.SGD
        if adaptive and (self.momentum_e9 or self.nesterov):
            raise ValueError(f"momentum and nesterov are sgd's, not {self.kind}'s")
        if not adaptive and (self.beta1_e9 or self.beta2_e9 or self.epsilon_e12):
            raise ValueError("beta1, beta2 and epsilon are adam's, not sgd's")
        if adaptive and (self.epsilon_e12 == 0 or max(self.beta1_e9, self.beta2_e9) >= BILLION):
            raise ValueError(f"{self.kind} needs an epsilon above 0 and betas below 1")
        if self.nesterov and not self.momentum_e9:
            raise ValueError("nesterov needs momentum")
        return self

    @property
    def slots(self) -> tuple[str, ...]:
        """What it remembers of each trainable tensor, a tensor of the same shape each."""
        if self.kind != OptimiserKind.SGD:
            return ("exp_avg", "exp_avg_sq")
        return ("momentum_buffer",) if self.momentum_e9 else ()


class Schedule(Strict):
    """The learning rate of each step: up from 0 over `warmup_steps`, then as `kind` says down to `final_e9`."""

    kind: ScheduleKind = ScheduleKind.CONSTANT
    warmup_steps: UInt32 = 0
    final_e9: UInt64 = 0


class TrainingPlan(Strict):
    """How a model is trained. Its SHA-256, of the canonical JSON, is in the signed request.

    A record of the dataset is a flat row: the model's input, then the target. A class number is one value.

    Attributes
    ----------
    input_shape, target_shape
        Of one record, without the batch axis. For ``cross-entropy``, the target's is the outputs' without their last
        axis: ``[]`` for a classifier.
    steps, batch_size
        How many updates, over how many records each.
    checkpoint_interval
        Steps from one committed state to the next; the last stretch may be shorter.
    order_seed
        Decides the order of the records (:func:`batch_records`). Not secret.
    trainable
        Names of the ONNX initialisers that are trained, sorted. All others stay as they are; so do the statistics of
        batch normalisations.
    powers
        What the EE keys of trainable tensors do, as their owner says, sorted. An optimiser must commute with it.
    allow_inexact
        The owner accepts an optimiser that does not.
    """

    format: Literal["rexis-training-plan-v1"]
    loss: LossKind
    optimiser: Optimiser
    schedule: Schedule
    input_shape: Annotated[list[Annotated[UInt32, Field(ge=1)]], Field(min_length=1, max_length=8)]
    target_shape: Annotated[list[Annotated[UInt32, Field(ge=1)]], Field(max_length=8)]
    steps: Annotated[UInt32, Field(ge=1, le=MAX_STEPS)]
    batch_size: Annotated[UInt32, Field(ge=1, le=1 << 20)]
    checkpoint_interval: Annotated[UInt32, Field(ge=1)]
    order_seed: DigestField
    trainable: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=512)]], Field(min_length=1, max_length=MAX_TENSORS)
    ]
    powers: Annotated[list[KeyPower], Field(max_length=len(KeyPower))]
    allow_inexact: Flag = False

    @field_validator("trainable", "powers")
    @classmethod
    def _sorted_set(cls, value: list[str]) -> list[str]:
        if value != sorted(set(value)):
            raise ValueError("names are sorted and unique")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> TrainingPlan:
        if self.segments > MAX_SEGMENTS:
            raise ValueError(f"{self.segments} checkpoints, at most {MAX_SEGMENTS} are allowed: use a longer interval")
        if self.schedule.warmup_steps > self.steps:
            raise ValueError("warms up for longer than it trains")
        if self.schedule.final_e9 > self.optimiser.learning_rate_e9:
            raise ValueError("the last learning rate is larger than the largest")
        return self

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical JSON."""
        return sha256(self.to_json())

    @property
    def segments(self) -> int:
        """Stretches between two committed states; there is one state more."""
        return -(-self.steps // self.checkpoint_interval)

    @property
    def row_length(self) -> int:
        """Values of one record of the dataset."""
        return math.prod(self.input_shape) + math.prod(self.target_shape)

    def step_of(self, checkpoint: int) -> int:
        """How many steps have been taken at a checkpoint, 0 … :attr:`segments`."""
        return min(checkpoint * self.checkpoint_interval, self.steps)

    def learning_rate(self, step: int) -> float:
        """Of step 0, 1, …"""
        most, last = self.optimiser.learning_rate_e9 / BILLION, self.schedule.final_e9 / BILLION
        warm = self.schedule.warmup_steps
        if step < warm:
            return most * (step + 1) / warm
        if self.schedule.kind == ScheduleKind.CONSTANT:
            return most
        way = (step - warm) / max(1, self.steps - warm)
        left = 1.0 - way if self.schedule.kind == ScheduleKind.LINEAR else 0.5 * (1.0 + math.cos(math.pi * way))
        return last + (most - last) * left


class TrainingRequest(JobRequest):
    """What a requester signs for a training job: a job over a whole dataset, with a plan and without a circuit.

    `policy.sampleSize` counts segments, and `policy.relToleranceE9` and `absToleranceE9` bound how far a re-executed
    segment may lie from the committed one (:mod:`rexis.protocol.transcript`). Both are below 10⁹: a segment in which
    nothing was done lies its whole way off.

    Attributes
    ----------
    plan_digest
        Of the :class:`TrainingPlan`.
    """

    plan_digest: DigestField

    @model_validator(mode="after")
    def _trains(self) -> TrainingRequest:
        if self.kind != Kind.TRAINING:
            raise ValueError("a request with planDigest is of kind training")
        if self.policy.tier == Tier.ZK:
            raise ValueError("training has tiers commit and sampled")
        if self.policy.rung == Rung.ZK_ONSITE:
            raise ValueError("training has no circuit: rung zk-onsite is for evaluations")
        if max(self.policy.rel_tolerance_e9, self.policy.abs_tolerance_e9) >= BILLION:
            raise ValueError("a tolerance of 1 or more would pass a training that took no step")
        if self.record_start != 0 or self.record_count != self.input_size:
            raise ValueError("training is over the whole dataset: recordStart 0, recordCount equal to inputSize")
        return self

    @property
    def shard_count(self) -> int:
        """One: the steps follow one another."""
        return 1

    def shards(self) -> list[tuple[int, int]]:
        """The whole dataset."""
        return [(0, self.record_count)]


def read_request(data: bytes) -> JobRequest:
    """A request of either kind, from JSON."""
    value = load_json(data)
    return _class_of(value).from_object(value)


def _class_of(value: object) -> type[JobRequest]:
    return TrainingRequest if isinstance(value, dict) and value.get("kind") == "training" else JobRequest


def _request(value: object, _union: object) -> JobRequest:
    return value if isinstance(value, JobRequest) else _class_of(value).model_validate(value)


RequestField = Annotated[TrainingRequest | JobRequest, WrapValidator(_request)]
"""A request of either kind in a document; its `kind` says which. The union alone would name faults of both."""


def loss_e9(loss: float) -> int | None:
    """A loss in units of 10⁻⁹, as documents have it; None for one that has no place there."""
    return min(round(loss * BILLION), MAX_SAFE_INTEGER) if math.isfinite(loss) and loss >= 0 else None


@lru_cache(maxsize=2)
def epoch_order(seed: Digest, records: int, epoch: int) -> Indices:
    """The order of all records in one epoch, by the size of the numbers that SHAKE-256 gives them. Read-only."""
    stream = hashlib.shake_256(_ORDER_DOMAIN + seed + epoch.to_bytes(8, "big")).digest(8 * records)
    order = np.argsort(np.frombuffer(stream, dtype=">u8"), kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


def batch_records(plan: TrainingPlan, records: int, step: int) -> Indices:
    """The records of step 0, 1, …: the next `batch_size` of the epochs' orders, one after the other."""
    place, left = step * plan.batch_size, plan.batch_size
    parts: list[Indices] = []
    while left:
        epoch, start = divmod(place, records)
        part = epoch_order(plan.order_seed, records, epoch)[start : start + left]
        parts.append(part)
        place, left = place + len(part), left - len(part)
    return np.concatenate(parts)
