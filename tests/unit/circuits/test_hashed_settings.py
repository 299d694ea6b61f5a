"""Settings of a circuit with hashed inputs: exactly what ezkl writes for an honest one."""

from __future__ import annotations

from typing import Any

import pytest

from circuits.chain import ChainSettings
from circuits.profile import CircuitProfile
from circuits.settings import CircuitSettings, canonical
from rexis.protocol.circuit import Visibility
from rexis.protocol.errors import CircuitError, MalformedError
from rexis.protocol.onsite import SALT_VALUES
from tests.unit.circuits.settings_document import document

LENGTH = 30


def hashed(**changes: Any) -> dict[str, Any]:
    """The breast cancer model's settings with hashed inputs, as ezkl 23.0.5 writes them."""
    made = document()
    made["run_args"]["input_visibility"] = {"Hashed": {"hash_is_public": True, "outlets": []}}
    made["module_sizes"] = {"polycommit": [], "poseidon": [41 * (LENGTH + SALT_VALUES) + 2, [1]]}
    made["model_instance_shapes"] = [[1, 2]]
    return {**made, **changes}


def test_the_record_is_what_is_hashed_less_the_salt() -> None:
    found = CircuitSettings.parse(canonical(hashed()))
    assert found.visibility == Visibility.HASHED
    assert (found.witness_length, found.input_length, found.output_length) == (LENGTH + SALT_VALUES, LENGTH, 2)
    assert found.public_inputs == 1
    assert found.profile.run_args()["input_visibility"] == "hashed"
    public = CircuitSettings.parse(canonical(document()))
    assert (public.visibility, public.public_inputs, public.witness_length) == (Visibility.PUBLIC, LENGTH, LENGTH)


def _poseidon(rows: int, instances: list[int]) -> dict[str, Any]:
    return {"module_sizes": {"polycommit": [], "poseidon": [rows, instances]}}


@pytest.mark.parametrize(
    "changes",
    [
        _poseidon(41 * 40 + 3, [1]),  # no number of values takes so many rows
        _poseidon(41 * SALT_VALUES + 2, [1]),  # salt alone
        _poseidon(0, [0]),
        _poseidon(True, [1]),
        _poseidon(41 * 40 + 2, [2]),
        _poseidon(41 * 40 + 2, [True]),
        _poseidon(41 * 40 + 2, [1, 1]),
        _poseidon(41 * 400 + 2, [1]),  # more rows than the circuit has
        {"module_sizes": {"polycommit": [1], "poseidon": [41 * 40 + 2, [1]]}},
        {"model_instance_shapes": [[1, 30], [1, 2]]},
        {"model_instance_shapes": []},
        {"num_blinding_factors": 1},
    ],
)
def test_other_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CircuitError):
        CircuitSettings.parse(canonical(hashed(**changes)))


@pytest.mark.parametrize(
    "visibility",
    [
        {"Hashed": {"hash_is_public": False, "outlets": []}},
        {"Hashed": {"hash_is_public": True, "outlets": [0]}},
        {"Hashed": {"hash_is_public": 1, "outlets": []}},
        "Private",
        "Fixed",
        {"KZGCommit": {}},
    ],
)
def test_other_visibilities_are_refused(visibility: Any) -> None:
    made = hashed()
    made["run_args"]["input_visibility"] = visibility
    with pytest.raises(CircuitError):
        CircuitSettings.parse(canonical(made))


def test_a_public_circuit_has_no_hash() -> None:
    made = document()
    made["module_sizes"] = hashed()["module_sizes"]
    with pytest.raises(CircuitError, match="modules"):
        CircuitSettings.parse(canonical(made))


def test_salt_values_must_fit_the_range_check() -> None:
    small: dict[str, Any] = {
        "input_scale": 7,
        "param_scale": 7,
        "decomposition_base": 128,
        "decomposition_legs": 2,
        "inner_columns": 1,
        "logrows": 10,
    }
    CircuitProfile(**small)
    with pytest.raises(ValueError, match="salt values go up to"):
        CircuitProfile(**small, input_visibility="hashed")


def test_a_chain_of_segments_has_public_inputs() -> None:
    """The values between segments are public, and with them a hashed record would be."""
    first = CircuitSettings.parse(canonical(hashed()))
    with pytest.raises(CircuitError, match="boundaries are public"):
        ChainSettings.of((1,), [first, first])
    with pytest.raises(MalformedError, match="one segment"):
        CircuitProfile.from_object({**first.profile.to_object(), "cuts": [1]})
