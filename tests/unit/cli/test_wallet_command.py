from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount

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
    b"[" * 60_000,
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


COSTLY = [
    {"n": 1 << 24, "r": 8, "p": 1},  # 16 GiB
    {"n": 1 << 20, "r": 8, "p": 1 << 20},  # years
    {"n": 2, "r": 1 << 20, "p": 1},
    {"n": 1 << 5000, "r": 8, "p": 1},
]


class TestCost:
    """A keystore file says itself what opening it takes."""

    @pytest.fixture
    def document(self, wallet: Path) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(wallet.read_text())
        return document

    @staticmethod
    def load(folder: Path, document: dict[str, Any]) -> LocalAccount:
        file = folder / "keystore.json"
        file.write_text(json.dumps(document))
        file.chmod(0o600)
        return load_wallet(file, PASSPHRASE)

    @pytest.mark.parametrize("costs", COSTLY)
    def test_scrypt_is_bounded(self, document: dict[str, Any], tmp_path: Path, costs: dict[str, int]) -> None:
        document["crypto"]["kdfparams"] |= costs
        with pytest.raises(KeyFileError, match="too much to open"):
            self.load(tmp_path, document)

    def test_pbkdf2_is_bounded(self, document: dict[str, Any], tmp_path: Path) -> None:
        derivation = {"c": 10_000_001, "dklen": 32, "prf": "hmac-sha256", "salt": "00" * 16}
        document["crypto"] |= {"kdf": "pbkdf2", "kdfparams": derivation}
        with pytest.raises(KeyFileError, match="too much to open"):
            self.load(tmp_path, document)
        derivation["c"] = 1
        with pytest.raises(KeyFileError, match="wrong passphrase"):
            self.load(tmp_path, document)

    @pytest.mark.parametrize("name", ["KDFParams", "Kdf"])
    def test_a_second_spelling_does_not_replace_what_was_checked(
        self, document: dict[str, Any], tmp_path: Path, name: str
    ) -> None:
        document["crypto"][name] = {"n": 1 << 30}
        assert address_of(self.load(tmp_path, document)).removeprefix("0x") == document["address"]

    @pytest.mark.parametrize("value", [0, -1, True, 1.5, "262144", None, []])
    def test_other_than_positive_integers_are_refused(
        self, document: dict[str, Any], tmp_path: Path, value: object
    ) -> None:
        for name in ("n", "r", "p", "dklen"):
            changed = copy.deepcopy(document)
            changed["crypto"]["kdfparams"][name] = value
            with pytest.raises(KeyFileError, match="not an Ethereum keystore"):
                self.load(tmp_path, changed)

    def test_one_line_with_a_hint(self, document: dict[str, Any], tmp_path: Path) -> None:
        document["crypto"]["kdfparams"]["n"] = 1 << 40
        with pytest.raises(KeyFileError) as raised:
            self.load(tmp_path, document)
        assert raised.value.hint
        assert "\n" not in str(raised.value)


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
        answers = iter(["one horse", "two horses", "one horse", "one horse"])
        monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
        with pytest.raises(KeyFileError, match="differ"):
            read_passphrase("x", None, new=True)
        assert read_passphrase("x", None, new=True) == "one horse"

    @pytest.mark.parametrize(
        ("weak", "reason"),
        [
            ("seven77", "has 7 characters, at least 8"),
            ("abababababab", "only 2 different"),
            ("1234567890", "a number of fewer"),
            ("Password123!", "tried first"),
        ],
    )
    def test_a_new_weak_one_only_if_insisted_on(
        self, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weak: str, reason: str
    ) -> None:
        monkeypatch.setenv(VARIABLE, weak)
        with pytest.raises(KeyFileError, match=reason) as refused:
            read_passphrase("x", None, new=True)
        assert weak not in str(refused.value)
        assert read_passphrase("x", None) == weak  # an old file may have been made with it
        ran = cli("wallet", "new", tmp_path / "w")
        assert (ran.code, list(tmp_path.iterdir())) == (1, [])
        assert "--weak-passphrase" in ran.err
        monkeypatch.setattr("rexis.wallet.create_wallet", lambda file, passphrase: f"0x{len(passphrase)}")
        assert cli.ok("wallet", "new", tmp_path / "w", "--weak-passphrase").out.strip() == f"0x{len(weak)}"
