"""Decoys change shapes and nothing that comes out; and what they change is written in key and card."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from models.zoo import held_out, load_model_bytes
from rexis.ee import EEKey, decrypt_outputs, encrypt_records
from rexis.ee.card import LeakageCard, card_of, page
from rexis.ee.compiler import EncryptedModel, encrypt_model
from rexis.ee.decoys import Decoys, hidden_axes, input_axis, widen
from rexis.ee.decoys.cost import runtime_ratio
from rexis.ee.graph import Graph
from rexis.ee.keyformat import read_key, write_key
from rexis.ee.keys import KeyPart
from rexis.ee.stream import SecretStream
from rexis.protocol.errors import EncryptionError, MalformedError, TensorError
from tests.unit.ee.dense_networks import Builder, mlp
from tests.unit.ee.torch_networks import exported

SEED = bytes(32)


def run(model: bytes, records: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model)
    return session.run(None, {session.get_inputs()[0].name: records})[0]


def encrypted(model: bytes, **decoys: float) -> EncryptedModel:
    return encrypt_model(model, epoch=1, seed=SEED, decoys=Decoys(**decoys))


def error(model: bytes, found: EncryptedModel, records: np.ndarray, key: EEKey | None = None) -> float:
    expected = run(model, records)
    got = decrypt_outputs(found.key, run(found.model, encrypt_records(key or found.key, records)))
    return float(np.median(np.linalg.norm(got - expected, axis=1) / np.linalg.norm(expected, axis=1)))


@pytest.mark.parametrize(
    ("name", "decoys"),
    [
        ("breast_cancer", {"inputs": 7, "neurons": 0.5}),
        ("diabetes", {"inputs": 3, "neurons": 1.0}),
        ("dna", {"neurons": 0.5}),
        ("ecg", {"inputs": 1, "neurons": 0.25}),
        ("omics", {"neurons": 0.5}),
        ("patch_cnn", {"inputs": 2, "neurons": 0.5}),
        ("vit", {"inputs": 1, "neurons": 0.5}),
    ],
)
def test_the_output_does_not_change(name: str, decoys: dict[str, float]) -> None:
    model, records = load_model_bytes(name), held_out(name)[0][:40]
    found = encrypted(model, **decoys)
    assert error(model, found, records, read_key(write_key(found.key.only(KeyPart.ENCRYPT)))) < 2e-6
    assert found.key.input.plain_shape == records.shape[1:]
    wider = Graph(found.model).shape(Graph(found.model).inputs[0])
    assert wider is not None
    assert wider[1:] == found.key.input.shape
    assert (found.key.input.shape == records.shape[1:]) == ("inputs" not in decoys)


def test_every_record_gets_noise_of_its_own() -> None:
    key = encrypted(mlp(5, 8, 2).SerializeToString(), inputs=3).key
    records = np.ones((4, 5), dtype=np.float32)
    first = encrypt_records(key, records)
    assert first.shape == (4, 8)
    assert len(np.unique(np.concatenate((first, encrypt_records(key, records))), axis=0)) == 8
    seeded = encrypt_records(key, records, seed=SEED)
    np.testing.assert_array_equal(seeded, encrypt_records(key, records, seed=SEED))
    noise = key.input.invert(encrypt_records(key, np.zeros((4000, 5), dtype=np.float32)))[:, 5:]
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1.0) < 0.05
    with pytest.raises(TensorError, match=r"expected \[n, 5\]"):
        encrypt_records(key, first)


def test_split_neurons_add_up_and_none_is_small() -> None:
    model = mlp(6, 40, 3)
    made, widening = widen(model.SerializeToString(), Decoys(neurons=0.5), SecretStream(SEED, "t"))
    (split,) = widening.split
    before, after = (Graph(each) for each in (model, made))
    (read,) = split.axis.read
    rows = [np.moveaxis(graph.stored(read.constant), read.axis, 0) for graph in (before, after)]
    total = np.zeros_like(rows[0])
    np.add.at(total, split.origin, rows[1])
    np.testing.assert_allclose(total, rows[0], atol=1e-6)
    sizes = np.linalg.norm(rows[1], axis=1)
    assert len(sizes) == 60
    assert sizes[40:].mean() > 0.7 * sizes.mean()
    for part in (*split.axis.made, *split.axis.along):
        np.testing.assert_array_equal(
            after.stored(part.constant), np.take(before.stored(part.constant), split.origin, axis=part.axis)
        )
    assert (widening.origin(read.constant, read.axis) == split.origin).all()
    assert widening.origin(read.constant, 1 - read.axis) is None


def test_a_gated_layer_is_split_on_both_sides() -> None:
    axes, _ = hidden_axes(Graph(load_model_bytes("ecg")))
    assert [(each.size, len(each.made), len(each.read)) for each in axes] == [(64, 2, 1), (64, 2, 1)]


@pytest.mark.parametrize(
    ("name", "decoys", "words"),
    [
        ("dna", {"inputs": 1}, "'/Cast'"),
        ("omics", {"inputs": 1}, "'/Slice'"),
    ],
)
def test_what_cannot_be_widened_is_refused_with_the_node(name: str, decoys: dict[str, float], words: str) -> None:
    with pytest.raises(EncryptionError, match=words):
        encrypted(load_model_bytes(name), **decoys)


def test_other_refusals() -> None:
    one = mlp(4, 2).SerializeToString()
    with pytest.raises(EncryptionError, match=r"no neurons can be split: .*it makes the model's output"):
        encrypted(one, neurons=0.5)
    shared = Builder(4)
    weight = shared.constant(shared.weight(4, 4))
    shared.node("MatMul", "records", weight)
    shared.relu()
    shared.node("MatMul", shared.value, weight)
    with pytest.raises(EncryptionError, match="is shared"):
        input_axis(Graph(shared.build().SerializeToString()))
    normed = exported("transformer")[0]
    assert any("LayerNormalization" in reason for reason in hidden_axes(Graph(normed))[1].values())
    for bad in ({"inputs": -1}, {"neurons": 1.5}, {"inputs": 10_000}):
        with pytest.raises(EncryptionError):
            Decoys(**bad)


def test_a_key_file_with_impossible_decoys_is_refused() -> None:
    key = encrypted(mlp(5, 8, 2).SerializeToString(), inputs=3).key
    data = write_key(key)
    for count in (b"[1,8]", b"[2,3]", b"[1,0]"):
        with pytest.raises((EncryptionError, MalformedError)):
            read_key(data.replace(b"[1,3]", count))
    assert read_key(data).input.decoys == key.input.decoys
    assert b"decoys" not in write_key(encrypt_model(mlp(5, 8, 2), epoch=1, seed=SEED).key)


def test_the_first_weight_does_not_see_the_noise() -> None:
    """So the worker, who has it, can take the noise away: decoy inputs are for the wire."""
    found = encrypted(mlp(5, 16, 2).SerializeToString(), inputs=3)
    weight = numpy_helper.to_array(onnx.load_model_from_string(found.model).graph.initializer[0])
    assert weight.shape == (16, 8)
    values = np.linalg.svd(weight, compute_uv=False)
    assert (values > 1e-4 * values[0]).sum() == 5
    records = np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32)
    first, second = (encrypt_records(found.key, records) @ weight.T for _ in range(2))
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_the_card_says_what_was_widened_and_what_it_costs() -> None:
    model = load_model_bytes("breast_cancer")
    found = encrypted(model, inputs=10, neurons=0.5)
    records = held_out("breast_cancer")[0][:32]
    ratio = runtime_ratio(
        *((m, {"records": r}) for m, r in ((model, records), (found.model, encrypt_records(found.key, records))))
    )
    assert ratio > 0
    card = card_of(found, runtime_ratio=ratio)
    assert card.decoys is not None
    assert card.decoys.inputs == 10
    assert set(card.decoys.neurons.values()) == {(64, 96)}
    assert f"{ratio:.2f} times" in page(card)
    assert sum("removed" in text or "put together" in text for text in card.visible) == 2
    assert LeakageCard.model_validate_json(card.to_json()) == card
    assert card_of(encrypt_model(model, epoch=1, seed=SEED)).decoys is None
