"""The frontier that a tuner found, drawn: error against prove time, proof size, gas and memory. One SVG, no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

_PANELS = (
    ("predictedCpuSeconds", "processor seconds of a proof", 1.0),
    ("predictedProofBytes", "proof, kB", 1e-3),
    ("predictedGas", "gas to verify, thousands", 1e-3),
    ("predictedPeakBytes", "memory of a prover, MiB", 2.0**-20),
)
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 330, 240, 52, 30, 14, 40
_STYLE = (
    "text{font:11px sans-serif;fill:#333}.t{font-weight:600}.g{stroke:#ddd}.p{fill:#4878a8}"
    ".b{fill:#c44e52}@media(prefers-color-scheme:dark){text{fill:#ccc}.g{stroke:#444}}"
)

Point = tuple[float, float, bool]


def drawn(report: dict[str, Any]) -> str:
    """An SVG with one panel for each quantity that the report has; the choice is marked."""
    chosen = report["chosen"]["profile"]
    panels: list[str] = []
    for name, label, unit in _PANELS:
        points = [
            (each[name] * unit, each["error"], each["profile"] == chosen)
            for each in report["frontier"]
            if each.get(name) is not None
        ]
        if points:
            left, top = len(panels) % 2 * _WIDTH, len(panels) // 2 * _HEIGHT
            panels.append(f'<g transform="translate({left} {top})">{_panel(label, points)}</g>')
    size = f'width="{2 * _WIDTH}" height="{-(-len(panels) // 2) * _HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>'
    return head + "".join(panels) + "</svg>\n"


def _panel(label: str, points: Sequence[Point]) -> str:
    across, up = [x for x, _, _ in points], [y for _, y, _ in points]
    to_x = _scale(across, _LEFT, _WIDTH - _RIGHT)
    to_y = _scale(up, _HEIGHT - _BOTTOM, _TOP)
    parts = [f'<text class="t" x="{_LEFT}" y="18">largest error against {escape(label)}</text>']
    for value in _ticks(across):
        x = to_x(value)
        parts.append(f'<line class="g" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{value:.4g}</text>')
    for value in _ticks(up):
        y = to_y(value)
        parts.append(f'<line class="g" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for x_value, y_value, best in sorted(points, key=lambda point: point[2]):
        kind, radius = ("b", 6) if best else ("p", 4)
        parts.append(f'<circle class="{kind}" cx="{to_x(x_value):.1f}" cy="{to_y(y_value):.1f}" r="{radius}"/>')
    return "".join(parts)


def _scale(values: Sequence[float], start: float, end: float) -> Any:
    low, high = _range(values)
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def _ticks(values: Sequence[float]) -> list[float]:
    """Three or four round numbers inside the range."""
    low, high = _range(values)
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step *= next(many for many in (1, 2, 5, 10) if (high - low) / (many * step) <= 4)
    first = math.ceil(low / step)
    return [step * place for place in range(first, math.floor(high / step) + 1)]
