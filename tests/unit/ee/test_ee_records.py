from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest

from rexis.ee import EEKey, decrypt_outputs, encrypt_records, record_salts
from rexis.ee.compiler import encrypt_model
from rexis.protocol.digests import ZERO_DIGEST, sha256
from rexis.protocol.errors import KeyFileError, TensorError
from tests.unit.ee.dense_networks import mlp


@pytest.fixture(scope="module")
def key() -> EEKey:
    return encrypt_model(mlp(5, 8, 2), epoch=1, seed=bytes(32)).key


def test_records_stay_float32_of_the_same_shape(key: EEKey) -> None:
    records = np.ones((3, 5), dtype=np.float32)
    encrypted = encrypt_records(key, records)
    assert encrypted.dtype == np.float32
    assert encrypted.shape == (3, 5)
    assert not np.allclose(encrypted, records)
    assert encrypt_records(key, records[:0]).shape == (0, 5)
    np.testing.assert_array_equal(encrypt_records(key, records.astype(np.float64)), encrypted)


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (np.ones(5, dtype=np.float32), r"expected \[n, 5\]"),
        (np.ones((3, 4), dtype=np.float32), r"expected \[n, 5\]"),
        (np.ones((3, 5, 1), dtype=np.float32), r"expected \[n, 5\]"),
        (np.ones((3, 5), dtype=np.int64), "dtype int64"),
        (np.array([["a"] * 5]), "dtype"),
        (np.array([[0, 0, 0, 0, 0], [0, 0, np.nan, 0, 0]], dtype=np.float32), "row 1"),
        (np.full((1, 5), np.inf, dtype=np.float32), "row 0"),
        (np.full((1, 5), 1e300), "do not fit float32"),
    ],
)
def test_records_that_do_not_fit_are_refused(key: EEKey, records: np.ndarray, words: str) -> None:
    with pytest.raises(TensorError, match=words) as caught:
        encrypt_records(key, records)
    assert caught.value.field == "records"


def test_outputs_that_do_not_fit_are_refused(key: EEKey) -> None:
    with pytest.raises(TensorError, match=r"expected \[n, 2\]"):
        decrypt_outputs(key, np.ones((3, 5), dtype=np.float32))


def test_salts_are_the_hmac_of_dataset_and_position(key: EEKey) -> None:
    salts = record_salts(key, sha256(b"data"), 3)
    assert salts.shape == (3, 32)
    assert salts.dtype == np.uint8
    message = b"rexis.salt.v1\0" + sha256(b"data") + (2).to_bytes(8, "big")
    assert salts[2].tobytes() == hmac.new(key.data_secret, message, hashlib.sha256).digest()
    assert len({row.tobytes() for row in (*salts, *record_salts(key, ZERO_DIGEST, 3))}) == 6
    assert record_salts(key, ZERO_DIGEST, 0).shape == (0, 32)
    with pytest.raises(TensorError):
        record_salts(key, ZERO_DIGEST, -1)


def test_a_key_says_which_model_and_epoch_it_is_for(key: EEKey) -> None:
    key.require(model_digest=key.model_digest, epoch=1)
    with pytest.raises(KeyFileError, match="belongs to encrypted model"):
        key.require(model_digest=ZERO_DIGEST, epoch=1)
    with pytest.raises(KeyFileError, match="epoch 1, the job of epoch 2"):
        key.require(model_digest=key.model_digest, epoch=2)
