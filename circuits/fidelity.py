"""Whether a circuit computes the model's function at all.

ezkl takes a few operators and computes something else (version 23.0.5: docs/circuits.md has those that we met, such as
average pools with padding and the result of ``Equal``, with which decision trees come out wrong). A proof of such a
circuit is valid and worthless. Rounding is told apart by its size: at large scales it is small, while a wrong function
stays off for many values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from circuits.build import make_settings
from circuits.onnx_model import parsed
from circuits.process import EzklProcess, ProcessGoneError
from circuits.profile import CircuitProfile
from circuits.subgraph import computing, label, up_to
from circuits.tuning import Floats, outputs_without_keys
from rexis.protocol.errors import CircuitError, TensorError
from rexis.protocol.records import dequantise, quantise

_SCALE = 9
_PROFILE = CircuitProfile(
    input_scale=_SCALE,
    param_scale=_SCALE,
    decomposition_base=1 << 14,
    decomposition_legs=4,
    inner_columns=2,
    logrows=18,
    disable_freivalds=True,
)
_OFF = 0.05  # of 1 and the value itself: far beyond rounding at this scale
_FEW = 0.1  # a function that jumps is off for the few values that lie near the jump

Run = Callable[[bytes, Floats], Floats]
"""Outputs ``[n, …]`` of a model on records ``[n, …]``, by something else than ezkl."""


def other_function(model: bytes, records: Floats, run: Run, ezkl: EzklProcess, *, ids: bool) -> str | None:
    """What is wrong, with the first node that is off; None if the circuit does what the model does.

    Parameters
    ----------
    ids
        The records hold token ids, which have no fraction.
    """
    profile = _PROFILE.model_copy(update={"input_scale": 0}) if ids else _PROFILE

    def off(part: bytes) -> float:
        try:
            return _off(part, records, run, profile, ezkl)
        except ProcessGoneError:
            raise
        except (CircuitError, TensorError):
            return 0.0  # no witness at this scale, or no output that can be compared

    share = off(model)
    if share <= _FEW:
        return None
    proto = parsed(model)
    places = [place for place, computes in enumerate(computing(proto)) if computes]
    right, wrong = -1, len(places) - 1
    while wrong - right > 1:
        middle = (right + wrong) // 2
        if off(up_to(proto, places[middle])) > _FEW:
            wrong = middle
        else:
            right = middle
    return (
        f"{label(proto.graph.node[places[wrong]])}: ezkl's circuit computes something else than ONNX says: "
        f"{share:.0%} of the outputs are off by more than rounding"
    )


def _off(model: bytes, records: Floats, run: Run, profile: CircuitProfile, ezkl: EzklProcess) -> float:
    """Share of the outputs that are off by more than rounding explains."""
    reference = run(model, records).reshape(len(records), -1)
    settings = make_settings(model, profile, ezkl)
    found = outputs_without_keys(ezkl, model, settings, quantise(records, settings.input_scale))
    values: Any = dequantise(found, settings.output_scale).reshape(reference.shape)
    return float(np.mean(np.abs(values - reference) > _OFF * (1 + np.abs(reference))))
