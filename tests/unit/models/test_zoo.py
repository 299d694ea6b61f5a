from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from models import zoo
from models.datasets import DATASETS
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
    assert manifest.onnx.output_shape == (len(manifest.class_names or manifest.target_names),)
    assert manifest.rebuild == f"rexis zoo train {name}"
    assert (zoo.ONNX_DIR / manifest.onnx.file).stat().st_size < 1_000_000


def test_every_dataset_has_its_model() -> None:
    assert zoo.names() == tuple(sorted(DATASETS))


@pytest.mark.parametrize("name", zoo.names())
def test_held_out_metrics_are_the_manifests_and_beat_the_trivial_guess(name: str) -> None:
    manifest = zoo.load_manifest(name)
    records, labels = zoo.held_out(name)
    session = onnxruntime.InferenceSession(zoo.load_model_bytes(name), providers=["CPUExecutionProvider"])
    (outputs,) = session.run([manifest.onnx.output], {manifest.onnx.input: records})
    found = zoo.metrics_of(outputs, labels)
    assert found == pytest.approx(manifest.metrics["held_out"], abs=1e-4)
    assert found[manifest.comparison.metric] > manifest.comparison.baseline_value + 0.1


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_split_is_proper(name: str) -> None:
    data = DATASETS[name]()
    assert data.records.shape[0] == len(data.labels) == len(data.held_out)
    assert 0.15 < data.held_out.mean() < 0.35
    if data.class_names:
        assert data.labels.dtype == np.int64
        assert set(data.labels) == set(range(len(data.class_names)))
    train = {row.tobytes() for row in data.records[~data.held_out]}
    assert not train & {row.tobytes() for row in data.records[data.held_out]}


def test_peptide_families_stay_on_one_side() -> None:
    data = DATASETS["peptide"]()
    kmers = [
        {tuple(row[place : place + 3]) for place in range(1, 49) if row[place + 2]} for row in data.records.astype(int)
    ]
    train = [kmers[i] for i in np.flatnonzero(~data.held_out)]
    for i in np.flatnonzero(data.held_out)[::50]:
        assert all(len(kmers[i] & other) < 0.2 * len(kmers[i] | other) for other in train)


def test_changed_data_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = DATASETS["diabetes"]()
    monkeypatch.setitem(zoo.DATASETS, "diabetes", lambda: dataclasses.replace(data, labels=data.labels + 1))
    with pytest.raises(DigestMismatchError, match="diabetes"):
        zoo.held_out("diabetes")


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
