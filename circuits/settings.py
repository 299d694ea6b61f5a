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

from pydantic import ValidationError

from circuits.field import MODULUS
from circuits.profile import CircuitProfile
from rexis.protocol.circuit import Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import CircuitError, MalformedError
from rexis.protocol.onsite import SALT_VALUES
from rexis.protocol.parsing import require_shallow

EZKL_VERSION = "23.0.5"
MAX_LOGROWS = 26  # the largest public SRS that ezkl pins
MAX_SETTINGS_BYTES = 1 << 20
# What a hostile settings file may ask for before ezkl is allowed to see it. Sizes that ezkl turns into columns of
# 2^logrows rows are bounded by a number of columns; honest circuits have tens.
_MAX_COLUMNS = 1 << 10
_MAX_TABLES = 64
_MAX_TABLE_COLUMNS = 128
_MAX_ITEMS = 1 << 14
_MAX_INTEGER = 1 << 40
_COLUMN_SIZES = (
    "num_rows",
    "num_dynamic_lookups",
    "num_shuffles",
    "total_const_size",
    "total_dynamic_col_size",
    "total_shuffle_col_size",
)
_EZKL_NAMES = {
    "decomposition_base": "decomp_base",
    "decomposition_legs": "decomp_legs",
    "inner_columns": "num_inner_cols",
    "rebase_multiplier": "scale_rebase_multiplier",
}
_FILLED = {"index": "num_dynamic_lookups", "sorting": "num_shuffles"}
_VISIBILITIES: dict[str, Any] = {"public": "Public", "hashed": {"Hashed": {"hash_is_public": True, "outlets": []}}}
# ezkl's Poseidon takes so many rows for each value that it hashes, and so many more at the end.
_HASH_ROWS, _HASH_LAST_ROWS = 41, 2
_MAX_BLINDING_FACTORS = 64
_MAX_VALUES = 1 << 20
_UNORDERED = ("required_range_checks", "required_lookups")


@dataclass(frozen=True)
class CircuitSettings:
    """The part of the settings that rexis relies on. Made by :meth:`parse` only.

    Attributes
    ----------
    profile
        The run arguments that they were made with.
    rows
        Rows used by one set of advice columns, before they are split into columns of ``2^logrows``.
    input_scale, output_scale
        Fixed point: value = integer · 2^-scale.
    input_length, output_length
        Values in one record and in one output.
    witness_length
        Values that go into the circuit: the record's, and behind them salt values where they are hashed.
    ranges
        Lowest and highest value of each range check's table.
    lookups
        Nonlinear functions, each with a table over the profile's lookup range.
    filled, filled_rows
        Kinds of tables that are filled while proving, ``index`` for lookups by index and ``sorting``, and rows of all
        of them.
    """

    data: bytes
    profile: CircuitProfile
    rows: int
    input_scale: int
    output_scale: int
    input_length: int
    output_length: int
    witness_length: int
    ranges: tuple[tuple[int, int], ...]
    lookups: int
    filled: frozenset[str]
    filled_rows: int

    @property
    def logrows(self) -> int:
        """The circuit has ``2^logrows`` rows."""
        return self.profile.logrows

    @property
    def visibility(self) -> Visibility:
        """Where the record stands in a proof."""
        return Visibility[self.profile.input_visibility.upper()]

    @property
    def public_inputs(self) -> int:
        """Instances of a proof that stand for the record."""
        return 1 if self.visibility == Visibility.HASHED else self.input_length

    @property
    def unfolded_rows(self) -> int:
        """Rows that must fit into one column: of tables that are filled while proving, and of a hash."""
        hash_rows = _HASH_ROWS * self.witness_length + _HASH_LAST_ROWS if self.visibility == Visibility.HASHED else 0
        return max(self.filled_rows, hash_rows)

    @property
    def inner_columns(self) -> int:
        """Parallel columns in each advice tensor."""
        return self.profile.inner_columns

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
            Not canonical, another version of ezkl, inputs that are neither public nor hashed, outputs that are not
            public, weights that are not fixed, range checks switched off, more than one input or output, or sizes out
            of bounds.
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
            "output_visibility": (args["output_visibility"], "Public"),
            "param_visibility": (args["param_visibility"], "Fixed"),
            "ignore_range_check_inputs_outputs": (args["ignore_range_check_inputs_outputs"], False),
        }
        for name, (found, expected) in required.items():
            if found != expected or type(found) is not type(expected):
                raise CircuitError(f"{name} must be {expected}", field=f"settings.{name}")
        _require_small(document)
        profile = _profile(args)
        _require_buildable(document, args, profile)
        shapes, in_scales, out_scales = (
            document[name] for name in ("model_instance_shapes", "model_input_scales", "model_output_scales")
        )
        hashed = profile.input_visibility == "hashed"
        # Of hashed inputs there is no instance, so that their shape is not there either.
        if len(shapes) != (1 if hashed else 2) or len(in_scales) != 1 or len(out_scales) != 1:
            raise CircuitError("a circuit has one input and one output", field="settings.model_instance_shapes")
        lengths = [math.prod(_bounded(size, "dimension", 1, _MAX_VALUES) for size in shape) for shape in shapes]
        witness_length = _hashed_length(document) if hashed else lengths[0]
        return cls(
            data=data,
            profile=profile,
            rows=document["num_rows"],
            input_scale=_bounded(in_scales[0], "input scale", 0, 32),
            output_scale=_bounded(out_scales[0], "output scale", 0, 32),
            input_length=_bounded(witness_length - SALT_VALUES * hashed, "input length", 1, _MAX_VALUES),
            output_length=_bounded(lengths[-1], "output length", 1, _MAX_VALUES),
            witness_length=witness_length,
            ranges=tuple((low, high) for low, high in document["required_range_checks"]),
            lookups=len(document["required_lookups"]),
            filled=frozenset(kind for kind, name in _FILLED.items() if document[name] > 0),
            filled_rows=document["total_dynamic_col_size"] + document["total_shuffle_col_size"],
        )


