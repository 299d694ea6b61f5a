"""Attacks get what theory says they must, and nothing where theory says they cannot."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.zoo import held_out, load_model_bytes
from rexis.ee.attacks import ATTACKS, NotApplicableError, Result, Target
from rexis.ee.attacks.places import blocks_of, match_places, mirror_images
from rexis.ee.attacks.target import observe
from rexis.ee.attacks.undecoyed import ways
from rexis.ee.attacks.weight_matching import perturbed, relative_distance
from rexis.ee.decoys import Decoys
from rexis.ee.groups import Power
from tests.unit.ee.dense_networks import Builder, mlp

WIDTH, TOKENS = 8, 6
MATCHED = ("weight_matching", "known_plaintext", "linkage", "rekey_alignment")


def tabular(count: int = 160, width: int = WIDTH) -> np.ndarray:
    """Skewed, correlated features of clearly different variances."""
    random = np.random.default_rng(3)
    sources = random.exponential(size=(count, width)) * np.linspace(3.0, 0.5, width)
    return ((sources - sources.mean(axis=0)) @ np.linalg.qr(random.normal(size=(width, width)))[0]).astype(np.float32)


def dense(**more: object) -> Target:
    records = tabular()
    return Target.compiled(mlp(WIDTH, 24, 16, 3).SerializeToString(), records[:80], records[80:], **more)


def attention() -> Target:
    """One head over permuted places, with a causal mask that is added to the scores."""
    builder = Builder(WIDTH)
    random = builder.random
    names = {part: builder.constant(random.normal(size=(WIDTH, WIDTH)) / 3) for part in "qkv"}
    query, key, value = (builder.node("MatMul", "records", names[part]) for part in "qkv")
    turned = builder.node("Transpose", key, perm=[0, 2, 1])
    mask = builder.constant(np.triu(np.full((TOKENS, TOKENS), -1e4), 1), "mask")
    scores = builder.node("Add", builder.node("MatMul", query, turned), mask)
    mixed = builder.node("MatMul", builder.node("Softmax", scores, axis=-1), value)
    pooled = builder.node("ReduceMean", mixed, axes=[1], keepdims=0)
    builder.node("Gemm", pooled, builder.constant(random.normal(size=(WIDTH, 2))))
    graph = helper.make_graph(
        builder.nodes,
        "attention",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["batch", TOKENS, WIDTH])],
        [helper.make_tensor_value_info(builder.value, TensorProto.FLOAT, ["batch", 2])],
        builder.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    records = tabular(120 * TOKENS).reshape(120, TOKENS, WIDTH)
    records = (np.cumsum(records, axis=1) / np.sqrt(np.arange(1, TOKENS + 1))[:, None]).astype(np.float32)
    return Target.compiled(model.SerializeToString(), records[:60], records[60:])


def tokens(**more: object) -> Target:
    """An embedding, a convolution over visible places and a head."""
    builder = Builder(TOKENS)
    random = builder.random
    ids = builder.node("Cast", "records", to=TensorProto.INT64)
    looked_up = builder.node("Gather", builder.constant(random.normal(size=(5, WIDTH))), ids)
    turned = builder.node("Transpose", looked_up, perm=[0, 2, 1])
    builder.node("Conv", turned, builder.constant(random.normal(size=(12, WIDTH, 3))), pads=[1, 1])
    builder.node("Sigmoid", builder.value)
    builder.node("Flatten", builder.value)
    builder.node("Gemm", builder.value, builder.constant(random.normal(size=(12 * TOKENS, 2))))
    builder.width = 2
    sequences = np.random.default_rng(5).choice(5, p=[0.4, 0.25, 0.18, 0.12, 0.05], size=(400, TOKENS))
    records = sequences.astype(np.float32)
    return Target.compiled(builder.build().SerializeToString(), records[:200], records[200:], **more)


@pytest.fixture(scope="module")
def results() -> dict[tuple[str, str], Result | str]:
    """Every attack on every small model."""
    targets = {"dense": dense(), "attention": attention(), "tokens": tokens()}
    found: dict[tuple[str, str], Result | str] = {}
    for model, target in targets.items():
        for name, attack in ATTACKS.items():
            try:
                found[model, name] = attack(target)
            except NotApplicableError as reason:
                found[model, name] = reason.message
    return found


def result(results: dict[tuple[str, str], Result | str], model: str, name: str) -> Result:
    found = results[model, name]
    assert isinstance(found, Result), found
    return found


def test_every_attack_runs_somewhere_and_stays_between_floor_and_ceiling(
    results: dict[tuple[str, str], Result | str],
) -> None:
    ran = [each for each in results.values() if isinstance(each, Result)]
    assert {each.name for each in ran} == set(ATTACKS)
    for each in ran:
        assert 0.0 <= each.floor <= each.ceiling <= 1.0
        assert 0.0 <= each.value <= each.ceiling + 1e-9
        assert 0.0 <= each.share <= 1.0
        assert each.says.endswith(".")


@pytest.mark.parametrize("name", ATTACKS)
def test_the_seed_determines_the_result(name: str, results: dict[tuple[str, str], Result | str]) -> None:
    for model, make in (("dense", dense), ("attention", attention), ("tokens", tokens)):
        first = results[model, name]
        if isinstance(first, Result):
            assert asdict(ATTACKS[name](make())) == asdict(first)
            return


def test_known_plaintext_needs_one_pair_more_than_features(results: dict[tuple[str, str], Result | str]) -> None:
    curve = result(results, "dense", "known_plaintext").detail["by_pairs"]
    assert curve["10"] > 0.999  # 8 features and an offset
    assert curve["1"] < 0.05
    assert curve["3"] < 0.9


def test_known_plaintext_needs_fewer_records_where_places_share_a_key(
    results: dict[tuple[str, str], Result | str],
) -> None:
    assert result(results, "attention", "known_plaintext").detail["by_pairs"]["5"] > 0.999


def test_one_known_sequence_reads_most_tokens(results: dict[tuple[str, str], Result | str]) -> None:
    curve = result(results, "tokens", "known_plaintext").detail["by_pairs"]
    assert curve["10"] == 1.0


def test_weight_matching_recovers_all_of_a_public_model_and_little_of_a_stranger(
    results: dict[tuple[str, str], Result | str],
) -> None:
    found = result(results, "dense", "weight_matching")
    assert found.detail["by_distance"]["0"] == 1.0
    assert found.detail["records_read_by_distance"]["0"] > 0.9
    stranger = Builder(WIDTH, seed=99).gemm(24).relu().gemm(16).relu().gemm(3).build().SerializeToString()
    assert ATTACKS["weight_matching"](dense(base=stranger)).value < 0.3


def test_a_base_that_is_given_is_used() -> None:
    target = dense()
    base = perturbed(target, 0.02)
    assert relative_distance(base, target.plain) == pytest.approx(0.02, rel=0.05)
    assert ATTACKS["weight_matching"](replace(target, base=base)).value > 0.9


def test_keys_keep_distances_so_that_patients_can_be_linked(results: dict[tuple[str, str], Result | str]) -> None:
    assert result(results, "dense", "linkage").value > 0.85
    assert result(results, "tokens", "linkage").value == 1.0


def test_a_new_epoch_does_not_unlink(results: dict[tuple[str, str], Result | str]) -> None:
    found = result(results, "dense", "rekey_alignment")
    assert found.detail["neurons_aligned"] == 1.0
    assert found.value > 0.9


def test_a_causal_mask_gives_the_places_away(results: dict[tuple[str, str], Result | str]) -> None:
    found = result(results, "attention", "causal_mask")
    assert found.value == 1.0
    assert found.detail["places"] == TOKENS


def test_attention_scores_are_those_of_the_plain_model(results: dict[tuple[str, str], Result | str]) -> None:
    found = result(results, "attention", "attention_scores")
    assert found.value == pytest.approx(found.ceiling, abs=0.02)


def test_frequencies_name_the_tokens(results: dict[tuple[str, str], Result | str]) -> None:
    assert result(results, "tokens", "token_frequency").value == 1.0


def test_gradients_give_the_record_in_the_clear_and_its_ciphertext_under_ee(
    results: dict[tuple[str, str], Result | str],
) -> None:
    found = result(results, "dense", "gradient_inversion")
    assert found.ceiling > 0.999
    assert found.detail["ciphertext"] > 0.999
    assert found.value < 0.5


def test_keys_are_solved_from_matched_neurons_and_read_the_records(
    results: dict[tuple[str, str], Result | str],
) -> None:
    found = result(results, "dense", "weight_matching").detail
    assert found["dense_keys_solved"] == 2  # of the records, and of the outputs
    assert found["dense_keys_by_distance"]["0"] > 0.999
    assert found["dense_keys_by_distance"]["0.1"] > 0.9
    assert found["records_read_by_distance"]["0.1"] > 0.9


def test_a_position_table_gives_patches_away() -> None:
    """The gradient of a table of positions is that of each place, from which every patch follows."""
    random = np.random.default_rng(2)
    builder = Builder(1)
    stem = builder.constant(random.normal(size=(24, 1, 2, 3)))
    builder.node("Conv", "records", stem, builder.constant(random.normal(size=24)), strides=[2, 3], kernel_shape=[2, 3])
    builder.node("Reshape", builder.value, shape_of(builder, [0, 24, 6]))
    builder.node("Transpose", builder.value, perm=[0, 2, 1])
    builder.node("Add", builder.value, builder.constant(random.normal(size=(1, 6, 24))))
    builder.node("MatMul", builder.value, builder.constant(random.normal(size=(24, 10))))
    builder.node("Relu", builder.value)
    builder.node("ReduceMean", builder.value, axes=[1], keepdims=0)
    builder.node("Gemm", builder.value, builder.constant(random.normal(size=(10, 2))))
    graph = helper.make_graph(
        builder.nodes,
        "patches",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["batch", 1, 4, 9])],
        [helper.make_tensor_value_info(builder.value, TensorProto.FLOAT, ["batch", 2])],
        builder.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    records = random.normal(size=(60, 1, 4, 9)).astype(np.float32)
    found = ATTACKS["gradient_inversion"](Target.compiled(model.SerializeToString(), records[:30], records[30:]))
    assert found.detail["way"] == "closed form by positions"
    assert found.ceiling > 0.999
    assert found.detail["ciphertext"] > 0.999
    assert found.value < 0.2


def shape_of(builder: Builder, sizes: list[int]) -> str:
    builder.initializers.append(numpy_helper.from_array(np.array(sizes, dtype=np.int64), "shape"))
    return "shape"


def test_tokens_follow_from_a_gradient(results: dict[tuple[str, str], Result | str]) -> None:
    found = result(results, "tokens", "gradient_inversion")
    assert found.ceiling == 1.0
    assert found.detail["ciphertext"] == 1.0


def test_decoys_help_until_somebody_looks_for_them() -> None:
    target = dense(decoys=Decoys(4, 0.5))
    both = ways(target)
    found = {way: {name: ATTACKS[name](each) for name in MATCHED} for way, each in both.items()}
    without = {name: ATTACKS[name](dense()) for name in MATCHED}
    naive, looked_for = found["naive"], found["looked_for"]
    assert naive["weight_matching"].value < 0.5
    assert naive["rekey_alignment"].value < 0.5
    assert naive["known_plaintext"].detail["by_pairs"]["10"] < 0.99  # 12 features and an offset
    assert naive["known_plaintext"].detail["by_pairs"]["20"] > 0.999
    for name in MATCHED:
        assert looked_for[name].value > without[name].value - 0.1
    assert looked_for["known_plaintext"].detail["by_pairs"]["10"] > 0.999
    assert without["linkage"].detail["equal_records_have_equal_ciphertexts"]
    assert not naive["linkage"].detail["equal_records_have_equal_ciphertexts"]
    assert looked_for["linkage"].detail["equal_records_have_equal_ciphertexts"]


def test_what_is_left_without_decoys_is_the_encrypted_model() -> None:
    target = dense(decoys=Decoys(4, 0.5))
    clean = ways(target)["looked_for"]
    (expected,) = observe(target.encrypted.model, target.encrypted_inputs, [target.graph.output])
    (found,) = observe(clean.encrypted.model, clean.encrypted_inputs, [target.graph.output])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    widths = [
        onnx.load_model_from_string(each.encrypted.model).graph.initializer[0].dims[0] for each in (target, clean)
    ]
    assert widths == [36, 24]


def test_halves_are_told_behind_signs_too() -> None:
    """A gated layer's up-branch may get a sign for each half, so that the halves are parallel up to it."""
    records, _ = held_out("ecg")
    target = Target.compiled(load_model_bytes("ecg"), records[:8], records[8:24], decoys=Decoys(0, 0.5))
    clean = ways(target)["looked_for"]
    (expected,) = observe(target.encrypted.model, target.encrypted_inputs, [target.graph.output])
    (found,) = observe(clean.encrypted.model, clean.encrypted_inputs, [target.graph.output])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_vocabulary_next_to_permuted_features_has_one_key() -> None:
    """It is looked up by token id alone, so that it cannot depend on the feature."""
    target = tokens(strongest=Power.PERMUTE)
    plan = target.encrypted.plan
    assert plan.vocabularies.keys() == {"records"}
    assert set(np.unique(target.ciphertexts)) == set(range(5))


