"""Models with several inputs: features with an adjacency, tokens with a mask, an image with a table."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rexis.ee import EEKey, decrypt_outputs, encrypt_records, load_key, save_key
from rexis.ee.attacks import ATTACKS, Target
from rexis.ee.card import LeakageCard, SideCard, card_of, card_of_graph, page
from rexis.ee.compiler import EncryptedModel, encrypt_model
from rexis.ee.groups import Power
from rexis.ee.keyformat import read_key, write_key
from rexis.ee.keys import KeyPart
from rexis.ee.layout import DUAL, Factor
from rexis.ee.share import RecipientKey, seal_key
from rexis.protocol.errors import EncryptionError, KeyFileError, MalformedError, TensorError
from tests.unit.ee.dense_networks import Builder
from tests.unit.ee.random_graphs import random_graph
from tests.unit.ee.several_inputs import CASES, NODES, TOKENS, Arrays, exported, run_inputs
from tests.unit.ee.test_ee_compiler import without_constants

SEED = bytes(range(32))
PASSPHRASE = "correct horse battery staple"
ADJACENCIES = ("GCN", "normalised GCN", "GAT")
MASKED = ("float mask", "int mask", "bool mask", "tokens and mask")


@cache
def compiled(name: str, *, dynamo: bool = False) -> tuple[bytes, Arrays, EncryptedModel]:
    model, records = exported(name, dynamo=dynamo)
    return model, records, encrypt_model(model, epoch=1, seed=SEED)


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
@pytest.mark.parametrize("name", CASES)
def test_decrypted_outputs_are_the_plain_outputs(name: str, dynamo: bool) -> None:
    model, records, encrypted = compiled(name, dynamo=dynamo)
    hidden = encrypt_records(encrypted.key, records)
    assert list(hidden) == list(records)
    for each, plain in records.items():
        assert (hidden[each].dtype, hidden[each].shape) == (plain.dtype, plain.shape)
        assert not np.array_equal(hidden[each], plain)
    plain, outputs = run_inputs(model, records), run_inputs(encrypted.model, hidden)
    found = decrypt_outputs(encrypted.key, outputs)
    error = np.linalg.norm(found - plain, axis=-1) / np.linalg.norm(plain, axis=-1)
    assert np.median(error) < 1e-5
    assert not np.allclose(outputs, plain, atol=1e-2)
    assert without_constants(encrypted.model) == without_constants(model)


@pytest.mark.parametrize("name", ADJACENCIES)
def test_both_axes_of_an_adjacency_carry_the_permutation_of_the_nodes(name: str) -> None:
    _, records, encrypted = compiled(name)
    plan = encrypted.plan
    second = next(each for each in plan.graph.inputs if each != "features")
    (_, (nodes,), features), (_, rows, columns) = plan.layout("features"), plan.layout(second)
    assert plan.powers((nodes,)) == Power.PERMUTE
    assert Power.MIX in plan.powers(features)
    assert {factor.variable for factor in (*rows, *columns)} == {nodes.variable}
    # One order of the nodes for features and both axes, that moves an entry and changes none.
    counted = np.broadcast_to(np.tri(NODES), records[second].shape).astype(
        records[second].dtype
    )  # row i has i + 1 ones
    order = encrypt_records(encrypted.key, records | {second: counted})[second][0].sum(axis=1).astype(int) - 1
    moved = encrypt_records(encrypted.key, records)[second]
    assert sorted(order) == list(range(NODES)) != list(order)
    assert np.array_equal(moved, records[second][:, order][:, :, order])


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_shares_the_permutation_of_the_tokens(name: str) -> None:
    _, records, encrypted = compiled(name)
    plan = encrypted.plan
    assert plan.layout("mask")[1] == plan.layout("values")[1]
    assert plan.powers(plan.layout("mask")[1]) == Power.PERMUTE
    hidden = encrypt_records(encrypted.key, records)["mask"]
    assert np.array_equal(hidden.sum(axis=1), records["mask"].sum(axis=1))


def test_each_input_of_token_ids_has_a_vocabulary_of_its_own() -> None:
    _, records, encrypted = compiled("two vocabularies")
    keys = encrypted.key.inputs
    assert (keys["words"].tokens, keys["segments"].tokens) == (20, 4)
    assert keys["words"].vocabulary != keys["segments"].vocabulary
    hidden = encrypt_records(encrypted.key, records)
    for name, key in keys.items():
        assert np.array_equal(key.invert(hidden[name]), records[name])


def test_two_towers_have_keys_of_their_own() -> None:
    plan = compiled("two towers")[2].plan
    assert plan.powers(plan.layout("table")[1]) == plan.powers(plan.layout("image")[1])
    assert plan.layout("table")[1] != plan.layout("image")[1]
    assert {axis.where for axis in plan.clear_axes() if axis.where.startswith("image/")} == {"image/2", "image/3"}


# --- the card ----------------------------------------------------------------------------------------------------


def card(name: str) -> LeakageCard:
    return card_of(compiled(name)[2])


def side(name: str, which: str) -> SideCard:
    return next(each for each in card(name).inputs if each.name == which)


def test_a_card_says_that_the_entries_of_an_adjacency_stay_readable() -> None:
    assert side("GCN", "adjacency").values == side("GAT", "edges").values == "moved"
    assert side("GCN", "features").values == "mixed"
    for name, which in (("GCN", "adjacency"), ("normalised GCN", "adjacency"), ("GAT", "edges")):
        (said,) = (text for text in card(name).visible if text.startswith(f"every value of input {which!r}"))
        assert "axes 1, 2 (one order for all of them)" in said
        assert "graph without the names" in said


@pytest.mark.parametrize("name", MASKED)
def test_a_card_says_that_a_mask_stays_readable(name: str) -> None:
    assert side(name, "mask").values == "moved"
    assert side(name, "mask").element == {"float mask": "float32", "bool mask": "bool"}.get(name, "int64")
    assert any(text.startswith("every value of input 'mask'; hidden is their order") for text in card(name).visible)


def test_a_mask_over_visible_space_is_said_to_be_as_it_is() -> None:
    """Its places tie to the space of a convolution, which nothing hides."""
    builder = Builder(4)
    builder.node("Conv", "image", builder.constant(builder.random.normal(size=(3, 2, 3))), pads=[1, 1])
    convolved = builder.value
    channels = builder.node("Constant", value=onnx.numpy_helper.from_array(np.array([1])))
    builder.node("Mul", convolved, builder.node("Unsqueeze", "mask", channels))
    model = built(builder, {"image": ["batch", 2, 8], "mask": ["batch", 8]}, ["batch", 3, 8])
    encrypted = encrypt_model(model, epoch=1, seed=SEED)
    found = card_of(encrypted)
    assert [each.values for each in found.inputs] == ["mixed", "readable"]
    assert "every value of input 'mask', as it is and where it is" in found.visible


def test_a_scaled_adjacency_is_said_to_keep_its_zeros() -> None:
    """Without degrees and means over nodes, ReLU lets each node's key scale too."""
    builder = Builder(4)
    for _ in range(2):
        builder.node("MatMul", "near", "features" if builder.value == "records" else builder.value)
        builder.node("MatMul", builder.value, builder.constant(builder.weight(4, 4)))
        builder.node("Relu", builder.value)
    model = built(builder, {"features": ["batch", 5, 4], "near": ["batch", 5, 5]}, ["batch", 5, 4])
    found = card_of(encrypt_model(model, epoch=1, seed=SEED))
    assert [each.values for each in found.inputs] == ["mixed", "scaled"]
    assert any(text.startswith("which values of input 'near' are zero, in a hidden order") for text in found.visible)


