"""The report as one page that needs nothing else: no script, no font, no image, nothing that is fetched.

The plots are SVG in the page, written by :mod:`~bench.costs.plots`: their colours are the page's own, so that they can
be read on light and on dark, which an image or matplotlib's SVG could not be without a copy for each.
"""

from __future__ import annotations

import re
from html import escape

from bench.costs import figures, plots
from bench.costs.result import Report
from bench.costs.svg import SERIES
from bench.costs.tables import Table, checks, published, tables

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1c1e; --soft: #5a6068; --paper: #ffffff; --panel: #f4f6f8; --rule: #d5dae0;
  --warn: #7a4b00; --bad: #a11212; --s0: #0b62a4; --s1: #c8500a; --s2: #0a7d5c; --s3: #a23f86;
  --s4: #4a4fb5; --s5: #8a6d00; --s6: #00788c; --s7: #7b4b2a; --s8: #b3123f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a5adb6; --paper: #15181b; --panel: #1f2428;
  --rule: #3a4148; --warn: #f0c36a; --bad: #ff8f8f; --s0: #5db2f5; --s1: #f5935a; --s2: #4fd1a5; --s3: #e58fce;
  --s4: #a3a8ff; --s5: #e0c050; --s6: #4cc9de; --s7: #cfa27e; --s8: #ff7d9c; } }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; } p.note, figcaption { color: var(--soft); max-width: 60rem; }
code { background: var(--panel); padding: 0.1rem 0.3rem; border-radius: 3px; }
.warning { border-left: 4px solid var(--warn); background: var(--panel); padding: 0.6rem 1rem; }
.failed { border-left: 4px solid var(--bad); background: var(--panel); padding: 0.6rem 1rem; }
.scroll { overflow-x: auto; } figure { margin: 1.5rem 0; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.7rem 0.3rem 0; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 600; } td { min-width: 3rem; } td:last-child { min-width: 9rem; }
svg { display: block; width: 100%; height: auto; min-width: 40rem; background: var(--panel); border-radius: 6px; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.grid { stroke: var(--rule); stroke-width: 1; } .faint { opacity: 0.6; }
.axis { stroke: var(--soft); stroke-width: 1.5; }
.line { fill: none; stroke-width: 1.5; opacity: 0.7; } .mark { stroke-width: 1.5; }
.mark.hollow { fill: var(--panel); }
"""
_SERIES = "\n".join(
    [
        f".mark.s{i} {{ fill: var(--s{i}); stroke: var(--s{i}); }}\n.bar.s{i} {{ fill: var(--s{i}); }}"
        for i in range(SERIES)
    ]
    + [
        f".line.s{i}, .mark.hollow.s{i} {{ stroke: var(--s{i}); }}\n.mark.hollow.s{i} {{ fill: var(--panel); }}"
        for i in range(SERIES)
    ]
    + [".mark.grey { fill: var(--soft); stroke: var(--soft); }\n.mark.hollow.grey { fill: var(--panel); }"]
)
_URL = re.compile(r"https://[^\s,]+")
_WARNING = (
    "Development parameters: these proofs use a development SRS, whose maker could prove anything with it, and gas was "
    "measured on a development chain. Times and sizes are the same with the real ones; the proofs themselves show "
    "nothing to a stranger."
)
_CAPTIONS = {
    "frontier": "The smallest task of each model with a circuit. Re-execution is cheap for models this small; it needs "
    "the encrypted model and every encrypted record in the auditor's hands, which a proof does not, and no contract "
    "can do it. A commitment alone catches nothing: it fixes who claimed what, so that re-execution can.",
    "size": "Log scales. Proofs follow the circuit's rows, which follow multiplications and nonlinear functions more "
    "than parameters.",
    "time": "The smallest task of each model and tier. Each bar is the whole of its task's time; the figure at its "
    "right says how long that is.",
    "anchoring": "One anchor holds a Merkle root, so that its gas does not depend on the number of statements.",
}


def page(report: Report) -> str:
    """The whole HTML document."""
    figures_of = [
        ("frontier", "Cost against assurance", plots.frontier(report)),
        ("size", "Cost against model size", plots.against_size(report)),
        ("time", "Where the time goes", plots.where_time_goes(report)),
    ]
    if report.chain is not None:
        figures_of.append(("anchoring", "Gas of anchoring", plots.anchoring(report.chain)))
    body = [
        "<h1>What a proof costs: rexis, tier by tier, beside its peers</h1>",
        _facts(report),
        f'<p class="warning">{escape(_WARNING)}</p>',
        _failed(report),
        *(_plot(*each) for each in figures_of),
        *(_table(table) for table in tables(report)),
        _table(checks(report)),
        _table(published()),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>rexis bench, {escape(report.began[:10])}</title>\n<style>{_STYLE}{_SERIES}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _facts(report: Report) -> str:
    machine = report.machine
    versions = figures.listed([f"{name} {version}" for name, version in report.versions.items()])
    rows = {
        "Command": f"<code>{escape(report.command)}</code>",
        "When": f"{escape(report.began)}, {figures.seconds(report.seconds)}",
        "Commit": escape(report.commit or "not a checkout"),
        "Machine": escape(
            f"{machine.processor}, {machine.cores} cores, {figures.size(machine.memory_bytes)}, {machine.system}; "
            f"load average {machine.load_before} before, {machine.load_after} after"
        ),
        "Versions": escape(versions),
    }
    cells = "".join(f'<tr><th scope="row">{name}</th><td>{value}</td></tr>' for name, value in rows.items())
    smoke = "<p class='note'>A smoke run: few records and few repetitions, to see that everything works.</p>"
    return f"<table>{cells}</table>{smoke if report.smoke else ''}"


def _failed(report: Report) -> str:
    if not report.failed:
        skipped = len(report.checks) - report.right
        return f"<p>{report.right} results were checked in this run and are right; {skipped} could not be checked.</p>"
    items = "".join(f"<li>{escape(f'{each.about}: {each.name}: {each.detail}')}</li>" for each in report.failed)
    return f'<div class="failed"><strong>Wrong results: do not use these figures.</strong><ul>{items}</ul></div>'


def _plot(name: str, title: str, drawing: str) -> str:
    caption = f"<figcaption>{escape(_CAPTIONS[name])}</figcaption>"
    return f'<h2 id="{name}">{title}</h2>\n<figure><div class="scroll">{drawing}</div>{caption}</figure>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    rows = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>\n" for row in table.rows)
    shown = f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>'
    note = f'<p class="note">{escape(table.note)}</p>'
    return f'<h2 id="{table.name}">{escape(table.title)}</h2>\n{note}\n{shown if table.rows else ""}'


def _cell(text: str) -> str:
    """With links to sources: a reader may follow one, the page loads none."""
    return _URL.sub(lambda found: f'<a href="{found[0]}" rel="noreferrer">{found[0]}</a>', escape(text))
