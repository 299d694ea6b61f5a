"""Parts of an ONNX graph as models of their own, to find out which node something comes from."""

from __future__ import annotations

from typing import Any

_NO_VALUES = ("Shape", "Size")  # what they give depends on no record


def computing(proto: Any) -> list[bool]:
    """For each node, whether what it gives depends on the records."""
    stored = {tensor.name for tensor in proto.graph.initializer}
    computed = {value.name for value in proto.graph.input if value.name not in stored}
    found: list[bool] = []
    for node in proto.graph.node:
        found.append(node.op_type not in _NO_VALUES and not computed.isdisjoint(node.input))
        if found[-1]:
            computed.update(name for name in node.output if name)
    return found


def beginning(proto: Any, count: int) -> bytes | None:
    """The first nodes, with what they leave unused as outputs; None if nothing of that depends on records."""
    dangling: dict[str, None] = {}
    used = _used(proto)
    for node, computes in list(zip(proto.graph.node, computing(proto), strict=True))[:count]:
        if not computes:
            continue
        for name in node.input:
            dangling.pop(name, None)
        dangling.update(dict.fromkeys(name for name in node.output if name in used))
    return _part(proto, list(proto.graph.node[:count]), list(dangling)) if dangling else None


def up_to(proto: Any, index: int) -> bytes:
    """One node and all that it needs, with the first of its outputs that is used."""
    nodes: list[Any] = []
    used = _used(proto)
    outputs = [name for name in proto.graph.node[index].output if name in used][:1]
    wanted = set(outputs)
    for node in reversed(proto.graph.node[: index + 1]):
        if not wanted.isdisjoint(node.output):
            nodes.append(node)
            wanted.update(node.input)
    return _part(proto, nodes[::-1], outputs)


def label(node: Any) -> str:
    """A node for messages; where the file does not name it, by its output."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"node {node.name or node.output[0]!r} ({operator})"


def _used(proto: Any) -> set[str]:
    """Values that a node reads, or the model gives. Others are optional outputs that nobody asks for."""
    return {name for node in proto.graph.node for name in node.input} | {value.name for value in proto.graph.output}


def _part(proto: Any, nodes: list[Any], outputs: list[str]) -> bytes:
    import onnx

    read = {name for node in nodes for name in node.input}
    part = onnx.ModelProto(ir_version=proto.ir_version)
    part.opset_import.extend(proto.opset_import)
    part.functions.extend(proto.functions)
    part.graph.name = proto.graph.name
    part.graph.node.extend(nodes)
    part.graph.input.extend(proto.graph.input)
    part.graph.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name in read)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    data: bytes = part.SerializeToString()
    return data
