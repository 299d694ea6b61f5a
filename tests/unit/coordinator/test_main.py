"""Starting: settings, wallet, and the packages that a coordinator can do without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.main import main
from coordinator.settings import Settings
from rexis.files import write_file
from rexis.protocol.errors import KeyFileError, NotFoundError
from rexis.protocol.signing import address_of, new_account
from tests.unit.coordinator.fakes import DEPLOYMENT


@pytest.fixture
def wallet(tmp_path: Path) -> Path:
    path = tmp_path / "wallet.json"
    write_file(path, json.dumps(new_account().encrypt("secret", iterations=2)).encode(), private=True)
    return path


def test_the_environment_sets_it_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wallet: Path) -> None:
    (tmp_path / "deployment.json").write_bytes(DEPLOYMENT.to_json())
    write_file(tmp_path / "passphrase", b"secret\n", private=True)
    monkeypatch.setenv("REXIS_DEPLOYMENT", str(tmp_path / "deployment.json"))
    monkeypatch.setenv("REXIS_WALLET", str(wallet))
    monkeypatch.setenv("REXIS_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    monkeypatch.setenv("REXIS_MEMBERS", json.dumps([address_of(new_account())]))
    settings = Settings()
    assert settings.read_deployment() == DEPLOYMENT
    assert settings.open_wallet().address
    assert settings.members
    assert settings.database.startswith("sqlite:////")


def test_the_passphrase_is_needed_and_not_shown(wallet: Path) -> None:
    with pytest.raises(KeyFileError, match="no passphrase"):
        Settings(wallet=wallet).open_wallet()
    wrong = Settings(wallet=wallet, passphrase="wrong one")  # type: ignore[arg-type]
    with pytest.raises(KeyFileError) as refused:
        wrong.open_wallet()
    assert "wrong one" not in f"{refused.value} {wrong!r}"


def test_a_passphrase_that_others_can_read_is_refused(tmp_path: Path, wallet: Path) -> None:
    path = tmp_path / "passphrase"
    path.write_text("secret")
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="0640"):
        Settings(wallet=wallet, passphrase_file=path).open_wallet()


@pytest.mark.parametrize(
    ("name", "value"),
    [("REXIS_PORT", "a"), ("REXIS_MEMBERS", "x"), ("REXIS_MEMBERS", '["0x12"]'), ("REXIS_LEASE_SECONDS", "0")],
)
def test_a_bad_setting_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert main() == 1
    error = capsys.readouterr().err
    assert error.startswith(f"coordinator: {name}: ")
    assert error.count("\n") == 1


def test_a_missing_deployment_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="deployment"):
        Settings(deployment=tmp_path / "none.json").read_deployment()


def test_it_runs_without_ezkl_and_torch(tmp_path: Path) -> None:
    program = """
import sys
for name in ("ezkl", "torch", "onnx", "onnxruntime", "ray"):
    sys.modules[name] = None
from pathlib import Path
from coordinator.app import create_app
from rexis.protocol.signing import new_account
from tests.unit.coordinator.fakes import FakeLedger, make_coordinator
coordinator = make_coordinator(Path(sys.argv[1]), FakeLedger(new_account()))
create_app(coordinator).openapi()
print([tier.name for tier in coordinator.tiers])
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout == "['COMMIT']\n", done.stderr
