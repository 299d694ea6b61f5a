"""A profile for a model that nobody tuned yet: enough to say about what a proof will take.

Nothing is proven and no bound on errors is kept: the scales are middling ones, digits and tables are what the records
at hand reach, and the layout is the cheapest by the cost model. `rexis circuits tune` searches for real.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from circuits.cost import smaller
from circuits.process import EzklProcess, ProcessGoneError
from circuits.profile import CircuitProfile
from circuits.settings import CircuitSettings
from circuits.tuning import Side, first_guess
from rexis.protocol.errors import CircuitError, ResourceError

_SCALES = ((7, 7), (8, 8), (9, 9))
_SEARCHED_ROWS = 1 << 20  # searching digits counts rows a dozen times, which takes minutes beyond


@dataclass(frozen=True)
class Guess:
    """A profile, and how it was come by, in words."""

    profile: CircuitProfile
    how: str


def guessed(side: Side, wide: CircuitSettings, ezkl: EzklProcess) -> Guess:
    """A profile for a model, by records that may be drawn at random.

    Parameters
    ----------
    wide
        Settings of the model under wide digits and tables (:func:`circuits.diagnosis.require_circuit`).

    Raises
    ------
    ResourceError
        No circuit has so many rows.
    """
    if wide.rows * wide.inner_columns <= _SEARCHED_ROWS:
        for scales in _SCALES:
            for headroom in sorted({side.headroom, 1.0}, reverse=True):
                try:
                    profile = first_guess(ezkl, replace(side, headroom=headroom), scales)
                except ProcessGoneError:
                    raise
                except CircuitError:
                    continue
                return Guess(profile, "digits and tables as wide as they need")
        how = "wide digits and tables, for some of them have no witness under narrow ones"
    else:
        how = "wide digits and tables, for the model is too large to search"
    layout = smaller(wide, 1 << 62)
    if layout is None:
        raise ResourceError(
            f"the model needs {wide.rows * wide.inner_columns} rows of one column, more than any circuit here has",
            hint="choose a smaller model, or register it without a circuit, for tier commit",
        )
    columns = layout.columns
    return Guess(wide.profile.model_copy(update={"logrows": columns.logrows, "inner_columns": columns.inner}), how)
