from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from pyrage import DecryptError
from pyrage import passphrase as age

from rexis.ee import EEKey, decrypt_outputs, encrypt_records, load_key, record_salts, save_key, sealing
from rexis.ee.compiler import encrypt_model
from rexis.ee.keys import KeyPart
from rexis.ee.sealing import work_factor
from rexis.protocol.digests import ZERO_DIGEST
from rexis.protocol.errors import KeyFileError
from tests.unit.ee.dense_networks import mlp

PASSPHRASE = "correct horse battery staple"


@pytest.fixture(scope="module")
def key() -> EEKey:
    return encrypt_model(mlp(5, 8, 2), epoch=4, seed=bytes(32)).key


@pytest.fixture(scope="module")
def sealed(key: EEKey, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("keys") / "key.age"
    save_key(path, key, PASSPHRASE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    return path.read_bytes()


def written(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "key.age"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def refused(path: Path, words: str, passphrase: str = PASSPHRASE) -> KeyFileError:
    with pytest.raises(KeyFileError, match=words) as caught:
        load_key(path, passphrase)
    assert passphrase not in str(caught.value)
    return caught.value


def test_a_key_comes_back(key: EEKey, sealed: bytes, tmp_path: Path) -> None:
    found = load_key(written(tmp_path, sealed), PASSPHRASE)
    assert (found.key_id, found.epoch, found.model_digest) == (key.key_id, 4, key.model_digest)
    assert found.data_secret == key.data_secret
    records = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    np.testing.assert_array_equal(encrypt_records(found, records), encrypt_records(key, records))
    np.testing.assert_array_equal(decrypt_outputs(found, records[:, :2]), decrypt_outputs(key, records[:, :2]))
    assert found.keyring is not None
    assert key.keyring is not None
    for name, layout in key.layouts.items():
        weight = np.random.default_rng(1).normal(size=[key.keyring.size(axis) for axis in layout])
        assert found.layouts[name] == layout
        np.testing.assert_array_equal(found.keyring.apply(weight, layout), key.keyring.apply(weight, layout))


@pytest.mark.parametrize("part", [KeyPart.ENCRYPT, KeyPart.DECRYPT])
def test_a_part_does_its_own_work_and_no_other(key: EEKey, tmp_path: Path, part: KeyPart) -> None:
    save_key(tmp_path / "part", key.only(part), PASSPHRASE)
    found = load_key(tmp_path / "part", PASSPHRASE)
    assert (found.part, found.keyring, found.layouts) == (part, None, {})
    records = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    if part == KeyPart.ENCRYPT:
        np.testing.assert_array_equal(encrypt_records(found, records), encrypt_records(key, records))
        np.testing.assert_array_equal(record_salts(found, ZERO_DIGEST, 3), record_salts(key, ZERO_DIGEST, 3))
        with pytest.raises(KeyFileError, match="only encrypts"):
            decrypt_outputs(found, records[:, :2])
    else:
        np.testing.assert_array_equal(decrypt_outputs(found, records[:, :2]), decrypt_outputs(key, records[:, :2]))
        with pytest.raises(KeyFileError, match="only decrypts"):
            encrypt_records(found, records)
        with pytest.raises(KeyFileError, match="only decrypts"):
            record_salts(found, ZERO_DIGEST, 3)
    with pytest.raises(KeyFileError, match="has no"):
        found.only(KeyPart.DECRYPT if part == KeyPart.ENCRYPT else KeyPart.ENCRYPT)


def test_the_label_part_encrypts_records_and_targets_and_holds_no_key_of_weights(key: EEKey, tmp_path: Path) -> None:
    save_key(tmp_path / "part", key.only(KeyPart.LABEL), PASSPHRASE)
    found = load_key(tmp_path / "part", PASSPHRASE)
    assert (found.part, found.keyring, found.layouts) == (KeyPart.LABEL, None, {})
    records = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    np.testing.assert_array_equal(encrypt_records(found, records), encrypt_records(key, records))
    np.testing.assert_array_equal(record_salts(found, ZERO_DIGEST, 3), record_salts(key, ZERO_DIGEST, 3))
    np.testing.assert_array_equal(decrypt_outputs(found, records[:, :2]), decrypt_outputs(key, records[:, :2]))
    with pytest.raises(KeyFileError, match="the label part of a key has no full part"):
        found.only(KeyPart.FULL)


def test_a_key_of_a_wide_model_can_be_read_back(tmp_path: Path) -> None:
    wide = encrypt_model(mlp(1200, 4, 2), epoch=1, seed=bytes(32)).key
    save_key(tmp_path / "wide", wide, PASSPHRASE)
    assert load_key(tmp_path / "wide", PASSPHRASE).key_id == wide.key_id


def test_a_header_that_asks_for_endless_work_is_refused(sealed: bytes, tmp_path: Path) -> None:
    version, stanza, rest = sealed.split(b"\n", 2)
    costly = b" ".join([*stanza.split(b" ")[:3], b"30"])
    refused(written(tmp_path, b"\n".join([version, costly, rest])), "rounds of scrypt")


def test_the_file_and_the_text_form_hold_no_secret(key: EEKey, sealed: bytes) -> None:
    assert key.data_secret is not None
    assert key.input.offset is not None
    for secret in (key.data_secret, key.input.offset.tobytes()):
        assert secret not in sealed
        assert secret.hex().encode() not in sealed
    assert repr(key) == f"EEKey(key_id={key.key_id!r}, epoch=4, model_digest={key.model_digest!r}, part={key.part!r})"


def test_a_wrong_passphrase_is_refused(sealed: bytes, tmp_path: Path) -> None:
    assert refused(written(tmp_path, sealed), "passphrase is wrong", passphrase="Tr0ub4dor&3").hint


@pytest.mark.parametrize("kept", [0, 10, 60, -1])
def test_a_truncated_file_is_refused(sealed: bytes, tmp_path: Path, kept: int) -> None:
    refused(written(tmp_path, sealed[:kept]), "truncated|not a rexis key file")


def test_a_changed_byte_is_refused(sealed: bytes, tmp_path: Path) -> None:
    refused(written(tmp_path, sealed[:-40] + bytes([sealed[-40] ^ 1]) + sealed[-39:]), "damaged")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(sealed: bytes, tmp_path: Path, mode: int) -> None:
    assert "chmod 600" in str(refused(written(tmp_path, sealed, mode), "other users"))


def test_what_is_not_a_key_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "missing", "no key file")
    refused(tmp_path, "not a regular file")
    refused(written(tmp_path, b"PK\x03\x04"), "not a rexis key file")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo", 0o600)
        refused(tmp_path / "fifo", "not a regular file")


@pytest.mark.parametrize(
    "content",
    [
        b"just a note",
        b'{"format": "rexis.ee.key", "version": 3}',
        b'{"format": "rexis.ee.key", "version": 1, "dataSecret": "0xdeadbeef"}',
    ],
)
def test_an_age_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    error = refused(written(tmp_path, age.encrypt(content, PASSPHRASE)), "not a rexis key of version 3")
    assert "deadbeef" not in str(error)


def test_a_key_file_is_not_overwritten_by_accident(key: EEKey, tmp_path: Path) -> None:
    path = written(tmp_path, b"precious", mode=0o644)
    with pytest.raises(KeyFileError, match="exists"):
        save_key(path, key, PASSPHRASE)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_passphrase_and_a_missing_folder_are_refused(key: EEKey, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="empty passphrase"):
        save_key(tmp_path / "key.age", key, "")
    with pytest.raises(KeyFileError, match="cannot write"):
        save_key(tmp_path / "nowhere" / "key.age", key, PASSPHRASE)


def test_a_busy_machine_does_not_make_a_passphrase_easier_to_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    """age takes what a second is good for at that moment: a header of too little work is not taken."""
    found = iter([b"age-encryption.org/v1\n-> scrypt salt 15\n", b"age-encryption.org/v1\n-> scrypt salt 16\n"])
    monkeypatch.setattr(sealing.age, "encrypt", lambda data, passphrase: next(found))
    assert work_factor(sealing.seal(b"", "secret")) == 16
    monkeypatch.setattr(sealing.age, "encrypt", lambda data, passphrase: b"age-encryption.org/v1\n-> scrypt salt 15\n")
    with pytest.raises(KeyFileError, match="less than 2"):
        sealing.seal(b"", "secret")


def test_a_machine_that_is_too_busy_is_not_a_wrong_passphrase(
    key: EEKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """age measures how fast the machine is just then, and refuses what would take it far longer than a second."""
    path, answers = tmp_path / "key", ["Excessive work parameter for passphrase."] * 3
    save_key(path, key, PASSPHRASE)
    decrypt = age.decrypt

    def busy(sealed: bytes, passphrase: str) -> bytes:
        if answers:
            raise DecryptError(answers.pop())
        return decrypt(sealed, passphrase)

    monkeypatch.setattr(sealing.age, "decrypt", busy)
    load_key(path, PASSPHRASE)
    assert answers == []
    answers += ["Excessive work parameter for passphrase."] * 99
    refused(path, "so busy that 2.* rounds of scrypt would take")
