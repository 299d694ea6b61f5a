"""The report on the terminal: the page's tables, but for columns that a screen has no room for."""

from __future__ import annotations

from collections.abc import Iterator

from bench.costs.result import Outcome, Report
from bench.costs.tables import Table, checks, tables

# Of each table. The page has the other columns, and what the figures mean.
_SHOWN = {
    "models": ("model", "parameters", "plain", "encrypted", "circuit"),
    "circuits": (
        "model",
        "set-up",
        "witness",
        "proof",
        "verify one",
        "proof size",
        "peak memory: set-up, proof",
        "EVM gas",
    ),
    "tiers": (
        "model",
        "tier",
        "records",
        "inference",
        "commitment",
        "witness",
        "proofs",
        "verify",
        "evidence",
        "peak memory",
        "caught",
    ),
    "chain": ("transaction", "gas", "per"),
    "peers": (
        "peer",
        "model",
        "set-up",
        "work",
        "check",
        "proof size",
        "peak memory",
        "largest error",
        "decisions alike",
    ),
}


def lines(report: Report) -> Iterator[str]:
    """Tables that have rows, what was not measured and why, and how the checks went."""
    for table in tables(report):
        if table.rows:
            yield f"\n{table.title}"
            yield from _drawn(table)
    if report.no_chain is not None:
        yield f"\nno gas on chain: {report.no_chain}"
    for peer in report.peers:
        if peer.reason is not None:
            yield f"\n{peer.peer}, {peer.model}: not measured: {peer.reason}"
    yield "\n≈ is computed from single proofs, not measured as a whole."
    count = {outcome: sum(check.outcome == outcome for check in report.checks) for outcome in Outcome}
    yield (
        f"{count[Outcome.OK]} results checked and right, {count[Outcome.FAILED]} wrong, "
        f"{count[Outcome.SKIPPED]} not checked"
    )
    for outcome, about, name, _, detail in checks(report).rows:
        if outcome != Outcome.OK:
            yield f"  {outcome}: {about}: {name}: {detail}"


def _drawn(table: Table) -> Iterator[str]:
    places = [table.head.index(name) for name in _SHOWN[table.name]]
    rows = [[row[place] for place in places] for row in (table.head, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
