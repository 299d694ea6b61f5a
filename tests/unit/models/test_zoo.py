from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from models import zoo
from rexis.protocol.errors import DigestMismatchError, MalformedError, NotFoundError, TensorError


@pytest.fixture
def copied_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the zoo's folder that a test may damage."""
    for source in zoo.ONNX_DIR.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(zoo, "ONNX_DIR", tmp_path)
    zoo.load_manifest.cache_clear()
    yield tmp_path
    zoo.load_manifest.cache_clear()


@pytest.mark.parametrize("name", zoo.names())
def test_every_model_is_what_its_manifest_says(name: str) -> None:
    manifest = zoo.load_manifest(name)
    graph = onnx.load_model_from_string(zoo.load_model_bytes(name)).graph
    (records,), (outputs,) = graph.input, graph.output
    for value, what, shape in (
        (records, manifest.onnx.input, manifest.onnx.record_shape),
        (outputs, manifest.onnx.output, manifest.onnx.output_shape),
    ):
        batch, *rest = value.type.tensor_type.shape.dim
        assert (value.name, tuple(dim.dim_value for dim in rest)) == (what, shape)
        assert batch.dim_param == "batch"
    assert manifest.name == name
    assert len(manifest.class_names) == manifest.onnx.output_shape[-1]


def test_the_splits_are_disjoint_complete_and_standardised_by_the_training_rows() -> None:
    train, train_labels = zoo.training_split("breast_cancer")
    held_out, labels = zoo.held_out("breast_cancer")
    assert train.dtype == held_out.dtype == np.float32
    assert (len(train), len(held_out)) == (426, 143)
    assert len({row.tobytes() for row in (*train, *held_out)}) == 569
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-6)
    assert abs(train_labels.mean() - labels.mean()) < 0.01  # stratified


def test_an_unknown_name_is_refused() -> None:
    for name in ("nothing", "../onnx/breast_cancer", ""):
        with pytest.raises(NotFoundError, match="breast_cancer"):
            zoo.load_manifest(name)


def test_records_of_another_width_are_refused() -> None:
    with pytest.raises(TensorError, match=r"\[n, 30\]"):
        zoo.load_manifest("breast_cancer").standardise(np.ones((2, 29)))


def test_a_changed_onnx_file_is_refused(copied_zoo: Path) -> None:
    path = copied_zoo / "breast_cancer.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(DigestMismatchError, match=r"breast_cancer\.onnx"):
        zoo.load_model_bytes("breast_cancer")


def test_a_manifest_with_unknown_fields_is_refused(copied_zoo: Path) -> None:
    path = copied_zoo / "breast_cancer.manifest.json"
    path.write_text('{"surprise": 1,' + path.read_text()[1:])
    with pytest.raises(MalformedError, match="surprise"):
        zoo.load_manifest("breast_cancer")
