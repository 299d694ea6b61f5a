"""The losses of a training, as characters, numbers and a plot."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from rexis.api import JobProgress, JobState, LeaseProgress, Progress, Stage
from rexis.cli.curve import Curve


def test_a_falling_loss_goes_down_from_left_to_right() -> None:
    curve = Curve({step: 1.0 / step for step in range(1, 101)})
    *drawn, axis, foot = curve.lines(width=20, height=5)
    assert len(drawn) == 5
    marked = [(row.index("*"), row) for row in drawn if "*" in row]
    assert [at for at, _ in marked] == sorted(at for at, _ in marked)
    # Above stands the mean of the first column's steps, below that of the last one's, which is the last step alone.
    assert drawn[0].split("|")[0].strip() == f"{sum(1 / step for step in range(1, 7)) / 6:.4g}"
    assert drawn[-1].split("|")[0].strip() == "0.01"
    assert (axis.strip(), foot.split()) == ("+" + "-" * 20, ["loss", "step", "1", "100"])


def test_one_loss_is_no_curve_and_equal_ones_are_a_line() -> None:
    assert Curve({1: 0.5}).lines() == []
    assert sum("*" in line for line in Curve({1: 0.5, 2: 0.5}).lines()) == 1


def test_what_a_worker_tells_is_added() -> None:
    curve = Curve({1: 2.0})
    for done, loss in ((0, None), (0, 10**9), (7, 1_500_000_000)):
        progress = Progress(stage=Stage.COMPUTE, done=done, total=9, loss_e9=loss)
        leases = [LeaseProgress(start=0, progress=progress)]
        curve.follow(JobProgress(state=JobState.RUNNING, tasks=1, leased=1, done=0, leases=leases))
    assert curve.losses == {1: 2.0, 7: 1.5}


@pytest.mark.parametrize("losses", [{}, {1: 0.5}, {1: 2.0, 2: 1.0, 3: 1.5}])
def test_a_plot_is_well_formed_and_has_every_loss(losses: dict[int, float]) -> None:
    curve = Curve(losses)
    root = ElementTree.fromstring(curve.svg("loss"))  # noqa: S314 - our own
    line = root.find("{http://www.w3.org/2000/svg}polyline")
    assert line is not None
    assert len((line.get("points") or "").split()) == len(losses)
    assert len(curve.csv().splitlines()) == len(losses) + 1
