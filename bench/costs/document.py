"""The report as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic.alias_generators import to_camel

from bench.costs.published import PUBLISHED
from bench.costs.result import Report

FORMAT = "rexis-bench-v1"


def document(report: Report) -> dict[str, Any]:
    """Times in seconds, sizes in bytes, gas in units of gas; published figures apart."""
    found = asdict(report)
    for model, measured in zip(found["models"], report.models, strict=True):
        for tier, cost in zip(model["tiers"], measured.tiers, strict=True):
            tier |= {"overhead_s": cost.overhead_s, "extra_s_per_record": cost.extra_s_per_record}
    if report.chain is not None:
        for anchor, gas in zip(found["chain"]["anchors"], report.chain.anchors, strict=True):
            anchor["gas_per_task"] = gas.gas_per_task
    written: dict[str, Any] = _camel(found)
    return {"format": FORMAT, **written, "published": _camel([asdict(each) for each in PUBLISHED])}


def _camel(value: Any) -> Any:
    """Names as in every other document of rexis; names of packages stay."""
    if isinstance(value, dict):
        return {to_camel(name) if "_" in name else name: _camel(each) for name, each in value.items()}
    return [_camel(each) for each in value] if isinstance(value, list) else value
