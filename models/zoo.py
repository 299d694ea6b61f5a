"""The model zoo: committed ONNX files, each described by a manifest that pins it by digest.

Reading a model needs NumPy only; :func:`held_out` needs scikit-learn too, because that is where the data is.
A zoo model takes standardised ``float32 [n, d]`` records and returns ``float32 [n, classes]`` logits.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

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
    """Where the data is from, and which of its rows are held out (chosen once, kept here by index)."""

    source: str
    sha256: DigestField
    citation: str
    license: str
    split: str
    held_out: tuple[int, ...]


class Standardisation(_Part):
    """Mean and standard deviation of the *training* rows, per feature, in the source's units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Manifest(_Part):
    """What a zoo model is, what it was made from, how good it is and how to make it again."""

    name: str
    task: str
    onnx: OnnxFile
    data: DataSource
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    standardisation: Standardisation
    training: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    rebuild: str
    versions: dict[str, str]

    def standardise(self, records: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Raw records ``[n, d]`` in the source's units → ``float32 [n, d]`` with the training split's mean and std.

        Raises
        ------
        TensorError
            The records are not ``[n, d]`` with this model's `d`.
        """
        features = len(self.feature_names)
        if records.ndim != 2 or records.shape[1] != features:
            raise TensorError(f"expected records of shape [n, {features}], got {list(records.shape)}")
        mean = np.asarray(self.standardisation.mean)
        std = np.asarray(self.standardisation.std)
        standardised: NDArray[np.float32] = ((records - mean) / std).astype(np.float32)
        return standardised


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


def held_out(name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The held-out split, which training and model selection never saw.

    Returns
    -------
    records
        Standardised, ``float32 [n, d]``.
    labels
        ``int64 [n]``.
    """
    return _split(name, take_held_out=True)


def training_split(name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The training split, in the form of :func:`held_out`."""
    return _split(name, take_held_out=False)


def _split(name: str, *, take_held_out: bool) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    manifest = load_manifest(name)
    data = _load_data(manifest)
    chosen = np.zeros(len(data.labels), dtype=bool)
    chosen[list(manifest.data.held_out)] = True
    if not take_held_out:
        chosen = ~chosen
    return manifest.standardise(data.records[chosen]), data.labels[chosen]


def _load_data(manifest: Manifest) -> Dataset:
    data = DATASETS[manifest.data.source]()
    if tensor_digest(data.records) != manifest.data.sha256:
        raise DigestMismatchError(
            f"the data from {manifest.data.source} is not what {manifest.name} was trained on",
            hint="install the package version that the manifest names, or rebuild the model",
        )
    return data