def canonical(document: dict[str, Any]) -> bytes:
    """Canonical bytes of a settings document: sorted keys and sets, no white space, timestamp 0 (ezkl refuses null)."""
    fixed = dict(document, timestamp=0)
    for name in _UNORDERED:
        fixed[name] = sorted(document[name], key=_text)
    return _text(fixed).encode()


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _profile(args: dict[str, Any]) -> CircuitProfile:
    """The profile of run arguments; its own bounds are those of honest circuits."""
    low, high = args["lookup_range"]
    found = {name: args.get(_EZKL_NAMES.get(name, name)) for name in CircuitProfile.model_fields if name != "cuts"}
    visible = [name for name, written in _VISIBILITIES.items() if _text(args["input_visibility"]) == _text(written)]
    if not visible:
        raise CircuitError("inputs must be Public, or Hashed with a public hash", field="settings.input_visibility")
    found |= {"lookup_low": low, "lookup_high": high, "input_visibility": visible[0]}
    for name, value in found.items():
        if name == "input_visibility":
            continue
        if name != "disable_freivalds":
            _bounded(value, name, -_MAX_INTEGER, _MAX_INTEGER)
        elif type(value) is not bool:
            raise CircuitError("disable_freivalds is true or false", field="settings.run_args")
    try:
        return CircuitProfile(**found)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise CircuitError(f"{fault['loc'][0]}: {fault['msg']}", field="settings.run_args") from None


def _require_small(value: Any) -> None:
    """Every number and every list in bounds, whatever it is for."""
    if isinstance(value, dict | list):
        if len(value) > _MAX_ITEMS:
            raise CircuitError(f"a list of {len(value)} items is over the limit", field="settings")
        for item in value.values() if isinstance(value, dict) else value:
            _require_small(item)
    elif isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise CircuitError(f"a number is beyond {_MAX_INTEGER}", field="settings")


def _require_buildable(document: dict[str, Any], args: dict[str, Any], profile: CircuitProfile) -> None:
    """No size that would make ezkl lay out more columns than any honest circuit has, and a sound range check.

    A value below ``base ** legs`` is shown by its digits; they show it only while no two values have the same residue.
    """
    cells = _MAX_COLUMNS << profile.logrows
    for name in _COLUMN_SIZES:
        _bounded(document[name], name, 1 if name == "num_rows" else 0, cells)
    if document["einsum_params"]["total_einsum_col_size"] != 0:
        # Laying that out can be made to take for ever, and ezkl makes no VKA for it.
        raise CircuitError(
            "products of activations are checked by Freivalds' method, which the contract's verifier does not know",
            field="settings.einsum_params",
            hint="a profile with disableFreivalds lays them out one by one",
        )
    hashed = profile.input_visibility == "hashed"
    rows = document["module_sizes"]["poseidon"][0]
    modules = {"polycommit": [], "poseidon": [rows, [1]] if hashed else [0, [0]]}
    if _text(document["module_sizes"]) != _text(modules):
        raise CircuitError("modules are there for one hash of hashed inputs only", field="settings.module_sizes")
    if hashed and document["num_blinding_factors"] is not None:
        raise CircuitError(
            "a circuit with hashed inputs has ezkl's own blinding", field="settings.num_blinding_factors"
        )
    if document["num_blinding_factors"] is not None:
        _bounded(document["num_blinding_factors"], "num_blinding_factors", 1, _MAX_BLINDING_FACTORS)
    checks, lookups = document["required_range_checks"], document["required_lookups"]
    if len(checks) > _MAX_TABLES or len(lookups) > _MAX_TABLES:
        raise CircuitError(f"more than {_MAX_TABLES} tables", field="settings.required_range_checks")
    table_rows = 0
    for low, high in [*checks, *([args["lookup_range"]] * len(lookups))]:
        _bounded(low, "lower end of a range", -_MAX_INTEGER, _MAX_INTEGER)
        _bounded(high, "upper end of a range", low, _MAX_INTEGER)
        table_rows += high - low + 1
    _bounded(table_rows, "rows of all tables", 0, _MAX_TABLE_COLUMNS << profile.logrows)
    if 2 * profile.decomposition_base**profile.decomposition_legs >= MODULUS:
        raise CircuitError("decomp_base ** decomp_legs does not fit the field", field="settings.run_args")


def _hashed_length(document: dict[str, Any]) -> int:
    """How many values the hash is over: ezkl says it only by the rows that this takes."""
    rows = _bounded(document["module_sizes"]["poseidon"][0], "rows of the hash", 1, document["num_rows"])
    length, rest = divmod(rows - _HASH_LAST_ROWS, _HASH_ROWS)
    if rest:
        raise CircuitError(f"{rows} rows are no hash", field="settings.module_sizes")
    return length


def _bounded(value: Any, name: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise CircuitError(f"{name} must be an integer from {low} to {high}", field="settings")
    return value
