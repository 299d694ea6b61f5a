"""The model zoo: committed ONNX files, each described by a manifest that pins it by digest.

Reading a model needs NumPy only; :func:`held_out` needs scikit-learn too, because some of the data is there.
A zoo model takes ``float32 [n, ...]`` records, standardised where its manifest says so (tokens are not), and returns
``float32 [n, outputs]``: logits of classes, or the targets of a regression in their units.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from models.datasets import DATASETS, Dataset
from rexis.protocol.digests import require_digest, tensor_digest
from rexis.protocol.errors import DigestMismatchError, MalformedError, NotFoundError, TensorError
from rexis.protocol.parsing import DigestField

ONNX_DIR = Path(__file__).parent / "onnx"
_NAME = re.compile(r"[a-z0-9_]+\Z")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class OnnxFile(_Part):
    """The committed ONNX file: its digest, and its input and output (the first axis is the batch)."""

    file: str
    sha256: DigestField
    opset: int
    input: str
    output: str
    record_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


class DataSource(_Part):
    """Where the data is from, how it was split, and digests of its records, its labels and the held-out mask."""

    source: str
    citation: str
    license: str
    split: str
    sha256: DigestField
    labels_sha256: DigestField
    held_out_sha256: DigestField

    @classmethod
    def of(cls, data: Dataset) -> Self:
        """Describe and pin a loaded dataset."""
        origin = data.origin
        return cls(
            source=origin.source,
            citation=origin.citation,
            license=origin.license,
            split=origin.split,
            sha256=tensor_digest(data.records),
            labels_sha256=tensor_digest(data.labels),
            held_out_sha256=tensor_digest(data.held_out.astype(np.uint8)),
        )


class Standardisation(_Part):
    """Mean and standard deviation of the *training* records in the source's units: one each, or one per feature."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, records: NDArray[Any]) -> NDArray[np.float32]:
        """Standardise ``[n, ..., d]`` along its last axis."""
        scaled = (records - np.asarray(self.mean)) / np.asarray(self.std)
        standardised: NDArray[np.float32] = scaled.astype(np.float32)
        return standardised


class Comparison(_Part):
    """What the model has to beat on the held-out records: a trivial guess; beside it, what a linear model reaches."""

    metric: str
    baseline: str
    baseline_value: float
    linear_value: float


class Manifest(_Part):
    """What a zoo model is, what it was made from, how good it is and how to make it again."""

    name: str
    modality: str
    task: str
    onnx: OnnxFile
    data: DataSource
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    standardisation: Standardisation | None
    training: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    comparison: Comparison
    rebuild: str
    versions: dict[str, str]

    def standardise(self, records: NDArray[Any]) -> NDArray[np.float32]:
        """Records ``[n, ...]`` as their source has them → ``float32``, standardised where this model wants it.

        Raises
        ------
        TensorError
            The records do not have this model's shape.
        """
        if records.shape[1:] != self.onnx.record_shape:
            wanted = ", ".join(str(dim) for dim in self.onnx.record_shape)
            raise TensorError(f"expected records of shape [n, {wanted}], got {list(records.shape)}")
        return records.astype(np.float32) if self.standardisation is None else self.standardisation.apply(records)


@cache
def load_manifest(name: str) -> Manifest:
    """Read ``models/onnx/<name>.manifest.json``.

    Raises
    ------
    NotFoundError
        No zoo model has that name.
    MalformedError
        The manifest has missing, unknown or wrong fields.
    """
    path = ONNX_DIR / f"{name}.manifest.json"
    if not _NAME.match(name) or not path.is_file():
        known = ", ".join(names()) or "none"
        raise NotFoundError(f"no zoo model named {name!r}", field="name", hint=f"known models: {known}")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise MalformedError(f"the manifest of {name} does not parse", field=where or None) from error


def names() -> tuple[str, ...]:
    """Names of all zoo models, sorted."""
    return tuple(sorted(path.name.removesuffix(".manifest.json") for path in ONNX_DIR.glob("*.manifest.json")))


def load_model_bytes(name: str) -> bytes:
    """The ONNX file of a zoo model, after checking its digest against the manifest.

    Raises
    ------
    DigestMismatchError
        The file is not the one that the manifest describes.
    """
    manifest = load_manifest(name)
    return require_digest((ONNX_DIR / manifest.onnx.file).read_bytes(), manifest.onnx.sha256, manifest.onnx.file)


def held_out(name: str) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """The held-out split, which training and model selection never saw.

    Returns
    -------
    records
        As the model takes them, ``float32 [n, ...]``.
    labels
        Classes ``int64 [n]``, or targets ``float64 [n, targets]``.

    Raises
    ------
    DigestMismatchError
        The installed data or its split is not the one that the manifest pins.
    """
    return _split(name, take_held_out=True)


def training_split(name: str) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """The training split, in the form of :func:`held_out`."""
    return _split(name, take_held_out=False)


def metrics_of(outputs: NDArray[np.floating[Any]], labels: NDArray[Any]) -> dict[str, float]:
    """How good outputs ``[n, outputs]`` are.

    Classes: accuracy, the mean of the classes' recalls, ROC AUC if there are two, log loss (nats). Regression: the
    coefficient of determination, averaged over the targets, and the root mean squared error in the targets' units.
    """
    if labels.dtype.kind == "f":
        squares = ((outputs - labels) ** 2).mean(axis=0)
        r2 = 1 - squares / labels.var(axis=0)
        return {"records": float(len(labels)), "r2": float(r2.mean()), "rmse": float(np.sqrt(squares.mean()))}
    logits = outputs.astype(np.float64)
    log_sum = np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)) + logits.max(axis=1)
    right = logits.argmax(axis=1) == labels
    metrics = {
        "records": float(len(labels)),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean([right[labels == label].mean() for label in np.unique(labels)])),
        "log_loss": float((log_sum - logits[np.arange(len(labels)), labels]).mean()),
    }
    if logits.shape[1] == 2:
        from sklearn.metrics import roc_auc_score

        metrics["roc_auc"] = float(roc_auc_score(labels, logits[:, 1] - logits[:, 0]))
    return metrics


def _split(name: str, *, take_held_out: bool) -> tuple[NDArray[np.float32], NDArray[Any]]:
    manifest = load_manifest(name)
    data = DATASETS[name]()
    if DataSource.of(data) != manifest.data:
        raise DigestMismatchError(
            f"the data or the split of {name} is not what the model was trained on",
            hint="install the package version that the manifest names, or rebuild the model",
        )
    chosen = data.held_out == take_held_out
    return manifest.standardise(data.records[chosen]), data.labels[chosen]
