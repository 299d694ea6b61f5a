"""Sealing keys to others (HPKE)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rexis.ee import EEKey, encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.ee.keys import KeyPart
from rexis.ee.share import Recipient, RecipientKey, seal_key
from rexis.protocol.errors import KeyFileError, MalformedError
from rexis.protocol.parsing import canonical_json
from tests.unit.ee.dense_networks import mlp


@pytest.fixture(scope="module")
def key() -> EEKey:
    return encrypt_model(mlp(5, 8, 2), epoch=4, seed=bytes(32)).key


@pytest.fixture(scope="module")
def hospital() -> RecipientKey:
    return RecipientKey.fresh()


def test_a_sealed_key_opens_for_its_recipient_alone(key: EEKey, hospital: RecipientKey) -> None:
    recipient = Recipient.parse(hospital.recipient.text)
    assert recipient == hospital.recipient
    sealed = seal_key(key.only(KeyPart.ENCRYPT), recipient)
    found = hospital.open(sealed)
    assert (found.part, found.key_id, found.output) == (KeyPart.ENCRYPT, key.key_id, None)
    records = np.ones((2, 5), dtype=np.float32)
    np.testing.assert_array_equal(encrypt_records(found, records), encrypt_records(key, records))
    with pytest.raises(KeyFileError, match="this is the key of"):
        RecipientKey.fresh().open(sealed)
    assert seal_key(key, recipient) != seal_key(key, recipient)


@pytest.mark.parametrize("part", KeyPart)
def test_every_part_can_be_shared(key: EEKey, hospital: RecipientKey, part: KeyPart) -> None:
    assert hospital.open(seal_key(key.only(part), hospital.recipient)).part == part


def test_nothing_in_it_can_be_changed(key: EEKey, hospital: RecipientKey) -> None:
    document = json.loads(seal_key(key, hospital.recipient))
    changes = {
        "part": "decrypt",
        "keyId": "0" * 32,
        "epoch": 5,
        "modelDigest": "0x" + "0" * 64,
        "ciphertext": document["ciphertext"][:-8] + "AAAAAAA=",
    }
    for name, value in changes.items():
        with pytest.raises(KeyFileError, match="was changed"):
            hospital.open(canonical_json(document | {name: value}))
    for name, value in {"version": 2, "suite": "none", "format": "x", "more": 1}.items():
        with pytest.raises(MalformedError):
            hospital.open(canonical_json(document | {name: value}))


def test_it_holds_nothing_of_the_key_in_the_open(key: EEKey, hospital: RecipientKey) -> None:
    sealed = seal_key(key, hospital.recipient)
    assert key.data_secret is not None
    assert key.data_secret not in sealed
    assert key.data_secret.hex().encode() not in sealed


def test_a_recipients_key_is_kept_in_a_file(hospital: RecipientKey, tmp_path: Path) -> None:
    hospital.save(tmp_path / "key", "correct horse")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert RecipientKey.load(tmp_path / "key", "correct horse").recipient == hospital.recipient
    with pytest.raises(KeyFileError, match="passphrase"):
        RecipientKey.load(tmp_path / "key", "wrong")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(KeyFileError, match="other users"):
        RecipientKey.load(tmp_path / "key", "correct horse")
    with pytest.raises(KeyFileError, match="empty"):
        hospital.save(tmp_path / "other", "")
    assert repr(hospital) == f"RecipientKey({hospital.recipient.digest})"


@pytest.mark.parametrize(
    "text", ["", "rexis-recipient-v1 ", "rexis-recipient-v1 AAAA", "age1qqqq", "rexis-recipient-v1 %"]
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="public key"):
        Recipient.parse(text)
