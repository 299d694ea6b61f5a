"""Which of ezkl's many run arguments a circuit uses, tuned per zoo model.

Only what was measured to matter is here. Cost is the number of columns × 2^logrows (:mod:`circuits.cost`); accuracy
comes from the parameter scale (the weights' rounding dominates the error), and the range from
``decomposition_base ** decomposition_legs``. Tuned profiles lie in ``circuits/<model>/profile.json``; beside them
``rewrites.json``, what to do to the plain model first, and ``evidence.json``, what they were chosen from.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rexis.protocol.errors import NotFoundError
from rexis.protocol.evidence import MAX_SEGMENTS
from rexis.protocol.onsite import SALT_LIMIT
from rexis.protocol.parsing import Strict

TUNED = Path(__file__).parent
_NAME = re.compile(r"[a-z0-9_]+\Z")
_Bound = Annotated[int, Field(ge=-(1 << 24), le=1 << 24)]

_Scale = Annotated[int, Field(ge=0, le=16)]
_Cut = Annotated[int, Field(ge=1, le=1 << 20)]


class CircuitProfile(Strict):
    """Run arguments of a circuit. Outputs are always public, weights always fixed in the circuit.

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
    lookup_low, lookup_high
        Range of the tables of nonlinear functions, in fixed point. A table that does not fit one column raises the
        degree of the constraints, and with it everything that is computed on the extended domain.
    rebase_multiplier
        Products keep this many times the scale before they are brought back: fewer rows, larger accumulators.
    disable_freivalds
        Lay products of activations (attention, batches of places) out one by one. ezkl's shorter way, Freivalds'
        check, has no VKA, so that the contract's verifier could not check it. Other models are the same either way.
    input_visibility
        ``hashed`` for rung ``zk-onsite``: a proof shows one salted hash for the record. It costs 41 rows a value.
    cuts
        Positions in the model's list of nodes at which it is cut into segments, each of which is a circuit of its own
        with this profile (:mod:`circuits.segments`); none for one circuit.
    """

    input_scale: _Scale
    param_scale: _Scale
    decomposition_base: Annotated[int, Field(ge=2, le=1 << 20)]
    decomposition_legs: Annotated[int, Field(ge=1, le=16)]
    inner_columns: Annotated[int, Field(ge=1, le=32)]
    logrows: Annotated[int, Field(ge=6, le=26)]
    lookup_low: _Bound = -32768
    lookup_high: _Bound = 32768
    rebase_multiplier: Annotated[int, Field(ge=1, le=8)] = 1
    disable_freivalds: bool = False
    cuts: Annotated[tuple[_Cut, ...], Field(max_length=MAX_SEGMENTS - 1)] = ()
    input_visibility: Literal["public", "hashed"] = "public"

    @model_validator(mode="after")
    def _hashes_whole_records(self) -> Self:
        if self.input_visibility == "public":
            return self
        if self.cuts:
            raise ValueError("hashed inputs need a circuit of one segment: the values between segments are public")
        if self.decomposition_base**self.decomposition_legs < SALT_LIMIT:
            raise ValueError(f"salt values go up to {SALT_LIMIT}, so decompositionBase ** decompositionLegs must, too")
        return self

    def run_args(self) -> dict[str, object]:
        """As attributes of ``ezkl.PyRunArgs`` for each segment; ``variables`` follow from the model."""
        return {
            "input_visibility": self.input_visibility,
            "output_visibility": "public",
            "param_visibility": "fixed",
            "input_scale": self.input_scale,
            "param_scale": self.param_scale,
            "decomp_base": self.decomposition_base,
            "decomp_legs": self.decomposition_legs,
            "num_inner_cols": self.inner_columns,
            "logrows": self.logrows,
            "lookup_range": [self.lookup_low, self.lookup_high],
            "scale_rebase_multiplier": self.rebase_multiplier,
            "disable_freivalds": self.disable_freivalds,
            "ignore_range_check_inputs_outputs": False,
        }


def tuned_models() -> tuple[str, ...]:
    """Zoo models that have a tuned profile, sorted."""
    return tuple(sorted(path.parent.name for path in TUNED.glob("*/profile.json")))


def profile_for(model: str) -> CircuitProfile:
    """The tuned profile of a zoo model."""
    path = TUNED / model / "profile.json"
    if not _NAME.match(model) or not path.is_file():
        raise NotFoundError(
            f"no tuned circuit profile for {model!r}",
            hint=f"`rexis circuits tune` makes one; there are: {', '.join(tuned_models())}",
        )
    return CircuitProfile.from_json(path.read_bytes())


def rewrites_for(model: str) -> tuple[str, ...]:
    """The rewrites of a zoo model that its profile was tuned for (:mod:`circuits.rewrites`)."""
    profile_for(model)
    path = TUNED / model / "rewrites.json"
    return tuple(json.loads(path.read_bytes())) if path.is_file() else ()
