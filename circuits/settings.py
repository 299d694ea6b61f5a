"""ezkl's settings as canonical bytes, and what a checker reads from them.

ezkl writes two fields that differ from run to run: the timestamp, and the order of two hash sets. The order matters:
it is the order of lookup tables in the circuit, so that it changes the vk. Canonical settings fix both, and with them
the same ONNX file gives the same vk on every machine.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Self

from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import CircuitError, MalformedError
from rexis.protocol.parsing import require_shallow

EZKL_VERSION = "23.0.5"
MAX_LOGROWS = 26  # the largest public SRS that ezkl pins
MAX_SETTINGS_BYTES = 1 << 20
# What a hostile settings file may ask for before ezkl is allowed to see it.
_LIMITS = {"num_inner_cols": 32, "decomp_base": 1 << 20, "decomp_legs": 16, "input_scale": 32, "param_scale": 32}
_MAX_VALUES = 1 << 20
_UNORDERED = ("required_range_checks", "required_lookups")


@dataclass(frozen=True)
class CircuitSettings:
    """The part of the settings that rexis relies on. Made by :meth:`parse` only.

    Attributes
    ----------
    logrows
        The circuit has ``2^logrows`` rows.
    rows
        Rows used by one set of advice columns, before they are split into columns of ``2^logrows``.
    inner_columns
        Parallel columns in each advice tensor.
    decomposition_base, decomposition_legs
        An accumulator must stay below ``base ** legs`` in absolute value.
    input_scale, output_scale
        Fixed point: value = integer · 2^-scale.
    input_length, output_length
        Values in one record and in one output.
    """

    data: bytes
    logrows: int
    rows: int
    inner_columns: int
    decomposition_base: int
    decomposition_legs: int
    input_scale: int
    output_scale: int
    input_length: int
    output_length: int

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical bytes."""
        return sha256(self.data)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read canonical settings and refuse every circuit that would not show what a statement claims.

        Raises
        ------
        CircuitError
            Not canonical, another version of ezkl, inputs or outputs that are not public, weights that are not fixed,
            range checks switched off, more than one input or output, or sizes out of bounds.
        """
        if len(data) > MAX_SETTINGS_BYTES:
            raise CircuitError(f"settings of {len(data)} bytes are over the limit", field="settings")
        try:
            require_shallow(data)
            document = json.loads(data)
            if canonical(document) != data:
                raise CircuitError("settings are not canonical", field="settings")
            return cls._read(document, data)
        except (MalformedError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise CircuitError(f"not ezkl settings: {type(error).__name__}", field="settings") from None

    @classmethod
    def _read(cls, document: dict[str, Any], data: bytes) -> Self:
        args = document["run_args"]
        required = {
            "version": (document["version"], EZKL_VERSION),
            "input_visibility": (args["input_visibility"], "Public"),
            "output_visibility": (args["output_visibility"], "Public"),
            "param_visibility": (args["param_visibility"], "Fixed"),
            "ignore_range_check_inputs_outputs": (args["ignore_range_check_inputs_outputs"], False),
        }
        for name, (found, expected) in required.items():
            if found != expected or type(found) is not type(expected):
                raise CircuitError(f"{name} must be {expected}", field=f"settings.{name}")
        for name, limit in _LIMITS.items():
            _bounded(args[name], name, 0 if name.endswith("scale") else 1, limit)
        shapes, in_scales, out_scales = (
            document[name] for name in ("model_instance_shapes", "model_input_scales", "model_output_scales")
        )
        if len(shapes) != 2 or len(in_scales) != 1 or len(out_scales) != 1:
            raise CircuitError("a circuit has one input and one output", field="settings.model_instance_shapes")
        lengths = [math.prod(_bounded(size, "dimension", 1, _MAX_VALUES) for size in shape) for shape in shapes]
        return cls(
            data=data,
            logrows=_bounded(args["logrows"], "logrows", 1, MAX_LOGROWS),
            rows=_bounded(document["num_rows"], "num_rows", 1, 1 << 40),
            inner_columns=args["num_inner_cols"],
            decomposition_base=args["decomp_base"],
            decomposition_legs=args["decomp_legs"],
            input_scale=_bounded(in_scales[0], "input scale", 0, 32),
            output_scale=_bounded(out_scales[0], "output scale", 0, 32),
            input_length=_bounded(lengths[0], "input length", 1, _MAX_VALUES),
            output_length=_bounded(lengths[1], "output length", 1, _MAX_VALUES),
        )


def canonical(document: dict[str, Any]) -> bytes:
    """Canonical bytes of a settings document: sorted keys and sets, no white space, timestamp 0 (ezkl refuses null)."""
    fixed = dict(document, timestamp=0)
    for name in _UNORDERED:
        fixed[name] = sorted(document[name], key=_text)
    return _text(fixed).encode()


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _bounded(value: Any, name: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise CircuitError(f"{name} must be an integer from {low} to {high}", field="settings")
    return value
