from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import load_model_from_string, numpy_helper
from sklearn.metrics import roc_auc_score

from models import breast_cancer
from models.zoo import held_out, load_manifest, load_model_bytes, training_split
from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import encrypt_model

NAME = "breast_cancer"


def logits(model: bytes, records: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"records": records})[0]


def constants(model: bytes) -> list[np.ndarray]:
    graph = load_model_from_string(model).graph
    return [numpy_helper.to_array(tensor).astype(np.float64) for tensor in graph.initializer]


def test_a_rebuild_gives_the_committed_model() -> None:
    rebuilt, committed = breast_cancer.build(), load_manifest(NAME)
    if rebuilt.manifest.versions["torch"] == committed.versions["torch"]:
        assert rebuilt.manifest.onnx.sha256 == committed.onnx.sha256
    assert rebuilt.manifest.data == committed.data
    for split, metrics in committed.metrics.items():
        for name, value in metrics.items():
            assert rebuilt.manifest.metrics[split][name] == pytest.approx(value, abs=0.01)


@pytest.mark.parametrize(("split", "load"), [("held_out", held_out), ("train", training_split)])
def test_the_committed_file_reaches_the_metrics_of_its_manifest(split: str, load: object) -> None:
    records, labels = load(NAME)
    found = logits(load_model_bytes(NAME), records)
    metrics = load_manifest(NAME).metrics[split]
    assert (found.argmax(axis=1) == labels).mean() == pytest.approx(metrics["accuracy"])
    assert roc_auc_score(labels, found[:, 1] - found[:, 0]) == pytest.approx(metrics["roc_auc"], abs=1e-4)


def test_the_graph_is_three_layers_of_the_widths_named() -> None:
    graph = load_model_from_string(load_model_bytes(NAME)).graph
    assert [node.op_type for node in graph.node] == ["Gemm", "Relu", "Gemm", "Relu", "Gemm"]
    assert [c.shape for c in constants(load_model_bytes(NAME)) if c.ndim == 2] == [(64, 30), (64, 64), (2, 64)]


def test_building_leaves_torch_as_it_was() -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    breast_cancer.build_network(1)
    assert torch.get_num_threads() == threads
    np.testing.assert_array_equal(torch.random.get_rng_state().numpy(), state.numpy())


def test_encrypted_decisions_are_the_plain_ones() -> None:
    records, _ = held_out(NAME)
    model = load_model_bytes(NAME)
    plain = logits(model, records)
    for seed in range(5):
        encrypted = encrypt_model(model, epoch=1, seed=bytes([seed]) * 32)
        found = decrypt_outputs(encrypted.key, logits(encrypted.model, encrypt_records(encrypted.key, records)))
        relative = np.linalg.norm(found - plain, axis=1) / np.linalg.norm(plain, axis=1)
        assert relative.max() < 1e-4  # the largest over all held-out records


def test_decisions_survive_fixed_point_arithmetic_at_scale_7() -> None:
    """A circuit computes with steps of 1/128: round inputs, weights, biases and activations to that."""

    def fixed(values: np.ndarray) -> np.ndarray:
        return np.round(values * 128) / 128

    def circuit(model: bytes, records: np.ndarray) -> np.ndarray:
        stored = constants(model)
        weights, biases = [c for c in stored if c.ndim == 2], [c for c in stored if c.ndim == 1]
        value = fixed(records.astype(np.float64))
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            value = fixed(value @ fixed(weight).T + fixed(bias))
            value = np.maximum(value, 0) if layer < 2 else value
        return value

    records, _ = held_out(NAME)
    model = load_model_bytes(NAME)
    decisions = logits(model, records).argmax(axis=1)
    for seed in range(20):
        encrypted = encrypt_model(model, epoch=1, seed=bytes([seed]) * 32)
        found = decrypt_outputs(encrypted.key, circuit(encrypted.model, encrypt_records(encrypted.key, records)))
        assert (found.argmax(axis=1) == decisions).mean() >= 0.99
