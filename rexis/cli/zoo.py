"""``rexis zoo``: the small models that come with rexis, one or more per biomedical modality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rexis.cli.console import emit, say, working
from rexis.cli.options import Json, needs

if TYPE_CHECKING:
    from models.training import Build
    from models.zoo import Manifest

app = typer.Typer(help="List, retrain and rebuild the models that come with rexis.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """Show every model: what it does, and how it fares on held-out records against the named trivial guess."""
    with needs("models"):
        from models.zoo import ONNX_DIR, load_manifest, names
    rows = []
    for name in names():
        manifest = load_manifest(name)
        rows.append({**_summary(manifest), "bytes": (ONNX_DIR / manifest.onnx.file).stat().st_size})
    if as_json:
        emit(rows)
        return
    table = [("name", "record", "size", "held out", "metric", "model", "linear", "guess", "modality")]
    for row in rows:
        shape = "×".join(str(dim) for dim in row["recordShape"])
        scores = (f"{row[key]:.3f}" for key in ("value", "linearValue", "baselineValue"))
        size = f"{row['bytes'] / 1000:.0f} kB"
        table.append((row["name"], shape, size, str(row["heldOut"]), row["metric"], *scores, row["modality"]))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


Name = Annotated[str, typer.Argument(metavar="NAME", help="A model of `rexis zoo list`.")]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Write the ONNX file and its manifest into this folder.")]


@app.command()
def train(name: Name, out: Out = None, as_json: Json = False) -> None:
    """Train one model again from its data, and say whether it is the committed file to the bit."""
    _train([name], out, as_json)


@app.command()
def build(out: Out = None, as_json: Json = False) -> None:
    """Train every model again (some minutes on one core), as `train` does one."""
    with needs("models"):
        from models.datasets import DATASETS
    _train(sorted(DATASETS), out, as_json)


def _train(names: list[str], out: Path | None, as_json: bool) -> None:
    with needs("models"):
        from models.training import build as build_model
    done = []
    for name in names:
        with working(f"training {name}"):
            made = build_model(name)
        done.append(_compare(made))  # before `out`, which may be the zoo itself, is written
        if out is not None:
            made.write(out)
        if not as_json:
            row = done[-1]
            same = "the committed file" if row["matches"] else "NOT the committed file"
            say(f"{name}: {row['metric']} {row['value']:.4f} ({row['baseline']} {row['baselineValue']:.4f}); {same}")
            say(f"  sha256 {row['sha256']}")
    if as_json:
        emit(done)


def _compare(made: Build) -> dict[str, Any]:
    from models.zoo import load_manifest, names

    name, digest = made.manifest.name, made.manifest.onnx.sha256
    return {**_summary(made.manifest), "matches": name in names() and load_manifest(name).onnx.sha256 == digest}


def _summary(manifest: Manifest) -> dict[str, Any]:
    comparison = manifest.comparison
    return {
        "name": manifest.name,
        "modality": manifest.modality,
        "task": manifest.task,
        "recordShape": list(manifest.onnx.record_shape),
        "heldOut": int(manifest.metrics["held_out"]["records"]),
        "metric": comparison.metric,
        "value": manifest.metrics["held_out"][comparison.metric],
        "baseline": comparison.baseline,
        "baselineValue": comparison.baseline_value,
        "linearValue": comparison.linear_value,
        "sha256": str(manifest.onnx.sha256),
    }
