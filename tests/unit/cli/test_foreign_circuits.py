"""`rexis circuits` on models that are not of the zoo: no profile, no records, other axes, and what EE refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from circuits.artefacts import CircuitCache
from circuits.build import build_circuit
from circuits.cost import estimate_of
from circuits.diagnosis import require_circuit
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile
from circuits.srs import ensure_development_srs
from circuits.tuning import Candidate, Found, Side
from tests.integration.circuits.foreign_models import foreign
from tests.unit.cli.conftest import Cli

pytest.importorskip("ezkl")


@pytest.fixture
def model(tmp_path: Path) -> Any:
    def written(name: str) -> Path:
        file = tmp_path / f"{name}.onnx"
        file.write_bytes(foreign(name))
        return file

    return written


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The search replaced by a wide profile, which is what the first thing that it would try is; how it was called."""
    calls: list[dict[str, Any]] = []

    def tune(sides: Sequence[Side], bound: object, **how: Any) -> Found:
        calls.append({"sides": len(sides), **how})
        with EzklProcess() as ezkl:
            settings = require_circuit(sides[0].model, ezkl)
        best = Candidate(settings.profile, 0.01, 1.0, estimate_of(settings), 1.0, 1000)
        return Found(best, [best], 1)

    monkeypatch.setattr("circuits.tuning.tune", tune)
    return calls


def test_a_profile_is_guessed(cli: Cli, model: Any) -> None:
    ran = cli.ok("circuits", "estimate", model("linear"))
    assert (
        "profile     guessed from random (standard normal) records, digits and tables as wide as they need" in ran.out
    )
    assert "warning" not in ran.err
    document = json.loads(cli.ok("circuits", "estimate", model("log"), "--json").out)
    assert (document["guessed"], document["fits"], document["profile"]["inputScale"]) == (True, True, 7)


def test_a_profile_that_is_given_is_taken(cli: Cli, model: Any) -> None:
    ran = cli.ok("circuits", "estimate", model("linear"), "--profile", "breast_cancer", "--json")
    document = json.loads(ran.out)
    assert (document["guessed"], document["profile"]["inputScale"]) == (False, 9)


def test_open_axes_need_sizes(cli: Cli, model: Any) -> None:
    ran = cli("circuits", "estimate", model("open_sequence"))
    assert (ran.code, "axis 1 of input 'x' has no size" in ran.err, "--axis seq_len=SIZE" in ran.err) == (1, True, True)
    short, long = (
        json.loads(cli.ok("circuits", "estimate", model("open_sequence"), "--axis", f"seq_len={size}", "--json").out)
        for size in (2, 40)
    )
    assert short["rows"] < long["rows"]
    assert cli("circuits", "estimate", model("open_sequence"), "--axis", "seq_len").code == 2
    ran = cli("circuits", "estimate", model("linear"), "--axis", "length=3")
    assert (ran.code, "no input has an open axis 'length'; there are: batch_size" in ran.err) == (1, True)


def test_several_records_in_one_proof_are_pointed_out(cli: Cli, model: Any) -> None:
    ran = cli.ok("circuits", "estimate", model("linear_batch_of_four"))
    assert "one proof is about all of input 'x', [4, 6]. Jobs prove record by record" in ran.err
    ran = cli("circuits", "tune", model("linear_batch_of_four"))
    assert (ran.code, "jobs prove record by record" in ran.err) == (1, True)


def test_an_operator_that_becomes_another_is_pointed_out(cli: Cli, model: Any, search: list[dict[str, Any]]) -> None:
    ran = cli.ok("circuits", "estimate", model("celu"))
    warning = "warning: node '/Celu_0' (Celu): ezkl's circuit computes something else"
    assert warning in ran.err
    ran = cli("circuits", "tune", model("celu"))
    assert (ran.code, warning in ran.err, "this circuit is not the model's" in ran.err) == (1, True, True)
    assert not search
    ran = cli.ok("circuits", "tune", model("celu"), "--max-error", 2, "--records", 3, "--json")
    assert json.loads(ran.out)["otherFunction"].startswith("node '/Celu_0' (Celu)")