def test_the_card_of_the_graph_says_the_same_and_the_page_names_every_input() -> None:
    found = card("GCN")
    again = card_of_graph(compiled("GCN")[2].model)
    assert (again.inputs, again.visible, again.clear) == (found.inputs, found.visible, found.clear)
    assert LeakageCard.model_validate_json(found.to_json()) == found
    text = page(found)
    assert all(f"input {name}" in text for name in ("features", "adjacency"))


def test_a_padding_mask_gives_the_order_of_the_tokens_away() -> None:
    """What the card warns of: who counts padded places over many records puts them back in order."""
    random = np.random.default_rng(0)
    model, _, _ = compiled("int mask")
    values = random.normal(size=(160, TOKENS, 5)).astype(np.float32)
    mask = (np.arange(TOKENS) < random.integers(1, TOKENS + 1, (160, 1))).astype(np.int64)
    halves = [{"values": values[part], "mask": mask[part]} for part in (slice(80), slice(80, None))]
    targets = Target.of_inputs(model, *halves)
    assert list(targets) == ["values", "mask"]
    assert ATTACKS["jigsaw"](targets["mask"]).value == 1.0
    assert ATTACKS["known_plaintext"](targets["values"]).value > 0.99
    assert ATTACKS["weight_matching"](targets["values"]).value > 0.9


# --- keys and records --------------------------------------------------------------------------------------------


def test_a_key_comes_back_with_every_input(tmp_path: Path) -> None:
    _, records, encrypted = compiled("tokens and mask")
    save_key(tmp_path / "key", encrypted.key, PASSPHRASE)
    found = load_key(tmp_path / "key", PASSPHRASE)
    assert list(found.inputs) == ["values", "mask"]
    same(found, encrypted.key, records)
    outputs = run_inputs(encrypted.model, encrypt_records(found, records))
    np.testing.assert_array_equal(decrypt_outputs(found, outputs), decrypt_outputs(encrypted.key, outputs))


