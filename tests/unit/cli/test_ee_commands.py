"""ee encrypt with decoys, ee card, ee attack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from models import zoo
from rexis.ee import decrypt_outputs, encrypt_records, load_key
from rexis.protocol.tensors import Dataset
from tests.unit.ee.dense_networks import mlp

from .conftest import MODEL, PASSPHRASE, Cli, npy

RECORDS, _ = zoo.held_out("breast_cancer")


def run_model(model: Path, records: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"records": records})[0]


class TestDecoys:
    def test_round_trip(self, cli: Cli, tmp_path: Path) -> None:
        key, model, card = tmp_path / "k", tmp_path / "m.onnx", tmp_path / "c.json"
        files = ["--model", MODEL, "--key", key, "--out", model, "--card", card]
        ran = cli.ok("ee", "encrypt", *files, "--decoy-inputs", 6, "--decoy-neurons", 0.25)
        assert "6 noise features a record, 160 neurons for 128 in 2 layers; shapes changed, run time" in ran.out
        assert json.loads(card.read_text())["decoys"]["runtimeRatio"] > 0
        cli.ok("encrypt", "--key", key, "--records", npy(tmp_path / "r.npy", RECORDS), "--out", tmp_path / "d")
        sent = Dataset.from_bytes((tmp_path / "d").read_bytes()).records
        assert sent.shape == (len(RECORDS), 36)
        outputs = decrypt_outputs(load_key(key, PASSPHRASE), run_model(model, sent))
        np.testing.assert_allclose(outputs, run_model(MODEL, RECORDS), rtol=1e-3, atol=1e-3)

    def test_with_constants_in_a_file_of_their_own(self, cli: Cli, tmp_path: Path) -> None:
        plain, key, out = tmp_path / "p.onnx", tmp_path / "k", tmp_path / "m.onnx"
        network = mlp(5, 90, 70, 2)
        onnx.save(network, plain, save_as_external_data=True, location="p.data", size_threshold=0)
        decoys = ["--decoy-inputs", 3, "--decoy-neurons", 0.5]
        files = ["--model", plain, "--key", key, "--out", out, "--external-data"]
        made = json.loads(cli.ok("ee", "encrypt", *files, *decoys, "--json").out)
        assert made["error"] < 1e-5
        assert made["card"]["decoys"]["runtimeRatio"] > 0
        assert out.with_name("m.onnx.data").stat().st_size >= 4 * 135 * 105
        records = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
        sent = encrypt_records(load_key(key, PASSPHRASE), records)
        found = decrypt_outputs(load_key(key, PASSPHRASE), run_model(out, sent))
        np.testing.assert_allclose(found, run_model(plain, records), rtol=1e-3, atol=1e-4)

    def test_rotation_does_not_drop_them_silently(self, cli: Cli, tmp_path: Path) -> None:
        old = ["--model", MODEL, "--key", tmp_path / "k1"]
        new = ["--new-key", tmp_path / "k2", "--out", tmp_path / "m2"]
        cli.ok("ee", "encrypt", *old, "--out", tmp_path / "m1", "--decoy-inputs", 6, "--decoy-neurons", 0.25)
        ran = cli("key", "rotate", *old, *new)
        assert (ran.code, "the current key has 6 decoy inputs" in ran.err) == (1, True)
        assert "--decoy-inputs 6 keeps as many" in ran.err
        ran = cli("key", "rotate", *old, *new, "--decoy-inputs", 6)
        assert (ran.code, "the current key's model has split neurons" in ran.err) == (1, True)
        assert not (tmp_path / "k2").exists()
        ran = cli.ok("key", "rotate", *old, *new, "--decoy-inputs", 6, "--decoy-neurons", 0.25)
        assert "6 noise features a record, 160 neurons for 128" in ran.out
        plain = ["--new-key", tmp_path / "k3", "--out", tmp_path / "m3", "--decoy-inputs", 0, "--decoy-neurons", 0]
        assert "noise features" not in cli.ok("key", "rotate", *old, *plain).out
        cli.ok(
            "ee", "encrypt", "--model", MODEL, "--key", tmp_path / "k4", "--out", tmp_path / "m4", "--decoy-inputs", 6
        )
        again = ["--model", MODEL, "--key", tmp_path / "k4", "--new-key", tmp_path / "k5", "--out", tmp_path / "m5"]
        cli.ok("key", "rotate", *again, "--decoy-inputs", 6)

    @pytest.mark.parametrize(
        ("model", "option", "words"),
        [("dna", ["--decoy-inputs", 3], "/Cast"), ("omics", ["--decoy-inputs", 3], "/Slice")],
    )
    def test_refusals_name_the_node(
        self, cli: Cli, tmp_path: Path, model: str, option: list[object], words: str
    ) -> None:
        plain = zoo.ONNX_DIR / f"{model}.onnx"
        ran = cli("ee", "encrypt", "--model", plain, "--key", tmp_path / "k", "--out", tmp_path / "m", *option)
        assert ran.code == 1
        assert words in ran.err
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "words"),
    [(["--epoch", 1 << 53], "a key epoch is 9007199254740991 at most"), (["--out", ""], "will not be overwritten")],
)
def test_what_could_not_be_written_and_read_again_is_refused(
    cli: Cli, tmp_path: Path, option: list[object], words: str
) -> None:
    files = ["--model", MODEL, "--key", tmp_path / "k", "--out", tmp_path / "m"]
    ran = cli("ee", "encrypt", *files, *option)
    assert (ran.code, words in ran.err) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_no_files(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rexis.files.write_file", interrupted)
    files = ["--model", MODEL, "--key", tmp_path / "k", "--out", tmp_path / "m"]
    assert cli("ee", "encrypt", *files, "--external-data").code != 0
    assert list(tmp_path.iterdir()) == []


class TestAttacksOnTheCard:
    def test_from_attack_to_card(self, cli: Cli, tmp_path: Path) -> None:
        records, report, model = npy(tmp_path / "r.npy", RECORDS), tmp_path / "a.json", tmp_path / "m.onnx"
        names = ["--attack", "linkage", "--attack", "gradient_inversion", "--attack", "causal_mask"]
        ran = cli.ok("ee", "attack", "--model", MODEL, "--records", records, *names, "--out", report)
        assert "linkage             0.9" in ran.out
        cli.ok("ee", "encrypt", "--model", MODEL, "--key", tmp_path / "k", "--out", model)
        said = cli.ok("ee", "card", model, "--attacks", report).out
        assert "file    encrypted" in said
        assert "- linkage: 0.9" in said
        assert "broken: as good as without EE" in said
        assert "- causal_mask: not run" in said
        document = json.loads(cli.ok("ee", "card", model, "--attacks", report, "--json").out)
        assert [each["name"] for each in document["attacks"]] == ["linkage", "gradient_inversion", "causal_mask"]
        assert "file    plain" in cli.ok("ee", "card", MODEL).out

    def test_a_report_of_another_model_is_refused(self, cli: Cli, tmp_path: Path) -> None:
        records, report = npy(tmp_path / "r.npy", RECORDS), tmp_path / "a.json"
        decoys = ["--decoy-inputs", 4]
        cli.ok("ee", "attack", "--model", MODEL, "--records", records, "--attack", "linkage", *decoys, "--out", report)
        ran = cli("ee", "card", MODEL, "--attacks", report)
        assert ran.code == 1
        assert "another structure" in ran.err
        ran = cli("ee", "card", MODEL, "--attacks", MODEL)
        assert "not a report of attacks" in ran.err
        files = ["--model", MODEL, "--key", tmp_path / "k", "--out", tmp_path / "m", "--card", tmp_path / "c.html"]
        cli.ok("ee", "encrypt", *files, *decoys, "--attacks", report)
        assert "broken: as good as without EE" in (tmp_path / "c.html").read_text()
