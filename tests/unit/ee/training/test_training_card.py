"""What a leakage card says of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rexis.ee.card import LeakageCard, card_for_training, page
from rexis.ee.finetune.encrypting import TrainableModel, encrypt_for_training
from rexis.ee.finetune.targets import encrypt_targets
from rexis.ee.finetune.trainable import Part
from rexis.ee.training_card import TrainingCard
from rexis.protocol.training_kinds import LossKind, OptimiserKind

SEED = bytes(range(32))
CROSS, SQUARED, BINARY = LossKind.CROSS_ENTROPY, LossKind.SQUARED, LossKind.BINARY


def model(name: str, loss: LossKind, optimiser: OptimiserKind = OptimiserKind.SGD) -> TrainableModel:
    file = Path(f"models/onnx/{name}.onnx")
    return encrypt_for_training(file, optimiser=optimiser, loss=loss, train=[Part.ALL], seed=SEED)


def card(made: TrainableModel) -> TrainingCard:
    found = card_for_training(made)
    assert LeakageCard.model_validate_json(found.to_json()) == found
    assert found.training is not None
    for text in found.training.visible:
        assert text in page(found)
    return found.training


def said(found: TrainingCard) -> str:
    return "\n".join(found.visible)


def test_loss_gradients_optimiser_and_moving_tensors_show() -> None:
    found = card(model("breast_cancer", CROSS))
    assert (found.loss, found.optimiser, found.trained, found.group) == ("cross-entropy", "sgd", 6, "orthogonal keys")
    for words in ("the loss of every batch, as it is in the clear", "the gradient of every batch", "learning rates"):
        assert words in said(found)
    assert "6 of 6 constants move" in said(found)
    assert "singular values" in said(found)


def test_a_permuted_label_shows_how_many_records_each_class_has() -> None:
    made = model("breast_cancer", CROSS)
    assert "how many records each class has" in said(card(made))
    labels = np.array([0, 0, 0, 1])
    output = made.encrypted.key.output
    assert output is not None
    hidden = encrypt_targets(CROSS, output, labels)
    assert sorted(np.bincount(hidden, minlength=2)) == sorted(np.bincount(labels))  # which is so


@pytest.mark.parametrize(
    ("name", "loss", "words"),
    [
        ("diabetes", SQUARED, "every target, up to one sign"),
        ("breast_cancer", SQUARED, "distances between targets"),
        ("breast_cancer", BINARY, "every target, 0 or 1"),
    ],
)
def test_what_shows_of_targets_depends_on_the_loss(name: str, loss: LossKind, words: str) -> None:
    assert words in said(card(model(name, loss)))


def test_keys_for_an_adaptive_optimiser_leave_single_values_readable() -> None:
    made = model("breast_cancer", CROSS, OptimiserKind.ADAMW)
    found = card(made)
    assert found.group == "signed permutations"
    assert "the set of values of every trained weight" in said(found)
    key = made.encrypted.key
    assert key.keyring is not None
    weight = np.random.default_rng(0).normal(size=(64, 30))
    hidden = key.keyring.apply(weight, key.layouts["0.weight"])
    np.testing.assert_allclose(np.sort(np.abs(hidden).ravel()), np.sort(np.abs(weight).ravel()))  # which is so


def test_a_card_of_a_model_for_inference_has_no_training() -> None:
    made = card_for_training(model("breast_cancer", CROSS)).model_copy(update={"training": None})
    assert "drawn for inference" in page(made)
