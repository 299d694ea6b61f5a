"""Random graphs over the supported operators, for property tests: every step keeps ``[batch, tokens, features]``.

Some steps read an input of their own beside the records: an adjacency of the tokens, a mask, more features.
"""

from __future__ import annotations

from collections.abc import Callable

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

    def build(self, classes: int = 3) -> onnx.ModelProto:
        output = self.linear(self.value, self.width, classes)
        graph = helper.make_graph(
            self.nodes,
            "sketch",
            list(self.inputs.values()),
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", self.tokens, classes])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
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


STEPS: dict[str, Step] = {
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


def neighbours(s: Sketch) -> None:
    """``A X``, or ``D⁻¹ A X``."""
    if s.tokens != TOKENS:
        return
    near = s.input("near", TensorProto.FLOAT, TOKENS, TOKENS)
    if s.random.integers(2):
        near = s.node("Div", near, s.node("ReduceSum", near, s.constant(np.array([2])), keepdims=1))
    s.value = s.node("MatMul", near, s.value)


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
