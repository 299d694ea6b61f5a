"""What a training shows beyond inference, for the leakage card: from what is known of the model before it is sent."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from rexis.ee.exactness import powers_named
from rexis.ee.finetune.description import TrainingDescription
from rexis.ee.groups import Power
from rexis.protocol.training_kinds import LossKind


class TrainingCard(BaseModel):
    """A training that the keys were drawn for, and what it shows.

    Attributes
    ----------
    trained
        How many constants train.
    group
        What the keys of these do, in words.
    visible
        In sentences, as on the rest of the card.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    loss: str
    optimiser: str
    trained: int
    group: str
    visible: list[str]


def training_card(description: TrainingDescription, constants: int) -> TrainingCard:
    """The card's part about training.

    Parameters
    ----------
    constants
        How many the model has.
    """
    powers = powers_named(description.powers) & ~Power.PLANE
    return TrainingCard(
        loss=str(description.loss),
        optimiser=str(description.optimiser),
        trained=len(description.trainable),
        group=_group(powers),
        visible=[
            "the loss of every batch, as it is in the clear: how well the model does, which batches are hard, and when "
            "it overfits",
            _targets(description),
            "the gradient of every batch, up to the keys: lengths and inner products are those in the clear, so that "
            "records can be grouped, and members of the training set told from others, as in the clear",
            "the optimiser, its learning rates, the order of the batches, and how often each record is used",
            f"that {len(description.trainable)} of {constants} constants move, how far each of them moves, and that "
            "the others stay as they were",
            "the way of the weights under one fixed key: who knows where they started (a public base model, a seeded "
            "initialisation) has pairs of plain and encrypted weights, and solves for the keys",
            _weights(powers),
        ],
    )


def _group(powers: Power) -> str:
    if Power.MIX in powers:
        return "orthogonal keys"
    return "signed permutations" if Power.SIGN in powers else "permutations"


def _targets(description: TrainingDescription) -> str:
    size = math.prod(description.output_shape)
    if description.loss == LossKind.CROSS_ENTROPY:
        return (
            "how many records each class has, and which records share a class: classes are renamed, and where their "
            "frequencies are known, so are their names"
        )
    if description.loss == LossKind.BINARY:
        return "every target, 0 or 1; hidden is only which of the outputs it belongs to"
    if size == 1:
        return "every target, up to one sign for all of them: an output of one value has no other key"
    return "lengths of targets and of errors, and distances between targets: their keys keep those"


def _weights(powers: Power) -> str:
    if Power.MIX in powers:
        return "singular values of trained weights, and lengths and distances of hidden values along their axes"
    return (
        "the set of values of every trained weight and gradient, up to order"
        + (" and sign" if Power.SIGN in powers else "")
        + ": keys for this optimiser mix nothing where it updates"
    )
