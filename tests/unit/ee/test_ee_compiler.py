from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import EncryptedModel, encrypt_model
from rexis.ee.graph import _strip
from rexis.ee.groups import FREE, POSITIVE, Power
from rexis.protocol.digests import sha256
from rexis.protocol.errors import EncryptionError, MalformedError
from tests.unit.ee.dense_networks import DENSE, Builder, mlp, run

SEED = bytes(range(32))


def stored(model: onnx.ModelProto | bytes) -> dict[str, np.ndarray]:
    proto = onnx.load_model_from_string(model) if isinstance(model, bytes) else model
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def without_constants(model: onnx.ModelProto | bytes) -> bytes:
    """Nodes, names, shapes and dtypes, without free text."""
    proto = onnx.ModelProto()
    proto.ParseFromString(model if isinstance(model, bytes) else model.SerializeToString())
    _strip(proto)
    proto.graph.name = ""
    tensors = list(proto.graph.initializer)
    tensors += [node.attribute[0].t for node in proto.graph.node if node.op_type == "Constant"]
    for tensor in tensors:
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    return proto.SerializeToString(deterministic=True)


@pytest.mark.parametrize("model", DENSE.values(), ids=DENSE.keys())
def test_decrypted_outputs_are_the_plain_outputs(model: onnx.ModelProto) -> None:
    width = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    records = np.random.default_rng(1).normal(size=(50, width)).astype(np.float32)
    encrypted = encrypt_model(model, epoch=1, seed=SEED)
    outputs = run(encrypted.model, encrypt_records(encrypted.key, records))
    plain = run(model, records)
    error = np.abs(decrypt_outputs(encrypted.key, outputs) - plain).max() / np.abs(plain).max()
    assert error < 1e-5
    assert not np.allclose(outputs, plain, atol=1e-2)


@pytest.mark.parametrize("model", DENSE.values(), ids=DENSE.keys())
def test_only_constants_change_and_all_of_them(model: onnx.ModelProto) -> None:
    encrypted = encrypt_model(model, epoch=1, seed=SEED)
    assert without_constants(encrypted.model) == without_constants(model)
    before, after = stored(model), stored(encrypted.model)
    assert before.keys() == after.keys()
    for name, plain in before.items():
        assert (after[name].shape, after[name].dtype) == (plain.shape, plain.dtype)
        if plain.any():
            assert not np.allclose(after[name], plain, atol=1e-3)


def test_the_model_given_is_not_changed() -> None:
    model = mlp(5, 8, 2)
    before = model.SerializeToString()
    encrypt_model(model, epoch=1)
    assert model.SerializeToString() == before


def offsets(encrypted: EncryptedModel) -> tuple[bool, bool]:
    """Whether records and outputs are moved by an offset."""
    key = encrypted.key
    assert key.output is not None
    return key.input.offset is not None, key.output.offset is not None


def test_the_input_and_output_get_dense_keys_with_offsets_and_relu_gets_permutations() -> None:
    encrypted = encrypt_model(mlp(5, 8, 2), epoch=1)
    plan = encrypted.plan
    assert plan.powers(plan.layout("records")[1]) == plan.powers(plan.layout("value2")[1]) == FREE
    assert plan.powers(plan.layout("value0")[1]) == plan.powers(plan.layout("value1")[1]) == POSITIVE
    assert offsets(encrypted) == (True, True)


def test_strongest_caps_every_key() -> None:
    model = mlp(5, 8, 2)
    encrypted = encrypt_model(model, epoch=1, seed=SEED, strongest=Power.PERMUTE)
    plan = encrypted.plan
    assert {plan.powers(plan.layout(name)[1]) for name in ("records", "value0", "value2")} == {Power.PERMUTE}
    records = np.random.default_rng(1).normal(size=(9, 5)).astype(np.float32)
    outputs = run(encrypted.model, encrypt_records(encrypted.key, records))
    np.testing.assert_allclose(decrypt_outputs(encrypted.key, outputs), run(model, records), rtol=1e-4, atol=1e-5)


def test_matmul_and_add_allow_the_same_keys_as_gemm() -> None:
    assert offsets(encrypt_model(DENSE["MatMul and Add"], epoch=1)) == (True, True)


def test_without_bias_there_is_no_offset() -> None:
    assert offsets(encrypt_model(DENSE["no bias"], epoch=1)) == (False, False)


@pytest.mark.parametrize("scale", [1e4, 1.0, 1e-3, 1e-6])
def test_offsets_are_as_large_as_what_they_hide(scale: float) -> None:
    """A fixed size would hide nothing of large outputs, and drown small ones in rounding."""
    model = mlp(8, 16, 3)
    for tensor in model.graph.initializer[-2:]:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(scale), tensor.name))
    records = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    encrypted = encrypt_model(model, epoch=1, seed=SEED)
    plain = run(model, records)
    found = decrypt_outputs(encrypted.key, run(encrypted.model, encrypt_records(encrypted.key, records)))
    error = np.linalg.norm(found - plain, axis=1) / np.linalg.norm(plain, axis=1)
    assert np.median(error) < 1e-5
    assert encrypted.key.output is not None
    assert encrypted.key.output.offset is not None
    assert 0.1 < np.abs(encrypted.key.output.offset).max() / plain.std() < 10


