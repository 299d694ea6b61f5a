"""Rewrites keep a model's outputs, leave other models alone, and give the same file every time."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from circuits.onnx_graph import Rewritten
from circuits.profile import rewrites_for, tuned_models
from circuits.rewrites import REWRITES, rewrite
from models.zoo import held_out, load_model_bytes
from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.card import card_of
from rexis.ee.compiler import encrypt_model
from rexis.protocol.errors import MalformedError, TensorError

RANDOM = np.random.default_rng(0)


def model(nodes: list[Any], record: list[int], output: list[int], **constants: Any) -> bytes:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *record])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *output])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    data: bytes = made.SerializeToString()
    return data


def weights(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def run(data: bytes, records: Any) -> Any:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: records})[0]


def ops(data: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(data).graph.node)


def same(one: bytes, other: bytes, *record: int) -> bool:
    records = weights(16, *record)
    return np.allclose(run(one, records), run(other, records), rtol=1e-4, atol=1e-5)


def relu_network() -> bytes:
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w1", "b1"], ["y"]),
    ]
    return model(nodes, [5], [3], w0=weights(5, 7), b0=weights(7), w1=weights(7, 3), b1=weights(3))


def test_relu_becomes_an_absolute_value() -> None:
    plain = relu_network()
    made = rewrite(plain, ["relu-as-absolute"])
    assert same(plain, made, 5)
    assert ops(made) == {"Gemm": 2, "Abs": 1, "Add": 1}


def test_the_half_of_a_relu_may_go_into_the_weights_behind_it() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("MatMul", ["r", "w0"], ["one"]),
        helper.make_node("MatMul", ["r", "w1"], ["two"]),
        helper.make_node("Add", ["one", "two"], ["y"]),
    ]
    plain = model(nodes, [5], [3], w0=weights(5, 3), w1=weights(5, 3))
    made = rewrite(plain, ["relu-as-absolute"])
    assert same(plain, made, 5)
    assert ops(made)["Relu"] == 0


def test_a_relu_between_nothing_that_could_take_the_half_stays() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    made = rewrite(model(nodes, [5], [5]), list(REWRITES))
    assert ops(made) == {"Relu": 1}


def test_a_value_that_is_read_elsewhere_too_is_not_scaled() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Add", ["h", "r"], ["y"]),
    ]
    plain = model(nodes, [5], [7], w0=weights(5, 7))
    made = rewrite(plain, ["relu-as-absolute"])
    assert same(plain, made, 5)
    assert ops(made)["Relu"] == 1


def gelu_network(*, half_first: bool, norm: bool) -> bytes:
    given = "n" if norm else "h"
    nodes = [helper.make_node("Gemm", ["x", "w0", "b0"], ["h"], transB=1)]
    if norm:
        nodes.append(helper.make_node("LayerNormalization", ["h", "gain", "bias"], ["n"], axis=-1, epsilon=1e-3))
    nodes += [
        helper.make_node("Div", [given, "root"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["p"]),
    ]
    if half_first:
        nodes += [helper.make_node("Mul", [given, "half"], ["a"]), helper.make_node("Mul", ["a", "p"], ["g"])]
    else:
        nodes += [helper.make_node("Mul", [given, "p"], ["a"]), helper.make_node("Mul", ["a", "half"], ["g"])]
    nodes.append(helper.make_node("Gemm", ["g", "w1", "b1"], ["y"]))
    constants: dict[str, Any] = {
        "w0": weights(8, 5),
        "b0": weights(8),
        "root": np.float32(2**0.5),
        "one": np.float32(1),
        "half": np.float32(0.5),
        "w1": weights(8, 3),
        "b1": weights(3),
    }
    if norm:
        constants |= {"gain": weights(8), "bias": weights(8)}
    return model(nodes, [5], [3], **constants)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("half_first", [False, True])
def test_the_constants_of_a_gelu_go_into_the_weights_around_it(half_first: bool, norm: bool) -> None:
    plain = gelu_network(half_first=half_first, norm=norm)
    made = rewrite(plain, ["fold-gelu"])
    assert same(plain, made, 5)
    assert (ops(made)["Mul"], ops(made)["Div"], ops(made)["Erf"]) == (1, 0, 1)


def test_an_erf_that_is_no_gelu_stays_as_it_is() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w0"], ["h"]),
        helper.make_node("Mul", ["h", "c"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "two"], ["p"]),
        helper.make_node("Mul", ["h", "p"], ["a"]),
        helper.make_node("Mul", ["a", "c"], ["y"]),
    ]
    plain = model(nodes, [5], [5], w0=weights(5, 5), c=np.float32(0.5), two=np.float32(2))
    assert rewrite(plain, ["fold-gelu"]) == rewrite(plain, [])


def test_a_layer_norm_of_a_linear_map_becomes_a_root_of_a_weighted_sum() -> None:
    plain = gelu_network(half_first=False, norm=True)
    made = rewrite(plain, ["centre-norms"])
    assert same(plain, made, 5)
    assert (ops(made)["LayerNormalization"], ops(made)["Sqrt"]) == (0, 1)


def test_a_layer_norm_that_a_linear_map_follows_keeps_its_dense_keys() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w0"], ["h"]),
        helper.make_node("LayerNormalization", ["h", "gain", "bias"], ["n"]),
        helper.make_node("Gemm", ["n", "w1"], ["y"]),
    ]
    plain = model(nodes, [5], [3], w0=weights(5, 8), gain=weights(8), bias=weights(8), w1=weights(8, 3))
    assert ops(rewrite(plain, ["centre-norms"]))["LayerNormalization"] == 1


def graph_layer(place: Any) -> bytes:
    """The first place of ``relu(X U + b + A X V)``, as in the omics model."""
    nodes = [
        helper.make_node("MatMul", ["x", "u"], ["own"]),
        helper.make_node("Add", ["bias", "own"], ["biased"]),
        helper.make_node("MatMul", ["x", "v"], ["others"]),
        helper.make_node("MatMul", ["x", "others"], ["mixed"]),
        helper.make_node("Add", ["biased", "mixed"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["r"]),
        helper.make_node("Gather", ["r", "place"], ["y"], axis=1),
    ]
    output = [6] if place.ndim == 0 else [len(place), 6]
    return model(nodes, [4, 4], output, u=weights(4, 6), bias=weights(6), v=weights(4, 6), place=place)


@pytest.mark.parametrize("place", [np.array(2), np.array([2]), np.array([3, 1]), np.array(-1)])
def test_places_are_selected_before_they_are_computed(place: Any) -> None:
    plain = graph_layer(place)
    made = rewrite(plain, ["select-early"])
    assert same(plain, made, 4, 4)
    first = next(node for node in onnx.load_from_string(made).graph.node if node.op_type == "Gather")
    assert first.input[0] == "x"


def test_a_product_is_taken_in_the_order_of_fewer_multiplications() -> None:
    plain = graph_layer(np.array([2]))
    made = rewrite(plain, ["select-early", "reassociate"])
    assert same(plain, made, 4, 4)
    assert products(made) < products(rewrite(plain, ["select-early"])) < products(plain)


def products(data: bytes) -> int:
    graph, found = Rewritten(data), 0
    for node in graph.nodes:
        if node.op_type == "MatMul":
            left, made = graph.shape(node.input[0]), graph.shape(node.output[0])
            assert left is not None and made is not None
            found += int(left[-1]) * math.prod(map(int, made[1:]))
    return found


def test_nodes_that_copy_and_constants_of_constants_are_folded() -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32(4))),
        helper.make_node("Sqrt", ["c"], ["two"]),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Div", ["same", "two"], ["y"]),
    ]
    plain = model(nodes, [3], [3])
    made = rewrite(plain, [])
    assert same(plain, made, 3)
    assert ops(made) == {"Mul": 1}


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "omics", "dna", "peptide"])
def test_zoo_models_keep_their_outputs_also_under_a_key(name: str) -> None:
    plain = load_model_bytes(name)
    made = rewrite(plain, list(REWRITES))
    records = held_out(name)[0][:24]
    expected = run(plain, records)
    size = float(np.abs(expected).max())
    np.testing.assert_allclose(run(made, records), expected, atol=1e-5 * size)
    encrypted = encrypt_model(made, epoch=1, seed=bytes(32))
    found = decrypt_outputs(encrypted.key, run(encrypted.model, encrypt_records(encrypted.key, records)))
    np.testing.assert_allclose(found, expected, atol=1e-4 * size)


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "omics"])
def test_a_rewritten_model_gets_the_same_kinds_of_keys(name: str) -> None:
    plain = load_model_bytes(name)
    before, after = (
        Counter((axis.group, axis.size) for axis in card_of(encrypt_model(model, epoch=1, seed=bytes(32))).axes)
        for model in (plain, rewrite(plain, list(REWRITES)))
    )
    assert before == after


def test_the_same_names_give_the_same_file() -> None:
    plain = gelu_network(half_first=True, norm=True)
    assert rewrite(plain, list(REWRITES)) == rewrite(plain, list(REWRITES))


@pytest.mark.parametrize("name", tuned_models())
def test_shipped_profiles_name_rewrites_that_there_are(name: str) -> None:
    assert rewrite(load_model_bytes(name), rewrites_for(name))


def test_an_unknown_rewrite_and_a_file_that_is_no_model_are_refused() -> None:
    with pytest.raises(MalformedError, match="no rewrite is named 'faster'"):
        rewrite(relu_network(), ["faster"])
    with pytest.raises(TensorError, match="cannot be rewritten"):
        rewrite(b"no model", [])


def test_control_flow_is_refused() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])], "branch", [], [helper.make_tensor_value_info("z", 1, None)]
    )
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)]
    with pytest.raises(TensorError, match="control flow"):
        rewrite(model(nodes, [3], [3], yes=np.array(True)), [])


def test_a_dropout_that_may_drop_stays() -> None:
    def dropping(*inputs: str) -> bytes:
        nodes = [helper.make_node("Dropout", ["x", *inputs], ["d"]), helper.make_node("Neg", ["d"], ["y"])]
        return model(nodes, [3], [3], share=np.float32(0.5), training=np.array(True))

    assert ops(rewrite(dropping("share"), [])) == {"Neg": 1}
    assert ops(rewrite(dropping("share", "training"), [])) == {"Dropout": 1, "Neg": 1}
