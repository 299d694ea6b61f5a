"""Records that a gradient states outright: no search is needed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from rexis.ee.attacks.target import Target
from rexis.ee.attacks.torch_graph import Network
from rexis.ee.stream import Floats

_MOVES = ("Reshape", "Transpose", "Identity", "Flatten")
_NONE = 1e-9  # of the largest: a place without gradient


def dense_first_layer(target: Target, network: Network, seen: dict[str, Any], public: NDArray[Any]) -> Floats | None:
    """``∂L/∂W = g xᵀ`` and ``∂L/∂b = g`` of a first Gemm; None for another first layer."""
    first = next(node for node in network.nodes if network.input in node.input)
    if first.op_type != "Gemm" or len(first.input) < 3 or not {*first.input[1:]} <= set(seen):
        return None
    by_weight, by_bias = seen[first.input[1]], seen[first.input[2]].reshape(-1)
    turned = any(each.name == "transB" and each.i for each in first.attribute)
    rows = by_weight if turned else by_weight.T
    found: Floats = ((by_bias @ rows) / (by_bias @ by_bias)).detach().numpy().reshape(public.shape[1:])
    return found


def by_positions(target: Target, network: Network, seen: dict[str, Any], public: NDArray[Any]) -> Floats | None:
    """Patches or tokens from the gradient of a table of positions; None where the model has none right behind.

    With `G` the gradient of each place, ``∂L/∂W = Gᵀ X`` for patches X, and ``∂L/∂E = Tᵀ G`` for one-hot tokens T.
    """
    first = _first_linear(network)
    if first is None:
        return None
    values = network.values(torch.tensor(public[:1], dtype=torch.float64))
    by_place = _gradient_of_places(network, first, values, seen)
    weight = first.input[0] if first.op_type == "Gather" else first.input[1]
    if by_place is None or weight not in seen:
        return None
    if first.op_type == "Gather":
        return _tokens(by_place, seen[weight].numpy(), public)
    flat = seen[weight].numpy().reshape(by_place.shape[1], -1)
    patches = np.linalg.lstsq(by_place.T, flat, rcond=None)[0]
    return _put_together(patches, network.constants[weight].shape[1:], public.shape[1:])


def _first_linear(network: Network) -> onnx.NodeProto | None:
    """A patch stem on the records, or the lookup of token ids in a table of vectors."""
    ids = {network.input, *(node.output[0] for node in network.nodes if node.op_type == "Cast")}
    for node in network.nodes:
        if node.op_type == "Conv" and node.input[0] == network.input:
            kernel = list(network.constants[node.input[1]].shape[2:])
            strides = next((list(each.ints) for each in node.attribute if each.name == "strides"), [])
            pads = next((list(each.ints) for each in node.attribute if each.name == "pads"), [])
            return node if kernel == strides and not any(pads) else None
        if node.op_type == "Gather" and node.input[1] in ids and network.constants[node.input[0]].shape[-1] > 1:
            return node
    return None


def _gradient_of_places(
    network: Network, first: onnx.NodeProto, values: dict[str, Any], seen: dict[str, Any]
) -> Floats | None:
    """``[places, features]``: the gradient of a full table that is added to what the first layer gives, moved about."""
    start = values[first.output[0]].detach().requires_grad_()
    moved = {**values, first.output[0]: start}
    name = first.output[0]
    while True:
        readers = [node for node in network.nodes if name in node.input]
        if len(readers) == 1 and readers[0].op_type in _MOVES:
            name = readers[0].output[0]
            moved[name] = network.run(readers[0], moved)
            continue
        adds = [node for node in readers if node.op_type == "Add"]
        if len(readers) != 1 or not adds:
            return None
        table = next(each for each in adds[0].input if each != name)
        if table not in seen or seen[table].numel() != moved[name].numel():
            return None
        cotangent = seen[table].reshape(moved[name].shape)
        found = cotangent if name == first.output[0] else torch.autograd.grad(moved[name], start, cotangent)[0]
        rows = found[0] if first.op_type == "Gather" else found[0].reshape(found.shape[1], -1).T
        by_place: Floats = rows.detach().numpy()
        return by_place


def _tokens(by_place: Floats, by_word: Floats, public: NDArray[Any]) -> Floats:
    """Least squares for one-hot tokens, then exchanges one by one. Places without gradient get the commonest token."""
    onehot = np.linalg.lstsq(by_place.T, by_word.T, rcond=None)[0]
    tokens = onehot.argmax(axis=1)
    words = np.arange(len(by_word))
    left = by_word - np.eye(len(words))[tokens].T @ by_place
    for _ in range(len(tokens)):
        before = tokens.copy()
        for place, gradient in enumerate(by_place):
            left[tokens[place]] += gradient
            tokens[place] = int((left @ gradient).argmax())  # what lessens the rest most
            left[tokens[place]] -= gradient
        if np.array_equal(before, tokens):
            break
    size = np.linalg.norm(by_place, axis=1)
    kinds, counts = np.unique(public, return_counts=True)
    found: Floats = np.where(size > _NONE * size.max(), tokens, kinds[counts.argmax()]).astype(np.float64)
    return found


def _put_together(patches: Floats, kernel: tuple[int, ...], shape: tuple[int, ...]) -> Floats:
    """Patches ``[places, channels × inside]`` as the record that they tile."""
    grid = [size // step for size, step in zip(shape[1:], kernel[1:], strict=True)]
    rank = len(grid)
    tiles = patches.reshape(*grid, *kernel)
    order = [rank, *(each for axis in range(rank) for each in (axis, rank + 1 + axis))]
    assert math.prod(shape) == tiles.size  # noqa: S101
    return np.transpose(tiles, order).reshape(shape)
