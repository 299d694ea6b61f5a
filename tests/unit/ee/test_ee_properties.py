"""Random graphs over the supported operators: compile, run, decrypt, compare."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.protocol.errors import EncryptionError
from tests.unit.ee.dense_networks import run
from tests.unit.ee.random_graphs import FEATURES, STEPS, TOKENS, random_graph
from tests.unit.ee.test_ee_compiler import without_constants

RECORDS = np.random.default_rng(0).normal(size=(20, TOKENS, FEATURES)).astype(np.float32)
# Patterns that are refused with a reason: keys that span a cut.
KNOWN = ("would stay readable",)


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
