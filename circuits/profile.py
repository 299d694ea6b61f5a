"""Which of ezkl's many run arguments a circuit uses, tuned per zoo model.

Only what was measured to matter is here. Cost is the number of columns × 2^logrows; accuracy comes from the parameter
scale (the weights' rounding dominates the error), and the range from ``decomposition_base ** decomposition_legs``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rexis.protocol.errors import NotFoundError
from rexis.protocol.parsing import Strict

_Scale = Annotated[int, Field(ge=0, le=16)]


class CircuitProfile(Strict):
    """Run arguments of a circuit. Inputs and outputs are always public, weights always fixed in the circuit.

    Attributes
    ----------
    input_scale, param_scale
        Fixed-point bits of the record and of the weights. Activations and outputs get the larger of the two.
    decomposition_base, decomposition_legs
        Digits of the range check. An accumulator (two scales multiplied) must stay below ``base ** legs`` in absolute
        value, else there is no witness. Two digits cost fewer rows than three; the base must fit in ``2^logrows`` minus
        the blinding rows, or ezkl splits its table and the cost doubles.
    inner_columns
        Parallel columns. Fewer columns with more rows make a shorter proof.
    logrows
        The circuit has ``2^logrows`` rows; a layout that needs more is folded into further columns.
    """

    input_scale: _Scale
    param_scale: _Scale
    decomposition_base: Annotated[int, Field(ge=2, le=1 << 20)]
    decomposition_legs: Annotated[int, Field(ge=1, le=16)]
    inner_columns: Annotated[int, Field(ge=1, le=32)]
    logrows: Annotated[int, Field(ge=6, le=26)]

    def run_args(self) -> dict[str, object]:
        """As attributes of ``ezkl.PyRunArgs``. The ONNX batch axis ``batch`` is fixed to 1."""
        return {
            "input_visibility": "public",
            "output_visibility": "public",
            "param_visibility": "fixed",
            "input_scale": self.input_scale,
            "param_scale": self.param_scale,
            "decomp_base": self.decomposition_base,
            "decomp_legs": self.decomposition_legs,
            "num_inner_cols": self.inner_columns,
            "logrows": self.logrows,
            "ignore_range_check_inputs_outputs": False,
            "variables": [["batch", 1]],
        }


# Measured by `python -m bench.warm_proof` and `circuits.tuning.tune`; the reasons stand in ADR 3.
PROFILES: dict[str, CircuitProfile] = {
    "breast_cancer": CircuitProfile(
        input_scale=7,
        param_scale=9,
        decomposition_base=8000,
        decomposition_legs=2,
        inner_columns=1,
        logrows=13,
    ),
}


def profile_for(model: str) -> CircuitProfile:
    """The tuned profile of a zoo model."""
    if model not in PROFILES:
        raise NotFoundError(
            f"no tuned circuit profile for {model!r}", hint="tune one with circuits.tuning.tune, or pass a profile"
        )
    return PROFILES[model]
