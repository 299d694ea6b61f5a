"""Commands of a training: from a plain model to the trained one, by files alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import zoo
from rexis.cli.main import main
from rexis.cli.passphrase import VARIABLE
from rexis.protocol.tensors import Dataset
from rexis.protocol.training import TrainingPlan
from rexis.training.exporting import initial_weights
from rexis.training.session import Trainer

from .conftest import MODEL, PASSPHRASE, Cli, npy

RECORDS, LABELS = (values[:64] for values in zoo.held_out("breast_cancer"))
SEED = "0x" + "07" * 32


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was encrypted for training with sgd, and its key."""
    folder = tmp_path_factory.mktemp("owned")
    arguments = [
        "ee", "encrypt-for-training", "--model", MODEL, "--key", folder / "k", "--out", folder / "m.onnx",
        "--training", folder / "t.json", "--loss", "cross-entropy", "--card", folder / "c.json",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, PASSPHRASE)
        assert main([str(each) for each in arguments]) == 0
    return folder


@pytest.fixture
def files(owned: Path, tmp_path: Path) -> Path:
    """The same in a folder of the test's own."""
    shutil.copytree(owned, tmp_path, dirs_exist_ok=True)
    return tmp_path


def encrypted(cli: Cli, folder: Path, key: str = "k") -> np.ndarray:
    records, labels = npy(folder / "r.npy", RECORDS), folder / "y.npy"
    np.save(labels, LABELS)
    cli.ok(
        "train", "encrypt-records", "--key", folder / key, "--training", folder / "t.json", "--records", records,
        "--labels", labels, "--out", folder / "d.safetensors",
    )  # fmt: skip
    return Dataset.from_bytes((folder / "d.safetensors").read_bytes()).records


def plan(cli: Cli, folder: Path, *options: object) -> Any:
    ran = cli.ok(
        "train", "plan", "--training", folder / "t.json", "--out", folder / "p.json", "--lr", 0.05, "--batch-size", 16,
        "--seed", SEED, "--json", *options,
    )  # fmt: skip
    return json.loads(ran.out)


def test_from_a_plain_model_to_the_trained_one(cli: Cli, files: Path) -> None:
    """The data owner holds the label part of the key, and no more."""
    cli.ok("key", "export", "--key", files / "k", "--part", "label", "--out", files / "labels.key")
    rows = encrypted(cli, files, "labels.key")
    made = plan(cli, files, "--epochs", 2, "--dataset", files / "d.safetensors", "--momentum", 0.9, "--warmup", 2)
    assert (made["steps"], made["checkpointInterval"], made["schedule"]["warmupSteps"]) == (8, 1, 2)
    wanted = TrainingPlan.from_json((files / "p.json").read_bytes())
    hidden = Trainer((files / "m.onnx").read_bytes(), wanted, rows)
    clear = Trainer(MODEL.read_bytes(), wanted, np.column_stack([RECORDS, LABELS]).astype(np.float32))
    np.testing.assert_allclose(hidden.advance(8), clear.advance(8), rtol=1e-4)
    (files / "trained.onnx").write_bytes(hidden.export())
    cli.ok(
        "key", "follow", "--key", files / "labels.key", "--checkpoint", files / "trained.onnx",
        "--training", files / "t.json", "--out", files / "trained.key",
    )  # fmt: skip
    shown = json.loads(cli.ok("key", "show", "--key", files / "trained.key", "--json").out)
    assert (shown["modelDigest"], shown["part"]) == (str(hidden.model_digest), "label")
    ran = cli.ok(
        "ee", "decrypt-model", "--checkpoint", files / "trained.onnx", "--key", files / "k",
        "--training", files / "t.json", "--out", files / "plain.onnx",
    )  # fmt: skip
    assert "6 constants trained" in ran.out
    found, expected = (
        initial_weights(each, ["4.weight", "0.weight"])
        for each in ((files / "plain.onnx").read_bytes(), clear.export())
    )
    for name, value in expected.items():
        assert np.linalg.norm(found[name] - value) <= 1e-4 * np.linalg.norm(value), name
    moved = found["4.weight"] - initial_weights(MODEL.read_bytes(), ["4.weight"])["4.weight"]
    assert np.linalg.norm(moved) > 1e-3