def same(found: EEKey, key: EEKey, records: Arrays) -> None:
    for name, values in encrypt_records(key, records).items():
        np.testing.assert_array_equal(encrypt_records(found, records)[name], values)


@pytest.mark.parametrize("name", ["GCN", "GAT", "two vocabularies"])
def test_parts_do_their_own_work_and_can_be_sealed(name: str) -> None:
    _, records, encrypted = compiled(name)
    hospital = RecipientKey.fresh()
    owner = hospital.open(seal_key(encrypted.key.only(KeyPart.ENCRYPT), hospital.recipient))
    assert (owner.output, owner.keyring, list(owner.inputs)) == (None, None, list(records))
    same(owner, encrypted.key, records)
    reader = read_key(write_key(encrypted.key.only(KeyPart.DECRYPT)))
    assert reader.inputs == {}
    outputs = run_inputs(encrypted.model, encrypt_records(owner, records))
    np.testing.assert_array_equal(decrypt_outputs(reader, outputs), decrypt_outputs(encrypted.key, outputs))
    with pytest.raises(KeyFileError, match="only decrypts"):
        encrypt_records(reader, records)
    with pytest.raises(KeyFileError, match="only encrypts"):
        decrypt_outputs(owner, outputs)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((b'"name":"mask"', b'"name":"text"'), None),
        ((b'"name":"mask",', b'"name":"",    '), "name"),
        ((b'"name":"values"', b'"name":"mask"  '), "two inputs of the key have one name"),
        ((b'"element":"int64"', b'"element":"int16"'), "element"),
        ((b'"version":3', b'"version":2'), "version"),
        ((b'"part":"full"', b'"part":"encrypt"'), "other sides"),
    ],
)
def test_a_changed_key_is_refused(change: tuple[bytes, bytes], reason: str | None) -> None:
    data = write_key(compiled("tokens and mask")[2].key)
    length = int.from_bytes(data[:8], "little")
    # Quotes are escaped inside the header's metadata.
    before, after = (each.replace(b'"', b'\\"') for each in change)
    header = data[8 : 8 + length]
    assert before in header
    header = header.replace(before, after)
    changed = len(header).to_bytes(8, "little") + header + data[8 + length :]
    if reason is None:
        assert list(read_key(changed).inputs) == ["values", "text"]
        return
    with pytest.raises((MalformedError, EncryptionError), match=reason):
        read_key(changed)


def test_what_does_not_fit_the_inputs_is_refused_by_name() -> None:
    key = compiled("tokens and mask")[2].key
    values, mask = np.zeros((3, TOKENS)), np.ones((3, TOKENS), dtype=np.int64)
    cases: list[tuple[Arrays, str]] = [
        ({"values": values}, "no records for input 'mask'"),
        ({"values": values, "mask": mask, "age": mask}, "no input 'age'"),
        ({"values": values, "mask": mask[:2]}, "2 records for input 'mask', 3 for 'values'"),
        ({"values": values, "mask": mask[:, :4]}, rf"mask: shape \[3, 4\] .*expected \[n, {TOKENS}\]"),
        ({"values": values + 20, "mask": mask}, "values: row 0 holds a token outside 0 … 19"),
        ({"values": values, "mask": mask * 0.5}, "mask: row 0 holds something else than whole numbers"),
        ({"values": values, "mask": mask * (1 << 25)}, "mask: row 0 holds something else than whole numbers"),
        ({"values": values, "mask": mask.astype("U1")}, "dtype"),
        ({"values": values, "mask": np.float64(1.0)}, "0 records"),
    ]
    for records, reason in cases:
        with pytest.raises(TensorError, match=reason):
            encrypt_records(key, records)
    with pytest.raises(TensorError, match="mask: row 1 holds something else than 0 and 1"):
        masked = np.arange(3 * TOKENS).reshape(3, TOKENS) // TOKENS * 2
        encrypt_records(compiled("bool mask")[2].key, {"values": np.zeros((3, TOKENS, 5), np.float32), "mask": masked})
    with pytest.raises(KeyFileError, match=r"2 inputs: values, mask .*by name"):
        encrypt_records(key, values)


def test_one_input_may_be_given_by_name_too() -> None:
    builder = Builder(4).gemm(3)
    encrypted = encrypt_model(builder.build(), epoch=1, seed=SEED)
    records = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    named = encrypt_records(encrypted.key, {"records": records})
    np.testing.assert_array_equal(named["records"], encrypt_records(encrypted.key, records))
    assert encrypt_records(encrypted.key, {"records": records[:0]})["records"].shape == (0, 4)


