"""docs/circuits.md lists the operators that the strangers' models of the tests have, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import onnx

from tests.integration.circuits import foreign_models, foreign_torch
from tests.integration.circuits.test_foreign_models import ASTRAY, REFUSED

PAGE = (Path(__file__).parents[3] / "docs/circuits.md").read_text()


def row(name: str) -> set[str]:
    """The operators of one row of the table."""
    (line,) = re.findall(rf"^\| {name} \|(.*)\|$", PAGE, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", line))


def taken() -> set[str]:
    models = [foreign_models.foreign(name) for name in foreign_models.names() if name not in REFUSED]
    models += [foreign_torch.exported(name) for name in foreign_torch.MODULES]
    return {node.op_type for model in models for node in onnx.load_from_string(model).graph.node}


def test_the_page_lists_what_goes_in_and_what_does_not() -> None:
    named = {found[1] for text in REFUSED.values() if (found := re.search(r"node '[^']*' \((\w+)\): ezkl", text))}
    refused = named | {"DequantizeLinear"}
    goes_in = taken()
    assert row("go in") == goes_in
    assert row("do not") == refused - goes_in - {"Frobnicate"}
    assert row("go in, except") - {"TopK"} == refused & goes_in


def test_the_page_counts_the_models() -> None:
    count = len(foreign_models.names()) + len(foreign_torch.MODULES)
    assert f"{count} small models" in PAGE
    assert f"{count - len(REFUSED)} become circuits, {len(REFUSED)} are refused" in PAGE


def test_the_page_lists_what_becomes_something_else() -> None:
    assert row("go in as something else") == {text.split("(")[1].rstrip(")") for text in ASTRAY.values()}
