"""Random graphs over the supported operators, for property tests: every step keeps ``[batch, tokens, features]``.

Some steps read an input of their own beside the records: an adjacency of the tokens, a mask, more features.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TOKENS, FEATURES = 4, 6


class Sketch:
    """A graph being drawn. `value` is the current tensor, ``[batch, tokens, width]``."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.value, self.tokens, self.width = "records", TOKENS, FEATURES
        self.inputs: dict[str, onnx.ValueInfoProto] = {}
        self.input("records", TensorProto.FLOAT, TOKENS, FEATURES)

    def input(self, name: str, kind: int, *shape: int) -> str:
        self.inputs[name] = helper.make_tensor_value_info(name, kind, ["batch", *shape])
        return name

    def constant(self, values: object) -> str:
        name = f"c{len(self.constants)}"
        array = np.asarray(values)
        self.constants.append(numpy_helper.from_array(array if array.dtype.kind == "i" else array.astype("f4"), name))
        return name

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [f"v{len(self.nodes)}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}", **attributes))
        return names[0]

    def linear(self, value: str, rows: int, columns: int, *, bias: bool = True) -> str:
        made = self.node("MatMul", value, self.constant(self.random.normal(size=(rows, columns)) / np.sqrt(rows)))
        return self.node("Add", made, self.constant(self.random.normal(size=columns) * 0.3)) if bias else made

    def build(self, classes: int = 3, opset: int = 17) -> onnx.ModelProto:
        output = self.linear(self.value, self.width, classes)
        graph = helper.make_graph(
            self.nodes,
            "sketch",
            list(self.inputs.values()),
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", self.tokens, classes])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model


Step = Callable[[Sketch], None]


def linear(s: Sketch) -> None:
    wide = int(s.random.integers(2, 9))
    s.value, s.width = s.linear(s.value, s.width, wide, bias=bool(s.random.integers(2))), wide


def activation(*ops: str) -> Step:
    def step(s: Sketch) -> None:
        s.value = s.node(str(s.random.choice(ops)), s.value)

    return step


def layer_norm(s: Sketch) -> None:
    gain, shift = s.random.uniform(0.5, 1.5, s.width), s.random.normal(size=s.width)
    s.value = s.node("LayerNormalization", s.value, s.constant(gain), s.constant(shift), axis=-1, epsilon=1e-3)


def rms_norm(s: Sketch) -> None:
    squares = s.node("Pow", s.value, s.constant(np.float32(2)))
    mean = s.node("ReduceMean", squares, axes=[-1], keepdims=1)
    root = s.node("Sqrt", s.node("Add", mean, s.constant(np.float32(1e-3))))
    s.value = s.node("Mul", s.node("Div", s.value, root), s.constant(s.random.uniform(0.5, 1.5, s.width)))


def residual(s: Sketch) -> None:
    hidden = s.node("Relu", s.linear(s.value, s.width, 7))
    s.value = s.node("Add", s.value, s.linear(hidden, 7, s.width))


def parameter(s: Sketch) -> None:
    op = str(s.random.choice(["Mul", "Add", "Sub", "Div"]))
    shape = (s.width,) if s.random.integers(2) else (s.tokens, s.width)
    s.value = s.node(op, s.value, s.constant(s.random.uniform(0.5, 1.5, shape)))


def number(s: Sketch) -> None:
    s.value = s.node(str(s.random.choice(["Mul", "Add", "Div"])), s.value, s.constant(np.float32(0.7)))


def attention(s: Sketch) -> None:
    heads, size = 2, 3
    q, k, v = (s.linear(s.value, s.width, heads * size, bias=bool(s.random.integers(2))) for _ in range(3))
    shape = s.constant(np.array([-1, s.tokens, heads, size]))
    q, k, v = (s.node("Transpose", s.node("Reshape", each, shape), perm=[0, 2, 1, 3]) for each in (q, k, v))
    scores = s.node("MatMul", q, s.node("Transpose", k, perm=[0, 1, 3, 2]))
    mixed = s.node("MatMul", s.node("Softmax", scores, axis=-1), v)
    merged = s.constant(np.array([-1, s.tokens, heads * size]))
    flat = s.node("Reshape", s.node("Transpose", mixed, perm=[0, 2, 1, 3]), merged)
    s.value, s.width = s.linear(flat, heads * size, s.width), s.width


def mix_tokens(s: Sketch) -> None:
    turned = s.node("Transpose", s.value, perm=[0, 2, 1])
    wide = int(s.random.integers(2, 6))
    s.value = s.node("Transpose", s.linear(turned, s.tokens, wide, bias=bool(s.random.integers(2))), perm=[0, 2, 1])
    s.tokens = wide


def halves(s: Sketch) -> None:
    if s.width % 2:
        return
    half = s.width // 2
    first = s.node("Slice", s.value, s.constant(np.array([0])), s.constant(np.array([half])), s.constant(np.array([2])))
    second = s.node(
        "Slice", s.value, s.constant(np.array([half])), s.constant(np.array([2 * half])), s.constant(np.array([2]))
    )
    if s.random.integers(2):
        s.value = s.node("Concat", s.node("Neg", second), first, axis=2)
    else:
        s.value, s.width = s.node("Mul", s.node("Sigmoid", first), second), half


def join(s: Sketch) -> None:
    other = s.linear(s.value, s.width, 4)
    s.value, s.width = s.node("Concat", s.value, other, axis=-1), s.width + 4


def first_token(s: Sketch) -> None:
    picked = s.node("Gather", s.value, s.constant(np.array([0])), axis=1)
    s.value = s.node("Add", s.value, picked)


def pool(s: Sketch) -> None:
    mean = s.node("ReduceMean", s.value, axes=[1], keepdims=1)
    s.value = s.node("Sub", s.value, mean)


def regroup(s: Sketch) -> None:
    """Cut features in two, swap the parts with tokens, and merge."""
    if s.width % 2:
        return
    cut = s.node("Reshape", s.value, s.constant(np.array([-1, s.tokens, 2, s.width // 2])))
    s.value = s.node(
        "Reshape", s.node("Transpose", cut, perm=[0, 2, 1, 3]), s.constant(np.array([-1, 2 * s.tokens, s.width // 2]))
    )
    s.tokens, s.width = 2 * s.tokens, s.width // 2


def gated(s: Sketch) -> None:
    gate, up = s.linear(s.value, s.width, 6), s.linear(s.value, s.width, 6)
    gate = s.node("Mul", gate, s.node("Sigmoid", gate)) if s.random.integers(2) else s.node("Relu", gate)
    pair = (gate, up) if s.random.integers(2) else (up, gate)
    s.value, s.width = s.node("Mul", *pair), 6


def layer_scale(s: Sketch) -> None:
    gain = s.constant(s.random.uniform(-0.5, 0.5, s.width))
    branch = s.linear(s.node("Tanh", s.linear(s.value, s.width, 5)), 5, s.width)
    s.value = s.node("Add", s.value, s.node("Mul", *((branch, gain) if s.random.integers(2) else (gain, branch))))


def rotary(s: Sketch) -> None:
    if s.width % 2:
        return
    half = s.width // 2
    angles = s.random.uniform(0, 6, (s.tokens, half))
    form = s.random.integers(3)
    both = np.repeat(angles, 2, -1) if form == 1 else np.tile(angles, 2) if form == 0 else angles
    cos, sin = s.constant(np.cos(both)), s.constant(np.sin(both))

    def piece(start: int, stop: int, step: int) -> str:
        where = (s.constant(np.array([each])) for each in (start, stop, 2, step))
        return s.node("Slice", s.value, *where)

    if form == 1:
        first, second = piece(0, s.width, 2), piece(1, s.width, 2)
        last = s.constant(np.array([3]))
        pair = s.node("Concat", *(s.node("Unsqueeze", x, last) for x in (s.node("Neg", second), first)), axis=3)
        turned = s.node("Reshape", pair, s.constant(np.array([-1, s.tokens, s.width])))
        s.value = s.node("Add", s.node("Mul", s.value, cos), s.node("Mul", turned, sin))
        return
    first, second = piece(0, half, 1), piece(half, s.width, 1)
    if form == 0:
        turned = s.node("Concat", s.node("Neg", second), first, axis=2)
        s.value = s.node("Add", s.node("Mul", s.value, cos), s.node("Mul", turned, sin))
        return
    real = s.node("Sub", s.node("Mul", first, cos), s.node("Mul", second, sin))
    s.value = s.node("Concat", real, s.node("Add", s.node("Mul", second, cos), s.node("Mul", sin, first)), axis=-1)


def packed_attention(s: Sketch) -> None:
    size = 4
    packed = s.linear(s.value, s.width, 3 * size, bias=bool(s.random.integers(2)))
    cut = s.node("Reshape", packed, s.constant(np.array([-1, s.tokens, 3, size])))
    front = s.node("Transpose", cut, perm=[2, 0, 1, 3])
    q, k, v = (s.node("Gather", front, s.constant(np.array(place)), axis=0) for place in range(3))
    scores = s.node("Softmax", s.node("Einsum", q, k, equation="bqd,bkd->bqk"), axis=-1)
    s.value, s.width = s.node("Einsum", scores, v, equation="bqk,bkd->bqd"), size


def einsum(s: Sketch) -> None:
    wide = int(s.random.integers(2, 6))
    kind = s.random.integers(3)
    if kind == 0:
        weight = s.constant(s.random.normal(size=(wide, s.width)))
        s.value, s.width = s.node("Einsum", s.value, weight, equation="btf,gf->btg"), wide
    elif kind == 1:
        weight = s.constant(s.random.normal(size=(s.tokens, wide)))
        s.value, s.tokens = s.node("Einsum", s.value, weight, equation="...tf,ts->...sf"), wide
    else:
        weight = s.constant(s.random.normal(size=(s.tokens, s.width)))
        s.value = s.node("Einsum", s.value, weight, equation="btf,tf->btf")


def resize(s: Sketch) -> None:
    mode = str(s.random.choice(["nearest", "linear"]))
    longer, wider = (2, 1) if s.random.integers(2) else (1, 2)
    s.value = s.node("Resize", s.value, "", s.constant(np.array([1.0, longer, wider])), mode=mode)
    s.tokens, s.width = longer * s.tokens, wider * s.width


def group_norm(s: Sketch) -> None:
    """Groups of features, as InstanceNormalization over a reshape says it."""
    if s.width % 2:
        return
    turned = s.node("Transpose", s.value, perm=[0, 2, 1])
    rows = s.node("Reshape", turned, s.constant(np.array([0, 2, -1])))
    normed = s.node("InstanceNormalization", rows, s.constant(np.ones(2)), s.constant(np.zeros(2)), epsilon=1e-2)
    back = s.node("Reshape", normed, s.constant(np.array([-1, s.width, s.tokens])))
    gain, shift = s.random.uniform(0.5, 1.5, (s.width, 1)), s.random.normal(size=(s.width, 1))
    made = s.node("Add", s.node("Mul", back, s.constant(gain)), s.constant(shift))
    s.value = s.node("Transpose", made, perm=[0, 2, 1])


def tile(s: Sketch) -> None:
    s.value, s.width = s.node("Tile", s.value, s.constant(np.array([1, 1, 2]))), 2 * s.width


def masked(s: Sketch) -> None:
    """Causal attention among tokens, with an infinite mask."""
    scores = s.node("MatMul", s.value, s.node("Transpose", s.value, perm=[0, 2, 1]))
    mask = np.triu(np.full((s.tokens, s.tokens), -np.inf), 1)
    weights = s.node("Softmax", s.node("Add", scores, s.constant(mask)), axis=-1)
    s.value = s.node("MatMul", weights, s.value)


def pair_up(s: Sketch) -> None:
    """Joined segments that a reshape cuts into rows."""
    wide = s.node("Concat", s.linear(s.value, s.width, 3), s.linear(s.value, s.width, 3), axis=2)
    s.value = s.node("Reshape", wide, s.constant(np.array([-1, 2 * s.tokens, 3])))
    s.tokens, s.width = 2 * s.tokens, 3


STEPS: dict[str, Step] = {
    "gated": gated,
    "layer scale": layer_scale,
    "rotary": rotary,
    "packed attention": packed_attention,
    "einsum": einsum,
    "resize": resize,
    "group norm": group_norm,
    "tile": tile,
    "masked": masked,
    "pair up": pair_up,
    "linear": linear,
    "homogeneous": activation("Relu", "LeakyRelu"),
    "odd": activation("Tanh", "Erf"),
    "any": activation("Sigmoid", "HardSwish", "Softplus", "Elu"),
    "layer norm": layer_norm,
    "rms norm": rms_norm,
    "residual": residual,
    "parameter": parameter,
    "number": number,
    "softmax": activation("Softmax"),
    "attention": attention,
    "mix tokens": mix_tokens,
    "halves": halves,
    "join": join,
    "first token": first_token,
    "pool": pool,
    "regroup": regroup,
}


def neighbours(s: Sketch, *, einsum: bool = False) -> None:
    """``A X``, or ``D⁻¹ A X``."""
    if s.tokens != TOKENS:
        return
    near = s.input("near", TensorProto.FLOAT, TOKENS, TOKENS)
    if s.random.integers(2):
        near = s.node("Div", near, s.node("ReduceSum", near, s.constant(np.array([2])), keepdims=1))
    s.value = s.node("Einsum", near, s.value, equation="bij,bjf->bif") if einsum else s.node("MatMul", near, s.value)


def masked_attention(s: Sketch) -> None:
    if s.tokens != TOKENS:
        return
    mask = s.node("Unsqueeze", s.input("mask", TensorProto.BOOL, TOKENS), s.constant(np.array([1])))
    q, k, v = (s.linear(s.value, s.width, 4) for _ in range(3))
    scores = s.node("MatMul", q, s.node("Transpose", k, perm=[0, 2, 1]))
    scores = s.node("Where", mask, scores, s.constant(np.float32(s.random.choice([-1e4, -np.inf]))))
    s.value, s.width = s.node("MatMul", s.node("Softmax", scores, axis=-1), v), 4


def gate(s: Sketch) -> None:
    if s.tokens != TOKENS:
        return
    kept = s.node("Cast", s.input("mask", TensorProto.BOOL, TOKENS), to=TensorProto.FLOAT)
    s.value = s.node("Mul", s.value, s.node("Unsqueeze", kept, s.constant(np.array([2]))))


def more_features(s: Sketch) -> None:
    if s.tokens != TOKENS:
        return
    more = s.input("more", TensorProto.FLOAT, TOKENS, 5)
    if s.random.integers(2):
        s.value, s.width = s.node("Concat", s.value, more, axis=2), s.width + 5
    else:
        s.value = s.node("Add", s.value, s.linear(more, 5, s.width))


SEVERAL: dict[str, Step] = {
    "neighbours": neighbours,
    "einsum of neighbours": partial(neighbours, einsum=True),
    "masked attention": masked_attention,
    "gate": gate,
    "more features": more_features,
}


def random_graph(steps: list[str], seed: int) -> onnx.ModelProto:
    """The steps, one after another, and a linear head."""
    sketch = Sketch(seed)
    for name in steps:
        (STEPS | SEVERAL)[name](sketch)
    return sketch.build()
