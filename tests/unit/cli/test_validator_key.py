"""Validators' keys: files that their owner alone reads, and that other tools for BLS keys can open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from py_ecc.bls import G2ProofOfPossession

from rexis.protocol.errors import ConflictError, KeyFileError
from rexis.validator_key import create_validator_key, load_validator_key

PASSPHRASE = "for tests only"
WORK = 1 << 10


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "validator.json"
    create_validator_key(path, PASSPHRASE, work=WORK)
    return path


def test_a_key_comes_back_and_its_file_names_the_public_one(tmp_path: Path) -> None:
    path = tmp_path / "validator.json"
    public = create_validator_key(path, PASSPHRASE, work=WORK)
    key = load_validator_key(path, PASSPHRASE)
    assert (key.public_key, path.stat().st_mode & 0o777) == (public, 0o600)
    keystore = json.loads(path.read_text())
    assert keystore["version"] == 4
    assert keystore["pubkey"] == G2ProofOfPossession.SkToPk(key.secret).hex()
    with pytest.raises(ConflictError):
        create_validator_key(path, PASSPHRASE, work=WORK)


def test_a_wrong_passphrase_and_a_readable_file_are_refused(file: Path) -> None:
    with pytest.raises(KeyFileError, match="wrong passphrase"):
        load_validator_key(file, "another")
    file.chmod(0o640)
    with pytest.raises(KeyFileError, match="reached by others"):
        load_validator_key(file, PASSPHRASE)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"n": 1 << 30}, "too much"),
        ({"p": 1 << 20}, "too much"),
        ({"n": "many"}, "no BLS keystore"),
        ({"n": True}, "no BLS keystore"),
        ({"dklen": 1 << 30}, "no BLS keystore"),
    ],
)
def test_a_keystore_that_asks_for_too_much_is_refused(file: Path, params: dict[str, object], text: str) -> None:
    keystore = json.loads(file.read_text())
    keystore["crypto"]["kdf"]["params"] |= params
    file.write_text(json.dumps(keystore))
    with pytest.raises(KeyFileError, match=text):
        load_validator_key(file, PASSPHRASE)


@pytest.mark.parametrize("place", [["crypto"], ["crypto", "kdf"], ["crypto", "kdf", "params"]])
def test_what_was_checked_is_what_is_used(file: Path, place: list[str]) -> None:
    """The library takes names in any case, and the last of two."""
    keystore = inside = json.loads(file.read_text())
    for name in place:
        inside = inside[name]
    bad = {"crypto": {"KDF": {"function": "none"}}, "kdf": {"Function": "none"}, "params": {"N": 1 << 40}}
    inside |= bad[place[-1]]
    file.write_text(json.dumps(keystore))
    assert load_validator_key(file, PASSPHRASE)


@pytest.mark.parametrize("text", ["", "[]", '{"version": 4}', '{"version": 3, "crypto": {"kdf": {"params": {}}}}'])
def test_something_else_is_no_key(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(KeyFileError, match="no BLS keystore"):
        load_validator_key(file, PASSPHRASE)
