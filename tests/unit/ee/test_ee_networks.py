"""Real kinds of networks, from torch's both exporters: what comes out decrypts to what the plain model gives."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from torch import Tensor

from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import EncryptedModel, encrypt_model
from rexis.ee.groups import Power, group_name
from tests.unit.ee.dense_networks import run
from tests.unit.ee.test_ee_compiler import stored, without_constants
from tests.unit.ee.torch_networks import NETWORKS, exported

SEED = bytes(range(32))
EXPORTERS = {"legacy": False, "dynamo": True}


@cache
def compiled(name: str, *, dynamo: bool = False) -> tuple[bytes, Tensor, EncryptedModel]:
    model, records = exported(name, dynamo=dynamo)
    return model, records, encrypt_model(model, epoch=1, seed=SEED)


def groups(name: str, value: str) -> list[list[str]]:
    """The groups of each axis of a value, batch apart."""
    plan = compiled(name)[2].plan
    return [[group_name(powers, size) for size, powers in axis] for _, axis in plan.groups_of(value)]


@pytest.mark.parametrize("dynamo", EXPORTERS.values(), ids=EXPORTERS.keys())
@pytest.mark.parametrize("name", NETWORKS)
def test_decrypted_outputs_are_the_plain_outputs(name: str, dynamo: bool) -> None:
    model, tensor, encrypted = compiled(name, dynamo=dynamo)
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
        if plain.size > 1 and plain.dtype == np.float32 and not (plain == plain.flat[0]).all():
            assert not np.allclose(after[constant], plain, atol=1e-3), constant


def test_a_residual_stream_behind_layer_norms_is_mixed_by_a_dense_key() -> None:
    assert groups("transformer", "/Add_output_0") == [["permutation"], ["orthogonal fixing ones"]]
    assert groups("llama", "/Add_output_0") == [["permutation"], ["orthogonal"]]
    assert groups("post-norm", "/Add_output_0") == [["permutation"], ["permutation"]]


def test_heads_are_permuted_and_each_has_its_own_dense_keys() -> None:
    plan = compiled("transformer")[2].plan
    scores = next(node for node in plan.graph.nodes if node.op == "Softmax").output
    assert groups("transformer", scores) == [["permutation"], ["permutation"], ["permutation"]]
    queries = next(node for node in plan.graph.nodes if node.op == "Reshape").output
    assert groups("transformer", queries)[1:] == [["permutation"], ["invertible"]]
    families = [element for element in plan.keyring(SEED).elements if element.index]
    assert len(families) == 4  # queries and keys share one, values have another, in each of two blocks
    assert all(len({key.arrays()["matrix"].tobytes() for key in each.keys}) == 4 for each in families)


def test_a_patch_is_mixed_by_one_dense_key_and_patches_are_permuted() -> None:
    assert groups("ViT", "records")[1:] == [["permutation", "invertible"]] * 2
    joint = [element for element in compiled("ViT")[2].key.keyring.elements if len(element.members) == 3]  # type: ignore[union-attr]
    assert [element.keys[0].size for element in joint] == [3 * 4 * 4]


def test_rotary_embeddings_leave_signed_permutations_of_the_frequencies() -> None:
    plan = compiled("rotary")[2].plan
    queries = next(node for node in plan.graph.nodes if node.op == "Reshape").output
    powers = plan.powers(plan.layout(queries)[-1])
    assert powers == Power.PERMUTE | Power.SIGN


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
