"""Rotating and sharing keys, claiming a rung, and models that are encrypted already."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rexis.ee import decrypt_outputs
from rexis.ee.claim import rung_claim_of
from rexis.ee.share import RecipientKey
from rexis.protocol.digests import sha256
from rexis.protocol.errors import EncryptionError, MalformedError
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.tensors import Dataset

from .conftest import MODEL, PASSPHRASE, Cli, Owned, _load_key, npy
from .test_records_commands import RECORDS, run_model


def base_model(path: Path, distance: float) -> Path:
    """A public model from which each layer of MODEL is so far, relative to the public one."""
    model = onnx.load(MODEL)
    rng = np.random.default_rng(1)
    for tensor in model.graph.initializer:
        mine = numpy_helper.to_array(tensor)
        # mine = theirs + distance·|theirs|·u for a unit vector u, orthogonal to theirs
        step = rng.normal(size=mine.shape)
        step -= mine * (step * mine).sum() / (mine * mine).sum()
        step *= np.linalg.norm(mine) / np.linalg.norm(step)
        theirs = (mine + distance * step) / (1 + distance**2)
        tensor.CopyFrom(numpy_helper.from_array(theirs.astype(np.float32), tensor.name))
    onnx.save(model, path)
    return path


class TestRotate:
    def test_the_next_epoch_and_the_old_key_stays(self, cli: Cli, keygen: Owned, tmp_path: Path) -> None:
        before = keygen.key_file.read_bytes()
        new_key, out = tmp_path / "next.key", tmp_path / "next.onnx"
        ran = cli.ok(
            "key", "rotate", "--model", MODEL, "--key", keygen.key_file, "--new-key", new_key, "--out", out, "--json"
        )
        assert json.loads(ran.out)["keyEpoch"] == 4
        assert "Not unlinked" in ran.err
        assert keygen.key_file.read_bytes() == before
        old, new = keygen.key(), _load_key(new_key, PASSPHRASE)
        assert (new.epoch, new.model_digest) == (4, sha256(out.read_bytes()))
        assert new.key_id != old.key_id
        assert new.model_digest != old.model_digest

        records, predictions = npy(tmp_path / "r.npy", RECORDS), []
        for key, model in ((keygen.key_file, keygen.model_file), (new_key, out)):
            dataset = tmp_path / f"{key.name}.d"
            cli.ok("encrypt", "--key", key, "--records", records, "--out", dataset)
            outputs = run_model(model, Dataset.from_bytes(dataset.read_bytes()).records)
            predictions.append(decrypt_outputs(_load_key(key, PASSPHRASE), outputs))
        np.testing.assert_allclose(predictions[0], predictions[1], atol=1e-3)

    @pytest.mark.parametrize("epoch", [1, 3])
    def test_no_epoch_twice(self, cli: Cli, keygen: Owned, tmp_path: Path, epoch: int) -> None:
        files = ("--new-key", tmp_path / "k", "--out", tmp_path / "m", "--epoch", epoch)
        ran = cli("key", "rotate", "--model", MODEL, "--key", keygen.key_file, *files)
        assert (ran.code, list(tmp_path.iterdir())) == (1, [])
        assert "an epoch names one key" in ran.err

    def test_refuses_parts_other_models_and_taken_names(self, cli: Cli, keygen: Owned, tmp_path: Path) -> None:
        part, files = tmp_path / "part", ("--new-key", tmp_path / "k", "--out", tmp_path / "m")
        cli.ok("key", "export", "--key", keygen.key_file, "--part", "encrypt", "--out", part)
        ran = cli("key", "rotate", "--model", MODEL, "--key", part, *files)
        assert "with the full key" in ran.err
        ran = cli("key", "rotate", "--model", MODEL.with_name("ecg.onnx"), "--key", keygen.key_file, *files)
        assert "other constants" in ran.err
        ran = cli("key", "rotate", "--model", keygen.model_file, "--key", keygen.key_file, *files)
        assert "an encrypted model already" in ran.err
        (tmp_path / "k").write_text("precious")
        ran = cli("key", "rotate", "--model", MODEL, "--key", keygen.key_file, *files)
        assert "will not be overwritten" in ran.err
        assert (tmp_path / "k").read_text() == "precious"
        assert not (tmp_path / "m").exists()


def test_a_model_is_not_encrypted_twice_by_mistake(cli: Cli, keygen: Owned, tmp_path: Path) -> None:
    arguments = ("ee", "encrypt", "--model", keygen.model_file, "--key", tmp_path / "k", "--out", tmp_path / "m")
    ran = cli(*arguments)
    assert (ran.code, list(tmp_path.iterdir())) == (1, [])
    assert "--again" in ran.err
    cli.ok(*arguments, "--again")


class TestShare:
    @pytest.fixture
    def recipient(self, tmp_path: Path) -> RecipientKey:
        mine = RecipientKey.fresh()
        (tmp_path / "public").write_text(mine.recipient.text + "\n")
        return mine

    def arguments(self, keygen: Owned, folder: Path) -> tuple[object, ...]:
        to = ("--to", folder / "public", "--part", "encrypt", "--out", folder / "sealed")
        return ("key", "share", "--key", keygen.key_file, *to)

    def test_nothing_is_sealed_unconfirmed(
        self, cli: Cli, keygen: Owned, tmp_path: Path, recipient: RecipientKey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ran = cli(*self.arguments(keygen, tmp_path))  # pytest's stdin is no terminal
        assert ran.code == 1
        assert str(recipient.recipient.digest) in ran.err
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
        assert "was not confirmed" in cli(*self.arguments(keygen, tmp_path)).err
        another = ("--fingerprint", RecipientKey.fresh().recipient.digest, "--yes")
        assert "may have exchanged it" in cli(*self.arguments(keygen, tmp_path), *another).err
        assert not (tmp_path / "sealed").exists()

    @pytest.mark.parametrize("how", ["--yes", "--fingerprint", "asked"])
    def test_sealed_when_confirmed(
        self,
        cli: Cli,
        keygen: Owned,
        tmp_path: Path,
        recipient: RecipientKey,
        monkeypatch: pytest.MonkeyPatch,
        how: str,
    ) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: how == "asked", raising=False)
        monkeypatch.setattr("typer.confirm", lambda *_, **__: True)
        more = {"--yes": ("--yes",), "--fingerprint": (how, recipient.recipient.digest), "asked": ()}[how]
        cli.ok(*self.arguments(keygen, tmp_path), *more)
        assert recipient.open((tmp_path / "sealed").read_bytes()).key_id == keygen.key().key_id


class TestRungOfACard:
    def encrypt(self, cli: Cli, folder: Path, distance: float, *more: object) -> bytes:
        files = ("--key", folder / "k", "--out", folder / "m", "--card", folder / "card.json")
        base = base_model(folder / "base.onnx", distance)
        cli.ok("ee", "encrypt", "--model", MODEL, *files, "--base", base, *more)
        return (folder / "card.json").read_bytes()

    def test_a_distance_above_the_threshold_is_claimed(self, cli: Cli, tmp_path: Path) -> None:
        card = self.encrypt(cli, tmp_path, 1.2, "--rung", "ee-private-weights")
        model = sha256((tmp_path / "m").read_bytes())
        claim = rung_claim_of(card, model=model, epoch=1, owner=ZERO_ADDRESS)
        assert claim.distance_e9 == pytest.approx(1.2e9, rel=1e-4)
        assert claim.base_digest == sha256((tmp_path / "base.onnx").read_bytes())
        assert claim.card_digest == sha256(card)
        with pytest.raises(MalformedError, match="the card is of model"):
            rung_claim_of(card, model=sha256(b"another"), epoch=1, owner=ZERO_ADDRESS)
        with pytest.raises(MalformedError, match="not a leakage card"):
            rung_claim_of(b"{}", model=model, epoch=1, owner=ZERO_ADDRESS)

    def test_one_below_is_refused_with_the_numbers(self, cli: Cli, tmp_path: Path) -> None:
        card = self.encrypt(cli, tmp_path, 0.5)
        with pytest.raises(EncryptionError, match=r"is only 50\.0% from the base model, 100% are needed"):
            rung_claim_of(card, model=sha256((tmp_path / "m").read_bytes()), epoch=1, owner=ZERO_ADDRESS)
        files = ("--key", tmp_path / "k2", "--out", tmp_path / "m2", "--rung", "ee-private-weights")
        ran = cli("ee", "encrypt", "--model", MODEL, *files, "--base", tmp_path / "base.onnx")
        assert (ran.code, (tmp_path / "k2").exists()) == (1, False)
        assert "only 50.0% from the public model, 100% are needed" in ran.err

    def test_without_a_base_nothing_is_claimed(self, cli: Cli, tmp_path: Path) -> None:
        files = ("--key", tmp_path / "k", "--out", tmp_path / "m", "--card", tmp_path / "card.json")
        cli.ok("ee", "encrypt", "--model", MODEL, *files)
        with pytest.raises(EncryptionError, match="no public base model was named"):
            rung_claim_of(
                (tmp_path / "card.json").read_bytes(),
                model=sha256((tmp_path / "m").read_bytes()), epoch=1, owner=ZERO_ADDRESS,
            )  # fmt: skip
