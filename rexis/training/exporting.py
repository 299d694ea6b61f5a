"""A checkpoint as an ONNX model: the base model's own bytes, with other numbers where its trained constants lie.

Nothing is parsed and written again, so there is one way to do it and nothing to agree on; and it needs neither onnx nor
torch. Only the fields are read that say where a float32 initialiser's data lies (onnx.proto3; Protocol Buffers,
"Encoding").
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexis.protocol.errors import MalformedError, TensorError, TrainingError

_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _FLOAT_DATA, _NAME, _RAW_DATA, _DATA_LOCATION = 1, 2, 4, 8, 9, 14
_FLOAT = 1  # TensorProto.DataType
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5  # wire types
_ITEM = np.dtype("<f4")
_MAX_FIELDS = 1 << 20  # that are looked at; nodes and other constants count as one each

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class _Place:
    """Where a float32 initialiser's data lies in the model's bytes."""

    start: int
    shape: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.start + math.prod(self.shape) * _ITEM.itemsize


def initial_weights(model: bytes, names: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """Initialisers of a model by name, as copies.

    Raises
    ------
    MalformedError
        Not an ONNX model.
    TrainingError
        One of them is not there, not float32, or kept in another file.
    """
    places = _places(model, names)
    return {
        name: np.frombuffer(model, _ITEM, math.prod(at.shape), at.start).reshape(at.shape).astype(np.float32)
        for name, at in places.items()
    }


def export_checkpoint(model: bytes, weights: Weights) -> bytes:
    """The model with other values for some initialisers; its SHA-256 is a checkpoint's ``modelDigest``.

    Raises
    ------
    MalformedError, TrainingError
        As for :func:`initial_weights`.
    TensorError
        A value of another shape or dtype, or that is not finite.
    """
    made = bytearray(model)
    for name, at in _places(model, weights.keys()).items():
        value = weights[name]
        if value.dtype != np.float32 or value.shape != at.shape or not bool(np.isfinite(value).all()):
            raise TensorError(f"is not finite float32 {list(at.shape)}", field=name)
        made[at.start : at.end] = np.ascontiguousarray(value, _ITEM).reshape(-1).view(np.uint8).data
    return bytes(made)


def _places(model: bytes, names: Collection[str]) -> dict[str, _Place]:
    wanted, found = set(names), {}
    data, left = memoryview(model), iter(range(_MAX_FIELDS))
    graphs = [span for field, span in _fields(data, 0, len(data), left) if field == _MODEL_GRAPH]
    if len(graphs) != 1 or not isinstance(graphs[0], range):
        raise MalformedError("these bytes are not an ONNX model with one graph", field="model")
    for field, span in _fields(data, graphs[0].start, graphs[0].stop, left):
        if field != _GRAPH_INITIALIZER or not isinstance(span, range):
            continue
        tensor = _Tensor(data, span, left)
        if tensor.name in wanted:
            if tensor.name in found:
                raise MalformedError(f"the model has two initialisers {tensor.name!r}", field="model")
            found[tensor.name] = tensor.place()
    for name in sorted(wanted - found.keys()):
        raise TrainingError(f"the model has no initialiser {name!r}", field="plan.trainable")
    return {name: found[name] for name in sorted(found)}


class _Tensor:
    """What is needed of a TensorProto."""

    def __init__(self, data: memoryview, span: range, left: Iterator[int]) -> None:
        self.name, self.kind, self.elsewhere = "", 0, False
        self.shape: list[int] = []
        self.spans: list[range] = []
        for field, value in _fields(data, span.start, span.stop, left):
            if isinstance(value, int):
                if field == _DIMS:
                    self.shape.append(value)
                elif field == _DATA_TYPE:
                    self.kind = value
                elif field == _DATA_LOCATION:
                    self.elsewhere = value != 0
                elif field == _FLOAT_DATA:
                    self.elsewhere = True  # one number a field: nobody writes that
            elif field == _DIMS:
                at = value.start
                while at < value.stop:
                    size, at = _varint(data, at, value.stop)
                    self.shape.append(size)
            elif field == _NAME:
                self.name = bytes(data[value.start : value.stop]).decode(errors="replace")
            elif field == _RAW_DATA or (field == _FLOAT_DATA and len(value)):
                self.spans.append(value)

    def place(self) -> _Place:
        if self.kind != _FLOAT or self.elsewhere or len(self.spans) != 1:
            raise TrainingError(
                f"initialiser {self.name!r} is not float32 with its data in the model",
                field="plan.trainable",
                hint="save the model as one file, in float32",
            )
        if len(self.spans[0]) != math.prod(self.shape) * _ITEM.itemsize:
            raise MalformedError(f"initialiser {self.name!r} has another size than its shape says", field="model")
        return _Place(self.spans[0].start, tuple(self.shape))


def _fields(data: memoryview, at: int, end: int, left: Iterator[int]) -> Iterator[tuple[int, range | int]]:
    """A message's fields: numbers, with a varint's value or the span of what lies there.

    `left` has an item for each field that may still be looked at.
    """
    while at < end:
        if next(left, None) is None:
            raise MalformedError(f"the model has more than {_MAX_FIELDS} parts", field="model")
        tag, at = _varint(data, at, end)
        if tag >> 32:  # some readers would drop the bits above, and see another field
            raise MalformedError("these bytes are not an ONNX model: a field's number is too large", field="model")
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at, end)
            yield field, value
            continue
        if wire == _DELIMITED:
            length, at = _varint(data, at, end)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise MalformedError("these bytes are not an ONNX model", field="model")
        if at + length > end:
            raise MalformedError("these bytes are not an ONNX model: they end early", field="model")
        yield field, range(at, at + length) if wire == _DELIMITED else 0
        at += length


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at
    raise MalformedError("these bytes are not an ONNX model: a number has no end", field="model")
