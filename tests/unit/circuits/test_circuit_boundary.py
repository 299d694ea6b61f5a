"""One record in, one output out: what else a model wants is refused by name, and open axes get sizes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from circuits.boundary import (
    Boundary,
    boundary_of,
    require_one_record,
    variables_of,
    vocabulary_of,
    with_sizes,
)
from rexis.protocol.errors import TensorError

Dims = list[int | str | None]


def relu(dims: Dims | None, *, output_kind: int = TensorProto.FLOAT) -> bytes:
    """One ReLU of an input of that shape."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)
    made = helper.make_tensor_value_info("y", output_kind, dims)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="/relu")], "g", [given], [made])
    data: bytes = helper.make_model(graph).SerializeToString()
    return data


@pytest.mark.parametrize(
    ("dims", "variables", "record", "counts"),
    [
        (["batch", 3], [["batch", 1]], (3,), True),
        (["batch_size", 3, 4], [["batch_size", 1]], (3, 4), True),
        (["N", 3], [["N", 1]], (3,), True),
        ([None, 3], [["batch_size", 1]], (3,), True),
        ([1, 3], [["batch", 1]], (3,), True),
        ([4, 3], [["batch", 1]], (4, 3), False),
        ([5], [["batch", 1]], (5,), False),
    ],
)
def test_the_axis_that_counts_records_is_one(dims: Dims, variables: object, record: object, counts: bool) -> None:
    model = relu(dims)
    boundary = boundary_of(model)
    assert (variables_of(model), boundary.record_shape, boundary.counts_records) == (variables, record, counts)
    if counts:
        require_one_record(boundary)
        return
    with pytest.raises(TensorError, match=r"one proof is about all of it at once.*record by record"):
        require_one_record(boundary)


@pytest.mark.parametrize(
    ("dims", "words", "hint"),
    [
        (["batch", "seq", 4], "axis 1 of input 'x' has no size, only the name 'seq'", "--axis seq=SIZE"),
        ([1, None], "axis 1 of input 'x' has no size;", "export the model with a size"),
        (
            ["batch axis", 4],
            "the first axis of input 'x' is called 'batch axis', which ezkl cannot read",
            "call it batch",
        ),
        ([1, 0], "axis 1 of input 'x' has size 0", ""),
        (None, "input 'x' has no shape", "export the model with one"),
        ([], "input 'x' has no shape", "export the model with one"),
    ],
)
def test_other_axes_are_refused_by_name(dims: Dims | None, words: str, hint: str) -> None:
    with pytest.raises(TensorError) as caught:
        boundary_of(relu(dims))
    assert (words in caught.value.message, hint in (caught.value.hint or ""), caught.value.field) == (True, True, "x")


def test_a_model_without_operators_is_refused() -> None:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
    with pytest.raises(TensorError, match="the model has no operators"):
        boundary_of(helper.make_model(helper.make_graph([], "g", [given], [given])).SerializeToString())


def test_an_output_that_is_no_float_is_refused_with_its_node() -> None:
    with pytest.raises(TensorError, match=r"'y' of node '/relu' \(Relu\) is int64"):
        boundary_of(relu(["batch", 3], output_kind=TensorProto.INT64))
    assert boundary_of(relu(["batch", 3], output_kind=0)) == Boundary("x", "y", (None, 3))


def test_named_axes_get_sizes() -> None:
    fixed = with_sizes(relu(["batch", "seq", "seq"]), {"seq": 5})
    assert boundary_of(fixed).shape == (None, 5, 5)
    output = onnx.load_from_string(fixed).graph.output[0].type.tensor_type.shape
    assert [dim.dim_value or dim.dim_param for dim in output.dim] == ["batch", 5, 5]
    with pytest.raises(TensorError, match="no input has an open axis 'length'; there are: batch, seq"):
        with_sizes(relu(["batch", "seq"]), {"length": 5})


@pytest.mark.parametrize(("to", "found"), [(TensorProto.INT64, 7), (TensorProto.FLOAT16, None)])
def test_a_vocabulary_is_as_large_as_the_table_that_ids_are_looked_up_in(to: int, found: int | None) -> None:
    table = onnx.numpy_helper.from_array(np.ones((7, 2), np.float32), "table")
    nodes = [helper.make_node("Cast", ["x"], ["ids"], to=to), helper.make_node("Gather", ["table", "ids"], ["y"])]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, 2])
    model = helper.make_model(helper.make_graph(nodes, "g", [given], [made], [table])).SerializeToString()
    assert vocabulary_of(model) == found
