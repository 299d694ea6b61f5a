"""A plain model made wider, so that it computes the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rexis.ee.container import Model, whole
from rexis.ee.decoys.axes import HiddenAxis, hidden_axes, input_axis
from rexis.ee.graph import Graph
from rexis.ee.keys import Padding
from rexis.ee.stream import SecretStream
from rexis.protocol.errors import EncryptionError

MAX_INPUTS = 4096
_Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Decoys:
    """What is asked for.

    Attributes
    ----------
    inputs
        Features of noise that each record gets.
    neurons
        Share of each hidden layer's neurons that are split in two, 0 to 1.
    """

    inputs: int = 0
    neurons: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.inputs <= MAX_INPUTS:
            raise EncryptionError(f"decoy inputs are 0 to {MAX_INPUTS}", field="inputs")
        if not 0.0 <= self.neurons <= 1.0:
            raise EncryptionError("the share of decoy neurons is 0 to 1", field="neurons")


@dataclass(frozen=True)
class SplitAxis:
    """A hidden axis of which some neurons are split.

    Attributes
    ----------
    axis
        Before.
    origin
        ``int64 [neurons after]``: which neuron each one is (half of). Secret.
    """

    axis: HiddenAxis
    origin: NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True)
class Widening:
    """What was done to a model.

    Attributes
    ----------
    padding
        Of the records; None without decoy inputs.
    split
        Hidden axes with split neurons.
    left_out
        Values whose neurons could not be split, and why: the message names the node.
    """

    padding: Padding | None
    split: tuple[SplitAxis, ...]
    left_out: dict[str, str]

    def origin(self, constant: str, axis: int) -> NDArray[np.int64] | None:
        """Of the neurons along a constant's axis; None if none there is split."""
        for each in self.split:
            if (constant, axis) in (*each.axis.made, *each.axis.along, *each.axis.read):
                return each.origin
        return None


def widen(model: Model, decoys: Decoys, stream: SecretStream) -> tuple[onnx.ModelProto, Widening]:
    """A model with decoys, which maps padded records to what the given one makes of them without the padding.

    Decoy inputs: the weights that read them are 0 there. The compiler's dense key then mixes them with the others.

    Split neurons: both halves have the neuron's incoming weights. Its outgoing ones ``v`` become ``v/2 ± √3/2 g``, with
    `g` as spread as all neurons' are, so that a half is no smaller than a whole neuron, and the halves add up to ``v``
    (to float32's rounding). Zero outgoing weights would be plain to see: no key makes anything of zeros.

    All constants are read into memory, also those of external data, and what comes out holds them.

    Parameters
    ----------
    stream
        Chooses the neurons and their halves.

    Raises
    ------
    MalformedError
        Not a valid ONNX model.
    EncryptionError
        No place for decoy inputs, or no neurons to split; names the node.
    """
    proto = whole(model)
    graph = Graph(proto)
    changes: dict[str, list[_Change]] = {}
    padding = None
    if decoys.inputs:
        axis, parts = input_axis(graph)
        padding = Padding(axis, decoys.inputs)
        for part in parts:
            changes.setdefault(part.constant, []).append(partial(_zeros, axis=part.axis, count=decoys.inputs))
    split: list[SplitAxis] = []
    left_out: dict[str, str] = {}
    if decoys.neurons:
        axes, left_out = hidden_axes(graph)
        if not axes:
            reason = next(iter(left_out.values()), "the model has no linear operator")
            raise EncryptionError(f"no neurons can be split: {reason}", field="neurons")
        split = [_split(each, decoys.neurons, stream, changes) for each in axes]
    _change(proto, changes)
    if padding is not None:
        (records,) = (value for value in proto.graph.input if value.name == graph.inputs[0])
        records.type.tensor_type.shape.dim[padding.axis].dim_value += padding.count
    return proto, Widening(padding, tuple(split), left_out)


def _split(axis: HiddenAxis, share: float, stream: SecretStream, changes: dict[str, list[_Change]]) -> SplitAxis:
    chosen = stream.permutation(axis.size)[: max(1, round(share * axis.size))]
    origin = np.concatenate((np.arange(axis.size), chosen))
    for part in (*axis.made, *axis.along):
        changes.setdefault(part.constant, []).append(partial(np.take, indices=origin, axis=part.axis))
    for part in axis.read:
        changes.setdefault(part.constant, []).append(partial(_halves, axis=part.axis, chosen=chosen, stream=stream))
    return SplitAxis(axis, origin)


def _zeros(weight: NDArray[np.float32], *, axis: int, count: int) -> NDArray[np.float32]:
    shape = [count if place == axis else size for place, size in enumerate(weight.shape)]
    return np.concatenate((weight, np.zeros(shape, dtype=np.float32)), axis=axis)


def _halves(
    weight: NDArray[np.float32], *, axis: int, chosen: NDArray[np.int64], stream: SecretStream
) -> NDArray[np.float32]:
    rows = np.moveaxis(weight, axis, 0)
    drawn = stream.normal(rows[chosen].size).reshape(rows[chosen].shape) * rows.std(axis=0)
    half = (rows[chosen] / 2 + np.sqrt(0.75) * drawn).astype(np.float32)
    made = np.concatenate((rows, half))
    made[chosen] = rows[chosen] - half
    return np.ascontiguousarray(np.moveaxis(made, 0, axis))


def _change(proto: onnx.ModelProto, changes: dict[str, list[_Change]]) -> None:
    """Put longer constants in the places of a message's."""
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    tensors |= {node.output[0]: node.attribute[0].t for node in proto.graph.node if node.op_type == "Constant"}
    inputs = {value.name: value.type.tensor_type.shape.dim for value in proto.graph.input}
    for name, each in changes.items():
        values = numpy_helper.to_array(tensors[name])
        for change in each:
            values = change(values)
        tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensors[name].name))
        for size, dimension in zip(values.shape, inputs.get(name, ()), strict=False):  # older files list weights there
            dimension.dim_value = size
    del proto.graph.value_info[:]  # of the shapes before
