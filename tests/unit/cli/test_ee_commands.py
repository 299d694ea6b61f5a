"""ee encrypt with decoys, ee card, ee attack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from models import zoo
from rexis.ee import decrypt_outputs, load_key
from rexis.protocol.tensors import Dataset

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
