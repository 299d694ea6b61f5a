"""``rexis bench``: what proofs cost, tier by tier, beside peers that are measured in the same run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from rexis.cli.console import emit, note, say, steps
from rexis.cli.options import Json, needs

REPORT_JSON, REPORT_PAGE = "report.json", "report.html"


def bench(
    smoke: Annotated[
        bool, typer.Option("--smoke", help="One small model and a bare one, few records: whether everything is right.")
    ] = False,
    models: Annotated[
        str, typer.Option(metavar="NAME,…", help="Zoo models (`rexis zoo list`), by commas. Default: all.")
    ] = "",
    tiers: Annotated[
        str, typer.Option(metavar="TIER,…", help="Of commit, sampled and zk, by commas. Default: all.")
    ] = "",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for report.json and report.html.")] = Path(
        "bench-out"
    ),
    as_json: Json = False,
) -> None:
    """Measure what each tier costs on each zoo model, beside re-execution, ezkl as documented, and CKKS.

    Takes some minutes a model on two cores, which nothing else should use; with --smoke one or two in all. Every result
    is checked as well: a wrong one ends the command with 1, a slow one does not. The reports appear when all is done,
    or not at all.
    """
    with needs("dev"):
        from bench.costs.document import document
        from bench.costs.measure import compare
        from bench.costs.page import page
        from bench.costs.scope import full_scope, smoke_scope
        from bench.costs.terminal import lines

    from rexis.files import write_file

    scope = (smoke_scope() if smoke else full_scope()).only(_names(models), _names(tiers))
    out.mkdir(parents=True, exist_ok=True)
    with steps() as at:
        report = compare(scope, _command(smoke, models, tiers), at)
    written = document(report)
    write_file(out / REPORT_JSON, (json.dumps(written, indent=2) + "\n").encode(), overwrite=True)
    write_file(out / REPORT_PAGE, page(report).encode(), overwrite=True)
    if as_json:
        emit(written)
    else:
        say("\n".join([*lines(report), "", str(out / REPORT_PAGE), str(out / REPORT_JSON)]))
    if report.failed:
        note(f"{len(report.failed)} results are wrong")
        raise typer.Exit(1)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _command(smoke: bool, models: str, tiers: str) -> str:
    """What gives the same again; folder and format change nothing."""
    words = ["rexis", "bench", *(["--smoke"] if smoke else [])]
    for option, value in (("--models", models), ("--tiers", tiers)):
        words += [option, value] if value else []
    return shlex.join(words)