# --- refusals ----------------------------------------------------------------------------------------------------


def built(
    builder: Builder, inputs: dict[str, list[int | str]], output: list[int | str], kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """The builder's graph with these inputs; the last of them is of `kind`."""
    kinds = dict.fromkeys(inputs, TensorProto.FLOAT) | {list(inputs)[-1]: kind}
    graph = helper.make_graph(
        builder.nodes,
        "network",
        [helper.make_tensor_value_info(name, kinds[name], shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(builder.value, TensorProto.FLOAT, output)],
        builder.initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def aggregation(nodes: list[int | str], near: list[int | str], *, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    builder = Builder(4)
    near_floats = builder.node("Cast", "near", to=TensorProto.FLOAT)
    builder.node("MatMul", near_floats, "nodes")
    return built(builder, {"nodes": nodes, "near": near}, [nodes[0], 5, 4], kind)


def squared() -> onnx.ModelProto:
    """A second batch stands where features are contracted."""
    builder = Builder(4)
    builder.node("MatMul", "first", "second")
    return built(builder, {"first": [4, 4], "second": [4, 4]}, [4, 4])


def counted_tokens() -> onnx.ModelProto:
    """Ids that are looked up and compared."""
    builder = Builder(4)
    looked = builder.node("Gather", builder.constant(builder.weight(9, 4)), "ids")
    here = builder.node("Cast", "ids", to=TensorProto.FLOAT)
    last = builder.node("Constant", value=onnx.numpy_helper.from_array(np.array([2])))
    summed = builder.node("ReduceSum", looked, last, keepdims=0)
    builder.node("Add", "records", builder.node("Add", summed, here))
    return built(builder, {"records": ["batch", 6], "ids": ["batch", 6]}, ["batch", 6], TensorProto.INT64)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (aggregation(["batch", 5, 4], [5, 5]), r"first axes .*'nodes' \[\?, 5, 4\], 'near' \[5, 5\].*constant"),
        (aggregation([2, 5, 4], [1, 5, 5]), "do not all count records"),
        (aggregation(["batch", 5, 4], ["batch", 5, "many"]), r"input 'near' has shape .*\[batch, …\]"),
        (aggregation(["batch", 5, 4], ["batch", 5, 5], kind=TensorProto.DOUBLE), "input 'near' is not float32"),
        (squared(), r"node 'MatMul_0' \(MatMul\): the batch axis meets an axis that carries a key"),
        (counted_tokens(), r"node 'Gather_0' \(Gather\): its indices are computed"),
    ],
)
def test_what_cannot_be_carried_is_refused_with_the_reason(model: onnx.ModelProto, reason: str) -> None:
    with pytest.raises(EncryptionError, match=reason) as caught:
        encrypt_model(model, epoch=1)
    assert caught.value.field


def infinite(op: str) -> onnx.ModelProto:
    """``softmax(x + −∞)``, or −∞ in the place of what a mask says."""
    builder = Builder(4)
    masked = builder.constant(np.array([-np.inf]))
    builder.node(op, *(["mask", "records", masked] if op == "Where" else ["records", masked]))
    builder.node("Softmax", builder.value, axis=-1)
    if op == "Where":
        return built(builder, {"records": ["batch", 4], "mask": ["batch", 4]}, ["batch", 4], TensorProto.BOOL)
    return built(builder, {"records": ["batch", 4]}, ["batch", 4])


def test_an_infinity_is_taken_where_it_masks_and_nowhere_else() -> None:
    encrypted = onnx.load_model_from_string(encrypt_model(infinite("Where"), epoch=1).model)
    assert onnx.numpy_helper.to_array(encrypted.graph.initializer[0]).tolist() == [-np.inf]
    with pytest.raises(EncryptionError, match="NaN or infinity"):
        encrypt_model(infinite("Add"), epoch=1)


def test_duals_are_what_ties_an_adjacency() -> None:
    """``A X`` contracts A's second axis, so that ``K A K⁻¹`` is its encrypted form."""
    plan = compiled("GCN")[2].plan
    _, (rows,), (columns,) = plan.layout("adjacency")
    assert columns == Factor(rows.variable, rows.action * DUAL)


def test_a_sum_over_nodes_needs_one_key_for_all_of_them() -> None:
    """Features that are cut into parts may have a key for each token; but not for each node, where nodes add up."""
    plan = encrypt_model(random_graph(["neighbours", "neighbours", "any", "regroup"], 0), epoch=1, seed=SEED).plan
    assert all(not grouping.places for grouping in plan.groupings())
    without = encrypt_model(random_graph(["any", "regroup"], 0), epoch=1, seed=SEED).plan
    assert any(grouping.places for grouping in without.groupings())
