"""The CKKS benchmark: its encrypted layers give what NumPy gives, and wrong outputs fail it."""

from __future__ import annotations

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench import ckks

needs_tenseal = pytest.mark.skipif(importlib.util.find_spec("tenseal") is None, reason="needs the extra rexis[bench]")

WIDTHS = (6, 9, 5, 2)  # wider, narrower, and no powers of two

Floats = NDArray[np.float32]


class Double(ckks.Plain):
    """A model in the clear without ONNX Runtime."""

    def __init__(self, error: float = 0.0) -> None:
        self._error = error

    def evaluate(self, encrypted: Floats) -> Floats:
        return 2 * encrypted

    def decrypt(self, evaluated: Floats) -> Floats:
        return evaluated * np.float32(1 + self._error)


def layers_of(random: np.random.Generator) -> tuple[tuple[Floats, Floats], ...]:
    """Random weights that keep activations near 1, and biases that are not small."""
    return tuple(
        (
            (random.normal(size=(rows, columns)) / np.sqrt(rows)).astype(np.float32),
            random.uniform(0.5, 1, size=columns).astype(np.float32),
        )
        for rows, columns in pairwise(WIDTHS)
    )


@needs_tenseal
@pytest.mark.parametrize(("layout", "count"), [("OneRecord", 1), ("ManyRecords", 3)])
def test_chained_layers_are_right(layout: str, count: int) -> None:
    from bench import _ckks_mlp

    random = np.random.default_rng(7)
    layers = layers_of(random)
    records = random.normal(size=(count, WIDTHS[0])).astype(np.float32)
    expected = records.astype(np.float64)
    for index, (weights, bias) in enumerate(layers):
        expected = (expected**2 if index else expected) @ weights + bias

    mlp = getattr(_ckks_mlp, layout)(layers, _ckks_mlp.FAST)
    found = mlp.decrypt(mlp.evaluate(mlp.encrypt(records)))
    assert found.shape == (count, WIDTHS[-1])
    assert ckks.relative_errors(found, expected).max() < 1e-2


@needs_tenseal
def test_parameters_below_128_bits_are_refused() -> None:
    from bench._ckks_mlp import Parameters

    with pytest.raises(ValueError, match="8192 allows 218"):
        Parameters(8192, (60, 40, 40, 40, 40, 60), 40)


@pytest.mark.parametrize(("error", "accurate"), [(0.0, True), (0.5e-2, True), (2e-2, False), (float("nan"), False)])
def test_outputs_out_of_bound_are_inaccurate(error: float, accurate: bool) -> None:
    batches = [np.array([[1.0, -2.0]], dtype=np.float32)] * 2
    (row,) = ckks.measured([ckks.Contestant("side", Double(error), Double(), bound=1e-2)], batches)
    assert row.accurate is accurate


@pytest.mark.parametrize(("inaccurate", "status"), [([], 0), (["CKKS, batch 1"], 1)])
def test_the_exit_status_says_whether_outputs_were_right(
    inaccurate: list[str], status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(ckks, "report_on", lambda *_: {"inaccurate": inaccurate})
    monkeypatch.setattr(sys, "argv", ["ckks", "--json", "--out", f"{tmp_path}/ckks.json"])
    assert ckks.main() == status


def test_it_is_skipped_without_tenseal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["ckks"])
    assert ckks.main() == 0
    assert capsys.readouterr().err.splitlines() == [
        "bench.ckks is skipped: tenseal is not installed (pip install 'rexis[bench]')"
    ]
