"""The drawing of a frontier."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from rexis.cli._frontier import drawn

SVG = "{http://www.w3.org/2000/svg}"


def point(number: int, **more: Any) -> dict[str, Any]:
    return {
        "profile": {"logrows": number},
        "error": 0.01 * number,
        "predictedCpuSeconds": 3.0 / number,
        "predictedProofBytes": 4000,
        "predictedPeakBytes": number << 26,
        **more,
    }


def panels(report: dict[str, Any]) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(drawn(report)).iter(f"{SVG}g"))  # noqa: S314 (made just now)


def test_each_quantity_has_a_panel_in_which_the_choice_is_marked() -> None:
    frontier = [point(1), point(2), point(3)]
    found = panels({"chosen": frontier[1], "frontier": frontier})
    assert len(found) == 3
    for panel in found:
        circles = list(panel.iter(f"{SVG}circle"))
        assert [each.get("class") for each in circles] == ["p", "p", "b"]
        assert all(0 < float(each.get("cx", 0)) < 330 and 0 < float(each.get("cy", 0)) < 240 for each in circles)


def test_cheaper_is_left_and_exacter_is_below() -> None:
    frontier = [point(1), point(3)]
    first, *_ = panels({"chosen": frontier[0], "frontier": frontier})
    slow = next(each for each in first.iter(f"{SVG}circle") if each.get("class") == "b")
    fast = next(each for each in first.iter(f"{SVG}circle") if each.get("class") == "p")
    assert float(fast.get("cx", 0)) < float(slow.get("cx", 0))
    assert float(fast.get("cy", 0)) < float(slow.get("cy", 0))


@pytest.mark.parametrize("gas", [None, 900_000])
def test_gas_has_a_panel_where_it_was_predicted(gas: int | None) -> None:
    frontier = [point(1, predictedGas=gas), point(2, predictedGas=gas)]
    assert len(panels({"chosen": frontier[0], "frontier": frontier})) == (3 if gas is None else 4)
