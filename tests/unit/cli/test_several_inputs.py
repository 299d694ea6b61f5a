"""Models with several inputs on the command line: encrypted, shown, run and attacked; but not in jobs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from circuits.onnx_model import require_one_input
from rexis.ee import decrypt_outputs
from rexis.protocol.errors import TensorError
from tests.unit.ee.several_inputs import exported, run_inputs

from .conftest import MODEL, Cli, Owned, npy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("several")
    model, records = exported("bool mask")
    (made / "plain.onnx").write_bytes(model)
    np.savez(made / "records.npz", **records)
    return made


@pytest.fixture
def owned(cli: Cli, folder: Path) -> Owned:
    made = Owned(folder)
    if not made.key_file.exists():
        ran = cli.ok(
            "ee", "encrypt", "--model", folder / "plain.onnx", "--key", made.key_file, "--out", made.model_file,
            "--card", folder / "card.json",
        )  # fmt: skip
        assert "values          6×5: permutation; invertible" in ran.out
        assert "mask            6: permutation" in ran.out
        assert "relative error" in ran.out
        assert "warning: mask: no dense key mixes them (permutation), single values stay readable" in ran.err
    return made


def test_the_card_names_every_input(cli: Cli, owned: Owned) -> None:
    card = json.loads((owned.folder / "card.json").read_text())
    assert [(each["name"], each["element"], each["values"]) for each in card["inputs"]] == [
        ("values", "float32", "mixed"),
        ("mask", "bool", "moved"),
    ]
    shown = cli.ok("ee", "card", owned.model_file)
    assert "mask    6: permutation (values moved)" in shown.out
    assert "every value of input 'mask'" in shown.out


def test_records_are_encrypted_to_what_the_model_takes(cli: Cli, owned: Owned, tmp_path: Path) -> None:
    out = tmp_path / "hidden.npz"
    records = owned.folder / "records.npz"
    ran = cli.ok("encrypt", "--key", owned.key_file, "--records", records, "--out", out, "--json")
    assert json.loads(ran.out) == {"records": str(out), "shapes": {"values": [9, 6, 5], "mask": [9, 6]}}
    with np.load(out) as hidden, np.load(records) as plain:
        given = {name: hidden[name] for name in hidden.files}
        expected = run_inputs((owned.folder / "plain.onnx").read_bytes(), {name: plain[name] for name in plain.files})
    assert given["mask"].dtype == np.bool_
    outputs = run_inputs(owned.model_file.read_bytes(), given)
    np.testing.assert_allclose(decrypt_outputs(owned.key(), outputs), expected, rtol=1e-4, atol=1e-5)


def test_refused_records(cli: Cli, owned: Owned, tmp_path: Path) -> None:
    values, mask = np.zeros((3, 6, 5), np.float32), np.ones((3, 6), bool)
    holed = values.copy()
    holed[1] = np.nan
    archives = {
        "missing": ({"values": values}, "no records for input 'mask'"),
        "unknown": ({"values": values, "mask": mask, "x": mask}, "no input 'x'"),
        "counts": ({"values": values, "mask": mask[:2]}, "2 records for input 'mask', 3 for 'values'"),
        "shape": ({"values": values[:, :4], "mask": mask}, "expected [n, 6, 5]"),
        "text": ({"values": values, "mask": mask.astype("U4")}, "dtype is <U4"),
        "nan": ({"values": holed, "mask": mask}, "record 1 of input 'values'"),
        "empty": ({}, "holds no arrays"),
    }
    key = ("--key", owned.key_file)
    for name, (arrays, reason) in archives.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        ran = cli("encrypt", *key, "--records", tmp_path / f"{name}.npz", "--out", tmp_path / "d.npz")
        assert (name, ran.code, ran.out) == (name, 1, "")
        assert reason in ran.err
    (tmp_path / "not.npz").write_bytes(b"PK\x03\x04")
    ran = cli("encrypt", *key, "--records", tmp_path / "not.npz", "--out", tmp_path / "d.npz")
    assert (ran.code, "not a NumPy archive" in ran.err) == (1, True)
    ran = cli("encrypt", *key, "--records", npy(tmp_path / "one.npy", values), "--out", tmp_path / "d")
    assert (ran.code, "2 inputs: values, mask" in ran.err, ".npz" in ran.err) == (1, True, True)
    ran = cli("encrypt", *key, "--records", owned.folder / "records.npz", "--out", tmp_path / "d.safetensors")
    assert ran.code == 2
    assert not any((tmp_path / name).exists() for name in ("d", "d.npz", "d.safetensors"))


def test_jobs_refuse_them_before_anything_is_opened_or_sent(cli: Cli, owned: Owned, tmp_path: Path) -> None:
    nowhere = ("--wallet", tmp_path / "no-wallet", "--coordinator", "http://127.0.0.1:9")
    chain = ("--rpc", "http://127.0.0.1:9", "--deployment", tmp_path / "no-deployment")
    ran = cli("register", "--model", owned.model_file, "--epoch", 1, *chain, *nowhere)
    assert ran.code == 1
    assert "jobs run models with one input, since a record is committed as one tensor; this one has 2" in ran.err
    records = owned.folder / "records.npz"
    ran = cli("submit", "--dataset", records, "--model", "0x" + "0" * 64, "--epoch", 1, *nowhere)
    assert ran.code == 1
    assert "jobs run models with one, since a record is committed as one tensor" in ran.err


def test_a_job_takes_one_float32_input() -> None:
    require_one_input(MODEL.read_bytes())
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 4])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 4])
    cast = helper.make_node("Cast", ["ids"], ["out"], to=TensorProto.FLOAT)
    model = helper.make_model(helper.make_graph([cast], "cast", [ids], [out]))
    onnx.checker.check_model(model)
    with pytest.raises(TensorError, match=r"float32 input.*'ids' is int64"):
        require_one_input(model.SerializeToString())
    with pytest.raises(TensorError, match="not an ONNX file"):
        require_one_input(b"\xff")


def test_every_input_is_attacked(cli: Cli, folder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(60, 6, 5)).astype(np.float32)
    mask = np.arange(6) < random.integers(1, 7, (60, 1))
    np.savez(tmp_path / "r.npz", values=values, mask=mask)
    chosen = ("--attack", "known_plaintext", "--attack", "gradient_inversion")
    given = ("ee", "attack", "--model", folder / "plain.onnx", "--records", tmp_path / "r.npz", *chosen)
    document = json.loads(cli.ok(*given, "--json", "--out", tmp_path / "a.json").out)
    assert document == json.loads((tmp_path / "a.json").read_text())
    rows = document["attacks"]
    assert [(row["input"], row["name"]) for row in rows] == [
        (name, attack) for name in ("values", "mask") for attack in ("known_plaintext", "gradient_inversion")
    ]
    assert all(row["score"] > 0.99 for row in rows if row["name"] == "known_plaintext")
    assert all("one input" in row["says"] for row in rows if row["name"] == "gradient_inversion")
    assert "input mask:" in cli.ok(*given).out
    said = cli.ok("ee", "card", folder / "plain.onnx", "--attacks", tmp_path / "a.json").out
    assert "- known_plaintext on mask: " in said


def test_decoy_neurons_but_no_decoy_inputs(cli: Cli, folder: Path, tmp_path: Path) -> None:
    files = ("--model", folder / "plain.onnx", "--key", tmp_path / "k", "--out", tmp_path / "m.onnx")
    ran = cli("ee", "encrypt", *files, "--decoy-inputs", 2)
    assert (ran.code, "2 inputs, values, mask; decoy inputs are for one input" in ran.err) == (1, True)
    assert not (tmp_path / "k").exists()
    ran = cli.ok("ee", "encrypt", *files, "--decoy-neurons", 0.5, "--json")
    made = json.loads(ran.out)
    assert made["error"] < 1e-5
    assert all(before < after for before, after in made["card"]["decoys"]["neurons"].values())
    random = np.random.default_rng(0)
    values = random.normal(size=(60, 6, 5)).astype(np.float32)
    np.savez(tmp_path / "r.npz", values=values, mask=np.arange(6) < random.integers(1, 7, (60, 1)))
    chosen = ("--attack", "weight_matching", "--decoy-neurons", 0.5, "--out", tmp_path / "a.json")
    cli.ok("ee", "attack", "--model", folder / "plain.onnx", "--records", tmp_path / "r.npz", *chosen)
    cli.ok("ee", "card", tmp_path / "m.onnx", "--attacks", tmp_path / "a.json")
