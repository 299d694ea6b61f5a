"""Large constants apart from their model: in memory once, or in files of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

import rexis.ee.container as container
from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.ee.container import LARGE, ConstantsFile, Container, model_digest
from rexis.protocol.digests import sha256
from rexis.protocol.errors import EncryptionError, MalformedError, NotFoundError, RexisError
from tests.unit.ee.dense_networks import run

SEED = bytes(range(32))
WIDTH = 96  # a square of it is large, a vector is not


def network(*, layers: int = 2) -> onnx.ModelProto:
    """Square layers with biases, and a bias that two nodes share."""
    random = np.random.default_rng(0)
    nodes, constants, value = [], [], "x"
    shared = numpy_helper.from_array(random.standard_normal(WIDTH).astype(np.float32), "shared")
    for layer in range(layers):
        weight = random.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 10
        constants.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes += [
            helper.make_node("MatMul", [value, f"w{layer}"], [f"m{layer}"]),
            helper.make_node("Add", [f"m{layer}", "shared"], [f"a{layer}"]),
            helper.make_node("Relu", [f"a{layer}"], [f"r{layer}"]),
        ]
        value = f"r{layer}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("x", value)]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], [shared, *constants])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """The network with its weights in another file."""
    path = tmp_path / "network.onnx"
    onnx.save(network(), path, save_as_external_data=True, location="network.bin", size_threshold=1024)
    return path


def test_a_model_is_put_together_as_it_was() -> None:
    model = network()
    opened = Container(model)
    assert set(opened.constants) == {"w0", "w1"}
    assert opened.constants["w0"].size > LARGE
    assert all(not tensor.raw_data for tensor in opened.message.graph.initializer if tensor.name != "shared")
    assert onnx.load_model_from_string(opened.encoded()) == model


def test_values_that_a_writer_kept_as_floats_are_read_too() -> None:
    model = network()
    weight = model.graph.initializer[1]
    values = numpy_helper.to_array(weight)
    weight.ClearField("raw_data")
    weight.float_data.extend(values.ravel().tolist())
    np.testing.assert_array_equal(Container(model).constants["w0"], values)


def test_a_model_given_by_its_path_is_encrypted_as_its_bytes_are(split: Path) -> None:
    from_path = encrypt_model(split, epoch=1, seed=SEED)
    from_message = encrypt_model(network(), epoch=1, seed=SEED)
    assert from_path.model == from_message.model
    assert from_path.digest == sha256(from_path.model)


def test_encrypted_constants_may_go_to_a_file(tmp_path: Path, split: Path) -> None:
    records = np.random.default_rng(1).standard_normal((8, WIDTH), dtype=np.float32)
    out = tmp_path / "encrypted.onnx"
    with ConstantsFile(tmp_path / "encrypted.bin", "encrypted.bin") as file:
        encrypted = encrypt_model(split, epoch=1, seed=SEED, file=file)
    out.write_bytes(encrypted.model)
    assert len(encrypted.model) < WIDTH * WIDTH
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"x": encrypt_records(encrypted.key, records)})[0]
    np.testing.assert_allclose(decrypt_outputs(encrypted.key, outputs), run(network(), records), rtol=1e-3, atol=1e-5)
    together = onnx.load(out)
    alone = onnx.load_model_from_string(encrypt_model(network(), epoch=1, seed=SEED).model)
    for a, b in zip(together.graph.initializer, alone.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))


def test_the_digest_covers_the_file_of_constants(tmp_path: Path) -> None:
    out, data = tmp_path / "encrypted.onnx", tmp_path / "encrypted.bin"
    with ConstantsFile(data, data.name) as file:
        encrypted = encrypt_model(network(), epoch=1, seed=SEED, file=file)
    out.write_bytes(encrypted.model)
    assert model_digest(out) == encrypted.digest == encrypted.key.model_digest
    changed = bytearray(data.read_bytes())
    changed[-1] ^= 1
    data.write_bytes(changed)
    assert model_digest(out) != encrypted.digest


def test_an_attempt_that_failed_leaves_nothing_in_the_file(tmp_path: Path) -> None:
    with ConstantsFile(tmp_path / "data", "data") as file:
        tensor = network().graph.initializer[1]
        file.append(tensor, np.ones((WIDTH, WIDTH), np.float32))
        file.restart()
        encrypted = encrypt_model(network(), epoch=1, seed=SEED, file=file)
    with ConstantsFile(tmp_path / "again", "data") as file:
        assert encrypt_model(network(), epoch=1, seed=SEED, file=file).digest == encrypted.digest


def test_what_is_only_on_its_way_to_be_encrypted_does_not_reach_the_file(tmp_path: Path) -> None:
    model, random = network(layers=1), np.random.default_rng(2)
    gain = random.standard_normal(WIDTH).astype(np.float32)
    back = random.standard_normal((WIDTH, WIDTH)).astype(np.float32)
    model.graph.initializer.extend(numpy_helper.from_array(each, name) for name, each in (("g", gain), ("b", back)))
    branch = [("MatMul", ["r0", "b"], "m"), ("Mul", ["m", "g"], "s"), ("Add", ["s", "r0"], "y")]
    model.graph.node.extend(helper.make_node(op, given, [made]) for op, given, made in branch)
    model.graph.output[0].name = "y"
    with ConstantsFile(tmp_path / "data", "data") as file:
        encrypted = encrypt_model(model, epoch=1, seed=SEED, file=file)
        written = file.path.read_bytes()
    assert encrypted.plan.absorbed  # the gain goes into the weight before both are encrypted
    assert len(written) == 4 * 2 * WIDTH * WIDTH
    assert not any(row.tobytes()[:32] in written for row in (*back, *(back * gain)))


def test_other_files_need_a_path(split: Path) -> None:
    with pytest.raises(EncryptionError, match="lies in another file") as caught:
        encrypt_model(split.read_bytes(), epoch=1)
    assert "path" in (caught.value.hint or "")


def outside(path: Path, tensor: onnx.TensorProto) -> None:
    (path.parent.parent / "secret").write_bytes(bytes(WIDTH * WIDTH * 4))
    set_external_data(tensor, "../secret")


def absolute(path: Path, tensor: onnx.TensorProto) -> None:
    set_external_data(tensor, "/etc/hostname")


def linked(path: Path, tensor: onnx.TensorProto) -> None:
    (path.parent.parent / "secret").write_bytes(bytes(WIDTH * WIDTH * 4))
    path.with_name("link").symlink_to(path.parent.parent / "secret")
    set_external_data(tensor, "link")


def missing(path: Path, tensor: onnx.TensorProto) -> None:
    set_external_data(tensor, "nowhere")


def unnamed(path: Path, tensor: onnx.TensorProto) -> None:
    set_external_data(tensor, "")


def beyond(path: Path, tensor: onnx.TensorProto) -> None:
    size = path.with_name("network.bin").stat().st_size
    set_external_data(tensor, "network.bin", offset=size - 64, length=WIDTH * WIDTH * 4)


def short(path: Path, tensor: onnx.TensorProto) -> None:
    set_external_data(tensor, "network.bin", offset=0, length=WIDTH * WIDTH * 4 - 4)


def negative(path: Path, tensor: onnx.TensorProto) -> None:
    set_external_data(tensor, "network.bin", offset=0, length=16)
    tensor.external_data[1].value = "-4"


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (outside, "outside its folder"),
        (absolute, "outside its folder"),
        (linked, "outside its folder"),
        (missing, "none beside it"),
        (unnamed, "outside its folder"),
        (beyond, "reaches beyond"),
        (short, "another size"),
        (negative, "another size"),
    ],
)
def test_a_model_reads_no_file_but_its_own(
    split: Path, forge: Callable[[Path, onnx.TensorProto], None], reason: str
) -> None:
    model = onnx.load(split, load_external_data=False)
    tensor = next(each for each in model.graph.initializer if each.name == "w1")
    tensor.raw_data = b"x"  # set_external_data wants some
    forge(split, tensor)
    tensor.ClearField("raw_data")
    split.write_bytes(model.SerializeToString())
    with pytest.raises(RexisError, match=reason) as caught:
        encrypt_model(split, epoch=1)
    assert isinstance(caught.value, (MalformedError, NotFoundError))


def test_a_model_beyond_protobufs_limit_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(container, "MAX_BYTES", 50_000)
    with pytest.raises(EncryptionError, match="at most") as caught:
        encrypt_model(network(), epoch=1)
    assert "--external-data" in (caught.value.hint or "")
    with ConstantsFile(tmp_path / "data", "data") as file:
        assert len(encrypt_model(network(), epoch=1, file=file).model) < 50_000
