"""ONNX operators in torch. What a node's attributes and constants decide is decided once, when its call is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.nn import functional

from rexis.protocol.errors import TrainingError

Call = Callable[..., Any]
"""The node's inputs, None for those left out, to its output, or a tuple of several."""


@dataclass(frozen=True)
class Node:
    """One operator call of a graph.

    Attributes
    ----------
    known
        Its inputs that are known before any record; None for others.
    floats
        What stands for ONNX's floating-point types.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    known: Sequence[Tensor | None] = ()
    opset: int = 0
    floats: torch.dtype = torch.float32

    def refuse(self, reason: str) -> TrainingError:
        """The error for a call that there is nothing for in torch."""
        return TrainingError(f"{self.op} that gives {self.outputs[0]!r}: {reason}", field="model")

    def constant(self, place: int, attribute: str | None = None) -> list[int] | None:
        """Integers that stand in an attribute (older opsets) or a constant input; None if they are left out."""
        if attribute is not None and attribute in self.attributes:
            return list(self.attributes[attribute])
        if place >= len(self.inputs) or not self.inputs[place]:
            return None
        found = self.known[place]
        if found is None:
            raise self.refuse(f"{self.inputs[place]!r} is computed; a constant is expected")
        return [int(each) for each in found.reshape(-1).tolist()]

    def has(self, place: int) -> bool:
        """Whether an optional input is given."""
        return place < len(self.inputs) and bool(self.inputs[place])


# Inputs that are sizes and places: they are read on the host, wherever the tensors are.
ON_HOST: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "ReduceMean": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Shape": (0,),
    "Size": (0,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
}
_ALIASES = {"SimplifiedLayerNormalization": "RMSNormalization"}
_CASTS = {
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.BOOL: torch.bool,
}
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
_MAKERS: dict[str, Callable[[Node], Call]] = {}


def call_of(node: Node) -> Call:
    """The call that does what a node says.

    Raises
    ------
    TrainingError
        An operator, or a use of one, that is not known here.
    """
    return _MAKERS[_ALIASES.get(node.op, node.op)](node)


def is_known(op: str) -> bool:
    """Whether there is such an operator of ONNX here."""
    return _ALIASES.get(op, op) in _MAKERS and not op.startswith("Fused")


def _maker(*ops: str) -> Callable[[Callable[[Node], Call]], Callable[[Node], Call]]:
    def register(make: Callable[[Node], Call]) -> Callable[[Node], Call]:
        _MAKERS.update((op, make) for op in ops)
        return make

    return register


def _as_it_is(call: Call, node: Node) -> Call:
    return call


def _plain(**calls: Call) -> None:
    for op, call in calls.items():
        _MAKERS[op] = partial(_as_it_is, call)


def _folded(join: Callable[[Tensor, Tensor], Tensor]) -> Call:
    def run(first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = join(first, other)
        return first

    return run


def _divide(x: Tensor, y: Tensor) -> Tensor:
    if x.is_floating_point() or y.is_floating_point():
        return x / y
    return torch.div(x, y, rounding_mode="trunc")


_plain(
    Abs=torch.abs,
    Add=torch.add,
    And=torch.logical_and,
    Ceil=torch.ceil,
    Cos=torch.cos,
    Div=_divide,
    Equal=torch.eq,
    Erf=torch.erf,
    Exp=torch.exp,
    Floor=torch.floor,
    Greater=torch.gt,
    GreaterOrEqual=torch.ge,
    HardSwish=functional.hardswish,
    Identity=lambda x: x,
    Less=torch.lt,
    LessOrEqual=torch.le,
    Log=torch.log,
    MatMul=torch.matmul,
    Max=_folded(torch.maximum),
    Min=_folded(torch.minimum),
    Mish=functional.mish,
    Mul=torch.mul,
    Neg=torch.neg,
    Not=torch.logical_not,
    Or=torch.logical_or,
    PRelu=lambda x, slope: torch.where(x < 0, x * slope, x),
    Pow=torch.pow,
    Reciprocal=torch.reciprocal,
    Relu=torch.relu,
    Sigmoid=torch.sigmoid,
    Sign=torch.sign,
    Sin=torch.sin,
    Size=lambda x: torch.tensor(x.numel()),
    Softplus=functional.softplus,
    Softsign=functional.softsign,
    Sqrt=torch.sqrt,
    Sub=torch.sub,
    Sum=_folded(torch.add),
    Tanh=torch.tanh,
    Where=torch.where,
    Xor=torch.logical_xor,
)
# What rexis.training.fusing makes of several nodes; no file has them.
_plain(
    FusedLinear=lambda x, weight, bias: functional.linear(x, weight.t(), bias),
    FusedGelu=functional.gelu,
    FusedTanhGelu=lambda x: functional.gelu(x, approximate="tanh"),
    FusedSilu=functional.silu,
)


@_maker("Gemm")
def _gemm(node: Node) -> Call:
    alpha, beta = (float(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    turn_a, turn_b = (bool(node.attributes.get(name, 0)) for name in ("transA", "transB"))

    if alpha == beta == 1.0 and not turn_a and turn_b:
        return functional.linear

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a, b = a.t() if turn_a else a, b.t() if turn_b else b
        return alpha * (a @ b) if c is None else torch.addmm(c, a, b, beta=beta, alpha=alpha)

    return run


def _padding(node: Node, spatial: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Of both sides: all the begins, then all the ends."""
    rank = len(kernel)
    kind = node.attributes.get("auto_pad", b"NOTSET").decode()
    if kind in ("NOTSET", ""):
        return list(node.attributes.get("pads", [0] * 2 * rank))
    if kind == "VALID":
        return [0] * 2 * rank
    steps, wide = _strides(node, rank), _dilations(node, rank)
    missing = [
        max(0, (-(-size // step) - 1) * step + (length - 1) * gap + 1 - size)
        for size, step, length, gap in zip(spatial, steps, kernel, wide, strict=True)
    ]
    less, more = [each // 2 for each in missing], [each - each // 2 for each in missing]
    return [*more, *less] if kind == "SAME_LOWER" else [*less, *more]


def _strides(node: Node, rank: int) -> list[int]:
    return list(node.attributes.get("strides", [1] * rank))


def _dilations(node: Node, rank: int) -> list[int]:
    return list(node.attributes.get("dilations", [1] * rank))


def _padded(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """`x` with its last axes made longer: `pads` has all the begins, then all the ends."""
    half = len(pads) // 2
    pairs = [(pads[place], pads[half + place]) for place in reversed(range(half))]
    return functional.pad(x, [each for pair in pairs for each in pair], value=value)


def _of_rank(node: Node, rank: int, calls: Sequence[Call]) -> Call:
    if not 1 <= rank <= len(calls):
        raise node.refuse(f"over {rank} axes; 1 to {len(calls)} are supported")
    return calls[rank - 1]


@_maker("Conv")
def _conv(node: Node) -> Call:
    group = int(node.attributes.get("group", 1))
    calls = (functional.conv1d, functional.conv2d, functional.conv3d)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = weight.ndim - 2
        pads = _padding(node, x.shape[2:], weight.shape[2:])
        if pads[:rank] != pads[rank:]:
            x, pads = _padded(x, pads), [0] * rank
        return _of_rank(node, rank, calls)(
            x, weight, bias, _strides(node, rank), pads[:rank], _dilations(node, rank), group
        )

    return run


@_maker("ConvTranspose")
def _conv_transpose(node: Node) -> Call:
    if node.attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in node.attributes:
        raise node.refuse("padding that is computed is not supported")
    group = int(node.attributes.get("group", 1))
    calls = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = weight.ndim - 2
        pads = _padding(node, x.shape[2:], weight.shape[2:])
        if pads[:rank] != pads[rank:]:
            raise node.refuse("padding differs between the two sides")
        extra = list(node.attributes.get("output_padding", [0] * rank))
        return _of_rank(node, rank, calls)(
            x, weight, bias, _strides(node, rank), pads[:rank], extra, group, _dilations(node, rank)
        )

    return run


@_maker("MaxPool", "AveragePool")
def _pool(node: Node) -> Call:
    kernel = list(node.attributes["kernel_shape"])
    rank, most = len(kernel), node.op == "MaxPool"
    if len(node.outputs) > 1 or node.attributes.get("ceil_mode", 0):
        raise node.refuse("indices and ceil_mode are not supported")
    strides, wide = _strides(node, rank), _dilations(node, rank)
    if most:
        call = _of_rank(node, rank, (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d))
        outside = -math.inf
    else:
        call = _of_rank(node, rank, (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d))
        outside = 0.0
        if wide != [1] * rank:
            raise node.refuse("dilations are not supported")
    counted = bool(node.attributes.get("count_include_pad", 0))

    def run(x: Tensor) -> Tensor:
        pads = _padding(node, x.shape[2:], kernel)
        if not any(pads):
            return call(x, kernel, strides, 0, wide) if most else call(x, kernel, strides)
        wider = _padded(x, pads, outside)
        if most:
            return call(wider, kernel, strides, 0, wide)
        found = call(wider, kernel, strides)
        if counted:
            return found
        return found / call(_padded(torch.ones_like(x[:1, :1]), pads), kernel, strides)

    return run


@_maker("GlobalAveragePool")
def _global_average(node: Node) -> Call:
    return lambda x: x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


@_maker("LayerNormalization")
def _layer_norm(node: Node) -> Call:
    if len(node.outputs) > 1:
        raise node.refuse("only its first output is supported")
    axis, epsilon = int(node.attributes.get("axis", -1)), float(node.attributes.get("epsilon", 1e-5))

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        shape = x.shape[axis:]
        if scale.shape == shape and (bias is None or bias.shape == shape):
            return functional.layer_norm(x, shape, scale, bias, epsilon)
        found = functional.layer_norm(x, shape, None, None, epsilon) * scale
        return found if bias is None else found + bias

    return run


@_maker("RMSNormalization")
def _rms_norm(node: Node) -> Call:
    axis, epsilon = int(node.attributes.get("axis", -1)), float(node.attributes.get("epsilon", 1e-5))

    def run(x: Tensor, scale: Tensor) -> Tensor:
        axes = tuple(range(axis % x.ndim, x.ndim))
        return x * torch.rsqrt((x * x).mean(dim=axes, keepdim=True) + epsilon) * scale

    return run


@_maker("BatchNormalization")
def _batch_norm(node: Node) -> Call:
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    if node.attributes.get("training_mode", 0) or len([each for each in node.outputs if each]) > 1:
        raise node.refuse("statistics stay as they are, so training_mode must be 0")

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        if not mean.requires_grad and not var.requires_grad:
            return functional.batch_norm(x, mean, var, scale, bias, eps=epsilon)
        shape = (-1, *[1] * (x.ndim - 2))
        wide = scale / torch.sqrt(var + epsilon)
        return (x - mean.view(shape)) * wide.view(shape) + bias.view(shape)

    return run


@_maker("InstanceNormalization")
def _instance_norm(node: Node) -> Call:
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    return lambda x, scale, bias: functional.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


@_maker("GroupNormalization")
def _group_norm(node: Node) -> Call:
    groups, epsilon = int(node.attributes["num_groups"]), float(node.attributes.get("epsilon", 1e-5))
    if node.opset < 21:
        raise node.refuse("opset 21 or later is supported: before, its scale had one element a group")
    return lambda x, scale, bias: functional.group_norm(x, groups, scale, bias, epsilon)


@_maker("Softmax", "LogSoftmax")
def _softmax(node: Node) -> Call:
    axis = int(node.attributes.get("axis", -1 if node.opset >= 13 else 1))
    call = torch.softmax if node.op == "Softmax" else torch.log_softmax

    def run(x: Tensor) -> Tensor:
        if node.opset < 13 and axis % x.ndim != x.ndim - 1:
            raise node.refuse("before opset 13 only over the last axis")
        return call(x, axis)

    return run


@_maker("Gelu")
def _gelu(node: Node) -> Call:
    how = node.attributes.get("approximate", b"none").decode()
    return lambda x: functional.gelu(x, approximate=how)


@_maker("Elu", "LeakyRelu", "Swish", "HardSigmoid")
def _activation(node: Node) -> Call:
    default = {"Elu": 1.0, "LeakyRelu": 0.01, "Swish": 1.0, "HardSigmoid": 0.2}[node.op]
    alpha = float(node.attributes.get("alpha", default))
    if node.op == "Elu":
        return lambda x: functional.elu(x, alpha)
    if node.op == "LeakyRelu":
        return lambda x: functional.leaky_relu(x, alpha)
    if node.op == "Swish":
        return lambda x: x * torch.sigmoid(alpha * x)
    beta = float(node.attributes.get("beta", 0.5))
    return lambda x: torch.clamp(alpha * x + beta, 0.0, 1.0)


@_maker("Clip")
def _clip(node: Node) -> Call:
    low, high = (node.attributes.get(name) for name in ("min", "max"))

    def run(x: Tensor, least: Tensor | None = None, most: Tensor | None = None) -> Tensor:
        return torch.clamp(x, low if least is None else least, high if most is None else most)

    if low is None and high is None and not node.has(1) and not node.has(2):
        return lambda x, *_: x
    return run


@_maker("Dropout")
def _dropout(node: Node) -> Call:
    if node.has(2) and (node.known[2] is None or bool(node.known[2])):
        raise node.refuse("dropout is not supported: its masks would have to be agreed on")
    if len(node.outputs) > 1:
        return lambda x, *_: (x, torch.ones_like(x, dtype=torch.bool))
    return lambda x, *_: x


@_maker("Cast")
def _cast(node: Node) -> Call:
    to = node.attributes["to"]
    dtype = node.floats if to in _FLOATS else _CASTS.get(to)
    if dtype is None:
        raise node.refuse(f"to {onnx.TensorProto.DataType.Name(to).lower()} is not supported")
    return lambda x: x.to(dtype)


@_maker("CastLike")
def _cast_like(node: Node) -> Call:
    return lambda x, like: x.to(like.dtype)


@_maker("Transpose")
def _transpose(node: Node) -> Call:
    turn = node.attributes.get("perm")
    return lambda x: x.permute(turn if turn is not None else tuple(reversed(range(x.ndim))))


@_maker("Reshape")
def _reshape(node: Node) -> Call:
    as_is = bool(node.attributes.get("allowzero", 0))

    def of(x: Tensor, sizes: Sequence[int]) -> Tensor:
        return x.reshape([x.shape[place] if size == 0 and not as_is else size for place, size in enumerate(sizes)])

    if node.known[1] is None:
        return lambda x, shape: of(x, shape.tolist())
    fixed = [int(each) for each in node.known[1].tolist()]
    if as_is or 0 not in fixed:
        return lambda x, _: x.reshape(fixed)
    return lambda x, _: of(x, fixed)


@_maker("Flatten")
def _flatten(node: Node) -> Call:
    axis = int(node.attributes.get("axis", 1))
    if axis == 1:
        return lambda x: x.flatten(1)
    return lambda x: x.reshape(math.prod(x.shape[:axis]), -1)


@_maker("Squeeze")
def _squeeze(node: Node) -> Call:
    axes = node.constant(1, "axes")
    return lambda x, *_: x.squeeze() if axes is None else x.squeeze(tuple(axes))


@_maker("Unsqueeze")
def _unsqueeze(node: Node) -> Call:
    axes = node.constant(1, "axes") or []

    def run(x: Tensor, *_: Tensor) -> Tensor:
        rank = x.ndim + len(axes)
        for axis in sorted(each % rank for each in axes):
            x = x.unsqueeze(axis)
        return x

    return run


@_maker("Concat")
def _concat(node: Node) -> Call:
    axis = int(node.attributes["axis"])
    return lambda *parts: torch.cat(parts, axis)


@_maker("Split")
def _split(node: Node) -> Call:
    axis, sizes = int(node.attributes.get("axis", 0)), node.constant(1, "split")
    count = len(node.outputs)

    def run(x: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        parts: tuple[Tensor, ...] = torch.split(x, -(-x.shape[axis] // count) if sizes is None else sizes, axis)
        return parts

    return (lambda x, *_: run(x)[0]) if count == 1 else run


@_maker("Slice")
def _slice(node: Node) -> Call:
    starts, ends = node.constant(1, "starts"), node.constant(2, "ends")
    if starts is None or ends is None:
        raise node.refuse("starts and ends are missing")
    axes = node.constant(3, "axes") or list(range(len(starts)))
    steps = node.constant(4) or [1] * len(starts)
    cuts = list(zip(axes, starts, ends, steps, strict=True))

    def run(x: Tensor, *_: Tensor) -> Tensor:
        for axis, start, end, step in cuts:
            size = x.shape[axis]
            if step > 0:
                x = x[(slice(None),) * (axis % x.ndim) + (slice(start, min(end, size), step),)]
            else:
                places = range(*slice(start, None if end < -size else end, step).indices(size))
                x = x.index_select(axis, torch.tensor(list(places), device=x.device))
        return x

    return run


@_maker("Gather")
def _gather(node: Node) -> Call:
    axis, fixed = int(node.attributes.get("axis", 0)), node.known[1]
    if fixed is not None and fixed.ndim == 0:
        place = int(fixed)
        return lambda x, _: x.select(axis, place)

    def run(x: Tensor, index: Tensor) -> Tensor:
        index = index.long()
        if axis == 0 and x.ndim == 2 and fixed is None:
            return functional.embedding(index, x)
        found = x.index_select(axis, index.reshape(-1) % x.shape[axis])
        at = axis % x.ndim
        return found.reshape(*x.shape[:at], *index.shape, *x.shape[at + 1 :])

    return run


@_maker("Expand")
def _expand(node: Node) -> Call:
    def run(x: Tensor, shape: Tensor) -> Tensor:
        return x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist())))

    return run


@_maker("Tile")
def _tile(node: Node) -> Call:
    return lambda x, counts: x.repeat(counts.tolist())


@_maker("Shape")
def _shape(node: Node) -> Call:
    start, end = int(node.attributes.get("start", 0)), node.attributes.get("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


@_maker("ConstantOfShape")
def _constant_of_shape(node: Node) -> Call:
    value = node.attributes.get("value")
    fill = torch.zeros(1) if value is None else torch.from_numpy(onnx.numpy_helper.to_array(value).copy())
    dtype = node.floats if fill.is_floating_point() else fill.dtype
    return lambda shape: torch.full(tuple(shape.tolist()), fill.reshape(-1)[0].item(), dtype=dtype)


@_maker("Range")
def _range(node: Node) -> Call:
    return lambda start, limit, delta: torch.arange(
        start.item(), limit.item(), delta.item(), dtype=node.floats if start.is_floating_point() else start.dtype
    )


@_maker("ReduceMean", "ReduceSum")
def _reduce(node: Node) -> Call:
    axes, keep = node.constant(1, "axes"), bool(node.attributes.get("keepdims", 1))
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return lambda x, *_: x
    call = torch.mean if node.op == "ReduceMean" else torch.sum
    return lambda x, *_: call(x, dim=tuple(axes or range(x.ndim)), keepdim=keep)


@_maker("Pad")
def _pad(node: Node) -> Call:
    if node.attributes.get("mode", b"constant") != b"constant":
        raise node.refuse("only constants are supported around")
    pads, axes = node.constant(1, "pads") or [], node.constant(3)
    value = float(node.attributes.get("value", 0.0))
    if node.has(2):
        if node.known[2] is None:
            raise node.refuse("its value is computed; a constant is expected")
        value = float(node.known[2])

    def run(x: Tensor, *_: Tensor) -> Tensor:
        both = [0] * 2 * x.ndim
        chosen = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
        for place, axis in enumerate(chosen):
            both[axis], both[x.ndim + axis] = pads[place], pads[len(chosen) + place]
        return _padded(x, both, value)

    return run


@_maker("Mod")
def _mod(node: Node) -> Call:
    call: Call = torch.fmod if node.attributes.get("fmod", 0) else torch.remainder
    return call


@_maker("Trilu")
def _trilu(node: Node) -> Call:
    places = node.constant(1)
    diagonal = 0 if places is None else places[0]
    call = torch.triu if node.attributes.get("upper", 1) else torch.tril
    return lambda x, *_: call(x, diagonal)


@_maker("Einsum")
def _einsum(node: Node) -> Call:
    equation = node.attributes["equation"].decode()
    return lambda *given: torch.einsum(equation, *given)


@_maker("DepthToSpace", "SpaceToDepth")
def _depth(node: Node) -> Call:
    size = int(node.attributes["blocksize"])
    if node.op == "DepthToSpace" and node.attributes.get("mode", b"DCR") == b"CRD":
        return lambda x: functional.pixel_shuffle(x, size)

    def to_space(x: Tensor) -> Tensor:
        batch, depth, height, width = x.shape
        inner = depth // size**2
        split = x.reshape(batch, size, size, inner, height, width).permute(0, 3, 4, 1, 5, 2)
        return split.reshape(batch, inner, height * size, width * size)

    def to_depth(x: Tensor) -> Tensor:
        batch, depth, height, width = x.shape
        split = x.reshape(batch, depth, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
        return split.reshape(batch, depth * size**2, height // size, width // size)

    return to_space if node.op == "DepthToSpace" else to_depth
