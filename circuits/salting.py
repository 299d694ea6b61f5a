"""The model of a circuit whose inputs are hashed: a model behind salt values that it does not read.

ezkl hashes all that goes into the circuit, so that salt values beside the record salt the hash. The wrapper is a
function of the model's bytes alone: whoever has them makes the same circuit.
"""

from __future__ import annotations

import math
from typing import Any

from circuits.onnx_model import parsed, require_one_input
from rexis.protocol.errors import TensorError
from rexis.protocol.onsite import SALT_VALUES

_PREFIX = "rexis.salted."
_OLDEST_OPSET = 10  # Slice takes its bounds as inputs since then


def behind_salts(model: bytes) -> bytes:
    """The model with one input ``[batch, length + 10]``, of whose rows it reads the first `length` values.

    Raises
    ------
    TensorError
        It has several inputs, an input of unknown shape or of another type, an opset before 10, or names of ours.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    require_one_input(model)
    proto = parsed(model)
    graph = proto.graph
    if any(opset.version < _OLDEST_OPSET for opset in proto.opset_import if opset.domain in ("", "ai.onnx")):
        raise TensorError(f"a model of an opset before {_OLDEST_OPSET} cannot be salted", field="model")
    if any(name.startswith(_PREFIX) for node in graph.node for name in (*node.input, *node.output)):
        raise TensorError(f"the model has names that begin with {_PREFIX!r}", field="model")
    stored = {tensor.name for tensor in graph.initializer}
    (given,) = (value for value in graph.input if value.name not in stored)
    batch, *shape = given.type.tensor_type.shape.dim
    if not shape or not all(dim.dim_value > 0 for dim in shape):
        raise TensorError("the model's input has no fixed shape after the batch axis", field="model")
    sizes = [int(dim.dim_value) for dim in shape]
    length = math.prod(sizes)
    constants = {"start": [0], "end": [length], "axis": [1], "shape": [0, *sizes]}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(values, dtype=np.int64), _PREFIX + name) for name, values in constants.items()
    )
    record = _PREFIX + "record"
    nodes: list[Any] = [
        helper.make_node("Slice", [_PREFIX + name for name in ("input", "start", "end", "axis")], [record]),
        helper.make_node("Reshape", [record, _PREFIX + "shape"], [given.name]),
        *graph.node,
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    size = batch.dim_value if batch.dim_value > 0 else (batch.dim_param or "batch")
    wide = helper.make_tensor_value_info(_PREFIX + "input", TensorProto.FLOAT, [size, length + SALT_VALUES])
    kept = [value for value in graph.input if value.name in stored]
    del graph.input[:]
    graph.input.extend([wide, *kept])
    data: bytes = proto.SerializeToString(deterministic=True)
    return data
