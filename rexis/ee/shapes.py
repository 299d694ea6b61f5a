"""Shapes of a model's values, and the values that depend on shapes and constants alone.

Exporters write ``x.shape[0]`` and masks as little graphs of their own. They are evaluated here, for two sizes of the
batch: what comes out the same does not depend on it.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.ee.container import LARGE
from rexis.protocol.errors import MalformedError, UnavailableError

try:
    import onnx
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator
except ImportError as error:
    raise UnavailableError("compiling a model needs onnx", hint="pip install 'rexis[ee]'") from error

Shape = tuple[int | None, ...]
# What these give depends on shapes alone.
OF_SHAPES = ("Shape", "Size")
_BATCHES = (5, 7)
_MAX_EVALUATED = 1 << 18
_MAX_ROUNDS = 8
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)

_Arrays = dict[str, NDArray[Any]]


def infer(model: onnx.ModelProto) -> tuple[dict[str, int], dict[str, Shape], _Arrays]:
    """Element types of all values; their shapes, None where the batch is in them; values known before any record.

    Raises
    ------
    MalformedError
        The shapes contradict each other.
    """
    types: dict[str, int] = {}
    runs = [_with_batch(model, batch, types) for batch in _BATCHES]
    shapes: dict[str, Shape] = {}
    for name, shape in runs[0][0].items():
        others = [run[0].get(name) for run in runs[1:]]
        if all(other is not None and len(other) == len(shape) for other in others):
            columns = zip(shape, *(other for other in others if other is not None), strict=True)
            shapes[name] = tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in columns)
    known = {
        name: value
        for name, value in runs[0][1].items()
        if all(name in run[1] and np.array_equal(run[1][name], value) for run in runs[1:])
    }
    shapes |= {name: value.shape for name, value in known.items()}
    return types, shapes, known


def hollow(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its large constants: they become inputs of the same type, and shapes follow all the same."""
    made = onnx.ModelProto(ir_version=model.ir_version, domain=model.domain, model_version=model.model_version)
    made.opset_import.extend(model.opset_import)
    graph = made.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    listed = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if prod(tensor.dims) <= LARGE or tensor.data_type not in _FLOATS:
            graph.initializer.append(tensor)
        elif tensor.name not in listed:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return made


def _with_batch(model: onnx.ModelProto, batch: int, types: dict[str, int]) -> tuple[dict[str, Shape], _Arrays]:
    """Shapes and structural values for one size of an open batch axis: in turns, until neither finds more."""
    sized = hollow(model)
    graph = sized.graph
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in stored and dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = batch
    del graph.value_info[:]  # an exporter's own annotations name the open axes
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    known = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.data_type not in _FLOATS
    }
    shapes: dict[str, Shape] = {}
    for _ in range(_MAX_ROUNDS):
        shapes = _inferred(sized, types)
        if not _evaluate(sized, shapes, known):
            break
    return shapes, known


def _inferred(model: onnx.ModelProto, types: dict[str, int]) -> dict[str, Shape]:
    try:
        graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise MalformedError(f"the shapes of the model contradict each other: {error}", field="model") from error
    shapes: dict[str, Shape] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        types[value.name] = kind.elem_type
        if kind.HasField("shape"):
            shapes[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    return shapes


def _evaluate(model: onnx.ModelProto, shapes: dict[str, Shape], known: _Arrays) -> bool:
    """Evaluate what can be now, and put it into the model as constants, so that the next inference sees it."""
    graph = model.graph
    progress = False
    for node in list(graph.node):
        if all(name in known for name in node.output) or not node.output:
            continue
        if node.op_type == "Constant":
            found = _constant(node)
        else:
            inputs = {name: _input(node, name, shapes, known) for name in node.input if name}
            if (not inputs and node.op_type not in ("Constant",)) or any(value is None for value in inputs.values()):
                continue
            found = _run(node, {n: v for n, v in inputs.items() if v is not None}, model)
        if found is None or any(value.size > _MAX_EVALUATED for value in found):
            continue
        known.update(zip((name for name in node.output if name), found, strict=True))
        if node.op_type != "Constant":
            graph.initializer.extend(
                numpy_helper.from_array(value, name) for name, value in zip(node.output, found, strict=True)
            )
            graph.node.remove(node)
            progress = True
    return progress


def _constant(node: onnx.NodeProto) -> list[NDArray[Any]] | None:
    """A Constant node's integers, or its one number. Other floats are weights."""
    (attribute,) = node.attribute
    value = onnx.helper.get_attribute_value(attribute)
    array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    return [array] if array.dtype.kind in "iub" or array.ndim == 0 else None


def _input(node: onnx.NodeProto, name: str, shapes: dict[str, Shape], known: _Arrays) -> NDArray[Any] | None:
    if node.op_type in OF_SHAPES:
        shape = shapes.get(name)
        if shape is None or None in shape or prod(size or 1 for size in shape) > _MAX_EVALUATED:
            return None
        return np.zeros([size or 0 for size in shape], dtype=np.bool_)
    value = known.get(name)
    return value if value is not None and value.size <= _MAX_EVALUATED else None


def _run(node: onnx.NodeProto, inputs: _Arrays, model: onnx.ModelProto) -> list[NDArray[Any]] | None:
    given = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "structure", given, outputs)
    single = onnx.helper.make_model(graph, opset_imports=model.opset_import)
    try:
        found = ReferenceEvaluator(single).run(None, inputs)
    except Exception:  # whatever the reference cannot do stays unknown, and is refused where it is needed
        return None
    return [np.asarray(value) for value in found]
