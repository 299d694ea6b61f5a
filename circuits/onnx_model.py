"""ONNX files of strangers: what is refused before anything runs or compiles one."""

from __future__ import annotations

from typing import Any

from rexis.protocol.errors import TensorError

# With them one file runs for as long as its maker likes. No model that EE encrypts has one.
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_EXTERNAL = 1  # TensorProto.DataLocation
_FLOAT32 = 1  # TensorProto.DataType


def require_plain_model(model: bytes) -> None:
    """Refuse a model that is not all in its file, or whose running time its inputs do not bound.

    External data would make the same digest another model in another folder, and read this machine's files by name.

    Raises
    ------
    TensorError
        It has external data or control flow, or it is no ONNX file.
    """
    proto = parsed(model)
    graphs: list[Any] = [proto.graph]
    for function in proto.functions:
        for node in function.node:
            _check_node(node, graphs)
    while graphs:
        graph = graphs.pop()
        for sparse in graph.sparse_initializer:
            _check_tensor(sparse.values)
            _check_tensor(sparse.indices)
        for tensor in graph.initializer:
            _check_tensor(tensor)
        for node in graph.node:
            _check_node(node, graphs)


def require_one_input(model: bytes) -> None:
    """Refuse a model that no job can run: a record is committed as one leaf, of one float32 tensor.

    Raises
    ------
    TensorError
        It has several inputs, or one of another type; or it is no ONNX file.
    """
    graph = parsed(model).graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise TensorError(
            f"jobs run models with one input, since a record is committed as one tensor; "
            f"this one has {len(inputs)}{': ' if inputs else ''}{', '.join(value.name for value in inputs)}",
            field="model",
            hint="run it without a job, or export it with one input that it cuts into these",
        )
    if inputs[0].type.tensor_type.elem_type != _FLOAT32:
        raise TensorError(
            f"jobs run models with a float32 input, since records are committed as such; {inputs[0].name!r} is "
            f"{element(inputs[0].type.tensor_type.elem_type)}",
            field="model",
            hint="export it with a float32 input that it casts",
        )


def element(kind: int) -> str:
    """The name of an element type, as ONNX spells it in lower case."""
    import onnx

    return str(onnx.TensorProto.DataType.Name(kind)).lower()


def parsed(model: bytes) -> Any:
    """The file as ``onnx.ModelProto``.

    Raises
    ------
    TensorError
        It is no ONNX file.
    """
    import onnx

    try:
        return onnx.load_from_string(model)
    except Exception as error:  # protobuf's DecodeError is not exported by onnx
        raise TensorError("the model is not an ONNX file", field="model") from error


def _check_node(node: Any, graphs: list[Any]) -> None:
    if node.op_type in _CONTROL_FLOW:
        raise TensorError(
            f"the model has control flow ({node.op_type}): node {node.name or node.output[0]!r}",
            field="model",
            hint="export it without a branch or loop; exporters unroll loops of a fixed length",
        )
    for attribute in node.attribute:
        tensors = [attribute.t, *attribute.tensors]
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            tensors += [sparse.values, sparse.indices]
        for tensor in tensors:
            _check_tensor(tensor)
        graphs.extend([attribute.g, *attribute.graphs])


def _check_tensor(tensor: Any) -> None:
    if tensor.data_location == _EXTERNAL or tensor.external_data:
        raise TensorError(f"the model keeps tensor {tensor.name!r} in another file", field="model")
