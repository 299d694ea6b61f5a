"""Real kinds of networks, from torch's both exporters: what comes out decrypts to what the plain model gives."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from torch import Tensor

from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.card import card_of
from rexis.ee.compiler import EncryptedModel, encrypt_model
from rexis.ee.groups import MONOMIAL, DenseKey, group_name
from rexis.ee.layout import ORDER, Factor
from tests.unit.ee.dense_networks import run
from tests.unit.ee.test_ee_compiler import stored, without_constants
from tests.unit.ee.torch_networks import NETWORKS, exported

SEED = bytes(range(32))
EXPORTERS = {"legacy": False, "dynamo": True}


@cache
def compiled(name: str, *, dynamo: bool = False, opset: int | None = None) -> tuple[bytes, Tensor, EncryptedModel]:
    model, records = exported(name, dynamo=dynamo, opset=opset)
    return model, records, encrypt_model(model, epoch=1, seed=SEED)


def groups(name: str, value: str) -> list[list[str]]:
    """The groups of each axis of a value, batch apart."""
    plan = compiled(name)[2].plan
    return [[group_name(powers, size) for size, powers in axis] for _, axis in plan.groups_of(value)]


# What CI takes from the newer exporter, too: `make test-slow` takes all from it.
BY_BOTH = [
    "mlp with layer norm",
    "transformer",
    "rotary",
    "U-Net, nearest",
    "llama",
    "ViT",
    "causal tokens",
    "residual CNN",
]
FUSED = ["torch attention", "fused attention", "groups", "torch encoder, post-norm", "rotary, grouped"]


@pytest.mark.parametrize(
    ("name", "dynamo", "opset"),
    [(name, False, None) for name in NETWORKS]
    + [
        pytest.param(name, True, None, marks=() if name in BY_BOTH or name in FUSED else pytest.mark.slow)
        for name in NETWORKS
    ]
    + [(name, True, 23) for name in FUSED],
)
def test_decrypted_outputs_are_the_plain_outputs(name: str, dynamo: bool, opset: int | None) -> None:
    model, tensor, encrypted = compiled(name, dynamo=dynamo, opset=opset)
    records = tensor.numpy()
    hidden = encrypt_records(encrypted.key, records)
    assert hidden.shape == records.shape
    plain, outputs = run(model, records), run(encrypted.model, hidden)
    found = decrypt_outputs(encrypted.key, outputs)
    error = np.linalg.norm((found - plain).reshape(len(plain), -1), axis=1)
    assert np.median(error / np.linalg.norm(plain.reshape(len(plain), -1), axis=1)) < 1e-5
    assert not np.allclose(outputs, plain, atol=1e-2)


@pytest.mark.parametrize("name", NETWORKS)
def test_only_constants_change(name: str) -> None:
    model, _, encrypted = compiled(name)
    assert without_constants(encrypted.model) == without_constants(model)
    before, after = stored(model), stored(encrypted.model)
    assert before.keys() == after.keys()
    for constant, plain in before.items():
        assert (after[constant].shape, after[constant].dtype) == (plain.shape, plain.dtype)
        if constant in encrypted.plan.pinned:
            assert constant.endswith("Constant_output_0")  # by which factor Resize makes space larger
            assert (after[constant] == plain).all()
        elif plain.size > 1 and plain.dtype == np.float32 and not (plain == plain.flat[0]).all():
            assert not np.allclose(after[constant], plain, atol=1e-3), constant


def test_a_residual_stream_behind_layer_norms_is_mixed_by_a_dense_key() -> None:
    assert groups("transformer", "/Add_output_0") == [["permutation"], ["orthogonal fixing ones"]]
    assert groups("llama", "/Add_output_0") == [["permutation"], ["orthogonal"]]
    assert groups("post-norm", "/Add_output_0") == [["permutation"], ["permutation"]]


def test_a_norm_whose_features_are_flattened_with_their_places_hands_its_gain_on() -> None:
    plan = compiled("norm, flattened")[2].plan
    norm = next(node for node in plan.graph.nodes if node.op == "LayerNormalization")
    assert groups("norm, flattened", norm.output) == [["permutation"], ["orthogonal fixing ones"]]


def test_a_layer_scale_goes_back_into_the_weight_and_leaves_the_residual_stream_a_dense_key() -> None:
    model, _, encrypted = compiled("layer scale")
    assert groups("layer scale", "/Add_output_0") == [["permutation"], ["orthogonal fixing ones"]]
    after = stored(encrypted.model)
    gains = [name for name in stored(model) if name.endswith("gain")]
    assert len(gains) == 2
    assert all((after[name] == 1.0).all() for name in gains)


def test_the_up_branch_of_a_gated_mlp_is_permuted_and_scaled_and_the_gate_permuted() -> None:
    plan = compiled("llama")[2].plan
    products = {node.output: node for node in plan.graph.nodes if node.op == "Mul" and "inner" in node.name}
    up = next(n for n in products.values() if plan.graph.producer(n.inputs[0]) in products.values())
    gate, linear = (plan.powers(plan.layout(name)[-1]) for name in up.inputs)
    assert (gate, linear) == (MONOMIAL, MONOMIAL)
    followed, branch, product = (plan.layout(name)[-1] for name in (*up.inputs, up.output))
    assert product == branch
    assert [factor.action for factor in branch] != [ORDER]
    assert followed == tuple(Factor(each.variable, ORDER) for each in branch)  # permuted alike, and not scaled


def test_heads_are_permuted_and_each_has_its_own_dense_keys() -> None:
    plan = compiled("transformer")[2].plan
    scores = next(node for node in plan.graph.nodes if node.op == "Softmax").output
    assert groups("transformer", scores) == [["permutation"], ["permutation"], ["permutation"]]
    queries = next(node for node in plan.graph.nodes if node.op == "Reshape").output
    assert groups("transformer", queries)[1:] == [["permutation"], ["invertible"]]
    families = [element for element in plan.keyring(SEED).elements if element.index]
    assert len(families) == 4  # queries and keys share one, values have another, in each of two blocks
    assert all(len({key.arrays()["matrix"].tobytes() for key in each.keys}) == 4 for each in families)


@pytest.mark.parametrize("dynamo", EXPORTERS.values(), ids=EXPORTERS.keys())
@pytest.mark.parametrize(
    "name", ["transformer", "torch attention", "fused by view", "fused by chunk", "torch encoder, post-norm"]
)
def test_queries_and_keys_share_a_dense_key_for_each_head_and_values_have_another(name: str, dynamo: bool) -> None:
    families = [axis for axis in card_of(compiled(name, dynamo=dynamo)[2]).axes if axis.per_place == 4]
    assert {(axis.size, axis.group) for axis in families} == {(4, "invertible")}
    assert len(families) == (4 if name == "transformer" else 2)  # two in each block


def test_dual_keys_of_queries_and_keys_cancel() -> None:
    encrypted = compiled("transformer")[2]
    plan, keyring = encrypted.plan, encrypted.key.keyring
    assert keyring is not None
    scores = next(
        node
        for node in plan.graph.nodes
        if node.op == "MatMul" and plan.layout(node.output)[1] and len(plan.layout(node.output)) == 4
    )
    random = np.random.default_rng(1)
    query, key = (
        random.normal(size=(1, *(size or 1 for size in plan.graph.shape(name)[1:]))) for name in scores.inputs
    )  # type: ignore[index]
    hidden = [keyring.apply(value, plan.layout(name)) for value, name in zip((query, key), scores.inputs, strict=True)]
    found = keyring.apply(hidden[0] @ hidden[1], plan.layout(scores.output), invert=True)
    assert np.allclose(found, query @ key)
    assert not np.allclose(hidden[0] @ hidden[1], query @ key)


def test_a_patch_is_mixed_by_one_dense_key_and_patches_are_permuted() -> None:
    assert groups("ViT", "records")[1:] == [["permutation", "invertible"]] * 2
    joint = [element for element in compiled("ViT")[2].key.keyring.elements if len(element.members) == 3]  # type: ignore[union-attr]
    assert [element.keys[0].size for element in joint] == [3 * 4 * 4]


@pytest.mark.parametrize("dynamo", EXPORTERS.values(), ids=EXPORTERS.keys())
@pytest.mark.parametrize("style", ["", ", interleaved", ", split", ", complex", ", computed", ", partial", ", grouped"])
def test_rotary_embeddings_leave_a_rotation_and_a_scale_for_each_frequency_of_each_head(
    style: str, dynamo: bool
) -> None:
    encrypted = compiled(f"rotary{style}", dynamo=dynamo)[2]
    (axis,) = (axis for axis in card_of(encrypted).axes if axis.group == "rotation × scale")
    copies = 4 if style in (", partial", ", grouped") else 8  # half the frequencies; half the heads
    assert (axis.size, axis.per_place, axis.parameters) == (2, copies, 2 * copies)
    assert encrypted.key.keyring is not None
    dense = [element.keys for element in encrypted.key.keyring.elements if isinstance(element.keys[0], DenseKey)]
    matrices = [np.array([key.arrays()["matrix"] for key in keys]) for keys in dense if keys[0].size == 2]
    (planes,) = (m for m in matrices if np.allclose(m[:, 0], m[:, 3]) and np.allclose(m[:, 1], -m[:, 2]))
    assert len(planes) == copies
    assert np.ptp(np.hypot(planes[:, 0], planes[:, 1])) > 0.1
    assert np.ptp(np.arctan2(planes[:, 1], planes[:, 0])) > 0.5


def test_a_norm_with_gains_before_a_rotary_embedding_leaves_one_sign_for_each_frequency() -> None:
    groups = {axis.group for axis in card_of(compiled("rotary, normed")[2]).axes if axis.size == 2}
    assert groups == {"one sign", "permutation"}


def test_token_ids_are_permuted() -> None:
    _, records, encrypted = compiled("tokens")
    hidden = encrypt_records(encrypted.key, records.numpy())
    assert encrypted.key.input.tokens == 20
    assert set(np.unique(hidden)) <= set(range(20))
    assert not np.array_equal(hidden, records.numpy())
    assert np.array_equal(encrypted.key.input.invert(hidden), records.numpy())


def test_space_stays_visible_in_ordinary_convolutions_and_the_plan_says_so() -> None:
    clear = compiled("residual CNN")[2].plan.clear_axes()
    assert {axis.where for axis in clear} >= {"records/2", "records/3"}
    assert all(axis.inherent and axis.reason.startswith(("space", "kernel")) for axis in clear)
