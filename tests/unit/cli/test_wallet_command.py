from __future__ import annotations

import json
from pathlib import Path

import pytest

from rexis.cli.passphrase import VARIABLE, read_passphrase
from rexis.protocol.errors import KeyFileError
from rexis.protocol.signing import address_of
from rexis.wallet import create_wallet, load_wallet, wallet_address

from .conftest import PASSPHRASE, Cli


def test_round_trip(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "wallet.json"
    made = cli.ok("wallet", "new", file, "--json")
    shown = cli.ok("wallet", "show", file)
    account = load_wallet(file, PASSPHRASE)
    assert json.loads(made.out)["address"] == shown.out.strip() == address_of(account)
    assert file.stat().st_mode & 0o777 == 0o600
    key = bytes(account.key).hex()
    for text in (made.out, made.err, shown.out, shown.err, file.read_text()):
        assert key not in text
        assert PASSPHRASE not in text
    assert [path.name for path in tmp_path.iterdir()] == ["wallet.json"]


def test_never_overwrites(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "wallet.json"
    file.write_text("precious")
    ran = cli("wallet", "new", file)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert file.read_text() == "precious"


def test_refusals(tmp_path: Path) -> None:
    file = tmp_path / "wallet.json"
    create_wallet(file, PASSPHRASE)
    with pytest.raises(KeyFileError, match="wrong passphrase"):
        load_wallet(file, "wrong")
    swapped = json.loads(file.read_text()) | {"address": "00" * 20}
    other = tmp_path / "other.json"
    other.write_text(json.dumps(swapped))
    other.chmod(0o600)
    with pytest.raises(KeyFileError, match="its key is of"):
        load_wallet(other, PASSPHRASE)
    file.chmod(0o640)
    with pytest.raises(KeyFileError, match="reached by others"):
        wallet_address(file)


NOT_KEYSTORES = [
    b"",
    b"{}",
    b"[]",
    b"\xff",
    b'{"version": 3, "crypto": {}, "address": "zz"}',
    b'{"version": 3, "crypto": 1}',
]


@pytest.mark.parametrize("content", NOT_KEYSTORES)
def test_not_a_keystore(cli: Cli, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "wallet.json"
    file.write_bytes(content)
    file.chmod(0o600)
    ran = cli("wallet", "show", file)
    assert ran.code == 1
    assert "not an Ethereum keystore" in ran.err


def test_damaged_keystore(tmp_path: Path) -> None:
    file = tmp_path / "wallet.json"
    create_wallet(file, PASSPHRASE)
    document = json.loads(file.read_text())
    for damage in ({"kdf": "none"}, {"kdfparams": {}}, {"ciphertext": "zz"}, {"mac": ""}, {"cipherparams": None}):
        file.write_text(json.dumps(document | {"crypto": document["crypto"] | damage}))
        with pytest.raises(KeyFileError):
            load_wallet(file, PASSPHRASE)


class TestPassphrase:
    def test_file_goes_before_the_environment(self, tmp_path: Path) -> None:
        file = tmp_path / "passphrase"
        file.write_text(" from the file \r\nsecond line\n")
        file.chmod(0o600)
        assert read_passphrase("x", file) == " from the file "
        assert read_passphrase("x", None) == PASSPHRASE

    def test_refuses(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "passphrase"
        file.write_text("secret")
        file.chmod(0o644)
        with pytest.raises(KeyFileError, match="reached by others"):
            read_passphrase("x", file)
        file.chmod(0o600)
        file.write_text("\n")
        with pytest.raises(KeyFileError, match="empty"):
            read_passphrase("x", file)
        monkeypatch.setenv(VARIABLE, "")
        with pytest.raises(KeyFileError, match="empty"):
            read_passphrase("x", None)

    def test_asks_twice_for_a_new_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(VARIABLE)
        with pytest.raises(KeyFileError, match="no passphrase for x"):
            read_passphrase("x", None)  # nobody to ask: pytest's stdin is no terminal
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        answers = iter(["one", "two", "one", "one"])
        monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
        with pytest.raises(KeyFileError, match="differ"):
            read_passphrase("x", None, new=True)
        assert read_passphrase("x", None, new=True) == "one"
