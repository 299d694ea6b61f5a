"""Decoys taken out again by somebody who has the encrypted model: where every attack on it should start.

- *Noise in records*: the plain model's first weight is 0 on decoy features, so that its encrypted form has a null
  space, which is what the noise spans. Projecting ciphertexts on the rest removes it, and the model sees no difference.
- *Split neurons*: both halves have the same incoming weights, and keys act on them by a factor at most. Parallel rows
  are put together: their outgoing weights are summed, by the ratio of their values.

Both follow from theory: a network without idle or parallel neurons is unique up to their order and scale (H. Sussmann,
Uniqueness of the weights for minimal feedforward nets, Neural Networks 5, 1992).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rexis.ee.attacks.places import blocks_of
from rexis.ee.attacks.target import Inputs, NotApplicableError, Target, observe
from rexis.ee.compiler import EncryptedModel
from rexis.ee.decoys import Decoys, HiddenAxis, hidden_axes, input_axis
from rexis.ee.graph import Graph
from rexis.ee.groups import AxisKey, MonomialKey
from rexis.ee.layout import Keyring
from rexis.ee.stream import Floats

_NULL = 1e-5  # of the largest singular value: float32's rounding is far below, weights that were trained far above
_PARALLEL = 1e-5


def without_decoys(target: Target) -> Target:
    """The target as it is to an attacker who looked for decoys first.

    Raises
    ------
    NotApplicableError
        There are none, or none can be told.
    """
    if target.decoys is None:
        raise NotApplicableError("there are no decoys")
    cleaned = _projection(target) if target.decoys.inputs else None
    found = replace(target, cleaned=cleaned)
    return _merged(found) if target.decoys.neurons else found


def ways(target: Target) -> dict[str, Target]:
    """The target as it is (``naive``), and with decoys as it is to an attacker who looked for them (``looked_for``)."""
    found = {"naive": target}
    if target.decoys is not None:
        with suppress(NotApplicableError):
            found["looked_for"] = without_decoys(target)
    return found


def _projection(target: Target) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    blocks, plan = blocks_of(target), target.encrypted.plan
    graph = Graph(target.encrypted.model)
    rows = []
    for part in input_axis(graph)[1]:
        leaves = [factor for axis in plan.layout(part.constant) for factor in axis]
        weight = graph.stored(part.constant).reshape([plan.size((factor,)) or 1 for factor in leaves])
        mixed = [next(p for p, leaf in enumerate(leaves) if leaf.variable == each) for each in blocks.mixing]
        rest = [place for place in range(len(leaves)) if place not in mixed]
        rows.append(np.transpose(weight, [*rest, *mixed]).reshape(-1, blocks.width))
    _, values, directions = np.linalg.svd(np.concatenate(rows), full_matrices=False)
    seen = directions[values > _NULL * values[0]]
    if len(seen) == blocks.width:
        raise NotApplicableError("the first weight has no null space, so that no part of a record is known for noise")

    def cleaned(records: NDArray[np.float32]) -> NDArray[np.float32]:
        flat = records.reshape(len(records), -1).astype(np.float64)
        flat[:, blocks.index] = flat[:, blocks.index] @ seen.T @ seen
        return flat.reshape(records.shape).astype(np.float32)

    return cleaned


def _merged(target: Target) -> Target:
    """The target with the halves of neurons put together, as a model of the plain one's hidden widths."""
    encrypted, widening = target.encrypted, target.encrypted.widening
    assert encrypted.key.keyring is not None and widening is not None and target.decoys is not None  # noqa: S101
    decoys = Decoys(target.decoys.inputs) if target.decoys.inputs else None
    like = replace(target, decoys=decoys).another("architecture")
    assert like.key.keyring is not None  # noqa: S101
    if like.plan.layouts != encrypted.plan.layouts:
        raise NotApplicableError("the wider model has keys of another kind than the plain one")
    model = onnx.load_model_from_string(encrypted.model)
    kept = {axis: _merge(model, axis, target.encrypted_inputs) for axis in hidden_axes(Graph(encrypted.model))[0]}
    orders: dict[int, NDArray[np.int64]] = {}
    for split in widening.split:
        part = split.axis.made[0]
        (factor,) = encrypted.plan.layout(part.constant)[part.axis]
        chosen = next(each for axis, each in kept.items() if part in axis.made)
        orders[factor.variable] = chosen
        if len(chosen) != split.axis.size:
            raise NotApplicableError(f"{len(chosen)} of {split.axis.size} neurons seem to be left: not all were told")
    keyring = _restricted(encrypted, like.key.keyring, orders)
    made = EncryptedModel(model.SerializeToString(), replace(encrypted.key, keyring=keyring), like.plan)
    return replace(target, encrypted=replace(made, widening=like.widening), decoys=decoys)