def test_lora_is_merged_back_into_the_base_models_graph(cli: Cli, tmp_path: Path) -> None:
    ran = cli.ok(
        "ee", "encrypt-for-training", "--model", MODEL, "--key", tmp_path / "k", "--out", tmp_path / "m.onnx",
        "--training", tmp_path / "t.json", "--loss", "cross-entropy", "--optimiser", "adamw", "--train", "lora",
        "--train", "head", "--rank", 4, "--adapt", "0.weight", "--json",
    )  # fmt: skip
    assert len(json.loads(ran.out)["training"]["trainable"]) == 4
    cli.ok(
        "ee", "decrypt-model", "--checkpoint", tmp_path / "m.onnx", "--key", tmp_path / "k", "--merge-lora",
        "--training", tmp_path / "t.json", "--out", tmp_path / "plain.onnx",
    )  # fmt: skip
    weights = [initial_weights(each.read_bytes(), ["0.weight"]) for each in (tmp_path / "plain.onnx", MODEL)]
    np.testing.assert_allclose(weights[0]["0.weight"], weights[1]["0.weight"], atol=1e-5)


def test_the_card_says_what_training_shows(cli: Cli, files: Path) -> None:
    card = json.loads((files / "c.json").read_text())
    assert (card["training"]["optimiser"], card["training"]["trained"]) == ("sgd", 6)
    assert "the loss of every batch" in card["training"]["visible"][0]


def test_an_optimiser_that_is_not_exact_under_the_keys_is_refused_unless_allowed(cli: Cli, files: Path) -> None:
    options = ["--training", files / "t.json", "--lr", 0.001, "--batch-size", 8, "--steps", 4]
    ran = cli("train", "plan", *options, "--optimiser", "adamw", "--out", files / "p.json")
    assert ran.code == 1
    assert "adamw does not commute with keys that mix" in ran.err
    assert not (files / "p.json").exists()
    cli.ok("train", "plan", *options, "--optimiser", "adamw", "--out", files / "p.json", "--allow-inexact")
    assert TrainingPlan.from_json((files / "p.json").read_bytes()).allow_inexact


@pytest.mark.parametrize("options", [[], ["--steps", 3, "--epochs", 1], ["--epochs", 1]])
def test_steps_or_epochs_of_a_dataset_are_wanted(cli: Cli, files: Path, options: list[object]) -> None:
    ran = cli(
        "train", "plan", "--training", files / "t.json", "--out", files / "p.json", "--lr", 0.1, "--batch-size", 4,
        *options,
    )  # fmt: skip
    assert ran.code == 2


def test_labels_of_a_csv_may_be_names_of_classes(cli: Cli, files: Path) -> None:
    expected = encrypted(cli, files)[:, -1]
    names = zoo.load_manifest("breast_cancer").class_names
    assert names
    (files / "y.csv").write_text("diagnosis\n" + "".join(f"{names[label]}\n" for label in LABELS))
    raw = zoo.ONNX_DIR / "breast_cancer.manifest.json"
    cli.ok(
        "train", "encrypt-records", "--key", files / "k", "--training", files / "t.json", "--records", files / "r.npy",
        "--labels", files / "y.csv", "--manifest", raw, "--out", files / "named.safetensors",
    )  # fmt: skip
    found = Dataset.from_bytes((files / "named.safetensors").read_bytes()).records
    np.testing.assert_array_equal(found[:, -1], expected)


def test_labels_that_do_not_fit_are_refused_before_anything_is_written(cli: Cli, files: Path) -> None:
    records = npy(files / "r.npy", RECORDS)
    np.save(files / "y.npy", np.append(LABELS, 1))
    arguments = [
        "train", "encrypt-records", "--key", files / "k", "--training", files / "t.json", "--records", records,
        "--labels", files / "y.npy", "--out", files / "d.safetensors",
    ]  # fmt: skip
    ran = cli(*arguments)
    assert (ran.code, "64 records, but 65 targets" in ran.err) == (1, True)
    np.save(files / "y.npy", LABELS + 1)
    ran = cli(*arguments)
    assert (ran.code, "not class numbers from 0 to 1" in ran.err) == (1, True)
    assert not (files / "d.safetensors").exists()
