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
