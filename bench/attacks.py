"""Every attack on every zoo model it applies to: before hardening (permutations only), after (full keys), with decoys.

``python -m bench.attacks [--model NAME ...] [--quick]`` prints a table and writes JSON, plots and one page that needs
nothing else to ``bench/out/attacks``. Seeded: the same machine gives the same numbers again.
"""

from __future__ import annotations

import argparse
import base64
import html
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.zoo import held_out, load_manifest, load_model_bytes, names, training_split
from rexis.ee import decrypt_outputs
from rexis.ee.attacks import ATTACKS, NotApplicableError, Target
from rexis.ee.attacks.target import observe
from rexis.ee.attacks.undecoyed import ways
from rexis.ee.decoys import Decoys, input_axis
from rexis.ee.decoys.cost import runtime_ratio
from rexis.ee.graph import Graph
from rexis.ee.groups import FREE, Power
from rexis.protocol.errors import EncryptionError

DEFAULT_OUT = Path(__file__).parent / "out" / "attacks"
SEED = 20_261_101
PRIVATE, PUBLIC = 150, 300  # records: the attacker's public sample is no larger than a small open dataset
QUICK_MODELS = ("breast_cancer", "dna", "ecg", "vit")
SLOW = ("gradient_inversion",)  # not in quick runs, nor with decoys, which change nothing about it
# Before: every key is a permutation at most, so that there are no dense keys of patches, of the residual stream, or for
# each head of Q with K and V with O.
KEYS = {"permutation": "Before hardening", "full": "After hardening", "decoys": "With decoys"}
DECOY_NEURONS = 0.5
TIMED, PAIRS = 128, 200  # records in a batch, and pairs of timed blocks

Row = dict[str, Any]


def target_of(model: str, keys: str) -> Target:
    """Private records are held out, public ones are training records; of DNA, sites that the genome does use."""
    random = np.random.default_rng(SEED)
    parts = []
    for (records, labels), count in ((held_out(model), PRIVATE), (training_split(model), PUBLIC)):
        pool = np.flatnonzero(labels == 1) if model == "dna" else np.arange(len(records))
        chosen = random.permutation(pool)[:count]
        parts.append((records[chosen], None if model == "dna" else labels[chosen]))
    (records, labels), (public, public_labels) = parts
    return Target.compiled(
        load_model_bytes(model),
        records,
        public,
        seed=SEED,
        labels=labels,
        public_labels=public_labels,
        strongest=Power.PERMUTE if keys == "permutation" else FREE,
        decoys=decoys_for(model) if keys == "decoys" else None,
    )


