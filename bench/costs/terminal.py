"""The report on the terminal."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table as RichTable
from rich.text import Text

from bench.costs.result import Outcome, Report
from bench.costs.tables import Table, checks, tables

# Left out here, so that a table fits a screen; the page has them.
_WIDE = {"shows", "what it shows", "what it hides", "modality", "vk, pk"}


def show(report: Report, console: Console) -> None:
    """Print the tables that have rows, and the checks in one line."""
    for table in tables(report):
        if table.rows:
            console.print(_drawn(table))
        elif table.name == "chain":
            console.print(Text(f"\n{table.title}: {table.note}"))
    count = {outcome: sum(check.outcome == outcome for check in report.checks) for outcome in Outcome}
    console.print(
        Text(
            f"\n{count[Outcome.OK]} results checked and right, {count[Outcome.FAILED]} wrong, {count[Outcome.SKIPPED]} not checked"
        )
    )
    for row in checks(report).rows:
        if row[0] != Outcome.OK:
            console.print(Text(f"  {row[0]}: {row[1]}: {row[2]}: {row[4]}"))


def _drawn(table: Table) -> Group:
    kept = [column for column, name in enumerate(table.head) if name not in _WIDE]
    drawn = RichTable(box=None, pad_edge=False, header_style="bold")
    for column in kept:
        drawn.add_column(Text(table.head[column]), overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(row[column]) for column in kept))
    return Group(Text(f"\n{table.title}", style="bold"), drawn)
