"""Checkpoints in another thread, and as ONNX models."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from rexis.protocol.digests import sha256
from rexis.protocol.errors import MalformedError, TensorError, TrainingError
from rexis.protocol.transcript import pack_state, state_root_of, unpack_state, weights_of
from rexis.training import exporting
from rexis.training.checkpoints import Checkpoints, Committed, write_state
from rexis.training.exporting import export_checkpoint, initial_weights
from rexis.training.session import Trainer
from tests.unit.training.conftest import Case


def test_every_state_is_committed_as_it_stood(small: Case, tmp_path: Path) -> None:
    trainer = Trainer(small.model, small.plan, small.records)
    found: list[Committed] = []
    states, losses = [], []
    case = small.but(checkpoint_interval=1)
    with Checkpoints(tmp_path, found.append) as checkpoints:
        for _ in range(case.plan.segments):
            losses.append(trainer.advance(case.plan.checkpoint_interval))
            states.append(trainer.state())
            checkpoints.submit(trainer.snapshot(checkpoints.spare()), losses[-1])

    assert [each.step for each in found] == list(range(1, 13))
    for each, state, loss in zip(found, states, losses, strict=True):
        assert each.root == state_root_of(each.step, each.cursor, state)
        assert each.losses == loss.astype("<f4").tobytes()
        blob = each.blob.read_bytes()
        assert blob == pack_state(state)
        assert each.state_digest == sha256(blob)
        assert state_root_of(each.step, each.cursor, unpack_state(blob, small.plan)) == each.root


def test_a_tensor_that_did_not_change_keeps_its_digest_and_one_that_did_does_not(small: Case, tmp_path: Path) -> None:
    frozen = small.but(trainable=["4.bias", "4.weight"], optimiser=small.plan.optimiser)
    trainer = Trainer(frozen.model, frozen.plan, frozen.records)
    first = trainer.snapshot()
    trainer.load(0, trainer.state() | {"weight/4.bias": -np.zeros(2, np.float32)})
    changed = trainer.snapshot()
    found: list[Committed] = []
    with Checkpoints(tmp_path, found.append) as checkpoints:
        for snapshot in (first, first, changed):
            checkpoints.submit(snapshot, np.zeros(0, np.float32))

    assert found[0].root == found[1].root == state_root_of(0, 0, first.arrays())
    assert found[2].root == state_root_of(0, 0, changed.arrays()) != found[0].root


def test_training_does_not_wait_for_a_commit_until_the_queue_is_full(small: Case, tmp_path: Path) -> None:
    trainer = Trainer(small.model, small.plan, small.records)
    go, begun, done = threading.Event(), threading.Event(), []

    def slow(committed: Committed) -> None:
        begun.set()
        go.wait(60)
        done.append(committed.step)

    with Checkpoints(tmp_path, slow, waiting=1) as checkpoints:
        checkpoints.submit(trainer.snapshot(), trainer.advance(1))
        begun.wait(60)
        checkpoints.submit(trainer.snapshot(), trainer.advance(1))
        third = threading.Thread(target=lambda: checkpoints.submit(trainer.snapshot(), np.zeros(0, np.float32)))
        third.start()
        third.join(0.05)
        held_up = third.is_alive()
        assert done == []
        go.set()
        third.join(60)

    assert held_up
    assert done == [0, 1, 2]


def test_what_a_commit_raises_reaches_the_training(small: Case, tmp_path: Path) -> None:
    trainer = Trainer(small.model, small.plan, small.records)

    def refused(committed: Committed) -> None:
        raise TrainingError("the coordinator refuses")

    with pytest.raises(TrainingError, match="refuses"), Checkpoints(tmp_path, refused) as checkpoints:
        checkpoints.submit(trainer.snapshot(), np.zeros(0, np.float32))


def test_a_blob_is_what_pack_state_gives(tmp_path: Path) -> None:
    state = {"weight/b": np.arange(6, dtype=np.float32).reshape(2, 3), "weight/a.1": np.ones((), np.float32)}

    assert write_state(tmp_path / "blob", state) == sha256(pack_state(state))
    assert (tmp_path / "blob").read_bytes() == pack_state(state)


def test_a_checkpoint_is_the_same_graph_with_other_constants(small: Case) -> None:
    trainer = Trainer(small.model, small.plan, small.records)
    trainer.advance(5)

    exported = trainer.export()

    inputs = small.records[:7, :-1]
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    again = Trainer(exported, small.plan, small.records)
    assert len(exported) == len(small.model)
    assert weights_of(again.state()).keys() == weights_of(trainer.state()).keys()
    for name, value in weights_of(trainer.state()).items():
        assert np.array_equal(initial_weights(exported, [name])[name], value)
    assert session.run(None, {"records": inputs})[0].shape == (7, 2)
    assert export_checkpoint(exported, initial_weights(small.model, small.plan.trainable)) == small.model


def test_constants_are_found_however_they_are_stored(small: Case) -> None:
    """As raw data or as a list of numbers, with dimensions one by one or packed."""
    message = onnx.load_model_from_string(small.model)
    for tensor in message.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).reshape(-1).tolist()
        tensor.ClearField("raw_data")
        tensor.float_data.extend(values)
    listed = message.SerializeToString()
    weights = initial_weights(small.model, small.plan.trainable)

    found = initial_weights(listed, small.plan.trainable)
    exported = export_checkpoint(listed, {name: value + 1.0 for name, value in weights.items()})

    assert all(np.array_equal(found[name], weights[name]) for name in weights)
    for tensor in onnx.load_model_from_string(exported).graph.initializer:
        assert np.array_equal(onnx.numpy_helper.to_array(tensor), weights[tensor.name] + 1.0)


def test_what_cannot_be_exported_is_refused(small: Case) -> None:
    good = initial_weights(small.model, ["4.bias"])
    for value in (np.zeros(3, np.float32), np.zeros(2), np.array([np.nan, 0.0], np.float32)):
        with pytest.raises(TensorError, match=r"4\.bias"):
            export_checkpoint(small.model, {"4.bias": value})
    with pytest.raises(TrainingError, match="no initialiser"):
        export_checkpoint(small.model, {"nothing": good["4.bias"]})
    for length in (0, 10, 5000, len(small.model) - 1):
        with pytest.raises((MalformedError, TrainingError)):
            initial_weights(small.model[:length], small.plan.trainable)
    message = onnx.load_model_from_string(small.model)
    tensor = next(each for each in message.graph.initializer if each.name == "4.bias")
    message.graph.initializer.append(tensor)
    with pytest.raises(MalformedError, match="two initialisers"):
        initial_weights(message.SerializeToString(), ["4.bias"])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(TrainingError, match="data in the model"):
        initial_weights(message.SerializeToString(), ["4.bias"])


def _field(number: int, content: bytes) -> bytes:
    """A field of Protocol Buffers."""
    made = b""
    for value in (number << 3 | 2, len(content)):
        while value > 127:
            made, value = made + bytes([value & 127 | 128]), value >> 7
        made += bytes([value])
    return made + content


def test_readers_that_differ_see_no_two_models_in_one_file() -> None:
    data = np.ones(2, "<f4").tobytes()
    tensor = b"\x08\x02\x10\x01" + _field(8, b"w") + _field(9, data)
    assert list(initial_weights(_field(7, _field(5, tensor)), ["w"])) == ["w"]
    for more, reason in ((_field(9, b""), "data in the model"), (_field(9 | 1 << 29, data), "number is too large")):
        with pytest.raises((TrainingError, MalformedError), match=reason):
            initial_weights(_field(7, _field(5, tensor + more)), ["w"])


def test_a_file_of_nothing_but_fields_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_MAX_FIELDS", 1000)
    with pytest.raises(MalformedError, match="more than 1000 parts"):
        initial_weights(_field(7, b"\x10\x01" * 1000), ["w"])
