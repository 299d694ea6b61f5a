"""From a network and a dataset to an ONNX file and its manifest: what all models of the zoo share.

Training runs in float64 on one thread, and only the finished weights are rounded to float32. The differences between
CPUs and BLAS builds (about 1e-15 a step) then mostly vanish in the rounding: the same torch gives the same file.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.datasets import DATASETS, Dataset
from models.zoo import Comparison, DataSource, Manifest, OnnxFile, Standardisation, metrics_of
from rexis.protocol.digests import sha256
from rexis.protocol.errors import NotFoundError

SEED = 20_261_101
OPSET = 17
_PACKAGES = ("numpy", "onnx", "scikit-learn", "torch")  # whose versions a manifest names

Records = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """How one model is made.

    Attributes
    ----------
    network
        Builds it with fresh weights from torch's own generator. Its ``head`` is its last linear layer.
    standardise
        By mean and standard deviation of each ``feature`` (the last axis), of the ``whole`` record, or not at all.
    """

    name: str
    modality: str
    task: str
    network: Callable[[], nn.Module]
    epochs: int
    learning_rate: float
    weight_decay: float
    batch: int = 64
    standardise: Literal["feature", "whole"] | None = None


@dataclass(frozen=True)
class Build:
    """What a build makes: the ONNX file's bytes and the manifest that describes them."""

    onnx: bytes
    manifest: Manifest

    def write(self, folder: Path) -> None:
        """Write both into `folder`, under the names that the zoo reads."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.manifest.onnx.file).write_bytes(self.onnx)
        (folder / f"{self.manifest.name}.manifest.json").write_text(self.manifest.model_dump_json(indent=2) + "\n")


def build(name: str) -> Build:
    """Make the zoo model `name` from nothing but its data and its file ``models/<name>.py``.

    Raises
    ------
    NotFoundError
        The zoo has no such model.
    """
    if name not in DATASETS:
        raise NotFoundError(f"no zoo model named {name!r}", field="name", hint=f"known: {', '.join(sorted(DATASETS))}")
    module = importlib.import_module(f"models.{name}")
    if hasattr(module, "build"):
        made: Build = module.build()  # a model with a procedure of its own
        return made
    recipe: Recipe = module.RECIPE
    data = DATASETS[name]()
    standardisation = _standardisation(recipe, data.records[~data.held_out])
    records = standardisation.apply(data.records) if standardisation else data.records.astype(np.float32)
    with one_thread():
        network = fit(recipe, records[~data.held_out], data.labels[~data.held_out])
        outputs = predict(network, records)
        onnx = export_onnx(network, records.shape[1:])
    training = {
        "seed": SEED,
        "optimiser": "AdamW, float64, cosine from the learning rate to 0",
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "selection": "by hand, on a quarter of the training split",
    }
    manifest = describe(name, recipe.modality, recipe.task, data, onnx, outputs, standardisation, training)
    return Build(onnx, manifest)


def fit(recipe: Recipe, records: Records, labels: NDArray[Any]) -> nn.Module:
    """Train a fresh network on standardised records; it comes back in float32. Regression targets are scaled inside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = recipe.network().double()
        regression = labels.dtype.kind == "f"
        mean, std = (labels.mean(axis=0), labels.std(axis=0)) if regression else (0.0, 1.0)
        inputs = torch.from_numpy(records.astype(np.float64))
        targets = torch.from_numpy((labels - mean) / std if regression else labels)
        loss = nn.functional.mse_loss if regression else nn.functional.cross_entropy
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, foreach=False
        )
        steps = recipe.epochs * math.ceil(len(records) / recipe.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(recipe.epochs):
            for rows in torch.randperm(len(records)).split(recipe.batch):
                optimiser.zero_grad()
                loss(network(inputs[rows]), targets[rows]).backward()
                optimiser.step()
                schedule.step()
    if regression:
        with torch.no_grad():  # the network answers in the targets' units
            network.head.weight *= torch.from_numpy(std)[:, None]
            network.head.bias.copy_(network.head.bias * torch.from_numpy(std) + torch.from_numpy(mean))
    return network.float().eval()


def predict(network: nn.Module, records: Records) -> Records:
    """Outputs ``float32 [n, ...]`` of a float32 network."""
    with torch.no_grad():
        outputs: Records = torch.cat([network(part) for part in torch.from_numpy(records).split(256)]).numpy()
    return outputs


def export_onnx(network: nn.Module, record_shape: tuple[int, ...], *, dynamo: bool = False) -> bytes:
    """The float32 network as ONNX with its batch axis ``batch`` left open, by either of torch's exporters."""
    buffer = io.BytesIO()
    example = (torch.zeros(2 if dynamo else 1, *record_shape),)
    names: dict[str, Any] = {"input_names": ["records"], "output_names": ["outputs"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},)
            program = torch.onnx.export(network, example, dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
            program.save(buffer)
        else:  # PRESERVE: the exporter would otherwise fold a BatchNorm into the convolution before it
            axes = {"records": {0: "batch"}, "outputs": {0: "batch"}}
            mode = torch.onnx.TrainingMode.PRESERVE
            options = {"opset_version": OPSET, "dynamic_axes": axes, "training": mode}
            torch.onnx.export(network, example, buffer, dynamo=False, **options, **names)
    return buffer.getvalue()


def describe(
    name: str,
    modality: str,
    task: str,
    data: Dataset,
    onnx: bytes,
    outputs: Records,
    standardisation: Standardisation | None,
    training: dict[str, Any],
    *,
    output: str = "outputs",
) -> Manifest:
    """The manifest of a finished model, with its metrics and its baselines' on the same held-out records."""
    splits = {"train": ~data.held_out, "held_out": data.held_out}
    return Manifest(
        name=name,
        modality=modality,
        task=task,
        onnx=OnnxFile(
            file=f"{name}.onnx",
            sha256=sha256(onnx),
            opset=OPSET,
            input="records",
            output=output,
            record_shape=data.records.shape[1:],
            output_shape=outputs.shape[1:],
        ),
        data=DataSource.of(data),
        feature_names=data.feature_names,
        class_names=data.class_names,
        target_names=data.target_names,
        vocabulary=data.vocabulary,
        standardisation=standardisation,
        training=training,
        metrics={split: metrics_of(outputs[rows], data.labels[rows]) for split, rows in splits.items()},
        comparison=_baselines(data),
        rebuild=f"rexis zoo train {name}",
        versions={package: importlib.metadata.version(package) for package in _PACKAGES},
    )


def _standardisation(recipe: Recipe, records: NDArray[Any]) -> Standardisation | None:
    if recipe.standardise is None:
        return None
    flat = records.reshape(-1, records.shape[-1] if recipe.standardise == "feature" else 1).astype(np.float64)
    return Standardisation(mean=tuple(flat.mean(axis=0).tolist()), std=tuple(flat.std(axis=0).tolist()))


def _baselines(data: Dataset) -> Comparison:
    """Score the trivial guess and a linear model (logistic or ridge regression on the flattened, scaled record)."""
    from sklearn.linear_model import LogisticRegression, Ridge

    records = np.eye(len(data.vocabulary))[data.records.astype(int)] if data.vocabulary else data.records
    flat = records.reshape(len(records), -1).astype(np.float64)
    fit, held_out = ~data.held_out, data.held_out
    scaled = (flat - flat[fit].mean(axis=0)) / (flat[fit].std(axis=0) + 1e-6)
    labels = data.labels
    if data.target_names:
        guess = np.tile(labels[fit].mean(axis=0), (int(held_out.sum()), 1))
        linear = Ridge(alpha=10.0).fit(scaled[fit], labels[fit]).predict(scaled[held_out]).reshape(guess.shape)
        scores = [metrics_of(values, labels[held_out])["r2"] for values in (guess, linear)]
        return Comparison(metric="r2", baseline="mean of training", baseline_value=scores[0], linear_value=scores[1])
    majority = np.bincount(labels[fit]).argmax()
    linear = LogisticRegression(C=0.01, max_iter=300).fit(scaled[fit], labels[fit]).predict(scaled[held_out])
    return Comparison(
        metric="accuracy",
        baseline="majority class",
        baseline_value=float((labels[held_out] == majority).mean()),
        linear_value=float((labels[held_out] == linear).mean()),
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, whose sums always go in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
