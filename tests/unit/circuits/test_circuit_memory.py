"""The memory estimate covers what was measured, and refuses in time."""

import pytest

from circuits import memory
from circuits.settings import CircuitSettings, canonical
from rexis.protocol.errors import ResourceError
from tests.unit.circuits.settings_document import document


def settings(rows: int, logrows: int) -> CircuitSettings:
    changed = document()
    changed["num_rows"] = rows
    changed["run_args"]["logrows"] = logrows
    return CircuitSettings.parse(canonical(changed))


def test_columns_are_folded_when_rows_run_out() -> None:
    assert memory.advice_columns(settings(8000, 13)) == 3
    assert memory.advice_columns(settings(14645, 13)) == 6


def test_estimate_covers_the_measured_peaks() -> None:
    assert memory.setup_bytes(settings(14645, 13)) > 122 << 20  # breast cancer MLP: resident while proving
    assert memory.setup_bytes(settings(40_000, 15)) > 354 << 20  # the same advice columns at 2^15 rows


def test_set_up_that_does_not_fit_is_refused_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 64 << 20)
    with pytest.raises(ResourceError, match="64 MiB are free"):
        memory.require_memory(settings(14645, 13))


def test_this_machine_has_some_memory() -> None:
    assert memory.available_bytes() > 0
