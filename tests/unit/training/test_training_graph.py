"""The graph in torch gives what ONNX Runtime gives, fused or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from models.zoo import held_out, load_model_bytes, names
from rexis.ee.compiler import encrypt_model
from rexis.ee.decoys.widen import Decoys
from rexis.protocol.errors import MalformedError, TrainingError
from rexis.training.graph import Graph


def reference(model: bytes, records: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: records})[0]
    return found


@pytest.mark.parametrize("name", names())
def test_outputs_are_onnx_runtimes(name: str) -> None:
    model, records = load_model_bytes(name), held_out(name)[0][:9]
    expected = reference(model, records)
    plain, fused = (Graph(model, fusing=each) for each in (False, True))

    with torch.no_grad():
        outputs = [graph(torch.from_numpy(records)).numpy() for graph in (plain, fused)]
        exact = Graph(model, floats=torch.float64)(torch.from_numpy(records.astype(np.float64))).numpy()

    scale = np.abs(expected).max()
    for each in (*outputs, exact):
        assert np.abs(each - expected).max() < 2e-6 * scale


@pytest.mark.parametrize("name", ["vit", "volume", "dna"])
def test_fusing_leaves_gradients_as_they_are(name: str) -> None:
    model, records = load_model_bytes(name), held_out(name)[0][:4].astype(np.float64)
    found = []
    for fusing in (False, True):
        graph = Graph(model, floats=torch.float64, fusing=fusing)
        loss = graph(torch.from_numpy(records)).square().mean()
        found.append(dict(zip(graph.weights, torch.autograd.grad(loss, list(graph.weights.values())), strict=True)))
    plain, fused = found

    assert len(Graph(model)._steps) < len(Graph(model, fusing=False)._steps)
    for each, gradient in plain.items():
        assert fused[each].numpy() == pytest.approx(gradient.numpy(), rel=1e-5, abs=1e-7)


def test_an_encrypted_model_with_decoys_runs() -> None:
    plain = load_model_bytes("breast_cancer")
    model = encrypt_model(plain, epoch=1, seed=bytes(32), decoys=Decoys(inputs=5, neurons=0.5)).model
    records = np.random.default_rng(0).normal(size=(4, 35)).astype(np.float32)

    found = Graph(model)(torch.from_numpy(records)).detach().numpy()

    assert found == pytest.approx(reference(model, records), rel=1e-4, abs=1e-4)


def _node(op: str, *inputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs, ["out"], **attributes)


_W = np.random.default_rng(1).normal(size=(3, 3, 3, 3)).astype(np.float32)
_INT = np.int64
_OPERATORS: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "max pool": ([_node("MaxPool", "x", kernel_shape=[3, 3], pads=[1, 0, 0, 1], strides=[2, 1])], {}),
    "average pool": ([_node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], {}),
    "average pool with padding": (
        [_node("AveragePool", "x", kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)],
        {},
    ),
    "convolution with uneven padding": ([_node("Conv", "x", "w", pads=[0, 1, 2, 1], strides=[2, 1])], {"w": _W}),
    "convolution padded by itself": ([_node("Conv", "x", "w", auto_pad="SAME_LOWER", strides=[2, 2])], {"w": _W}),
    "transposed convolution": (
        [_node("ConvTranspose", "x", "w", pads=[1, 1, 1, 1], strides=[2, 2], output_padding=[1, 1])],
        {"w": _W},
    ),
    "clip": ([_node("Clip", "x", "low")], {"low": np.array(-0.5, np.float32)}),
    "where": (
        [helper.make_node("Less", ["x", "zero"], ["less"]), _node("Where", "less", "zero", "x")],
        {"zero": np.zeros((), np.float32)},
    ),
    "split": (
        [helper.make_node("Split", ["x", "sizes"], ["a", "b"], axis=1), _node("Concat", "b", "a", axis=1)],
        {"sizes": np.array([1, 2], _INT)},
    ),
    "slice backwards": (
        [_node("Slice", "x", "start", "end", "axis", "step")],
        {
            "start": np.array([-1], _INT),
            "end": np.array([-(2**63) + 1], _INT),
            "axis": np.array([2], _INT),
            "step": np.array([-2], _INT),
        },
    ),
    "gather": ([_node("Gather", "x", "at", axis=2)], {"at": np.array([[0, -1], [2, 1]], _INT)}),
    "reshape by the batch's size": (
        [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["batch"]),
            helper.make_node("Concat", ["batch", "rest"], ["wanted"], axis=0),
            _node("Reshape", "x", "wanted"),
        ],
        {"first": np.array([0], _INT), "rest": np.array([-1, 4], _INT)},
    ),
    "expand": ([_node("Expand", "x", "shape")], {"shape": np.array([2, 1, 1, 1, 1], _INT)}),
    "pad": (
        [_node("Pad", "x", "pads", "value")],
        {"pads": np.array([0, 0, 1, 2, 0, 1, 0, 0], _INT), "value": np.array(3, np.float32)},
    ),
    "sum": ([_node("ReduceSum", "x", "axes", keepdims=0)], {"axes": np.array([1, -1], _INT)}),
    "mean of all": ([_node("ReduceMean", "x")], {}),
    "unsqueeze": ([_node("Unsqueeze", "x", "axes")], {"axes": np.array([1, -1], _INT)}),
    "triangle": ([_node("Trilu", "x", upper=0)], {}),
    "space to depth": ([_node("SpaceToDepth", "x", blocksize=2)], {}),
    "instance norm": (
        [_node("InstanceNormalization", "x", "s", "b")],
        {"s": np.array([1, 2, 3], np.float32), "b": np.array([0, 1, 0], np.float32)},
    ),
    "layer norm over two axes": (
        [_node("LayerNormalization", "x", "s", axis=2)],
        {"s": np.linspace(0.5, 1.5, 16, dtype=np.float32).reshape(4, 4)},
    ),
    "layer norm with one scale for all": (
        [_node("LayerNormalization", "x", "s")],
        {"s": np.array([2.0], np.float32)},
    ),
    "einsum": ([_node("Einsum", "x", "x", equation="bchw,bdhw->bcd")], {}),
    "power and modulus": (
        [helper.make_node("Mul", ["x", "x"], ["xx"]), _node("Mod", "xx", "two", fmod=1)],
        {"two": np.array(2.0, np.float32)},
    ),
    "leaky": ([_node("LeakyRelu", "x", alpha=0.3)], {}),
    "prelu": ([_node("PRelu", "x", "s")], {"s": np.array([[[0.1]], [[0.2]], [[0.3]]], np.float32)}),
}


def graph_of(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], opset: int = 17) -> bytes:
    """A model of a batch of images ``[n, 3, 4, 4]``."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("name", _OPERATORS)
