"""Operators one by one, in models of one layer before and one behind; and what is refused, with the axis named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.card import card_of
from rexis.ee.compiler import EncryptedModel, encrypt_model
from rexis.protocol.errors import EncryptionError
from tests.unit.ee.dense_networks import run
from tests.unit.ee.random_graphs import FEATURES, TOKENS, Sketch
from tests.unit.ee.test_ee_compiler import without_constants

SEED = bytes(range(32))
RECORDS = np.random.default_rng(0).normal(size=(20, TOKENS, FEATURES)).astype(np.float32)

Draw = Callable[[Sketch], None]


def model_of(draw: Draw, opset: int = 17) -> onnx.ModelProto:
    sketch = Sketch(5)
    draw(sketch)
    return sketch.build(opset=opset)


def carried_through(model: onnx.ModelProto, **options: object) -> EncryptedModel:
    encrypted = encrypt_model(model, epoch=1, seed=SEED, **options)  # type: ignore[arg-type]
    assert without_constants(encrypted.model) == without_constants(model)
    plain = run(model, RECORDS)
    found = decrypt_outputs(encrypted.key, run(encrypted.model, encrypt_records(encrypted.key, RECORDS)))
    error = np.linalg.norm((found - plain).reshape(len(plain), -1), axis=1)
    assert np.median(error / np.linalg.norm(plain.reshape(len(plain), -1), axis=1)) < 1e-5
    return encrypted


def unary(op: str, **attributes: object) -> Draw:
    """The operator on values between 0 and 1, or between 1 and 2."""

    def draw(s: Sketch) -> None:
        s.value, s.width = s.node("Sigmoid", s.linear(s.value, s.width, 8)), 8
        if op == "Acosh":
            s.value = s.node("Add", s.value, s.constant(np.float32(1)))
        s.value = s.node(op, s.value, **attributes)

    return draw


UNARY = (
    *("Relu", "LeakyRelu", "Abs", "Neg", "Tanh", "Erf", "Sin", "Tan", "Asin", "Atan", "Sinh", "Asinh", "Atanh", "Sign"),
    *(
        "Softsign",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Gelu",
        "Mish",
        "Elu",
        "Selu",
        "Celu",
        "Softplus",
        "Exp",
        "Log",
    ),
    *(
        "Sqrt",
        "Reciprocal",
        "Cos",
        "Acos",
        "Cosh",
        "Acosh",
        "Shrink",
        "ThresholdedRelu",
        "Softmax",
        "LogSoftmax",
        "Clip",
    ),
    "Identity",
)


@pytest.mark.parametrize("op", UNARY)
def test_elementwise_operators(op: str) -> None:
    carried_through(model_of(unary(op), opset=20))


def test_swish_of_opset_24() -> None:
    carried_through(model_of(unary("Swish", alpha=1.5), opset=24))


def binary(op: str) -> Draw:
    def draw(s: Sketch) -> None:
        first, second = (s.node("Sigmoid", s.linear(s.value, s.width, 6)) for _ in range(2))
        s.value, s.width = s.node(op, first, second), 6

    return draw


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum"])
def test_operators_of_two_values(op: str) -> None:
    carried_through(model_of(binary(op)))


@pytest.mark.parametrize(
    "op",
    ["ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"],
)
@pytest.mark.parametrize("axis", [1, 2])
def test_reductions(op: str, axis: int) -> None:
    def draw(s: Sketch) -> None:
        made = s.linear(s.value, s.width, 6)
        reduced = s.node(op, made, s.constant(np.array([axis])), keepdims=1)
        s.value, s.width = s.node("Add", made, reduced), 6

    carried_through(model_of(draw, opset=18))


def group_norm(s: Sketch) -> None:
    s.value, s.width = s.linear(s.value, s.width, 6), 6
    turned = s.node("Transpose", s.value, perm=[0, 2, 1])
    gain, shift = (s.constant(s.random.uniform(0.5, 1.5, 6)) for _ in range(2))
    s.value = s.node("Transpose", s.node("GroupNormalization", turned, gain, shift, num_groups=2), perm=[0, 2, 1])


def rms_norm(s: Sketch) -> None:
    s.value, s.width = s.linear(s.value, s.width, 6), 6
    s.value = s.node("RMSNormalization", s.value, s.constant(s.random.uniform(0.5, 1.5, 6)), axis=-1)


@pytest.mark.parametrize(("draw", "opset"), [(group_norm, 21), (rms_norm, 23)])
def test_fused_normalisations(draw: Draw, opset: int) -> None:
    carried_through(model_of(draw, opset=opset))


def shared_weight(op: str) -> Draw:
    """A weight behind a normalisation with gains, and behind nothing: the second use must not see the gain."""

    def draw(s: Sketch) -> None:
        s.value = s.linear(s.value, s.width, s.width)
        normed = s.node("RMSNormalization", s.value, s.constant(s.random.uniform(0.5, 1.5, s.width)), axis=-1)
        weight = s.constant(s.random.normal(size=(s.width, s.width)))
        if op == "Gemm":
            normed, s.value = (s.node("ReduceMean", each, s.constant([1]), keepdims=0) for each in (normed, s.value))
        added = s.node("Add", s.node(op, normed, weight), s.node(op, s.value, weight))
        s.value = added if op == "MatMul" else s.node("Unsqueeze", added, s.constant([1]))
        s.tokens = s.tokens if op == "MatMul" else 1

    return draw


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_a_weight_that_several_nodes_read_takes_no_gain_up(op: str) -> None:
    carried_through(model_of(shared_weight(op), opset=23))


@pytest.mark.parametrize("residual", [False, True])
def test_a_value_subtracted_from_a_constant_turns_its_offset_round(residual: bool) -> None:
    def draw(s: Sketch) -> None:
        offset = s.linear(s.value, s.width, s.width)
        turned = s.node("Sub", s.constant(s.random.normal(size=s.width)), offset)
        s.value = s.node("Add", turned, s.value) if residual else turned

    encrypted = carried_through(model_of(draw))
    assert encrypted.key.output.offset is not None


@pytest.mark.parametrize("along", [[1], [1, 2], [2]])
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum"])
def test_only_squares_that_are_summed_over_all_that_is_mixed_pass_an_isometry(op: str, along: list[int]) -> None:
    def draw(s: Sketch) -> None:
        mixed = s.linear(s.value, s.width, s.width)
        s.value = s.node("Add", s.value, s.node(op, s.node("Mul", mixed, mixed), s.constant(along), keepdims=1))

    carried_through(model_of(draw, opset=18))


@pytest.mark.parametrize(
    ("op", "shape"), [("Pow", (1,)), ("Pow", (1, 1)), ("Square", (1,)), ("Clip", (1,)), ("Pad", (1,))]
)
def test_a_number_that_is_stored_with_axes_stays_that_number(op: str, shape: tuple[int, ...]) -> None:
    s = Sketch(5)

    def number(value: float) -> str:
        return s.constant(np.full(shape, value))

    value = s.linear(s.value, s.width, s.width)
    if op == "Clip":
        s.value = s.node("Clip", value, number(-1.0), number(0.3))
    elif op == "Pad":
        s.value, s.tokens = s.node("Pad", value, s.constant([0, 1, 0, 0, 0, 0]), number(0.5)), s.tokens + 1
    else:
        s.value = s.node("Pow", value, number(2.0 if op == "Square" else 3.0))
    carried_through(s.build())


@pytest.mark.parametrize("shape", [(1,), (1, 1), (3,), (1, 3)])
def test_the_bias_of_a_gemm_may_be_one_number(shape: tuple[int, ...]) -> None:
    s = Sketch(5)
    flat = s.node("Reshape", s.linear(s.value, s.width, s.width), s.constant(np.array([-1, s.tokens * s.width])))
    weight = s.constant(s.random.normal(size=(s.tokens * s.width, 3)))
    made = s.node("Gemm", flat, weight, s.constant(s.random.normal(size=shape)), alpha=0.5, beta=2.0)
    s.value, s.tokens, s.width = s.node("Unsqueeze", made, s.constant([1])), 1, 3
    carried_through(s.build())


def attention(**attributes: object) -> Draw:
    """The operator on three axes: it cuts heads itself, and serves two queries with each key."""

    def draw(s: Sketch) -> None:
        q, k, v = (s.linear(s.value, s.width, wide) for wide in (12, 6, 6))
        mask = [s.constant(s.random.normal(size=(s.tokens, s.tokens)))] if attributes.pop("masked", False) else []
        s.value = s.node("Attention", q, k, v, *mask, q_num_heads=4, kv_num_heads=2, **attributes)
        s.width = 12

    return draw


@pytest.mark.parametrize("attributes", [{}, {"is_causal": 1}, {"masked": True}, {"scale": 0.3}])
def test_fused_attention(attributes: dict[str, object]) -> None:
    encrypted = carried_through(model_of(attention(**attributes), opset=23))
    clear = [axis.reason for axis in card_of(encrypted).clear]
    assert any(reason.startswith("order of tokens") for reason in clear) == ("is_causal" in attributes)
    assert {axis.group for axis in card_of(encrypted).axes if axis.size == 3 and axis.per_place > 1} == {"invertible"}


def joined_rows(s: Sketch) -> None:
    parts = [s.linear(s.value, s.width, 3) for _ in range(2)]
    s.value = s.node("Reshape", s.node("Concat", *parts, axis=2), s.constant(np.array([-1, 2 * s.tokens, 3])))
    s.tokens, s.width = 2 * s.tokens, 3


def test_joined_segments_are_cut_into_rows_that_share_a_key_if_their_order_may_show() -> None:
    with pytest.raises(EncryptionError, match="the order of joined segments") as refused:
        encrypt_model(model_of(joined_rows), epoch=1)
    assert refused.value.field is not None
    encrypted = carried_through(model_of(joined_rows), allow_clear=(refused.value.field,))
    (clear,) = (axis for axis in card_of(encrypted).clear if "joined segments" in axis.reason)
    assert clear.allowed_by_owner
    shared = [axis for axis in card_of(encrypted).axes if axis.size == 3 and axis.group == "invertible"]
    assert any("c0/1" in axis.where and "c2/1" in axis.where for axis in shared)


def causal(s: Sketch) -> None:
    scores = s.node("MatMul", s.value, s.node("Transpose", s.value, perm=[0, 2, 1]))
    mask = s.constant(np.triu(np.full((s.tokens, s.tokens), -np.inf), 1))
    s.value = s.node("MatMul", s.node("Softmax", s.node("Add", scores, mask), axis=-1), s.value)


def test_an_infinite_mask_is_permuted_and_no_part_of_the_distance_from_a_base_model() -> None:
    model = model_of(causal)
    encrypted = carried_through(model)
    assert card_of(encrypted).clear == []
    data = model.SerializeToString()
    distances = card_of(encrypted, plain=data, base=data).distances
    assert [(each.constant, each.distance) for each in distances] == [("c1", 0.0)]


def cut_across_heads(s: Sketch) -> None:
    made = s.linear(s.value, s.width, 6)
    heads = s.node("Reshape", made, s.constant(np.array([-1, s.tokens, 2, 3])))
    weights = s.node("Softmax", s.node("MatMul", heads, s.node("Transpose", heads, perm=[0, 1, 3, 2])), axis=-1)
    merged = s.node("Reshape", s.node("MatMul", weights, heads), s.constant(np.array([-1, s.tokens, 6])))
    bounds = (s.constant(np.array([place])) for place in (0, 4, 2))
    s.value, s.width = s.node("Slice", merged, *bounds), 4


def test_a_cut_across_heads_needs_the_owners_consent() -> None:
    model = model_of(cut_across_heads)
    with pytest.raises(
        EncryptionError, match=r"axis .* would stay readable: no key commutes with .*\(Slice\)"
    ) as caught:
        encrypt_model(model, epoch=1, seed=SEED)
    assert caught.value.field is not None
    assert caught.value.hint is not None
    assert f"--allow-clear {caught.value.field}" in caught.value.hint
    encrypted = carried_through(model, allow_clear=[caught.value.field])
    assert [axis.where for axis in card_of(encrypted).clear if axis.allowed_by_owner] == [caught.value.field]


def einsum(equation: str, *shapes: tuple[int, ...]) -> Draw:
    def draw(s: Sketch) -> None:
        s.value = s.node(
            "Einsum", s.value, *(s.constant(s.random.normal(size=shape)) for shape in shapes), equation=equation
        )

    return draw


def twice(s: Sketch) -> None:
    s.value, s.width = s.linear(s.value, s.width, s.tokens), s.tokens
    s.value = s.node("Unsqueeze", s.node("Einsum", s.value, equation="bii->bi"), s.constant(np.array([1])))
    s.tokens = 1


def reduced_records(s: Sketch) -> None:
    s.value = s.node("Add", s.value, s.node("ReduceMean", s.value, axes=[0], keepdims=1))


def joined_records(s: Sketch) -> None:
    s.value = s.node("Concat", s.value, s.value, axis=0)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (einsum("btf,fg,gf->btf", (6, 6), (6, 6)), r"node 'n0' \(Einsum\): it multiplies 3 operands at once"),
        (twice, r"node 'n2' \(Einsum\): operand 'v1_0' has a label twice"),
        (reduced_records, r"node 'n0' \(ReduceMean\): it sums over records/0, the batch axis"),
        (joined_records, r"node 'n0' \(Concat\): it joins along records/0, the batch axis"),
    ],
)
def test_refusals_name_the_node_the_operator_and_the_axis_and_say_what_would_help(draw: Draw, message: str) -> None:
    with pytest.raises(EncryptionError, match=message) as caught:
        encrypt_model(model_of(draw), epoch=1)
    assert caught.value.field
    assert caught.value.hint


@pytest.mark.parametrize("op", ["GRU", "LSTM", "RNN"])
def test_recurrent_operators_are_refused(op: str) -> None:
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[op]

    def draw(s: Sketch) -> None:
        first = s.node("Transpose", s.value, perm=[1, 0, 2])
        weights = (s.constant(s.random.normal(size=(1, gates * 5, wide))) for wide in (s.width, 5))
        made = s.node(op, first, *weights, hidden_size=5)
        s.value, s.width = s.node("Transpose", s.node("Squeeze", made, s.constant(np.array([1]))), perm=[1, 0, 2]), 5

    with pytest.raises(EncryptionError, match=rf"node 'n1' \({op}\): no rule says how this operator commutes"):
        encrypt_model(model_of(draw), epoch=1)
