"""Leakage cards."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rexis.ee.attack_card import AttackReport, attack_card, skipped, structure_of, verdict_of
from rexis.ee.card import PRIVATE_WEIGHTS_DISTANCE, LeakageCard, card_of, card_of_graph, page, with_attacks
from rexis.ee.compiler import encrypt_model
from rexis.ee.glossary import GLOSSARY
from rexis.ee.graph import Graph
from rexis.ee.groups import Power, group_name
from rexis.protocol.errors import EncryptionError, MalformedError
from tests.unit.ee.dense_networks import mlp
from tests.unit.ee.torch_networks import exported

SEED = bytes(32)


def card(name: str) -> LeakageCard:
    return card_of(encrypt_model(exported(name)[0], epoch=1, seed=SEED))


def moved(model: onnx.ModelProto, distance: float, *, keep: float = 1.0) -> bytes:
    """The model with every weight moved by a relative distance; `keep` 0 makes it unrelated."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    random = np.random.default_rng(1)
    for tensor in other.graph.initializer:
        value = numpy_helper.to_array(tensor)
        step = random.normal(size=value.shape)
        step *= distance * np.linalg.norm(value) / np.linalg.norm(step)
        tensor.CopyFrom(numpy_helper.from_array((keep * value + step).astype(np.float32), tensor.name))
    return other.SerializeToString()


