"""Fine-tuning an encrypted ONNX model and decrypting it gives what fine-tuning the plain one gives."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime import InferenceSession

from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.ee.container import parsed
from rexis.ee.exactness import SIGNED, powers_named
from rexis.ee.finetune.adapters import add_adapters, merge_adapters
from rexis.ee.finetune.checking import require_commuting
from rexis.ee.finetune.decrypting import decrypt_model, key_of_trained
from rexis.ee.finetune.description import TrainingDescription, optimiser_of
from rexis.ee.finetune.encrypting import TrainableModel, encrypt_for_training
from rexis.ee.finetune.targets import encrypt_rows, encrypt_targets
from rexis.ee.finetune.trainable import Part, trainable
from rexis.ee.graph import is_encrypted
from rexis.ee.groups import ISOMETRY, Power
from rexis.ee.keyformat import read_key, write_key
from rexis.ee.keys import EEKey, KeyPart
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import DigestMismatchError, EncryptionError, KeyFileError, TensorError
from rexis.protocol.training import Optimiser, TrainingPlan
from rexis.protocol.training_kinds import LossKind, OptimiserKind
from rexis.training.exporting import export_checkpoint, initial_weights
from rexis.training.session import Trainer

ZOO = Path("models/onnx")
SEED = bytes(range(32))
RECORDS, STEPS = 48, 20
SGD = optimiser_of(OptimiserKind.SGD, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-4, clip_norm=1.0)
ADAMW = optimiser_of(OptimiserKind.ADAMW, 1e-3, weight_decay=0.01)


@cache
def made(name: str, kind: OptimiserKind, part: Part, loss: LossKind = LossKind.CROSS_ENTROPY) -> TrainableModel:
    model = (ZOO / f"{name}.onnx").read_bytes()
    if part == Part.LORA:
        model = add_adapters(model, rank=3, alpha=6.0, seed=SEED)
    found = encrypt_for_training(model, optimiser=kind, loss=loss, train=[part], seed=SEED)
    return found.leaving_out(require_commuting(found))


def labelled(name: str, description: TrainingDescription) -> tuple[NDArray[Any], NDArray[Any]]:
    random = np.random.default_rng(0)
    shape = (RECORDS, *description.input_shape)
    records = random.integers(0, 22, shape) if name == "peptide" else random.normal(size=shape)
    if description.loss != LossKind.CROSS_ENTROPY:
        return records.astype(np.float32), random.uniform(size=(RECORDS, *description.target_shape))
    return records.astype(np.float32), random.integers(0, description.output_shape[-1], RECORDS)


def plan_of(description: TrainingDescription, optimiser: Optimiser) -> TrainingPlan:
    return description.plan(optimiser, steps=STEPS, batch_size=16, checkpoint_interval=10, order_seed=Digest(SEED))


def rows(records: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float32]:
    flat = [records.reshape(len(records), -1), targets.reshape(len(targets), -1)]
    return np.concatenate(flat, axis=1).astype(np.float32)


def outputs(model: bytes, records: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = InferenceSession(model).run(None, {"records": records})[0]
    return found


CASES = [
    ("breast_cancer", Part.ALL, SGD, LossKind.CROSS_ENTROPY),
    ("breast_cancer", Part.HEAD, ADAMW, LossKind.CROSS_ENTROPY),
    ("diabetes", Part.ALL, SGD, LossKind.SQUARED),
    ("omics", Part.ALL, ADAMW, LossKind.BINARY),
    ("peptide", Part.ALL, ADAMW, LossKind.CROSS_ENTROPY),
    ("ecg", Part.LORA, SGD, LossKind.CROSS_ENTROPY),
    ("vit", Part.LORA, ADAMW, LossKind.CROSS_ENTROPY),
]


@pytest.mark.parametrize(("name", "part", "optimiser", "loss"), CASES, ids=lambda value: getattr(value, "kind", value))
def test_decrypted_weights_are_those_of_the_same_run_in_the_clear(
    name: str, part: Part, optimiser: Optimiser, loss: LossKind
) -> None:
    model = made(name, optimiser.kind, part, loss)
    key, description = model.encrypted.key, model.description
    records, targets = labelled(name, description)
    plan = plan_of(description, optimiser)
    clear = Trainer(model.plain, plan, rows(records, targets))
    owner = read_key(write_key(key.only(KeyPart.LABEL)))
    hidden = Trainer(model.encrypted.model, plan, encrypt_rows(owner, loss, records, targets))
    losses = clear.advance(STEPS)
    np.testing.assert_allclose(hidden.advance(STEPS), losses, rtol=1e-4)  # the loss is the true one
    assert is_encrypted(hidden.export())

    trained = decrypt_model(hidden.export(), key, description)
    assert not is_encrypted(trained)
    base = initial_weights(model.plain, description.trainable)
    expected = initial_weights(clear.export(), description.trainable)
    found = initial_weights(trained, description.trainable)
    for weight in description.trainable:
        scale = np.linalg.norm(expected[weight])
        assert np.linalg.norm(found[weight] - expected[weight]) <= 1e-4 * scale, weight
    moved = [
        np.linalg.norm(expected[each] - base[each]) / np.linalg.norm(base[each]) for each in base if base[each].any()
    ]
    assert max(moved) > 1e-3  # else there is nothing to compare
    np.testing.assert_allclose(outputs(trained, records), outputs(clear.export(), records), atol=1e-3)
    if part == Part.LORA:
        merged = decrypt_model(hidden.export(), key, description, merge=True)
        np.testing.assert_allclose(outputs(merged, records), outputs(trained, records), atol=1e-4)
        before = onnx.load(ZOO / f"{name}.onnx").graph
        assert [node.op_type for node in onnx.load_from_string(merged).graph.node] == [n.op_type for n in before.node]
        assert {each.name for each in onnx.load_from_string(merged).graph.initializer} == {
            each.name for each in before.initializer
        }


# --- what trains -----------------------------------------------------------------------------------------------------


def test_statistics_and_masks_do_not_train() -> None:
    cnn = trainable(ZOO / "patch_cnn.onnx", [Part.ALL])
    assert "features.1.weight" in cnn
    assert not [name for name in cnn if "running" in name]
    peptide = trainable(ZOO / "peptide.onnx", [Part.ALL])
    assert {"position", "embedding.weight", "norm.bias"} <= set(peptide)
    assert "padding" not in peptide


def test_the_head_is_the_last_linear_layer_with_its_bias() -> None:
    assert trainable(ZOO / "ecg.onnx", [Part.HEAD]) == ["head.bias", "head.weight"]
    with_adapters = add_adapters(ZOO / "breast_cancer.onnx", rank=1, alpha=1.0)
    assert trainable(with_adapters, [Part.HEAD]) == ["4.bias", "4.weight"]
    both = trainable(with_adapters, [Part.HEAD, Part.LORA], frozen=["4.bias"])
    assert len(both) == 7
    assert "4.weight" in both


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(EncryptionError, match="no adapters"):
        trainable(ZOO / "ecg.onnx", [Part.LORA])
    with pytest.raises(EncryptionError, match="no parameter 'nothing' to freeze"):
        trainable(ZOO / "ecg.onnx", [Part.ALL], frozen=["nothing"])
    with pytest.raises(EncryptionError, match="nothing to train"):
        trainable(ZOO / "ecg.onnx", [Part.HEAD], frozen=["head.bias", "head.weight"])


def test_idle_parameters_are_frozen_where_the_optimiser_would_make_them_walk() -> None:
    idle = {"blocks.0.attention.key.bias", "blocks.1.attention.key.bias"}
    adaptive = made("peptide", OptimiserKind.ADAMW, Part.ALL).description
    plain = made("peptide", OptimiserKind.SGD, Part.ALL).description
    assert set(adaptive.idle) == set(plain.idle) == idle
    assert not idle & set(adaptive.trainable)
    assert idle <= set(plain.trainable)


# --- adapters --------------------------------------------------------------------------------------------------------


def test_fresh_adapters_change_nothing_and_merge_into_their_weights() -> None:
    plain = (ZOO / "breast_cancer.onnx").read_bytes()
    adapted = add_adapters(plain, rank=2, alpha=3.0, weights=["0.weight"], seed=SEED)
    records = np.random.default_rng(0).normal(size=(5, 30)).astype(np.float32)
    np.testing.assert_array_equal(outputs(adapted, records), outputs(plain, records))
    b = np.random.default_rng(1).normal(size=(2, 64)).astype(np.float32)
    trained = export_checkpoint(adapted, {"0.weight.lora_b": b})
    merged = merge_adapters(trained)
    assert np.abs(outputs(trained, records) - outputs(plain, records)).max() > 0.1
    np.testing.assert_allclose(outputs(merged, records), outputs(trained, records), atol=1e-4)
    a = initial_weights(adapted, ["0.weight.lora_a"])["0.weight.lora_a"]
    change = initial_weights(merged, ["0.weight"])["0.weight"] - initial_weights(plain, ["0.weight"])["0.weight"]
    np.testing.assert_allclose(change, 1.5 * (a @ b).T, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"rank": 0}, "1 or more"),
        ({"rank": 64}, "no weight has two axes longer"),
        ({"rank": 2, "weights": ["0.bias"]}, "no weight that one MatMul or Gemm"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(how: dict[str, Any], reason: str) -> None:
    with pytest.raises(EncryptionError, match=reason):
        add_adapters(ZOO / "breast_cancer.onnx", alpha=1.0, **how)


def test_adapters_are_added_once_and_merged_only_where_they_are() -> None:
    adapted = add_adapters(ZOO / "breast_cancer.onnx", rank=2, alpha=1.0)
    with pytest.raises(EncryptionError, match="has adapters already"):
        add_adapters(adapted, rank=2, alpha=1.0)
    with pytest.raises(EncryptionError, match="no adapters to merge"):
        merge_adapters(ZOO / "breast_cancer.onnx")


# --- keys ------------------------------------------------------------------------------------------------------------


def test_keys_are_those_that_optimiser_and_loss_commute_with() -> None:
    dense = made("breast_cancer", OptimiserKind.SGD, Part.ALL).description
    signed = made("breast_cancer", OptimiserKind.ADAMW, Part.ALL).description
    assert powers_named(dense.powers) == ISOMETRY
    assert powers_named(signed.powers) == SIGNED
    output = made("breast_cancer", OptimiserKind.SGD, Part.ALL).encrypted.key.output
    assert output is not None
    logits = np.array([[1.0, -2.0]])
    assert sorted(output.apply(logits)[0]) == [-2.0, 1.0]  # permuted, and nothing else


def test_what_does_not_train_keeps_the_keys_of_inference() -> None:
    """With a trained head only, records are still mixed by any invertible matrix."""
    key = made("breast_cancer", OptimiserKind.ADAMW, Part.HEAD).encrypted.key
    (element,) = key.input.keyring.elements
    assert element.keys[0].condition > 1.5


def test_the_check_finds_keys_that_training_does_not_commute_with() -> None:
    model = made("breast_cancer", OptimiserKind.SGD, Part.ALL)
    inference = encrypt_model(model.plain, epoch=1, seed=SEED)  # with offsets, and any invertible matrix
    wrong = TrainableModel(model.plain, inference, model.description)
    with pytest.raises(EncryptionError, match=r"the loss under the keys|the gradient of"):
        require_commuting(wrong)


# --- labelled rows ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def key() -> EEKey:
    return made("breast_cancer", OptimiserKind.SGD, Part.ALL).encrypted.key


def test_rows_hold_the_encrypted_record_and_then_the_renamed_class(key: EEKey) -> None:
    records = np.random.default_rng(0).normal(size=(6, 30)).astype(np.float32)
    classes = np.array([0, 1, 1, 0, 1, 1])
    found = encrypt_rows(key, LossKind.CROSS_ENTROPY, records, classes)
    assert (found.dtype, found.shape) == (np.float32, (6, 31))
    np.testing.assert_array_equal(found[:, :30], encrypt_records(key, records))
    assert key.output is not None
    renamed = encrypt_targets(LossKind.CROSS_ENTROPY, key.output, np.arange(2))
    np.testing.assert_array_equal(found[:, 30], renamed[classes])
    np.testing.assert_array_equal(found, encrypt_rows(key, LossKind.CROSS_ENTROPY, records, classes.astype(np.float32)))


@pytest.mark.parametrize(
    ("loss", "targets", "reason"),
    [
        (LossKind.CROSS_ENTROPY, np.array([0, 2]), "not class numbers from 0 to 1"),
        (LossKind.CROSS_ENTROPY, np.array([0.0, 0.5]), "the target of record 1 is not a class number"),
        (LossKind.CROSS_ENTROPY, np.array([0.0, np.nan]), "the target of record 1 is not a class number"),
        (LossKind.CROSS_ENTROPY, np.array([0]), "2 records, but 1 targets"),
        (LossKind.SQUARED, np.array([0.0, 1.0]), "targets have shape"),
        (LossKind.SQUARED, np.array([[0.0, 1.0], [np.inf, 0.0]]), "record 1 is not a finite number"),
        (LossKind.BINARY, np.array([[0.0, 1.0], [1.5, 0.0]]), "record 1 is not a number from 0 to 1"),
    ],
)
def test_targets_that_the_loss_does_not_take_are_refused(
    key: EEKey, loss: LossKind, targets: NDArray[Any], reason: str
) -> None:
    with pytest.raises(TensorError, match=reason):
        encrypt_rows(key, loss, np.zeros((2, 30), np.float32), targets)


@pytest.mark.parametrize("part", [KeyPart.ENCRYPT, KeyPart.DECRYPT])
def test_parts_of_a_key_that_do_not_encrypt_labels_say_which_does(key: EEKey, part: KeyPart) -> None:
    with pytest.raises(KeyFileError, match="cannot encrypt targets"):
        encrypt_rows(key.only(part), LossKind.CROSS_ENTROPY, np.zeros((1, 30), np.float32), np.array([0]))


# --- decrypting ------------------------------------------------------------------------------------------------------


def test_only_a_checkpoint_of_this_training_is_decrypted_and_only_with_the_full_key(key: EEKey) -> None:
    model = made("breast_cancer", OptimiserKind.SGD, Part.HEAD)
    full, description, encrypted = model.encrypted.key, model.description, model.encrypted.model
    plain = initial_weights(model.plain, ["0.weight"])["0.weight"]
    found = initial_weights(decrypt_model(encrypted, full, description), ["0.weight"])["0.weight"]
    np.testing.assert_allclose(found, plain, atol=1e-5)

    moved = export_checkpoint(encrypted, {"0.weight": np.zeros_like(plain)})
    with pytest.raises(DigestMismatchError, match="in more than what was trained"):
        decrypt_model(moved, full, description)
    with pytest.raises(KeyFileError, match="belongs to encrypted model"):
        decrypt_model(encrypted, key, description)
    with pytest.raises(KeyFileError, match="decrypts no weights"):
        decrypt_model(encrypted, full.only(KeyPart.LABEL), description)


def test_a_description_names_its_model_and_survives_its_file() -> None:
    model = made("ecg", OptimiserKind.SGD, Part.LORA)
    found = TrainingDescription.from_json(model.description.to_json())
    assert found == model.description
    assert found.model_digest == sha256(model.encrypted.model)
    plan = plan_of(found, SGD)
    assert (plan.trainable, plan.powers, plan.row_length) == (found.trainable, found.powers, 321)
    assert Power.MIX in powers_named(plan.powers)
    names = {each.name: numpy_helper.to_array(each).shape for each in parsed(model.encrypted.model).graph.initializer}
    assert all(name in names for name in plan.trainable)


def test_a_trained_model_has_its_bases_key_under_its_own_digest() -> None:
    model = made("breast_cancer", OptimiserKind.SGD, Part.HEAD)
    description, encrypted = model.description, model.encrypted.model
    bias = initial_weights(encrypted, ["4.bias"])["4.bias"] + np.float32(1)
    trained = export_checkpoint(encrypted, {"4.bias": bias})
    found = key_of_trained(trained, model.encrypted.key.only(KeyPart.LABEL), description)
    assert (found.model_digest, found.part) == (sha256(trained), KeyPart.LABEL)
    records = np.random.default_rng(0).normal(size=(3, 30)).astype(np.float32)
    plain = decrypt_outputs(found, outputs(trained, encrypt_records(found, records)))
    np.testing.assert_allclose(plain, outputs(model.plain, records) + 1, atol=1e-4)
    other = export_checkpoint(encrypted, {"0.bias": np.zeros(64, np.float32)})
    with pytest.raises(DigestMismatchError, match="in more than what was trained"):
        key_of_trained(other, model.encrypted.key, description)
