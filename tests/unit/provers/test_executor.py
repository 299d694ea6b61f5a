"""The executor: batches, shapes, and models that must not be run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from provers.device import PREFERRED_PROVIDERS
from provers.executor import OnnxExecutor, best_provider
from rexis.protocol.errors import TensorError
from tests.unit.provers.fakes import WEIGHTS, linear_model, make_dataset


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model())
    return path


@pytest.mark.parametrize("batch_size", [1, 3, 7, 256])
def test_batches_give_what_one_product_gives(model: Path, batch_size: int) -> None:
    records = make_dataset(7).records
    executor = OnnxExecutor(model, batch_size=batch_size)
    np.testing.assert_allclose(executor.run(records), records @ WEIGHTS, rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 4])
def test_fixed_batch_axis(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model(batch=batch))
    records = make_dataset(7).records
    np.testing.assert_allclose(OnnxExecutor(path).run(records), records @ WEIGHTS, rtol=1e-6)


def test_two_runs_give_the_same_bytes(model: Path) -> None:
    records = make_dataset(50).records
    assert OnnxExecutor(model).run(records).tobytes() == OnnxExecutor(model).run(records).tobytes()


def test_the_provider_is_one_that_we_prefer(model: Path) -> None:
    assert best_provider() in PREFERRED_PROVIDERS
    assert OnnxExecutor(model).provider in PREFERRED_PROVIDERS


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_gpu_that_does_not_come_up_is_not_announced(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime may really have one")
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert best_provider() == OnnxExecutor(model).provider == "CPUExecutionProvider"


def test_records_of_another_shape_are_refused(model: Path) -> None:
    with pytest.raises(TensorError, match="the model takes"):
        OnnxExecutor(model).run(np.zeros((2, 5), dtype=np.float32))


def test_outputs_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model(np.full((3, 2), 3e38, dtype=np.float32)))
    records = np.zeros((4, 3), dtype=np.float32)
    records[2] = 3e38
    with pytest.raises(TensorError, match="record 2 of the task is not finite"):
        OnnxExecutor(path).run(records)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(TensorError):
        OnnxExecutor(path)


@pytest.mark.parametrize("where", ["initializer", "constant"])
def test_a_model_that_names_other_files_is_refused(tmp_path: Path, where: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(24))
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[3, 2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    nodes = [helper.make_node("MatMul", ["records", "weights"], ["outputs"])]
    if where == "constant":
        nodes.insert(0, helper.make_node("Constant", [], ["weights"], value=tensor))
    graph = helper.make_graph(
        nodes,
        "stealing",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["batch", 2])],
        [tensor] if where == "initializer" else [],
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, ir_version=8).SerializeToString())
    assert onnx.load(str(path), load_external_data=False).graph.name == "stealing"
    with pytest.raises(TensorError, match="another file"):
        OnnxExecutor(path)
