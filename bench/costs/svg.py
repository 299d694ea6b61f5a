"""Just enough SVG for the report's plots: text and shapes in the page's own colours, so that they follow its theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

SERIES = 9
"""Colours that the page defines, ``--s0`` …"""


def element(name: str, content: str = "", **attributes: str | float) -> str:
    """One element; ``class_`` and ``text_anchor`` stand for ``class`` and ``text-anchor``."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value if isinstance(value, str) else f"{value:.1f}")}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def text(x: float, y: float, content: str, *, anchor: str = "start", class_: str = "", turned: float = 0) -> str:
    """A line of text."""
    attributes: dict[str, str | float] = {"x": x, "y": y, "text_anchor": anchor}
    if class_:
        attributes["class_"] = class_
    if turned:
        attributes["transform"] = f"rotate({turned:g} {x:.1f} {y:.1f})"
    return element("text", escape(content), **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str) -> str:
    """A line through points."""
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def marker(shape: str, x: float, y: float, class_: str, title: str, radius: float = 5) -> str:
    """A circle, square, triangle, diamond or cross, with a text that a pointer over it shows."""
    said = element("title", escape(title))
    r = radius
    if shape == "circle":
        return element("circle", said, cx=x, cy=y, r=r, class_=class_)
    corners = {
        "square": ((-r, -r), (r, -r), (r, r), (-r, r)),
        "triangle": ((0, -r * 1.2), (r * 1.1, r * 0.9), (-r * 1.1, r * 0.9)),
        "diamond": ((0, -r * 1.3), (r * 1.3, 0), (0, r * 1.3), (-r * 1.3, 0)),
        "cross": ((-r, -r), (0, -r * 0.35), (r, -r), (r * 0.35, 0), (r, r), (0, r * 0.35), (-r, r), (-r * 0.35, 0)),
    }[shape]
    return element("polygon", said, points=" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners), class_=class_)


def figure(width: float, height: float, title: str, description: str, parts: Sequence[str]) -> str:
    """A whole drawing, with a title and a description for who cannot see it."""
    head = element("title", escape(title)) + element("desc", escape(description))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(title)}">{head}{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class Log:
    """A logarithmic axis over some values, with a tick at each power of ten.

    Attributes
    ----------
    start, end
        Where it lies in the drawing.
    """

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> Log:
        """From the power of ten below the least value to that above the largest."""
        positive = [value for value in values if value > 0] or [1.0]
        low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
        return cls(low, max(high, low + 1), start, end)

    def at(self, value: float) -> float:
        """Where a value lies; what is not positive lies at the start."""
        share = (math.log10(value) - self.low) / (self.high - self.low) if value > 0 else 0.0
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Powers of ten."""
        return [10.0**power for power in range(int(self.low), int(self.high) + 1)]


def spaced(places: Sequence[float], least: float) -> list[float]:
    """The places in ascending order, moved apart so that neighbours are at least so far from each other."""
    found: list[float] = []
    for place in sorted(places):
        found.append(max(place, found[-1] + least) if found else place)
    return found
