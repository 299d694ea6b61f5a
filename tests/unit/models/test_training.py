from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from models import training, zoo
from models.datasets import DATASETS
from rexis.cli.main import main
from rexis.protocol.errors import NotFoundError

RECIPES = [importlib.import_module(f"models.{name}").RECIPE for name in sorted(DATASETS) if name != "breast_cancer"]
# Graphs are meant to stay free of what only computes shapes.
UNWANTED = {"Shape", "ConstantOfShape", "Range", "Expand", "If", "Loop"}


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_both_exporters_give_a_clean_graph_that_computes_the_same(recipe: training.Recipe, dynamo: bool) -> None:
    torch.manual_seed(0)
    network = recipe.network().eval()
    records = DATASETS[recipe.name]().records[:5].astype(np.float32)
    model = training.export_onnx(network, records.shape[1:], dynamo=dynamo)
    graph = onnx.load_model_from_string(model).graph
    assert not UNWANTED & {node.op_type for node in graph.node}
    (value,), (output,) = graph.input, graph.output
    assert (value.name, output.name) == ("records", "outputs")
    assert value.type.tensor_type.elem_type == output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = session.run(None, {"records": records})[0]
    np.testing.assert_allclose(found, training.predict(network, records), atol=1e-5)


@pytest.mark.parametrize("name", ["diabetes", "omics"])
def test_a_rebuild_gives_the_committed_model(name: str) -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    rebuilt, committed = training.build(name).manifest, zoo.load_manifest(name)
    if rebuilt.versions["torch"] == committed.versions["torch"]:
        assert rebuilt.onnx.sha256 == committed.onnx.sha256
    assert rebuilt.data == committed.data
    assert rebuilt.metrics["held_out"] == pytest.approx(committed.metrics["held_out"], rel=0.01)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_model_that_the_zoo_lacks_is_refused() -> None:
    with pytest.raises(NotFoundError, match="nothing"):
        training.build("nothing")


def test_zoo_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(zoo.names())
    assert all(row["value"] > row["baselineValue"] for row in rows)
    assert main(["zoo", "list"]) == 0
    assert "breast_cancer" in capsys.readouterr().out


def test_zoo_train_says_whether_the_file_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "train", "diabetes", "--out", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["matches"] == (row["sha256"] == str(zoo.load_manifest("diabetes").onnx.sha256))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diabetes.manifest.json", "diabetes.onnx"]
    assert main(["zoo", "train", "nothing"]) == 1
