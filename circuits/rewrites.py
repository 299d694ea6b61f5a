"""Rewrites of a plain model that keep its function and make its circuit smaller.

The owner applies them *before* encrypting: the rewritten model is the model that is encrypted, registered and proved,
so that nobody who checks has to know of them (ADR 7). Each is named, and the same file and names give the same file.

What they are worth follows from ezkl's rows for one element (two digits; ``num_inner_cols`` 1): a multiplication inside
a sum 1; a product that has to be brought back to its scale 47; ReLU 16, absolute value 11. A weight that rounds to zero
takes no row at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx

from circuits.onnx_graph import Array, Rewritten, Shape, attribute
from rexis.protocol.errors import MalformedError

_Edits = list[Callable[[], None]]

_HOMOGENEOUS = ("Relu", "Abs")
_CARRIES = (*_HOMOGENEOUS, "Gather", "Slice", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Neg")
_UNARY = (*_HOMOGENEOUS, "Sigmoid", "Tanh", "Erf", "Exp", "Sqrt", "Reciprocal", "Neg", "LeakyRelu", "Clip")
_LINEAR = ("Gemm", "MatMul", "Conv")
_BINARY = ("Add", "Sub", "Mul", "Div")


def select_early(graph: Rewritten) -> None:
    """Take the rows that are used before computing the others: ``gather(f(x)) = f(gather(x))``.

    A head that reads one place of the last layer's output needs that layer at one place only.
    """
    for node in [each for each in graph.nodes if each.op_type == "Gather"]:
        _keep_axis(graph, node)
    waiting = [each for each in graph.nodes if each.op_type == "Gather" and each.input[1] in graph.constants]
    while waiting:
        waiting += _moved_up(graph, waiting.pop())


def reassociate(graph: Rewritten) -> None:
    """``A (X W) = (A X) W``, where the latter takes fewer multiplications."""
    for node in [each for each in graph.nodes if each.op_type == "MatMul"]:
        left, product = node.input
        inner = graph.producer(product)
        if inner is None or inner.op_type != "MatMul" or not graph.only_for(product):
            continue
        middle, right = inner.input
        shapes = [graph.shape(name) for name in (left, middle, right)]
        if left in graph.constants or any(shape is None or not _counts(shape) for shape in shapes):
            continue
        (*batch, rows, depth), (*others, _, width), end = (shape for shape in shapes if shape is not None)
        if batch != others or len(end) != 2:
            continue
        columns = end[-1]
        if rows * depth * width + rows * width * columns < depth * width * columns + rows * depth * columns:  # type: ignore[operator]
            first = graph.insert("MatMul", [left, middle], (*batch, rows, width))
            graph.insert("MatMul", [first, right], (*batch, rows, columns), output=node.output[0])
            graph.remove(node, inner)


def relu_as_absolute(graph: Rewritten) -> None:
    """``relu(x) = x/2 + |x/2|``, the half in the weights before or after it."""
    for node in [each for each in graph.nodes if each.op_type == "Relu"]:
        given, made = node.input[0], node.output[0]
        edits = _scaled_before(graph, given, 0.5)
        if edits is None:
            edits = _scaled_after(graph, made, 0.5)
        if edits is None:
            continue
        _apply(edits)
        graph.remove(node)
        size = graph.insert("Abs", [given], graph.shape(given))
        graph.insert("Add", [given, size], graph.shape(given), output=made)


def fold_gelu(graph: Rewritten) -> None:
    """``h x (1 + erf(c x)) = (h/c) u (1 + erf(u))`` with ``u = c x``: both constants in the weights around it."""
    for node in [each for each in graph.nodes if each.op_type == "Erf"]:
        found = _gelu(graph, node)
        if found is None:
            continue
        given, inner, factor, plus_one, outer, made, ends = found
        before = _scaled_before(graph, given, inner, readers=2)
        if before is None:
            continue
        after = _scaled_after(graph, made, outer / inner)
        _apply(before)
        _apply(after or [])
        node.input[0] = given
        graph.remove(*factor, *ends)
        if after is not None:
            graph.insert("Mul", [given, plus_one], graph.shape(given), output=made)
        else:
            product = graph.insert("Mul", [given, plus_one], graph.shape(given))
            rest = graph.constant(np.array(outer / inner, dtype=np.float32))
            graph.insert("Mul", [product, rest], graph.shape(given), output=made)


def centre_norms(graph: Rewritten) -> None:
    """A layer norm of a linear map: mean and gain go into the map's weights, a root of a weighted sum is left.

    With ``y = g (W x + b - mean)`` the norm is ``y / sqrt(sum(y² / g²) / n + eps)``, since the values have mean 0.
    A norm that a linear map follows stays: its own keys (dense ones) hide more than those of a weighted sum.
    """
    for node in [each for each in graph.nodes if each.op_type == "LayerNormalization"]:
        given, made, shape = node.input[0], node.output[0], graph.shape(node.input[0])
        gain = graph.constants.get(node.input[1])
        if shape is None or gain is None or gain.shape != shape[-1:] or not np.all(gain):
            continue
        if attribute(node, "axis", -1) not in (-1, len(shape) - 1) or any(map(graph.users, node.output[1:])):
            continue
        if any(user.op_type in _LINEAR for user in graph.users(made)):
            continue
        edits = _adjusted(graph, given, partial(_centred, gain))
        if edits is None:
            continue
        _apply(edits)
        graph.remove(node)
        one = (*shape[:-1], 1)
        weights = graph.constant((1 / gain.astype(np.float64) ** 2).astype(gain.dtype)[:, np.newaxis])
        total = graph.insert("MatMul", [graph.insert("Mul", [given, given], shape), weights], one)
        mean = graph.insert("Mul", [total, graph.constant(np.array(1 / len(gain), dtype=gain.dtype))], one)
        least = graph.constant(np.array(attribute(node, "epsilon", 1e-5), dtype=gain.dtype))
        root = graph.insert("Sqrt", [graph.insert("Add", [mean, least], one)], one)
        biased = len(node.input) > 2 and node.input[2] != ""
        normed = graph.insert("Div", [given, root], shape, output=None if biased else made)
        if biased:
            graph.insert("Add", [normed, node.input[2]], shape, output=made)


REWRITES: dict[str, Callable[[Rewritten], None]] = {
    "select-early": select_early,
    "reassociate": reassociate,
    "relu-as-absolute": relu_as_absolute,
    "fold-gelu": fold_gelu,
    "centre-norms": centre_norms,
}
"""All there are, in the order to apply them."""


def rewrite(model: bytes, names: Sequence[str]) -> bytes:
    """Apply rewrites, in the order given; with none, constants are folded and nodes that copy are dropped.

    Parameters
    ----------
    names
        Of :data:`REWRITES`.

    Raises
    ------
    MalformedError
        No such rewrite.
    TensorError
        The model cannot be rewritten.
    """
    graph = Rewritten(model)
    for name in names:
        if name not in REWRITES:
            raise MalformedError(
                f"no rewrite is named {name!r}", field="rewrites", hint=f"there are {', '.join(REWRITES)}"
            )
        REWRITES[name](graph)
    return graph.to_bytes()


def _apply(edits: _Edits) -> None:
    for edit in edits:
        edit()


def _scaled_before(graph: Rewritten, name: str, factor: float, readers: int = 1) -> _Edits | None:
    """Edits of constants that make a value `factor` (> 0) times as large; None if there is no such way."""
    node = graph.producer(name)
    if node is None or not graph.only_for(name, readers):
        return None
    if node.op_type in ("Gemm", "Conv", "LayerNormalization"):
        return _scale(graph, node, [place for place in (1, 2) if place < len(node.input) and node.input[place]], factor)
    if node.op_type in ("Add", "Sub"):
        return _all([_operand_scaled(graph, node, place, factor) for place in (0, 1)])
    if node.op_type in ("MatMul", "Mul"):
        ways = (_operand_scaled(graph, node, place, factor) for place in (1, 0))
        return next((way for way in ways if way is not None), None)
    if node.op_type in _CARRIES:
        return _scaled_before(graph, node.input[0], factor)
    return None


def _operand_scaled(graph: Rewritten, node: onnx.NodeProto, place: int, factor: float) -> _Edits | None:
    if node.input[place] in graph.constants:
        return _scale(graph, node, [place], factor)
    return _scaled_before(graph, node.input[place], factor)


def _scaled_after(graph: Rewritten, name: str, factor: float) -> _Edits | None:
    """Edits of constants that make up for a value that became ``1/factor`` times as large; None if there are none."""
    if name == graph.output:
        return None
    found: list[_Edits | None] = []
    for node in graph.users(name):
        if list(node.input).count(name) != 1:
            return None
        place = list(node.input).index(name)
        if node.op_type in ("Gemm", "Conv") and place == 0:
            found.append(_scale(graph, node, [1], factor))
        elif node.op_type in ("MatMul", "Mul"):
            other = node.input[1 - place]
            found.append(
                _scale(graph, node, [1 - place], factor)
                if other in graph.constants
                else _scaled_after(graph, node.output[0], factor)
            )
        elif node.op_type in _CARRIES and place == 0:
            found.append(_scaled_after(graph, node.output[0], factor))
        else:
            return None
    return _all(found)


def _scale(graph: Rewritten, node: onnx.NodeProto, places: Sequence[int], factor: float) -> _Edits | None:
    if any(node.input[place] not in graph.constants for place in places):
        return None

    def edit() -> None:
        for place in places:
            value = graph.constants[node.input[place]]
            node.input[place] = graph.constant((value * factor).astype(value.dtype))

    return [edit]


def _all(parts: Sequence[_Edits | None]) -> _Edits | None:
    if not parts or any(part is None for part in parts):
        return None
    return [edit for part in parts if part is not None for edit in part]


def _centred(gain: Array, rows: Array) -> Array:
    centred: Array = (rows - rows.mean(axis=-1, keepdims=True)) * gain
    return centred


def _adjusted(graph: Rewritten, name: str, adjust: Callable[[Array], Array]) -> _Edits | None:
    """Edits of constants that apply a linear map to the last axis of a linear map's values."""
    node = graph.producer(name)
    if node is None or not graph.only_for(name):
        return None
    if node.op_type == "Gemm":
        turned = attribute(node, "transB", 0) == 1
        places = [place for place in (1, 2) if place < len(node.input)]
        return _all([_adjust(graph, node, place, adjust, turned=turned and place == 1) for place in places])
    if node.op_type == "MatMul":
        return _adjust(graph, node, 1, adjust)
    if node.op_type == "Add":
        return _all(
            [
                _adjust(graph, node, place, adjust) if each in graph.constants else _adjusted(graph, each, adjust)
                for place, each in enumerate(node.input)
            ]
        )
    return None


