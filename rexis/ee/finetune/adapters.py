"""Low-rank adapters (Hu et al. 2021) as a rewrite of an ONNX graph, before encryption, and back after decryption.

``y = x W`` becomes ``y = x W + (α/r) (x A) B``, with initialisers ``<weight>.lora_a`` ``[in, r]``, drawn at random, and
``<weight>.lora_b`` ``[r, out]``, zeros: the model computes what it did. The compiler then encrypts the factors as it
does any constants: with the keys of the weight's axes, and one of their own for the rank axis.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.ee.container import Model, whole
from rexis.ee.finetune.trainable import LORA_A, LORA_B
from rexis.ee.stream import SecretStream, fresh_seed
from rexis.protocol.errors import EncryptionError, UnavailableError

try:
    import onnx
    from onnx import helper, numpy_helper
except ImportError as error:
    raise UnavailableError("adapters need onnx", hint="pip install 'rexis[ee]'") from error

_SCALE = ".lora_scale"
_BASE, _ADDED = "/lora_base", "/lora"


def add_adapters(
    model: Model, *, rank: int, alpha: float, weights: Collection[str] | None = None, seed: bytes | None = None
) -> bytes:
    """A model with fresh adapters.

    Parameters
    ----------
    rank
        r, 1 or more.
    alpha
        α: an adapter is scaled with α/r.
    weights
        Initialisers ``[in, out]`` (Gemm: or its transpose) that one MatMul or Gemm multiplies with; by default all
        whose two axes are longer than `rank`.
    seed
        32 bytes that A is drawn from, by default fresh.

    Raises
    ------
    EncryptionError
        No such weight, or one that is used in another way, or that has adapters.
    """
    if rank < 1:
        raise EncryptionError("an adapter's rank is 1 or more", field="rank")
    message = whole(model)
    graph = message.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    able = {node.input[1]: node for node in _linear(graph, stored)}
    chosen = [name for name in able if min(stored[name].dims) > rank] if weights is None else list(weights)
    if not chosen:
        raise EncryptionError(f"no weight has two axes longer than the rank {rank}", field="rank")
    stream = SecretStream(fresh_seed() if seed is None else seed, "adapters")
    made: set[str] = set()
    for name in chosen:
        if name not in able:
            raise EncryptionError(
                f"{name!r} is no weight that one MatMul or Gemm alone multiplies with", field="weights"
            )
        if f"{name}{LORA_A}" in stored:
            raise EncryptionError(f"{name!r} has adapters already", field="weights", hint="merge them first")
        dims = list(stored[name].dims)
        into, out = reversed(dims) if _option(able[name], "transB", 0) else dims
        a = (stream.normal(into * rank) / math.sqrt(into)).reshape(into, rank)
        for suffix, value in ((LORA_A, a), (LORA_B, np.zeros((rank, out))), (_SCALE, np.array(alpha / rank))):
            graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), f"{name}{suffix}"))
        made.add(able[name].output[0])
    nodes: list[Any] = []
    for node in graph.node:
        nodes.append(node)
        if node.output[0] in made:
            nodes += _beside(node)
    _exchange(graph, nodes)
    return _checked(message)


def merge_adapters(model: Model) -> bytes:
    """The model without adapters, which computes the same: each is added to its weight.

    Raises
    ------
    EncryptionError
        There are none.
    """
    message = whole(model)
    graph = message.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    adapted = [name.removesuffix(LORA_A) for name in stored if name.endswith(LORA_A)]
    if not adapted:
        raise EncryptionError("the model has no adapters to merge", field="model")
    owners = {node.input[1]: node for node in _linear(graph, stored)}
    dropped = {f"{name}{suffix}" for name in adapted for suffix in (LORA_A, LORA_B, _SCALE)}
    added: set[str] = set()
    for name in adapted:
        node = owners[name]
        a, b, scale = (_array(stored[f"{name}{suffix}"]) for suffix in (LORA_A, LORA_B, _SCALE))
        change = a @ b * scale / _option(node, "alpha", 1.0)
        weight = _array(stored[name]) + (change.T if _option(node, "transB", 0) else change)
        stored[name].CopyFrom(numpy_helper.from_array(weight.astype(np.float32), name))
        output = node.output[0].removesuffix(_BASE)
        added |= {f"{output}{_ADDED}", *(f"{output}{_ADDED}/{number}" for number in range(3))}
        node.output[0] = output
    nodes = [node for node in graph.node if node.name not in added]
    tensors = [tensor for tensor in graph.initializer if tensor.name not in dropped]
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
    del graph.initializer[:]
    graph.initializer.extend(copies)
    _exchange(graph, nodes)
    return _checked(message)


def _linear(graph: Any, stored: dict[str, Any]) -> Iterator[Any]:
    """Nodes that alone multiply records with a stored matrix."""
    uses: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    for node in graph.node:
        name = node.input[1] if len(node.input) > 1 else ""
        is_layer = node.op_type in ("MatMul", "Gemm") and name in stored and not _option(node, "transA", 0)
        if is_layer and len(stored[name].dims) == 2 and uses[name] == 1 and not name.endswith((LORA_A, LORA_B)):
            yield node


def _beside(node: Any) -> list[Any]:
    """The adapter's nodes. The linear one's own output gets another name."""
    name, output = node.input[1], node.output[0]
    node.output[0] = f"{output}{_BASE}"
    down, up, scaled = (f"{output}{_ADDED}/{number}" for number in range(3))
    return [
        helper.make_node("MatMul", [node.input[0], f"{name}{LORA_A}"], [down], name=down),
        helper.make_node("MatMul", [down, f"{name}{LORA_B}"], [up], name=up),
        helper.make_node("Mul", [up, f"{name}{_SCALE}"], [scaled], name=scaled),
        helper.make_node("Add", [node.output[0], scaled], [output], name=f"{output}{_ADDED}"),
    ]


def _exchange(graph: Any, nodes: list[Any]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    del graph.value_info[:]  # it is inferred again


def _array(tensor: Any) -> NDArray[np.float64]:
    found: NDArray[np.float64] = numpy_helper.to_array(tensor).astype(np.float64)
    return found


def _option(node: Any, name: str, default: float) -> float:
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def _checked(message: Any) -> bytes:
    onnx.checker.check_model(message, full_check=True)
    data: bytes = message.SerializeToString(deterministic=True)
    return data
