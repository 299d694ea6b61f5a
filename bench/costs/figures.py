"""How figures are written, on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from bench.costs.result import Spread

_TIMES = ((60.0, 60.0, "min"), (1.0, 1.0, "s"), (1e-3, 1e-3, "ms"), (0.0, 1e-6, "µs"))
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
NONE = "–"


def digits(value: float, count: int = 3) -> str:
    """So many significant digits, never in the form 1e+03."""
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (count - 1):
        return f"{value:,.0f}"
    return f"{value:#.{count}g}".rstrip("0").rstrip(".") if abs(value) >= 1e-4 else f"{value:.{count - 1}e}"


def seconds(value: float | None) -> str:
    """In minutes, seconds, milliseconds or microseconds."""
    if value is None:
        return NONE
    unit, name = _unit(value)
    return f"{digits(value / unit)} {name}"


def spread(value: Spread | None) -> str:
    """Median, with its spread in the same unit where there were several runs; ≈ before what was computed."""
    if value is None:
        return NONE
    if value.runs == 0:
        return f"≈ {seconds(value.median)}" if value.median else NONE
    if value.runs == 1:
        return seconds(value.median)
    unit, _ = _unit(value.median)
    return f"{seconds(value.median)} ({digits(value.low / unit)}–{digits(value.high / unit)})"


def size(value: float | None) -> str:
    """In bytes, or decimal multiples of them."""
    if value is None:
        return NONE
    for least, name in _SIZES:
        if value >= least:
            return f"{digits(value / least)} {name}"
    return f"{digits(value)} B"


def gas(value: float | None) -> str:
    """Whole units."""
    return NONE if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    """A probability or a share."""
    return NONE if value is None else f"{value:.1%}"


def number(value: float | None) -> str:
    """Anything else."""
    return NONE if value is None else digits(value)


def _unit(value: float) -> tuple[float, str]:
    return next((unit, name) for least, unit, name in _TIMES if abs(value) >= least)


def listed(values: Sequence[str]) -> str:
    """Names, one after another."""
    return ", ".join(values)