def _merge(model: onnx.ModelProto, axis: HiddenAxis, ciphertexts: Inputs) -> NDArray[np.int64]:
    """Put parallel neurons together in place; returns those that stay."""
    graph, tables = Graph(model), []
    for part in axis.made:
        rows = np.moveaxis(graph.stored(part.constant), part.axis, 0)
        flat = rows.reshape(len(rows), -1)
        tables.append(flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-30))
    alike = np.min([np.abs(table @ table.T) for table in tables], axis=0) > 1 - _PARALLEL  # a key may hold signs
    first = alike.argmax(axis=1)
    kept = np.flatnonzero(first == np.arange(len(first)))
    reader = next(n for n in graph.computing if axis.read[0].constant in n.inputs)
    (values,) = observe(model.SerializeToString(), ciphertexts, [reader.inputs[0]])
    place = 1 if reader.op.startswith("Conv") else values.ndim - 1
    flat = np.moveaxis(values, place, 0).reshape(len(first), -1).astype(np.float64)
    power = (flat**2).sum(axis=1)
    ratio = np.where(power[first] > 0, (flat * flat[first]).sum(axis=1) / np.maximum(power[first], 1e-30), 1.0)
    for part in (*axis.made, *axis.along):
        _exchange(model, part.constant, np.take(graph.stored(part.constant), kept, axis=part.axis))
    for part in axis.read:
        columns = np.moveaxis(graph.stored(part.constant), part.axis, 0)
        total = np.zeros_like(columns)
        np.add.at(total, first, columns * ratio.reshape(-1, *(1 for _ in columns.shape[1:])))
        _exchange(model, part.constant, np.moveaxis(total[kept], 0, part.axis))
    return kept


def _exchange(model: onnx.ModelProto, name: str, values: Floats) -> None:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    tensors |= {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
    array = np.ascontiguousarray(values, dtype=np.float32)
    tensors[name].CopyFrom(numpy_helper.from_array(array, tensors[name].name))


def _restricted(encrypted: EncryptedModel, like: Keyring, kept: dict[int, NDArray[np.int64]]) -> Keyring:
    """The victim's keys on the neurons that stay. Secret: for scores."""
    assert encrypted.key.keyring is not None and encrypted.widening is not None  # noqa: S101
    origins: dict[int, NDArray[np.int64]] = {}
    for split in encrypted.widening.split:
        (factor,) = encrypted.plan.layout(split.axis.made[0].constant)[split.axis.made[0].axis]
        origins[factor.variable] = split.origin
    elements = []
    for element in encrypted.key.keyring.elements:
        variable = element.members[0]
        if variable in kept:
            (key,) = element.keys
            assert isinstance(key, MonomialKey)  # noqa: S101
            order = origins[variable][key.permutation[kept[variable]]]
            keys: tuple[AxisKey, ...] = (MonomialKey(order, key.factor[kept[variable]]),)
            element = replace(element, keys=keys)
        elements.append(element)
    return Keyring(like.sizes, like.segments, tuple(elements))
