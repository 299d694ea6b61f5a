"""``rexis circuits``: what a proof will cost, the cheapest circuit that is good enough, and the same circuit again."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rexis.cli._models import (
    MAX_MODEL_BYTES,
    calibration_for,
    given_records,
    guess_line,
    guessed_profile,
    is_file,
    known_profile,
    note_records,
    read_model,
    with_axes,
)
from rexis.cli.console import emit, note, say, steps, working
from rexis.cli.options import Json, needs
from rexis.protocol.errors import CircuitError, ConflictError

if TYPE_CHECKING:
    from circuits.cost import Estimate
    from circuits.profile import CircuitProfile
    from circuits.tuning import Candidate, Found


app = typer.Typer(help="Estimate, tune and rebuild circuits.", no_args_is_help=True)

WRITTEN = ("profile.json", "rewrites.json", "evidence.json", "frontier.svg", "model.onnx")
"""What ``tune --out`` writes, the last only where the model is a file and another one than was given."""

_MAX_SETTINGS_BYTES = 8 << 20

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A zoo model's name, or an ONNX file.")]
Profile = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE", help="A tuned profile. Default: the zoo model's own, else one guessed from random records."
    ),
]
Axis = Annotated[
    list[str] | None,
    typer.Option(
        "--axis",
        metavar="NAME=SIZE",
        help="The size of an open axis other than the first, for a circuit has fixed sizes. Again for each.",
    ),
]


@app.command("list")
def list_profiles(as_json: Json = False) -> None:
    """Show the tuned profiles that come with rexis, and what was measured when they were chosen."""
    from circuits.profile import TUNED, profile_for, tuned_models

    rows: list[dict[str, Any]] = []
    for name in tuned_models():
        evidence = TUNED / name / "evidence.json"
        known = json.loads(evidence.read_bytes()) if evidence.is_file() else {}
        rows.append({"model": name, "profile": profile_for(name).to_object(), "chosen": known.get("chosen")})
    if as_json:
        emit(rows)
        return
    for row in rows:
        chosen = row["chosen"] or {}
        took = f", {chosen['seconds']:.2f} s a proof, agreement {chosen['agreement']:.1%}" if chosen else ""
        say(f"{row['model']}: 2^{row['profile']['logrows']} rows{took}")


@app.command("estimate")
def estimate(
    model: Model,
    profile: Profile = None,
    axis: Axis = None,
    memory: Annotated[
        int | None, typer.Option(metavar="MIB", min=1, help="Memory that there is. Default: what is free here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what set-up and a proof will take, before either; refuse a circuit that does not fit, with one that does.

    Takes any ONNX file with one float32 input and one float32 output. What ezkl puts into no circuit is refused with
    the name of the node and its operator.
    """
    with needs("circuits"):
        from circuits.build import make_chain
        from circuits.cost import estimate_of
        from circuits.diagnosis import require_circuit
        from circuits.memory import available_bytes, require_memory
        from circuits.process import EzklProcess
        from circuits.segments import cut_model

    onnx, chosen = with_axes(read_model(model), axis), known_profile(profile, model)
    note_records(onnx)
    how = None
    with working("counting rows"), EzklProcess() as ezkl:
        wide = require_circuit(onnx, ezkl)
        if chosen is None:
            chosen, how = guessed_profile(onnx, wide, ezkl)
        chain = make_chain(cut_model(onnx, chosen.cuts), chosen, ezkl)
    costs = [estimate_of(segment) for segment in chain.segments]
    free = available_bytes() if memory is None else memory << 20
    if as_json:
        shown = [_shown(cost) for cost in costs]
        fits = all(cost.needed_bytes <= free and cost.has_vka for cost in costs)
        known = {"fits": fits, "availableBytes": free, "profile": chosen.to_object(), "guessed": how is not None}
        emit((shown[0] if len(shown) == 1 else {"segments": shown}) | known)
    else:
        for place, cost in enumerate(costs):
            if len(costs) > 1:
                say(f"segment {place}")
            for line in _lines(cost):
                say(line)
        if how is not None:
            say(guess_line(chosen, how))
    for segment in chain.segments:
        require_memory(segment, free)


