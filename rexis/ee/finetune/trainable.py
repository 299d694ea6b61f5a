"""Which constants of an ONNX model train.

An ONNX file does not say which constants were parameters and which the model's code made. A parameter is taken to be an
initialiser that a layer's operator reads in a parameter's place; what looks like a mask or like a table of positions
that a product turns is not (:func:`parameters`). The owner may freeze more.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

import numpy as np

from rexis.ee.container import Model, parsed
from rexis.ee.graph import Graph, Node
from rexis.protocol.errors import EncryptionError

LORA_A, LORA_B = ".lora_a", ".lora_b"
# Places of parameters among an operator's inputs. Statistics of batch normalisations (3 and 4) stay as they are.
_PLACES = {
    "MatMul": (0, 1),
    "Gemm": (0, 1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Einsum": (0, 1, 2, 3),
    "Gather": (0,),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "BatchNormalization": (1, 2),
    "PRelu": (1,),
    "Add": (0, 1),
    "Mul": (0, 1),
}
_BROADCASTS = ("Add", "Mul")
_LINEAR = ("Gemm", "MatMul", "Conv")
_MASKED = 1e3  # no trained weight is as large; what is added to scores to mask them is


class Part(StrEnum):
    """A set of constants to train; several may be combined."""

    ALL = "all"
    HEAD = "head"
    LORA = "lora"


def trainable(model: Model, parts: Collection[Part], frozen: Collection[str] = ()) -> list[str]:
    """Names of the initialisers that train, sorted.

    Parameters
    ----------
    frozen
        Names that are left out.

    Raises
    ------
    EncryptionError
        There are none, the model has no adapters or no linear head, or no parameter of a name in `frozen`.
    """
    graph = Graph(model)
    candidates = parameters(model, graph)
    adapters = {name for name in candidates if name.endswith((LORA_A, LORA_B))}
    if Part.LORA in parts and not adapters:
        raise EncryptionError("the model has no adapters", field="train", hint="add_adapters puts them in")
    found: set[str] = set()
    if Part.ALL in parts:
        found |= candidates - adapters
    if Part.HEAD in parts:
        found |= _head(graph) & candidates
    if Part.LORA in parts:
        found |= adapters
    strangers = sorted(set(frozen) - candidates)
    if strangers:
        raise EncryptionError(f"the model has no parameter {strangers[0]!r} to freeze", field="freeze")
    if not found - set(frozen):
        raise EncryptionError("there is nothing to train", field="train")
    return sorted(found - set(frozen))


def parameters(model: Model, graph: Graph) -> set[str]:
    """Initialisers that layers read as parameters, finite float32.

    Not among them: statistics; scalars and single values that are added or multiplied; tables of two axes or more that
    are multiplied element by element (rotary embeddings); and constants with a value beyond ±1000 (masks).
    """
    initialisers = {tensor.name for tensor in parsed(model).graph.initializer}
    found = {
        root
        for node in graph.computing
        for place in _PLACES.get(node.op, ())
        if (root := _root(graph, node, place)) in initialisers and root is not None and _is_parameter(graph, node, root)
    }
    statistics = {
        _root(graph, node, place) for node in graph.computing if node.op == "BatchNormalization" for place in (3, 4)
    }
    return found - statistics


def _is_parameter(graph: Graph, node: Node, root: str) -> bool:
    value = graph.raw(root)
    if bool((np.abs(value) >= _MASKED).any()) or not bool(np.isfinite(value).all()):
        return False
    long = sum(size > 1 for size in value.shape)
    if node.op in _BROADCASTS and (long == 0 or (node.op == "Mul" and long > 1)):
        return False
    return value.ndim > 0


def _root(graph: Graph, node: Node, place: int) -> str | None:
    name = node.input(place)
    view = graph.view(name) if name else None
    return None if view is None else view.root


def _head(graph: Graph) -> set[str]:
    """Weight and bias of the last linear layer."""
    for node in reversed(graph.computing):
        if node.op in _LINEAR and (weight := _root(graph, node, 1)) is not None:
            if weight.endswith((LORA_A, LORA_B)):
                continue
            found = {weight, _root(graph, node, 2)}
            for reader in graph.consumers(node.output):
                if reader.op == "Add":
                    found |= {_root(graph, reader, 0), _root(graph, reader, 1)}
            return {name for name in found if name is not None}
    raise EncryptionError("the model has no linear layer to train as its head", field="train", hint="train all of it")
