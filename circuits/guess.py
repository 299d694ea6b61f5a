"""A profile for a model that nobody tuned yet: enough to say about what a proof will take.

Nothing is proven and no bound on errors is kept: the scales are middling ones, digits and tables are what the records
at hand reach, and the layout is the cheapest by the cost model. `rexis circuits tune` searches for real.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from circuits.build import make_settings
from circuits.cost import smaller
from circuits.process import EzklProcess, ProcessGoneError
from circuits.profile import CircuitProfile
from circuits.settings import CircuitSettings
from circuits.tuning import Side, first_guess, reach_without_keys
from rexis.protocol.errors import CircuitError, ResourceError
from rexis.protocol.records import quantise

_T = TypeVar("_T")
_ANY_MEMORY = 1 << 62

_SCALES = ((7, 7), (8, 8), (9, 9))
_ID_SCALES = ((0, 7), (0, 8), (0, 9))
_SEARCHED_ROWS = 1 << 19  # searching digits counts rows a dozen times, which takes minutes beyond
_SPARE = 2  # times the reach of the one record
_WIDEST = 1 << 24  # what a profile may hold
_DIGITS = (1 << 9, 1 << 12)  # two of them, tried on one record where there is no time for more


@dataclass(frozen=True)
class Guess:
    """A profile, and how it was come by, in words.

    Attributes
    ----------
    error
        The largest of the records' outputs; None if it is not known.
    """

    profile: CircuitProfile
    how: str
    error: float | None = None


def guessed(side: Side, wide: CircuitSettings, ezkl: EzklProcess, *, ids: bool) -> Guess:
    """A profile for a model, by records that may be drawn at random.

    Parameters
    ----------
    wide
        Settings of the model under wide digits and tables (:func:`circuits.diagnosis.require_circuit`).
    ids
        The records hold token ids.

    Raises
    ------
    ResourceError
        No circuit has so many rows.
    """
    scales = _ID_SCALES if ids else _SCALES
    if wide.rows * wide.inner_columns > _SEARCHED_ROWS:
        return _coarse(side, wide, scales[0], ezkl)
    for pair in scales:
        for headroom in sorted({side.headroom, 1.0}, reverse=True):
            found = _or_none(lambda: first_guess(ezkl, replace(side, headroom=headroom), pair))  # noqa: B023
            if found is not None:
                return Guess(found.profile, "digits and tables as wide as they need", found.error)
    return _laid_out(wide, "wide digits and tables, for some of them have no witness under narrow ones")


def _coarse(side: Side, wide: CircuitSettings, scales: tuple[int, int], ezkl: EzklProcess) -> Guess:
    """For a large model: the smaller of two digits that one record has a witness with."""
    for base in _DIGITS:
        changes = {
            "decomposition_base": base,
            "decomposition_legs": 2,
            "input_scale": scales[0],
            "param_scale": scales[1],
        }
        settings = make_settings(side.model, wide.profile.model_copy(update=changes), ezkl)
        record = quantise(side.records[:1], settings.input_scale)
        reach = _or_none(lambda: reach_without_keys(ezkl, side.model, settings, record))  # noqa: B023
        if reach is not None:
            end = min(_SPARE * reach, _WIDEST)
            ends = {"lookup_low": -end, "lookup_high": end}
            profile = settings.profile.model_copy(update=ends)
            return _laid_out(
                replace(settings, profile=profile), "digits and tables that one of them needs, for the model is large"
            )
    return _laid_out(wide, "wide digits and tables, for the model is large")


def _or_none(attempt: Callable[[], _T]) -> _T | None:
    """What an attempt gives; None if a record has no witness."""
    try:
        return attempt()
    except ProcessGoneError:
        raise
    except CircuitError:
        return None


def _laid_out(settings: CircuitSettings, how: str) -> Guess:
    layout = smaller(settings, _ANY_MEMORY)
    if layout is None:
        raise ResourceError(
            f"the model needs {settings.rows * settings.inner_columns} rows of one column, more than any circuit here "
            "has",
            hint="choose a smaller model, or register it without a circuit, for tier commit",
        )
    columns = layout.columns
    changes = {"logrows": columns.logrows, "inner_columns": columns.inner}
    return Guess(settings.profile.model_copy(update=changes), how)