def test_the_seed_determines_model_and_key() -> None:
    model = mlp(5, 8, 2)
    first, again = (encrypt_model(model, epoch=1, seed=SEED) for _ in range(2))
    assert first.model == again.model
    assert first.key.key_id == again.key.key_id
    assert first.key.data_secret == again.key.data_secret


def test_seeds_and_epochs_give_different_keys() -> None:
    model = mlp(5, 8, 2)
    made = [
        encrypt_model(model, epoch=1, seed=SEED),
        encrypt_model(model, epoch=2, seed=SEED),
        encrypt_model(model, epoch=1),
        encrypt_model(model, epoch=1),
    ]
    assert len({one.digest for one in made}) == 4
    assert len({one.key.key_id for one in made}) == 4
    assert len({one.key.data_secret for one in made}) == 4


def test_the_key_names_the_encrypted_model() -> None:
    encrypted = encrypt_model(mlp(5, 8, 2), epoch=3)
    assert encrypted.digest == encrypted.key.model_digest == sha256(encrypted.model)
    assert encrypted.key.epoch == 3


def test_the_result_holds_no_free_text() -> None:
    model = mlp(5, 8, 2)
    for part in (model, model.graph, model.graph.node[0], model.graph.initializer[0], model.graph.input[0]):
        part.doc_string = "Ward 7"
        part.metadata_props.add(key="site", value="Ward 7")
    model.graph.node[0].attribute[0].doc_string = model.producer_name = model.graph.name = "Ward 7"
    model.graph.input[0].type.denotation = "Ward 7"
    assert b"Ward 7" in model.SerializeToString()
    assert b"Ward 7" not in encrypt_model(model, epoch=1).model


def test_repr_shows_no_weights() -> None:
    encrypted = encrypt_model(mlp(5, 8, 2), epoch=1)
    assert repr(encrypted) == f"EncryptedModel(key={encrypted.key!r}, allowed_clear=())"


def activation(op: str) -> onnx.ModelProto:
    builder = Builder(5).gemm(8)
    builder.node(op, builder.value)
    return builder.gemm(2).build()


def unread_input() -> onnx.ModelProto:
    model = mlp(5, 2)
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["batch", 5]))
    return model


def unused_constant() -> onnx.ModelProto:
    builder = Builder(5).gemm(8)
    builder.constant(np.ones(3), "forgotten")
    return builder.build()


def computed_weight() -> onnx.ModelProto:
    builder = Builder(5).gemm(5)
    builder.node("MatMul", "records", builder.node("Transpose", builder.value))
    return builder.build()


def batch_in_bias() -> onnx.ModelProto:
    builder = Builder(4)
    builder.node("Gemm", "records", builder.constant(builder.weight(4, 3)), builder.constant(np.ones((6, 3))))
    builder.width = 3
    return builder.build()


def half_precision() -> onnx.ModelProto:
    builder = Builder(4).gemm(3)
    model = builder.build()
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    return model


def word_constant() -> onnx.ModelProto:
    model = mlp(5, 2)
    model.graph.initializer.append(helper.make_tensor("name", TensorProto.STRING, [1], [b"Ward 7"]))
    return model


def unused_integers() -> onnx.ModelProto:
    model = mlp(5, 2)
    model.graph.initializer.append(numpy_helper.from_array(np.arange(7), "forgotten"))
    return model


def not_finite() -> onnx.ModelProto:
    builder = Builder(4)
    builder.node("MatMul", "records", builder.constant(np.full((4, 3), np.inf)))
    builder.width = 3
    return builder.build()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (activation("Shrink"), r"node 'Shrink_1' \(Shrink\): no rule"),
        (unread_input(), "read by no operator"),
        (unused_constant(), "'forgotten'"),
        (computed_weight(), "batch"),
        (batch_in_bias(), "from record to record"),
        (half_precision(), "not float32"),
        (word_constant(), "string"),
        (unused_integers(), "'forgotten'"),
        (not_finite(), "NaN or infinity"),
        (Builder(4).gemm(3, alpha=0.0).build(), "alpha or beta is 0"),
    ],
)
def test_what_cannot_be_transformed_is_refused_with_the_reason(model: onnx.ModelProto, reason: str) -> None:
    with pytest.raises(EncryptionError, match=reason):
        encrypt_model(model, epoch=1)


def test_what_is_not_a_model_is_refused() -> None:
    with pytest.raises(MalformedError):
        encrypt_model(b"\x00not a model", epoch=1)
    with pytest.raises(MalformedError):
        encrypt_model(b"", epoch=1)


def test_epoch_and_seed_are_checked() -> None:
    with pytest.raises(EncryptionError, match="epoch"):
        encrypt_model(mlp(3, 2), epoch=0)
    with pytest.raises(EncryptionError, match="32 bytes"):
        encrypt_model(mlp(3, 2), epoch=1, seed=b"short")


def test_keys_and_records_need_neither_onnx_nor_torch() -> None:
    script = (
        "import sys; sys.modules.update(onnx=None, torch=None, onnxruntime=None)\n"
        "import rexis.ee\n"
        "from rexis.protocol.errors import UnavailableError\n"
        "try:\n    import rexis.ee.compiler\n"
        "except ImportError: print('refused')\n"
        "except UnavailableError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "refused"