def test_one_output_without_a_bound_is_pointed_out(cli: Cli, model: Any, search: list[dict[str, Any]]) -> None:
    told = "nothing bounds its error"
    assert told in cli.ok("circuits", "tune", model("reduce_sum"), "--records", 3).err
    assert told not in cli.ok("circuits", "tune", model("reduce_sum"), "--records", 3, "--max-error", 1).err


def test_what_ezkl_refuses_is_refused_by_name(cli: Cli, model: Any) -> None:
    for command in ("estimate", "tune"):
        ran = cli("circuits", command, model("unknown_operator"))
        assert ran.code == 1
        assert "error: /Frobnicate_0: node '/Frobnicate_0' (Frobnicate): ezkl puts it into no circuit" in ran.err


def test_a_circuit_is_made_again(cli: Cli, model: Any, tmp_path: Path) -> None:
    """With a batch axis of 1 and one of another name: twice the same verifying key."""
    profile = CircuitProfile(
        input_scale=7, param_scale=7, decomposition_base=66, decomposition_legs=2, inner_columns=1, logrows=9
    )
    srs = ensure_development_srs(9, tmp_path / "srs")
    for name in ("linear_fixed_batch", "linear_named_n"):
        file = model(name)
        with EzklProcess() as ezkl:
            made = build_circuit(file.read_bytes(), profile, srs, CircuitCache(tmp_path / name), ezkl).artefacts
        (tmp_path / "settings.json").write_bytes(made.settings)
        given = ("circuits", "rebuild", "--model", file, "--settings", tmp_path / "settings.json", "--srs", srs.path)
        again = [json.loads(cli.ok(*given, "--vk", made.description.vk_digest, "--json").out) for _ in range(2)]
        assert again == [made.description.to_object()] * 2


def test_random_records_are_marked_as_such(cli: Cli, model: Any, search: list[dict[str, Any]], tmp_path: Path) -> None:
    ran = cli.ok("circuits", "tune", model("linear"), "--records", 3, "--out", tmp_path / "tuned")
    assert "warning: calibrated on random (standard normal) records" in ran.err
    assert "calibration: random (standard normal)" in ran.out
    evidence = json.loads((tmp_path / "tuned" / "evidence.json").read_text())
    assert evidence["calibration"]["source"] == "random (standard normal)"
    assert (evidence["calibration"]["records"], evidence["calibration"]["keys"]) == (3, 2)
    assert (evidence["otherFunction"], evidence["checked"]["agreement"] > 0.8) == (None, True)
    assert search[0]["sides"] == 2
    assert not (tmp_path / "tuned" / "model.onnx").exists()


def test_records_that_are_given_are_taken(cli: Cli, model: Any, search: list[dict[str, Any]], tmp_path: Path) -> None:
    np.save(tmp_path / "r.npy", np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32))
    ran = cli.ok("circuits", "tune", model("linear"), "--data", tmp_path / "r.npy", "--json")
    assert json.loads(ran.out)["calibration"]["source"] == "given"
    assert "warning" not in ran.err


def test_what_ee_refuses_is_tuned_plain(cli: Cli, model: Any, search: list[dict[str, Any]]) -> None:
    ran = cli("circuits", "tune", model("topk"))
    assert (ran.code, "node '/TopK_1' (TopK)" in ran.err, "--plain tunes the model as it is" in ran.err) == (
        1,
        True,
        True,
    )
    assert not search
    document = json.loads(cli.ok("circuits", "tune", model("topk"), "--plain", "--records", 3, "--json").out)
    assert (document["calibration"]["keys"], search[0]["sides"]) == (0, 1)
    assert document["checked"]["error"] < 0.05


def test_token_ids_are_integers_in_the_circuit(cli: Cli, model: Any, search: list[dict[str, Any]]) -> None:
    cli("circuits", "tune", model("gather_by_record"), "--plain", "--records", 3)
    assert {scales[0] for scales in search[0]["scales"]} == {0}


def test_the_model_with_its_axes_fixed_is_written(
    cli: Cli, model: Any, search: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    axis = ("--axis", "seq_len=3")
    ran = cli.ok("circuits", "tune", model("open_sequence"), *axis, "--records", 3, "--out", out)
    assert f"the model that this circuit is for is {out / 'model.onnx'}" in ran.err
    cli.ok("circuits", "estimate", out / "model.onnx", "--profile", out / "profile.json")