def _adjust(
    graph: Rewritten, node: onnx.NodeProto, place: int, adjust: Callable[[Array], Array], *, turned: bool = False
) -> _Edits | None:
    value = graph.constants.get(node.input[place])
    if value is None or value.ndim == 0:
        return None
    rows = (value.T if turned else value).astype(np.float64)
    adjusted = adjust(rows).astype(value.dtype)

    def edit() -> None:
        node.input[place] = graph.constant(adjusted.T if turned else adjusted)

    return [edit]


_Gelu = tuple[str, float, list[onnx.NodeProto], str, float, str, list[onnx.NodeProto]]


def _gelu(graph: Rewritten, erf: onnx.NodeProto) -> _Gelu | None:
    """The parts of ``h x (1 + erf(c x))`` around an Erf, or None.

    Returns
    -------
    x, c, the node that multiplies by c, ``1 + erf``, h, the result, and the nodes that make it.
    """
    inner = graph.producer(erf.input[0])
    if inner is None or inner.op_type != "Mul" or not graph.only_for(erf.input[0]):
        return None
    given, c = _scalar_times(graph, inner)
    plus = _only_user(graph, erf.output[0], "Add")
    if c is None or plus is None or _others_scalar(graph, plus, erf.output[0]) != 1.0:
        return None
    product = _only_user(graph, plus.output[0], "Mul")
    if product is None:
        return None
    other = next(name for name in product.input if name != plus.output[0])
    if other == given:  # (x (1 + erf)) h
        half = _only_user(graph, product.output[0], "Mul")
        h = None if half is None else _others_scalar(graph, half, product.output[0])
        if half is None or h is None:
            return None
        return given, c, [inner], plus.output[0], h, half.output[0], [product, half]
    half = graph.producer(other)  # (x h) (1 + erf)
    if half is None or half.op_type != "Mul" or not graph.only_for(other):
        return None
    same, h = _scalar_times(graph, half)
    if same != given or h is None:
        return None
    return given, c, [inner], plus.output[0], h, product.output[0], [product, half]