def decoys_for(model: str) -> Decoys:
    """Half as many noise features as features, or one more channel, where linear operators read the records."""
    graph = Graph(load_model_bytes(model))
    try:
        axis, _ = input_axis(graph)
    except EncryptionError:
        return Decoys(neurons=DECOY_NEURONS)
    return Decoys(max(1, ((graph.shape(graph.inputs[0]) or ())[axis] or 0) // 2), DECOY_NEURONS)


def cost_of(model: str) -> Row:
    """What decoys cost: widths, run time over the plain model's, and the error of the outputs."""
    target = target_of(model, "decoys")
    records = {name: np.resize(each, (TIMED, *each.shape[1:])) for name, each in target.private_inputs.items()}
    sent = target.encrypt_inputs(records, "timing")
    outputs = [
        observe(m, r, [target.graph.output])[0] for m, r in ((target.plain, records), (target.encrypted.model, sent))
    ]
    found = decrypt_outputs(target.encrypted.key, outputs[1])
    size = np.linalg.norm(outputs[0].reshape(TIMED, -1), axis=1)
    error = np.linalg.norm((found - outputs[0]).reshape(TIMED, -1), axis=1) / size
    bare = replace(target, decoys=None).another("without decoys")
    widening = target.encrypted.widening
    assert widening is not None
    return {
        "model": model,
        "inputs": widening.padding.count if widening.padding else 0,
        "neurons": [(each.axis.size, len(each.origin)) for each in widening.split],
        "ratio": runtime_ratio((target.plain, records), (target.encrypted.model, sent), pairs=PAIRS),
        "ratio_without": runtime_ratio(
            (target.plain, records), (bare.model, target.encrypt_inputs(records, "timing", bare)), pairs=PAIRS
        ),
        "error": float(np.median(error)),
    }


def rows_of(model: str, keys: str, attacks: list[str]) -> Iterator[Row]:
    """One row for each attack: its result, or why it does not apply.

    With decoys, each attack runs twice: as it is (``naive``), and after the attacker looked for decoys
    (``looked_for``). The better of the two counts.
    """
    targets = ways(target_of(model, keys))
    for name in attacks:
        start = time.perf_counter()
        row: Row = {"model": model, "keys": keys, "attack": name}
        try:
            results = {way: ATTACKS[name](target) for way, target in targets.items()}
        except NotApplicableError as reason:
            row["skipped"] = reason.message
        else:
            best = max(results.values(), key=lambda result: result.value)
            row |= asdict(best) | {"share": best.share}
            if len(results) > 1:
                row |= {way: result.value for way, result in results.items()}
        yield row | {"seconds": round(time.perf_counter() - start, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Attack the zoo's encrypted models.")
    parser.add_argument("--model", action="append", choices=names(), help="only this model; may be given again")
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK_MODELS)}; no gradient inversion")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to write into")
    arguments = parser.parse_args()
    models = arguments.model or (QUICK_MODELS if arguments.quick else names())
    rows: list[Row] = []
    costs = [cost_of(model) for model in models]  # first, while nothing else runs
    start = time.perf_counter()
    for done, model in enumerate(models, 1):
        for keys in KEYS:
            fast = arguments.quick or keys == "decoys"
            for row in rows_of(model, keys, [name for name in ATTACKS if not (fast and name in SLOW)]):
                rows.append(row)
                print(f"[{done}/{len(models)} {time.perf_counter() - start:4.0f} s] {line_of(row)}", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = {"seed": SEED, "private": PRIVATE, "public": PUBLIC, "decoys": costs, "rows": rows}
    (arguments.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    text = markdown_of(rows, costs)
    (arguments.out / "table.md").write_text(text)
    plots = plot(rows, arguments.out)
    (arguments.out / "report.html").write_text(page_of(rows, costs, plots))
    print(f"\n{text}\n{arguments.out / 'report.html'}")


def line_of(row: Row) -> str:
    """One row for the terminal."""
    where = f"{row['model']:<14} {row['keys']:<12} {row['attack']:<19}"
    if "skipped" in row:
        return f"{where} — {row['skipped']}"
    return f"{where} {row['value']:.3f} in [{row['floor']:.3f}, {row['ceiling']:.3f}]  {row['says']}"


def found(rows: list[Row], model: str, keys: str, attack: str) -> Row | None:
    """The row of one cell, if that attack was run."""
    return next((r for r in rows if (r["model"], r["keys"], r["attack"]) == (model, keys, attack)), None)


def cell(row: Row | None) -> str:
    """Value and range of one result."""
    if row is None or "skipped" in row:
        return "—"
    if "naive" in row:
        return f"{row['naive']:.2f} → {row['looked_for']:.2f}"
    return f"{row['value']:.2f} ({row['floor']:.2f}–{row['ceiling']:.2f})"


def markdown_of(rows: list[Row], costs: list[Row]) -> str:
    """Attacks down, models across: value (floor–ceiling) before and after; with decoys naive → looked for."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    lines = []
    for keys, title in KEYS.items():
        lines += [f"### {title}", "", f"| attack | {' | '.join(models)} |", "| --- |" + " --- |" * len(models)]
        for attack in ATTACKS:
            cells = [cell(found(rows, model, keys, attack)) for model in models]
            if any(each != "—" for each in cells):
                lines.append(f"| {attack} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, *_costs(costs), *_curves(rows)])


def _costs(costs: list[Row]) -> list[str]:
    across = ("model", "noise features", "neurons", "run time, with", "and without decoys", "error")
    lines = ["### What decoys cost", "", f"| {' | '.join(across)} |", "| --- |" + " --- |" * (len(across) - 1)]
    for each in costs:
        neurons = ", ".join(f"{before} → {after}" for before, after in each["neurons"])
        ratios = f"{each['ratio']:.2f} | {each['ratio_without']:.2f}"
        lines.append(f"| {each['model']} | {each['inputs']} | {neurons} | {ratios} | {each['error']:.0e} |")
    return [*lines, ""]


def _curves(rows: list[Row]) -> list[str]:
    """Full keys: neurons identified over weight distance, and other records read over known ones."""
    lines = []
    for attack, key, title in (
        ("weight_matching", "by_distance", "Share of neurons identified, by relative distance of a public base"),
        ("weight_matching", "records_read_by_distance", "Share of the records read through those neurons or keys"),
        ("weight_matching", "dense_keys_by_distance", "R² of dense keys solved from those neurons (Procrustes)"),
        ("known_plaintext", "by_pairs", "Share of other records read, by number of known ones"),
    ):
        curves = {
            row["model"]: row["detail"][key]
            for row in rows
            if (row["attack"], row["keys"]) == (attack, "full") and row.get("detail", {}).get(key)
        }
        across = max(curves.values(), key=len, default={})
        lines += [f"### {title}", "", f"| model | {' | '.join(across)} |", "| --- |" + " --- |" * len(across)]
        for model, curve in curves.items():
            cells = [f"{curve[each]:.2f}" if each in curve else "—" for each in across]
            lines.append(f"| {model} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def plot(rows: list[Row], out: Path) -> dict[str, Path]:
    """Curves over weight distance and over known pairs, and before against after."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    made = {}
    curves = (
        ("weight_matching", "by_distance", "relative distance of a public base", "share of neurons identified"),
        ("weight_matching", "records_read_by_distance", "relative distance of a public base", "share of records read"),
        ("known_plaintext", "by_pairs", "known records", "share of other records read"),
    )
    for attack, key, across, up in curves:
        figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
        for row in rows:
            if row["attack"] == attack and row["keys"] == "full" and row.get("detail", {}).get(key):
                points = row["detail"][key]
                axes.plot([float(x) for x in points], list(points.values()), marker="o", ms=3, label=row["model"])
        axes.set(
            xlabel=across, ylabel=up, ylim=(-0.03, 1.03), xscale="log" if attack == "known_plaintext" else "linear"
        )
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        made[key] = out / f"{attack}_{key}.png"
        figure.savefig(made[key], dpi=110)
        plt.close(figure)
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure, panels = plt.subplots(1, len(KEYS), figsize=(16, 4.6), layout="constrained")
    for axes, keys in zip(panels, KEYS, strict=True):
        shares = [
            [(found(rows, model, keys, attack) or {}).get("share", np.nan) for model in models] for attack in ATTACKS
        ]
        image = axes.imshow(shares, cmap="RdYlGn_r", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(models)), models, rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(len(ATTACKS)), list(ATTACKS), fontsize=8)
        axes.set_title(KEYS[keys])
    figure.colorbar(image, ax=panels, label="0 = guessing, 1 = as without EE")
    made["heat"] = out / "before_after.png"
    figure.savefig(made["heat"], dpi=110)
    plt.close(figure)
    return made


def page_of(rows: list[Row], costs: list[Row], plots: dict[str, Path]) -> str:
    """One page without links to other files."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    parts = [_HEAD]
    for model in models:
        manifest = load_manifest(model)
        parts.append(f"<h2>{html.escape(model)} — {html.escape(manifest.modality)}</h2>")
        spent = next((each for each in costs if each["model"] == model), None)
        if spent is not None:
            parts.append(
                f"<p>With decoys: {spent['inputs']} noise features, neurons {spent['neurons']}, "
                f"{spent['ratio']:.2f} times the plain model's run time, error {spent['error']:.0e}.</p>"
            )
        parts.append("<table><tr><th>attack</th><th>attacker knows</th><th>guess</th><th>before</th><th>after</th>")
        parts.append("<th>with decoys</th><th>and looked for</th><th>without EE</th><th>in words</th></tr>")
        parts += [_tr({keys: found(rows, model, keys, attack) for keys in KEYS}, attack) for attack in ATTACKS]
        parts.append("</table>")
    for path in plots.values():
        encoded = base64.b64encode(path.read_bytes()).decode()
        parts.append(f'<p><img alt="{path.stem}" src="data:image/png;base64,{encoded}"></p>')
    return "\n".join([*parts, "</body></html>\n"])


def _tr(cells: dict[str, Row | None], attack: str) -> str:
    name = html.escape(attack.replace("_", " "))
    shown = next((row for keys in ("full", "permutation") if (row := cells[keys]) and "skipped" not in row), None)
    if shown is None:
        reason = next((row["skipped"] for row in cells.values() if row), "not in a quick run")
        return f'<tr class="skip"><td>{name}</td><td colspan="8">not run: {html.escape(reason)}</td></tr>'
    decoys = cells["decoys"]
    both = [decoys.get(way) if decoys else None for way in ("naive", "looked_for")]
    plain = [row["value"] if row and "skipped" not in row else None for row in (cells["permutation"], cells["full"])]
    coloured = "".join(_td(value, shown) for value in (*plain, *both))
    return (
        f"<tr><td>{name}<br><small>{html.escape(shown['metric'])}</small></td>"
        f"<td>{html.escape(shown['attacker_knows'])}</td><td>{shown['floor']:.2f}</td>{coloured}"
        f"<td>{shown['ceiling']:.2f}</td><td>{html.escape(shown['says'])}</td></tr>"
    )


def _td(value: float | None, row: Row) -> str:
    if value is None:
        return "<td>—</td>"
    span = row["ceiling"] - row["floor"]
    share = min(max((value - row["floor"]) / span, 0.0), 1.0) if span > 0 else 0.0
    return f'<td style="background:hsl({round(120 * (1 - share))} 75% 75%)"><b>{value:.2f}</b></td>'


_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>What Equivariant Encryption leaks</title>
<style>body{font:15px/1.45 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;width:100%;margin-bottom:1em}td,th{border:1px solid #ccc;padding:.35em .6em;
text-align:left;vertical-align:top}.skip{color:#777}img{max-width:100%}small{color:#666}</style></head><body>
<h1>What Equivariant Encryption leaks</h1>
<p>Each line is an attack that was run: on the keys that EE had before hardening (permutations only), on those that it
has now, and with decoys on top, first as if the attacker did not know of them, then after it looked for them. Green:
the attacker is left guessing. Red: the attacker gets what it would get
without encryption. A line that was not run has nothing to attack in that model by that method; it is not a promise. All
values are lower bounds: somebody who tries harder gets at least as much.</p>"""


if __name__ == "__main__":
    main()