def test_a_card_says_what_each_axis_got() -> None:
    found = card("transformer")
    assert found.inputs[0].axes == ["permutation", "invertible"]
    assert found.output.axes == ["invertible"]
    assert (found.inputs[0].offset, found.output.offset) == (True, True)
    heads = [axis for axis in found.axes if axis.per_place == 4]
    assert {axis.group for axis in heads} == {"invertible"}
    (stream,) = (axis for axis in found.axes if axis.group == "orthogonal fixing ones")
    assert (stream.size, stream.parameters) == (16, 15 * 14 // 2)
    assert found.clear == []
    assert found.max_condition is not None
    assert 2 <= found.max_condition <= 4.0001
    assert any("attention patterns" in text for text in found.visible)


def test_what_is_visible_is_said() -> None:
    assert any("where in space" in text for text in card("residual CNN").visible)
    assert {axis.reason.split(" of ")[0] for axis in card("residual CNN").clear} == {"space", "kernel"}
    tokens = card("tokens")
    assert tokens.inputs[0].vocabulary == 20
    assert any("how often each token" in text for text in tokens.visible)


def test_tables_that_state_the_order_of_permuted_places_are_named() -> None:
    assert sum("rotary" in text for text in card("rotary").visible) == 2
    assert any("causal mask" in text for text in card("causal tokens").visible) or card("causal tokens").clear
    assert not any("the order of places" in text for text in card("transformer").visible)


def test_the_rung_follows_from_the_distance_to_a_public_model() -> None:
    plain = mlp(30, 64, 64, 2)
    encrypted = encrypt_model(plain, epoch=1, seed=SEED)
    data = plain.SerializeToString()
    far = card_of(encrypted, plain=data, base=moved(plain, 1.0, keep=0.0), require_private=True)
    assert far.rung == "ee-private-weights"
    assert far.smallest_distance is not None
    assert PRIVATE_WEIGHTS_DISTANCE <= far.smallest_distance < 1.6  # unrelated weights: the square root of 2
    for distance in (0.05, 0.5):
        near = card_of(encrypted, plain=data, base=moved(plain, distance))
        assert (near.rung, len(near.distances)) == ("ee-outsourced", 3)
    with pytest.raises(EncryptionError, match=r"only 5\.\d% from the public model"):
        card_of(encrypted, plain=data, base=moved(plain, 0.05), require_private=True)
    with pytest.raises(EncryptionError, match="no public base model"):
        card_of(encrypted, require_private=True)
    with pytest.raises(EncryptionError, match="no constant"):
        card_of(encrypted, plain=data, base=mlp(30, 32, 2).SerializeToString())


def test_the_card_of_the_encrypted_graph_says_the_same_of_its_axes() -> None:
    encrypted = encrypt_model(exported("transformer")[0], epoch=1, seed=SEED)
    with_key, without = card_of(encrypted), card_of_graph(encrypted.model)
    assert without.model_digest == with_key.model_digest
    assert (without.inputs, without.output, without.clear) == (with_key.inputs, with_key.output, with_key.clear)
    assert [(axis.size, axis.group, axis.per_place) for axis in without.axes] == [
        (axis.size, axis.group, axis.per_place) for axis in with_key.axes
    ]
    assert without.visible == with_key.visible
    assert without.max_condition is None


def report(model: bytes) -> AttackReport:
    lines = [
        attack_card("linkage", "AUC", "ciphertexts", score=0.99, ceiling=1.0, floor=0.5, says="They are <linked>."),
        skipped("causal_mask", "no mask"),
    ]
    return AttackReport(structure=structure_of(Graph(model)), private=5, public=6, base=False, attacks=lines)


def test_attacks_stand_on_the_card_of_a_model_of_their_structure() -> None:
    plain = mlp(30, 16, 2)
    first, second = (encrypt_model(plain, epoch=1, seed=bytes([each]) * 32).model for each in (1, 2))
    assert structure_of(Graph(first)) == structure_of(Graph(second)) == structure_of(Graph(plain))
    found = with_attacks(card_of_graph(second), Graph(second), AttackReport.from_json(report(first).to_json()))
    assert [each.verdict.split(":")[0] for each in found.attacks] == ["broken", "not run"]
    assert LeakageCard.model_validate_json(found.to_json()) == found
    assert "They are &lt;linked&gt;." in page(found)
    other = mlp(30, 17, 2).SerializeToString()
    with pytest.raises(EncryptionError, match="another structure"):
        with_attacks(card_of_graph(other), Graph(other), report(first))
    with pytest.raises(MalformedError, match="not a report"):
        AttackReport.from_json(b'{"rows": []}')


@pytest.mark.parametrize(
    ("score", "ceiling", "floor", "words"),
    [
        (0.96, 1.0, 0.5, "broken"),
        (0.9, 1.0, 0.5, "mostly broken"),
        (0.6, 1.0, 0.5, "partly broken"),
        (0.5, 1.0, 0.5, "not broken by this attack"),
        (0.0, 1.0, 0.3, "not broken by this attack"),
        (0.01, 0.01, 0.0, "shows nothing"),
    ],
)
def test_verdicts_are_shares_of_the_way_from_guessing(score: float, ceiling: float, floor: float, words: str) -> None:
    assert verdict_of(score, ceiling, floor).split(":")[0] == words


def test_a_card_says_whether_the_file_is_encrypted() -> None:
    plain = mlp(30, 16, 2)
    encrypted = encrypt_model(plain, epoch=1, seed=SEED)
    assert card_of(encrypted).file == card_of_graph(encrypted.model).file == "encrypted"
    found = card_of_graph(plain.SerializeToString())
    assert found.file == "plain"
    assert "Plain model, not encrypted" in page(found)


def test_document_and_page() -> None:
    found = card("ViT")
    document = json.loads(found.to_json())
    assert document["rung"] == "ee-outsourced"
    assert LeakageCard.model_validate_json(found.to_json()) == found
    text = page(found)
    assert found.model_digest in text
    assert "keyed obfuscation" in text
    assert "Words on this page" in text
    assert page(found.model_copy(update={"visible": ["<script>"]})).count("<script>") == 0


def test_the_glossary_knows_every_group_that_a_card_can_name() -> None:
    known = {word for words in GLOSSARY for word in words.split(", ")}
    for powers in range(1 << len(Power)):
        assert set(group_name(Power(powers), 4).split(" × ")) <= known