@app.command("tune")
def tune(
    model: Model,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Plain records (.npy): half to choose by, half to check. Default: a zoo model's own, else random.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the profile and its evidence here.")] = None,
    axis: Axis = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Tune the model as it is, without EE: for models that EE refuses.")
    ] = False,
    agreement: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of decisions that must be those of the plain model.")
    ] = 0.99,
    max_error: Annotated[
        float | None,
        typer.Option(metavar="E", min=0.0, help="Largest error of decrypted outputs. Needed for regressions."),
    ] = None,
    max_proof_bytes: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Leave out circuits with larger proofs (they cost gas).")
    ] = None,
    memory: Annotated[
        int | None, typer.Option(metavar="MIB", min=1, help="Memory of the provers. Default: what is free here.")
    ] = None,
    records: Annotated[int, typer.Option(min=2, help="Calibration records to use.")] = 24,
    keys: Annotated[int, typer.Option(min=1, help="EE keys to try them under.")] = 2,
    finalists: Annotated[int, typer.Option(min=1, help="Layouts to build and time.")] = 3,
    rewrites: Annotated[
        bool, typer.Option(help="Rewrite the plain model first, where that keeps its function and saves rows.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Search the cheapest circuit within a bound on decisions and errors, by a cost model first and proofs last.

    Takes minutes: every pair of scales is tried on every record under every key. Without --data, a model from a file
    is tuned on random records, which say little about its accuracy on real ones.
    """
    with needs("circuits"), needs("ee"), needs("verifier"):
        from circuits.boundary import boundary_of, require_one_record, vocabulary_of
        from circuits.diagnosis import require_circuit
        from circuits.memory import available_bytes
        from circuits.process import EzklProcess
        from circuits.tuning import ID_SCALES, SCALES, Bound, Limits
        from circuits.tuning import tune as search
        from rexis.cli._calibration import warned_of
        from rexis.cli._tuning import Calibrated, checked_line, outside, written

    from rexis.files import require_absent

    if out is not None:
        if out.exists() and not out.is_dir():
            raise ConflictError(f"{out} exists and is no folder", field="out", hint="choose another name")
        require_absent(*(out / name for name in WRITTEN))
    onnx = with_axes(read_model(model), axis)
    if plain:
        keys = 0
        note_records(onnx)
    else:
        require_one_record(boundary_of(onnx))
    bound = Bound(agreement, float("inf") if max_error is None else max_error)
    limits = Limits(
        available_bytes() if memory is None else memory << 20,
        float("inf") if max_proof_bytes is None else max_proof_bytes,
    )
    given = None if data is None else given_records(onnx, data, records)
    with working("reading the model"), EzklProcess() as ezkl:
        wide = require_circuit(onnx, ezkl)
        calibration = given or calibration_for(model, onnx, records)
        astray = warned_of(onnx, calibration.records, ezkl)
    if astray is not None and max_error is None:
        raise CircuitError(
            "no bound on errors is given, and this circuit is not the model's",
            hint="export the model without the operator; or bound the error with --max-error",
        )
    if wide.output_length == 1 and max_error is None:
        note("warning: one output has no decisions, and without --max-error nothing bounds its error.")
    with working("counting rows"), EzklProcess() as ezkl:
        calibrated = Calibrated.of(onnx, ezkl, rewriting=rewrites)
    sides = calibrated.sides(calibration.records, keys, bound.error)
    scales = SCALES if vocabulary_of(onnx) is None else ID_SCALES
    if calibration.is_random:
        note(
            f"warning: calibrated on {calibration.source} records. Real ones may be larger, so that they have no "
            "witness, and errors on them may differ: tune again with --data before you register this."
        )
    with tempfile.TemporaryDirectory(prefix="rexis-tune-") as folder, steps() as at:
        found = search(sides, bound, work_dir=Path(folder), limits=limits, finalists=finalists, scales=scales, at=at)
    report = written(calibrated, calibration, keys, bound, limits, found) | {"otherFunction": astray}
    if out is not None:
        changed = calibrated.rewritten if is_file(model) and (axis or calibrated.rewrites) else None
        _write(out, found.best.profile, report, changed)
    if as_json:
        emit(report)
        return
    _table(found)
    say(checked_line(report))
    if warning := outside(report, bound):
        note(warning)
    if calibrated.rewrites:
        say(f"tuned for the model rewritten by {', '.join(calibrated.rewrites)}: encrypt that one")
    if calibration.is_random:
        say(f"calibration: {calibration.source}")
    if out is not None:
        say(f"written to {out}")


@app.command("rewrite")
def rewrite_model(
    model: Model,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The rewritten plain model (ONNX).")],
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="NAME",
            help="A rewrite; may be repeated. Default: what the model's profile was tuned for.",
        ),
    ] = None,
) -> None:
    """Rewrite a plain model so that its circuit gets smaller and its function stays. Encrypt and register the result.

    The same model and names give the same file.
    """
    from rexis.files import write_file

    with needs("circuits"):
        from circuits.profile import rewrites_for
        from circuits.rewrites import rewrite

    if names is None and is_file(model):
        raise typer.BadParameter("a file has no profile of its own: name the rewrites", param_hint="--with")
    plain = read_model(model)
    chosen = tuple(names) if names is not None else rewrites_for(model)
    write_file(out, rewrite(plain, chosen) if chosen else plain)
    say(f"{model} rewritten by {', '.join(chosen) or 'nothing'}: {out}")


@app.command("rebuild")
def rebuild(
    model: Annotated[Path, typer.Option("--model", metavar="FILE", help="The encrypted model (ONNX).")],
    settings: Annotated[Path, typer.Option("--settings", metavar="FILE", help="The registered settings.")],
    srs: Annotated[Path, typer.Option("--srs", metavar="FILE", help="The SRS that the circuit was made with.")],
    vk: Annotated[
        str | None, typer.Option("--vk", metavar="DIGEST", help="The registered verifying key, to compare with.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a circuit's verifying key again from the encrypted model and the settings, and say its digests.

    Settings that ezkl would not make of this model are refused: a verifying key does not show all of them.
    """
    from rexis.cli.options import digest
    from rexis.files import read_file
    from rexis.protocol.errors import DigestMismatchError

    with needs("circuits"):
        from circuits.artefacts import CircuitCache
        from circuits.build import rebuilt
        from circuits.process import EzklProcess
        from circuits.srs import read_srs

    wanted = digest(vk, "--vk") if vk is not None else None
    onnx = read_file(model, "encrypted model", max_bytes=MAX_MODEL_BYTES)
    data = read_file(settings, "settings", max_bytes=_MAX_SETTINGS_BYTES)
    with (
        working("rebuilding the circuit"),
        tempfile.TemporaryDirectory(prefix="rexis-rebuild-") as folder,
        EzklProcess() as ezkl,
    ):
        circuit = rebuilt(onnx, data, read_srs(srs), CircuitCache(Path(folder)), ezkl).artefacts.description
    if wanted is not None and circuit.vk_digest != wanted:
        raise DigestMismatchError(
            f"this model and these settings give vk {circuit.vk_digest}, not {wanted}", field="vk"
        )
    if as_json:
        emit(circuit.to_object())
        return
    for name, value in circuit.to_object().items():
        say(f"{name:16} {value}")


@app.command("cut")
def cut(
    model: Model,
    profile: Profile = None,
    memory: Annotated[
        int | None, typer.Option(metavar="MIB", min=1, help="Memory of a prover. Default: what is free here.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the profile with the cuts here.")] = None,
    as_json: Json = False,
) -> None:
    """Cut a model that is too large for one circuit into segments that fit, at the least processor time.

    The cuts are the same for the plain model and for its encryption. Scales, digits and lookup range are the
    profile's; rows and columns are chosen.
    """
    with needs("circuits"):
        from circuits.diagnosis import require_circuit
        from circuits.memory import available_bytes
        from circuits.process import EzklProcess
        from rexis.cli import _cutting

    memory_bytes = available_bytes() if memory is None else memory << 20
    onnx, chosen = read_model(model), known_profile(profile, model)
    if chosen is None:
        with working("guessing a profile"), EzklProcess() as ezkl:
            chosen, how = guessed_profile(onnx, require_circuit(onnx, ezkl), ezkl)
        note(guess_line(chosen, how))
    _cutting.run(onnx, chosen, memory_bytes, out, as_json=as_json)


def _write(out: Path, profile: CircuitProfile, report: dict[str, Any], model: bytes | None) -> None:
    from rexis.cli._frontier import drawn
    from rexis.files import write_file

    out.mkdir(parents=True, exist_ok=True)
    made = (
        profile.to_json() + b"\n",
        (json.dumps(report["rewrites"]) + "\n").encode(),
        (json.dumps(report, indent=2, sort_keys=True) + "\n").encode(),
        drawn(report).encode(),
    )
    for name, data in zip(WRITTEN, made, strict=False):
        write_file(out / name, data)
    if model is not None:
        write_file(out / "model.onnx", model)
        note(f"the model that this circuit is for is {out / 'model.onnx'}: encrypt and register that one")


def _shown(cost: Estimate) -> dict[str, Any]:
    return {
        "rows": cost.columns.rows,
        "logrows": cost.columns.logrows,
        "adviceColumns": cost.columns.advice,
        "extension": cost.columns.extension,
        "keyBytes": cost.key_bytes,
        "setupBytes": cost.setup_bytes,
        "peakBytes": cost.peak_bytes,
        "cpuSeconds": round(cost.cpu_seconds, 3),
        "proofBytes": cost.proof_bytes,
        "setupCpuSeconds": round(cost.setup_seconds, 3),
        "witnessCpuSeconds": round(cost.witness_seconds, 4),
        "gas": cost.gas,
    }


def _lines(cost: Estimate) -> list[str]:
    columns = cost.columns
    return [
        f"rows        {columns.rows} in blocks of 2^{columns.logrows}: {columns.blocks}",
        f"columns     {columns.advice} advice, {columns.tables} of tables; extended domain {columns.extension} times",
        f"set-up      about {cost.setup_seconds:.1f} s of processor time, {cost.setup_bytes >> 20} MiB, "
        f"proving key {cost.key_bytes >> 20} MiB",
        f"a proof     about {cost.cpu_seconds:.2f} s of processor time, {cost.peak_bytes >> 20} MiB, "
        f"{cost.proof_bytes} bytes",
        f"on chain    about {cost.gas:,} gas for the verifier's call",
    ]


def _table(found: Found) -> None:
    head = ("scales", "digits", "rows", "inner", "error", "agreement", "cpu s", "proof", "gas", "memory", "measured")
    rows = [head, *(_row(each, found.best) for each in found.frontier)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    note(f"{found.tried} layouts compared; * is the choice")


def _row(each: Candidate, best: Candidate) -> tuple[str, ...]:
    profile, cost = each.profile, each.estimate
    times = f" ×{profile.rebase_multiplier}" if profile.rebase_multiplier > 1 else ""
    measured = "" if each.seconds is None else f"{each.seconds:.2f} s" + (" *" if each is best else "")
    return (
        f"{profile.input_scale}, {profile.param_scale}{times}",
        f"{profile.decomposition_base}^{profile.decomposition_legs}",
        f"2^{profile.logrows}",
        str(profile.inner_columns),
        f"{each.error:.3g}",
        f"{each.agreement:.1%}",
        f"{cost.cpu_seconds:.2f}",
        f"{cost.proof_bytes} B",
        f"{cost.gas / 1e6:.2f} M",
        f"{cost.needed_bytes >> 20} MiB",
        measured,
    )
