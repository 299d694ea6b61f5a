"""Canonical settings: one meaning, one form, and nothing that would weaken a statement."""

import json

import pytest

from circuits.profile import CircuitProfile
from circuits.settings import CircuitSettings, canonical
from rexis.protocol.errors import CircuitError
from tests.unit.circuits.settings_document import document


def test_canonical_ignores_time_and_the_order_of_sets() -> None:
    other = document()
    other["timestamp"] = 1
    other["required_range_checks"].reverse()
    assert canonical(document()) == canonical(dict(reversed(list(other.items()))))


def test_the_range_of_lookups_counts_only_where_there_are_some() -> None:
    changed = document()
    changed["run_args"]["lookup_range"] = [0, 1 << 24]
    CircuitSettings.parse(canonical(changed))
    changed["required_lookups"] = [{"Div": {"denom": 2.0}}]
    with pytest.raises(CircuitError, match="rows of all tables"):
        CircuitSettings.parse(canonical(changed))


def test_parse_reads_scales_and_lengths() -> None:
    settings = CircuitSettings.parse(canonical(document()))
    assert settings.profile == CircuitProfile(
        input_scale=7,
        param_scale=9,
        decomposition_base=8000,
        decomposition_legs=2,
        inner_columns=1,
        logrows=13,
    )
    assert (settings.input_scale, settings.output_scale) == (7, 9)
    assert (settings.input_length, settings.output_length, settings.logrows) == (30, 2, 13)


def test_parse_refuses_other_spellings_of_the_same_settings() -> None:
    data = canonical(document())
    for other in (data + b"\n", json.dumps(document()).encode(), data.replace(b'"timestamp":0', b'"timestamp":1')):
        with pytest.raises(CircuitError, match="not canonical"):
            CircuitSettings.parse(other)


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("run_args", "input_visibility", "Private"),
        ("run_args", "output_visibility", {"Hashed": {}}),
        ("run_args", "param_visibility", "Private"),
        ("run_args", "ignore_range_check_inputs_outputs", True),
        ("run_args", "ignore_range_check_inputs_outputs", 0),
        ("run_args", "logrows", 27),
        ("run_args", "logrows", True),
        ("run_args", "num_inner_cols", 10**9),
        ("run_args", "decomp_base", -1),
        ("", "version", "22.0.0"),
        ("", "model_instance_shapes", [[1, 30]]),
        ("", "model_instance_shapes", [[1, 30], [1, 2], [1, 2]]),
        ("", "model_instance_shapes", [[1, 1 << 19, 4], [1, 2]]),
        ("", "model_input_scales", [7, 7]),
        ("", "run_args", None),
        ("", "num_rows", 1 << 30),
        ("", "num_rows", 0),
        ("", "total_const_size", 1 << 34),
        ("", "total_dynamic_col_size", 1 << 32),
        ("", "total_shuffle_col_size", 1 << 32),
        ("", "einsum_params", {"equations": [], "total_einsum_col_size": 1}),
        ("run_args", "lookup_range", [0]),
        ("run_args", "lookup_range", [5, 1 << 39]),
        ("run_args", "scale_rebase_multiplier", 0),
        ("run_args", "disable_freivalds", 1),
        ("", "einsum_params", {"equations": [["a", {"a": 1 << 50}]], "total_einsum_col_size": 0}),
        ("", "module_sizes", {"polycommit": [], "poseidon": [1 << 33, [1]]}),
        ("", "num_blinding_factors", 1 << 20),
        ("", "required_range_checks", [[-1, 1], [0, 1 << 34]]),
        ("", "required_range_checks", [[0, k] for k in range(1, 20_000)]),
        ("", "required_range_checks", [[1, 0]]),
        ("", "required_lookups", [{"ReLU": None}] * 65),
        ("", "required_range_checks", [[0, (8 << 13) - k] for k in range(17)]),  # no one is large
        ("", "required_lookups", [{"Div": {"denom": 2.0}}] * 40),
        ("run_args", "decomp_base", 8001 << 8),
        ("run_args", "input_scale", 17),
    ],
)
def test_parse_refuses_unsound_or_oversized(where: str, name: str, value: object) -> None:
    changed = document()
    (changed[where] if where else changed)[name] = value
    with pytest.raises(CircuitError):
        CircuitSettings.parse(canonical(changed))


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b"{}", b"[" * 100_000, b'{"run_args":NaN}'])
def test_parse_refuses_garbage(data: bytes) -> None:
    with pytest.raises(CircuitError):
        CircuitSettings.parse(data)