def test_places_in_the_clear_are_said_to_be(results: dict[tuple[str, str], Result | str]) -> None:
    assert result(results, "tokens", "jigsaw").value == 1.0


def test_permutations_alone_fall_to_one_pair_and_to_quantiles() -> None:
    target = dense(strongest=Power.PERMUTE)
    assert blocks_of(target).width == 1
    found = ATTACKS["known_plaintext"](target)
    assert found.detail["by_pairs"]["1"] > 0.999


def test_places_are_matched_by_what_an_invertible_key_leaves() -> None:
    random = np.random.default_rng(1)
    drift = random.normal(size=(9, 4)) * 2
    plain = random.normal(size=(2, 300, 9, 4)).cumsum(axis=2) + drift
    order = random.permutation(9)
    seen = plain[0][:, order] @ random.normal(size=(4, 4)) + 1.0
    assert (match_places(plain[1], seen) == order).all()
    assert any((image == order[::-1]).all() for image in mirror_images(8 - order[::-1], (9,)))


def test_observed_values_are_those_inside_the_model() -> None:
    target = dense()
    first, last = observe(target.plain, target.private_inputs, ["value0", target.graph.output])
    model = onnx.load_model_from_string(target.plain)
    weight, bias = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer[:2])
    np.testing.assert_allclose(first, target.records @ weight.T + bias, rtol=1e-4, atol=1e-4)
    assert last.shape == (len(target.records), 3)


def test_a_result_lies_between_guessing_and_no_encryption() -> None:
    result = Result("x", "m", value=0.75, ceiling=1.0, floor=0.5, attacker_knows="", says="")
    assert result.share == 0.5
    assert replace(result, value=0.2).share == 0.0
    assert replace(result, ceiling=0.5).share == 0.0