def _scalar_times(graph: Rewritten, node: onnx.NodeProto) -> tuple[str, float | None]:
    """A product's operand and the positive number that it is multiplied by; None if it is multiplied otherwise."""
    for one, two in (tuple(node.input), tuple(reversed(node.input))):
        number = graph.scalar(two)
        if number is not None and number > 0:
            return one, number
    return node.input[0], None


def _others_scalar(graph: Rewritten, node: onnx.NodeProto, name: str) -> float | None:
    others = [each for each in node.input if each != name]
    return graph.scalar(others[0]) if len(others) == 1 else None


def _only_user(graph: Rewritten, name: str, op: str) -> onnx.NodeProto | None:
    users = graph.users(name)
    return users[0] if name != graph.output and len(users) == 1 and users[0].op_type == op else None


def _keep_axis(graph: Rewritten, node: onnx.NodeProto) -> None:
    """A Gather of one place leaves its axis out. Let it keep the axis, and squeeze it away after."""
    places, shape = graph.constants.get(node.input[1]), graph.shape(node.input[0])
    if places is None or places.ndim != 0 or shape is None:
        return
    axis = attribute(node, "axis", 0) % len(shape)
    one = _with_size(shape, axis, 1)
    kept = graph.insert("Gather", [node.input[0], graph.constant(places.reshape(1))], one, axis=axis)
    graph.remove(node)
    left = (*shape[:axis], *shape[axis + 1 :])
    if graph.opset < 13:  # axes became an input
        graph.insert("Squeeze", [kept], left, output=node.output[0], axes=[axis])
    else:
        graph.insert("Squeeze", [kept, graph.constant(np.array([axis]))], left, output=node.output[0])


