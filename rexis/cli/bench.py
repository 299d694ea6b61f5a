"""``rexis bench``: what proofs and training cost, beside peers that are measured in the same run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from rexis.cli.console import emit, note, say, steps
from rexis.cli.options import Json, needs

REPORT_JSON, REPORT_PAGE = "report.json", "report.html"

app = typer.Typer(invoke_without_command=True)


@app.callback()
def bench(
    context: typer.Context,
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
    if context.invoked_subcommand is not None:
        return
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


@app.command()
def training(
    smoke: Annotated[bool, typer.Option("--smoke", help="Little of everything: whether it is right.")] = False,
    models: Annotated[
        str, typer.Option(metavar="NAME,…", help="Zoo models (`rexis zoo list`), by commas. Default: all.")
    ] = "",
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu or cuda.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of one operator on the CPU. Default: all processors.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for report.json, report.md and ratios.png.")] = Path(
        "bench-out/training"
    ),
    as_json: Json = False,
) -> None:
    """Measure training: encrypted beside plain, what the transcript costs, and what verifying a segment does.

    A wrong result ends the command with 1, a slow one does not. Nothing else should use the machine.
    """
    with needs("dev"):
        from bench.training import measure, scope_of, table_of, write

    scope = scope_of(_names(models), smoke=smoke, device=device, threads=threads)
    with steps() as at:
        rows = measure(scope, at)
    written = write(rows, scope, out)
    if as_json:
        emit(written)
    else:
        say("\n".join([*table_of(rows), "", str(out / "report.md"), str(out / "report.json")]))
    if not all(row.right for row in rows):
        note("some results are wrong")
        raise typer.Exit(1)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _command(smoke: bool, models: str, tiers: str) -> str:
    """What gives the same again; folder and format change nothing."""
    words = ["rexis", "bench", *(["--smoke"] if smoke else [])]
    for option, value in (("--models", models), ("--tiers", tiers)):
        words += [option, value] if value else []
    return shlex.join(words)
