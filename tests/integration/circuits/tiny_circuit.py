"""A tiny model and a profile for it: seconds from ONNX to proof."""

import itertools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from circuits.profile import CircuitProfile

TINY = CircuitProfile(
    input_scale=7, param_scale=7, decomposition_base=256, decomposition_legs=3, inner_columns=1, logrows=10
)


def mlp(seed: int, widths: tuple[int, ...] = (4, 3, 2)) -> bytes:
    """A ReLU network with an open batch axis, as the zoo exports them."""
    random = np.random.default_rng(seed)
    nodes, constants, last = [], [], "records"
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        for name, shape in ((f"w{layer}", (fan_out, fan_in)), (f"b{layer}", (fan_out,))):
            constants.append(numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name))
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [f"y{layer}"], transB=1))
        last = f"y{layer}"
        if layer < len(widths) - 2:
            nodes.append(helper.make_node("Relu", [last], [f"r{layer}"]))
            last = f"r{layer}"
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["batch", widths[0]])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", widths[-1]])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def residual(seed: int, widths: tuple[int, ...] = (4, 4, 2)) -> bytes:
    """A ReLU network whose first layer is added to what the second makes of it: two tensors at some cuts.

    Nodes: 0 Gemm, 1 Relu, 2 Gemm, 3 Add, 4 Gemm (if `widths` has three).
    """
    random = np.random.default_rng(seed)
    shapes = [(widths[0], widths[0]), (widths[1], widths[0]), *([(widths[2], widths[1])] if len(widths) > 2 else [])]
    constants = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32) / 2, f"w{layer}")
        for layer, shape in enumerate(shapes)
    ]
    nodes = [
        helper.make_node("Gemm", ["records", "w0"], ["y0"], transB=1),
        helper.make_node("Relu", ["y0"], ["r0"]),
        helper.make_node("Gemm", ["r0", "w1"], ["y1"], transB=1),
        helper.make_node("Add", ["y1", "r0"], ["s1"]),
    ]
    if len(shapes) > 2:
        nodes.append(helper.make_node("Gemm", ["s1", "w2"], ["y2"], transB=1))
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["batch", widths[0]])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ["batch", widths[-1]])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