def test_operators_are_onnx_runtimes(name: str) -> None:
    model = graph_of(*_OPERATORS[name])
    records = np.random.default_rng(2).normal(size=(2, 3, 4, 4)).astype(np.float32)
    expected = reference(model, records)

    found = Graph(model)(torch.from_numpy(records)).detach().numpy()

    assert found.shape == expected.shape
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(TrainingError, match="no gradient for NonZero"):
        Graph(graph_of([_node("NonZero", "x")], {}))
    with pytest.raises(TrainingError, match=r"no gradient for Relu"):
        Graph(graph_of([helper.make_node("Relu", ["x"], ["out"], domain="somebody.else")], {}))
    with pytest.raises(TrainingError, match="dropout is not supported"):
        Graph(graph_of([_node("Dropout", "x", "r", "t")], {"r": np.array(0.5, np.float32), "t": np.array(True)}))
    with pytest.raises(MalformedError, match="not an ONNX model"):
        Graph(b"\xff not a model")
    scaled = graph_of([_node("Mul", "x", "s")], {"s": np.ones(2, np.float32), "unused": np.ones(2, np.float32)})
    with pytest.raises(TrainingError, match="used by no operator"):
        Graph(scaled, ["unused"])
    with pytest.raises(TrainingError, match="no float32 initialiser 'x'"):
        Graph(scaled, ["x"])


_HOSTILE: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray], str]] = {
    "an operator that only fusing makes": (
        [_node("FusedSilu", "x")],
        {},
        "no gradient for FusedSilu",
    ),
    "an attribute that is missing": ([_node("Concat", "x", "x")], {}, "cannot be read: 'axis'"),
    "an input that is missing": ([_node("Reshape", "x")], {}, "cannot be read"),
    "an attribute of another type": ([_node("Softmax", "x", axis="a")], {}, "cannot be read"),
    "a negative size": (
        [helper.make_node("ConstantOfShape", ["s"], ["c"]), _node("Add", "x", "c")],
        {"s": np.array([-5], _INT)},
        "cannot be read: .*negative dimension",
    ),
    "a constant under the name of an initialiser": (
        [helper.make_node("Constant", [], ["s"], value_float=1.0), _node("Mul", "x", "s")],
        {"s": np.ones(1, np.float32)},
        "two values are called 's'",
    ),
    "a value that is made twice": ([_node("Relu", "x"), _node("Relu", "out")], {}, "two values are called 'out'"),
    "no output": ([helper.make_node("Relu", ["x"], ["elsewhere"])], {}, "no operator gives the output 'out'"),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_a_graph_that_nobody_exported_is_refused_in_words(name: str) -> None:
    nodes, constants, reason = _HOSTILE[name]
    with pytest.raises(TrainingError, match=reason):
        Graph(graph_of(nodes, constants))


def test_a_model_reads_no_file_of_the_machine_that_trains_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(np.float32(42).tobytes())
    fill = TensorProto(name="fill", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    fill.external_data.add(key="location", value="secret")
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"], value=fill), _node("Add", "x", "c")]
    with pytest.raises(TrainingError, match="lies in another file"):
        Graph(graph_of(nodes, {"s": np.array([1], _INT)}))


def test_what_has_no_room_here_is_not_the_models_fault() -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"]), _node("Add", "x", "c")]
    with pytest.raises(MemoryError, match="the model cannot be read"):
        Graph(graph_of(nodes, {"s": np.array([1 << 60], _INT)}))


def test_only_what_is_named_gets_a_gradient() -> None:
    model = load_model_bytes("breast_cancer")
    graph = Graph(model, ["4.bias"])

    graph(torch.zeros(2, 30)).sum().backward()

    assert list(graph.weights) == ["4.bias"]
    assert graph.weights["4.bias"].grad is not None
    assert not graph.constants["0.weight"].requires_grad
