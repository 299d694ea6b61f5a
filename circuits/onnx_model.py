"""ONNX files of strangers: what is refused before anything runs or compiles one."""

from __future__ import annotations

from typing import Any

from rexis.protocol.errors import TensorError

# With them one file runs for as long as its maker likes. No model that EE encrypts has one.
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_EXTERNAL = 1  # TensorProto.DataLocation


def require_plain_model(model: bytes) -> None:
    """Refuse a model that is not all in its file, or whose running time its inputs do not bound.

    External data would make the same digest another model in another folder, and read this machine's files by name.

    Raises
    ------
    TensorError
        It has external data or control flow, or it is no ONNX file.
    """
    import onnx

    try:
        proto = onnx.load_from_string(model)
    except Exception as error:  # protobuf's DecodeError is not exported by onnx
        raise TensorError("the encrypted model is not an ONNX file", field="model") from error
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


def _check_node(node: Any, graphs: list[Any]) -> None:
    if node.op_type in _CONTROL_FLOW:
        raise TensorError(f"the encrypted model has control flow ({node.op_type})", field="model")
    for attribute in node.attribute:
        tensors = [attribute.t, *attribute.tensors]
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            tensors += [sparse.values, sparse.indices]
        for tensor in tensors:
            _check_tensor(tensor)
        graphs.extend([attribute.g, *attribute.graphs])


def _check_tensor(tensor: Any) -> None:
    if tensor.data_location == _EXTERNAL or tensor.external_data:
        raise TensorError(f"the encrypted model keeps tensor {tensor.name!r} in another file", field="model")
