"""Random graphs over the supported operators: compile, run, decrypt, compare."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.protocol.errors import EncryptionError
from tests.unit.ee.dense_networks import run
from tests.unit.ee.random_graphs import FEATURES, SEVERAL, STEPS, TOKENS, random_graph
from tests.unit.ee.several_inputs import run_inputs
from tests.unit.ee.test_ee_compiler import without_constants

RECORDS = np.random.default_rng(0).normal(size=(20, TOKENS, FEATURES)).astype(np.float32)
# Patterns that are refused with a reason: keys that span a cut.
KNOWN = ("divides axes that carry one key together", "an axis of joined segments is cut into a product")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_any_graph_is_carried_through_or_refused_with_a_reason(steps: list[str], seed: int) -> None:
    model = random_graph(steps, seed)
    try:
        encrypted = encrypt_model(model, epoch=1, seed=seed.to_bytes(32, "big"))
    except EncryptionError as error:
        assert any(words in error.message for words in KNOWN), error
        assert error.field
        assume(False)
    assert without_constants(encrypted.model) == without_constants(model)
    plain = run(model, RECORDS)
    outputs = run(encrypted.model, encrypt_records(encrypted.key, RECORDS))
    found = decrypt_outputs(encrypted.key, outputs)
    error = np.linalg.norm((found - plain).reshape(len(plain), -1), axis=1)
    assert np.median(error / np.linalg.norm(plain.reshape(len(plain), -1), axis=1)) < 1e-4


RANDOM = np.random.default_rng(1)
INPUTS = {
    "records": RECORDS,
    "near": RANDOM.uniform(0.1, 1.0, (20, TOKENS, TOKENS)).astype(np.float32),
    "mask": np.arange(TOKENS) < RANDOM.integers(1, TOKENS + 1, (20, 1)),
    "more": RANDOM.normal(size=(20, TOKENS, 5)).astype(np.float32),
}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(STEPS)), max_size=3),
    st.lists(st.sampled_from(sorted(SEVERAL)), min_size=1, max_size=2),
    st.lists(st.sampled_from(sorted(STEPS | SEVERAL)), max_size=2),
    st.integers(0, 2**32 - 1),
)
@example(["neighbours"], ["neighbours"], ["any", "regroup"], 0)  # a head's key may not differ from node to node
def test_graphs_of_several_inputs_too(before: list[str], several: list[str], after: list[str], seed: int) -> None:
    model = random_graph([*before, *several, *after], seed)
    records = {value.name: INPUTS[value.name] for value in model.graph.input}
    try:
        encrypted = encrypt_model(model, epoch=1, seed=seed.to_bytes(32, "big"))
    except EncryptionError as error:
        assert any(words in error.message for words in KNOWN), error
        assume(False)
    assert without_constants(encrypted.model) == without_constants(model)
    plain = run_inputs(model.SerializeToString(), records)
    outputs = run_inputs(encrypted.model, encrypt_records(encrypted.key, records))
    found = decrypt_outputs(encrypted.key, outputs)
    error = np.linalg.norm((found - plain).reshape(len(plain), -1), axis=1)
    assert np.median(error / np.linalg.norm(plain.reshape(len(plain), -1), axis=1)) < 1e-4
