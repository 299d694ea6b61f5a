"""Leakage cards."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rexis.ee.card import PRIVATE_WEIGHTS_DISTANCE, LeakageCard, card_of, card_of_graph, page
from rexis.ee.compiler import encrypt_model
from rexis.ee.glossary import GLOSSARY
from rexis.ee.groups import Power, group_name
from rexis.protocol.errors import EncryptionError
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