def _moved_up(graph: Rewritten, gather: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Put a Gather before the node whose output it reads; the new ones, or none if that cannot be done."""
    source, places = gather.input[0], gather.input[1]
    node, shape = graph.producer(source), graph.shape(source)
    if node is None or shape is None or not graph.only_for(source) or graph.constants[places].ndim != 1:
        return []
    axis, count = attribute(gather, "axis", 0) % len(shape), len(graph.constants[places])
    if axis == 0 or count >= _number(shape[axis]):
        return []
    picked = _picked_axes(graph, node, shape, axis)
    if picked is None:
        return []
    made, inputs = [], list(node.input)
    for place, own in enumerate(picked):
        if own is None:
            continue
        name = node.input[place]
        had = graph.shape(name)
        assert had is not None  # noqa: S101 (_picked_axes looked)
        if name in graph.constants:
            inputs[place] = graph.constant(np.take(graph.constants[name], graph.constants[places], axis=own))
        else:
            inputs[place] = graph.insert("Gather", [name, places], _with_size(had, own, count), axis=own)
            made.append(graph.nodes[-1])
    graph.remove(node, gather)
    how = {each.name: attribute(node, each.name, None) for each in node.attribute}
    graph.insert(node.op_type, inputs, _with_size(shape, axis, count), output=gather.output[0], **how)
    return made


def _picked_axes(graph: Rewritten, node: onnx.NodeProto, shape: Shape, axis: int) -> list[int | None] | None:
    """For each operand the axis to select on, None for one that is the same at every place; None if unknown."""
    shapes = [graph.shape(name) for name in node.input]
    if any(each is None for each in shapes):
        return None
    known = [each for each in shapes if each is not None]
    if node.op_type in _UNARY:
        return [axis, *[None] * (len(known) - 1)]
    from_end = axis - len(shape)
    if node.op_type in _BINARY:
        return [_own_axis(each, from_end) for each in known]
    if node.op_type == "MatMul" and min(map(len, known)) >= 2:
        left, right = known
        if from_end == -1:
            return [None, len(right) - 1]
        if from_end == -2:
            return [len(left) - 2, None]
        return [_own_axis(left, from_end), _own_axis(right, from_end)]
    return None


def _own_axis(shape: Shape, from_end: int) -> int | None:
    """Where an operand has an axis of a broadcast result; None if it has none, or one place for all."""
    place = len(shape) + from_end
    return place if place >= 0 and shape[place] != 1 else None


def _with_size(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _number(size: int | str) -> float:
    return size if isinstance(size, int) else math.inf


def _counts(shape: Shape) -> bool:
    return len(shape) >= 2 and all(isinstance(size, int) for size in shape[-2:])
