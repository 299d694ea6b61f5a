"""The losses of a training as a curve: of characters for a terminal, as SVG or CSV for a file."""

from __future__ import annotations

from dataclasses import dataclass, field

from rexis.api import JobProgress, TranscriptView
from rexis.protocol.training import BILLION
from rexis.protocol.transcript import losses_of

_WIDTH, _HEIGHT = 64, 9
_LABEL = 10
_SVG_WIDTH, _SVG_HEIGHT, _MARGIN = 720, 320, 48


@dataclass
class Curve:
    """Losses by step, from 1. A step's loss is that before its update."""

    losses: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, transcript: TranscriptView) -> Curve:
        """What workers have signed so far."""
        curve, step = cls(), 0
        for signed in transcript.checkpoints:
            for loss in losses_of(signed):
                step += 1
                curve.losses[step] = float(loss)
        return curve

    def follow(self, progress: JobProgress) -> None:
        """Add what a running training's worker tells."""
        for lease in progress.leases:
            if lease.progress.loss_e9 is not None and lease.progress.done:
                self.losses[lease.progress.done] = lease.progress.loss_e9 / BILLION

    def lines(self, width: int = _WIDTH, height: int = _HEIGHT) -> list[str]:
        """The curve in characters, mean by mean; empty without two losses.

        Parameters
        ----------
        width, height
            Of the curve itself; labels come beside and below.
        """
        means = _means(self.losses, width)
        if len(self.losses) < 2:
            return []
        low, high = min(means.values()), max(means.values())
        rows = [[" "] * width for _ in range(height)]
        for column, mean in means.items():
            rows[_row(mean, low, high, height)][column] = "*"
        labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"]
        drawn = [f"{label:>{_LABEL}} |{''.join(row).rstrip()}" for label, row in zip(labels, rows, strict=True)]
        first, last = min(self.losses), max(self.losses)
        foot = f"step {first}".ljust(width - len(str(last))) + str(last)
        return [*drawn, f"{'':>{_LABEL}} +{'-' * width}", f"{'loss':>{_LABEL}}  {foot}"]

    def csv(self) -> str:
        """Step and loss, a line each."""
        return "step,loss\n" + "".join(f"{step},{loss:.9g}\n" for step, loss in sorted(self.losses.items()))

    def svg(self, title: str) -> str:
        """A plot on its own, without scripts or fonts of others."""
        points = sorted(self.losses.items())
        low, high = min(self.losses.values(), default=0.0), max(self.losses.values(), default=1.0)
        first, last = (points[0][0], points[-1][0]) if points else (0, 1)
        across, down = _SVG_WIDTH - 2 * _MARGIN, _SVG_HEIGHT - 2 * _MARGIN
        line = " ".join(
            f"{_MARGIN + across * (step - first) / max(1, last - first):.1f},"
            f"{_MARGIN + down * (high - loss) / ((high - low) or 1.0):.1f}"
            for step, loss in points
        )
        bottom, right = _SVG_HEIGHT - _MARGIN, _SVG_WIDTH - _MARGIN
        texts = [
            (_MARGIN, _MARGIN - 16, "start", title),
            (_MARGIN - 6, _MARGIN + 4, "end", f"{high:.4g}"),
            (_MARGIN - 6, bottom, "end", f"{low:.4g}"),
            (_MARGIN, bottom + 20, "start", f"step {first}"),
            (right, bottom + 20, "end", str(last)),
        ]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SVG_WIDTH} {_SVG_HEIGHT}" '
            'font-family="sans-serif" font-size="12">\n'
            f'<path d="M{_MARGIN} {_MARGIN}V{bottom}H{right}" fill="none" stroke="#888"/>\n'
            f'<polyline points="{line}" fill="none" stroke="#1f77b4" stroke-width="1.5"/>\n'
            + "".join(f'<text x="{x}" y="{y}" text-anchor="{at}">{text}</text>\n' for x, y, at, text in texts)
            + "</svg>\n"
        )


def _means(losses: dict[int, float], columns: int) -> dict[int, float]:
    """The mean loss of the steps in each column that has any."""
    if not losses:
        return {}
    first, last = min(losses), max(losses)
    sums: dict[int, list[float]] = {}
    for step, loss in losses.items():
        sums.setdefault((step - first) * (columns - 1) // max(1, last - first), []).append(loss)
    return {column: sum(found) / len(found) for column, found in sums.items()}


def _row(value: float, low: float, high: float, height: int) -> int:
    """From 0 at the top."""
    return 0 if high == low else round((height - 1) * (high - value) / (high - low))
