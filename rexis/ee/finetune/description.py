"""What a plan and the data's owner need to know of a model that was encrypted for training. A worker may see it."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from rexis.protocol.digests import Digest
from rexis.protocol.parsing import DigestField, Strict, UInt32, UInt64
from rexis.protocol.training import BILLION, PLAN_FORMAT, Optimiser, Schedule, TrainingPlan
from rexis.protocol.training_kinds import KeyPower, LossKind, OptimiserKind

_Name = Annotated[str, Field(min_length=1, max_length=512)]
_Size = Annotated[UInt32, Field(ge=1)]


class TrainingDescription(Strict):
    """The file beside a model that was encrypted for training.

    Attributes
    ----------
    model_digest, key_epoch
        Of the encrypted base model.
    frozen_digest
        SHA-256 of the encrypted model with zeros for what is trained: all checkpoints have the same.
    optimiser
        What the keys were drawn for; `powers` are what they do.
    input_shape, output_shape, target_shape
        Of one record.
    trainable
        Initialisers that train, sorted.
    idle
        Parameters that the loss does not depend on, though their gradient is rounding errors and not 0; see
        ``docs/ee-training.md``. Those under an adaptive optimiser are not in `trainable`.
    """

    format: Literal["rexis-training-model-v1"]
    model_digest: DigestField
    key_epoch: UInt64
    frozen_digest: DigestField
    loss: LossKind
    optimiser: OptimiserKind
    input_shape: Annotated[list[_Size], Field(min_length=1, max_length=8)]
    output_shape: Annotated[list[_Size], Field(min_length=1, max_length=8)]
    target_shape: Annotated[list[_Size], Field(max_length=8)]
    trainable: Annotated[list[_Name], Field(min_length=1)]
    powers: list[KeyPower]
    idle: list[_Name]

    @property
    def row_length(self) -> int:
        """Values of a dataset's row: an input, then a target."""
        return math.prod(self.input_shape) + math.prod(self.target_shape)

    def plan(
        self,
        optimiser: Optimiser,
        *,
        steps: int,
        batch_size: int,
        checkpoint_interval: int,
        order_seed: Digest,
        schedule: Schedule | None = None,
        allow_inexact: bool = False,
    ) -> TrainingPlan:
        """A plan that trains this model.

        Raises
        ------
        MalformedError
            The numbers do not fit each other.
        """
        return TrainingPlan.from_object(
            {
                "format": PLAN_FORMAT,
                "loss": str(self.loss),
                "optimiser": optimiser.to_object(),
                "schedule": (schedule or Schedule()).to_object(),
                "inputShape": self.input_shape,
                "targetShape": self.target_shape,
                "steps": steps,
                "batchSize": batch_size,
                "checkpointInterval": checkpoint_interval,
                "orderSeed": str(order_seed),
                "trainable": self.trainable,
                "powers": [str(power) for power in self.powers],
                "allowInexact": allow_inexact,
            }
        )


def optimiser_of(
    kind: OptimiserKind,
    learning_rate: float,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
) -> Optimiser:
    """An optimiser from numbers as PyTorch takes them. Those that `kind` does not have are left out."""
    adaptive = kind != OptimiserKind.SGD
    return Optimiser.from_object(
        {
            "kind": str(kind),
            "learningRateE9": _e9(learning_rate),
            "momentumE9": _e9(momentum),
            "nesterov": nesterov,
            "beta1E9": _e9(betas[0]) if adaptive else 0,
            "beta2E9": _e9(betas[1]) if adaptive else 0,
            "epsilonE12": round(epsilon * 1000 * BILLION) if adaptive else 0,
            "weightDecayE9": _e9(weight_decay),
            "clipNormE9": _e9(clip_norm),
        }
    )


def _e9(number: float) -> int:
    return round(number * BILLION)
