"""``rexis circuits``: what a proof will cost, the cheapest circuit that is good enough, and the same circuit again."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rexis.cli.console import emit, note, say, steps, working
from rexis.cli.options import Json, needs
from rexis.protocol.errors import CircuitError, ConflictError, RexisError

if TYPE_CHECKING:
    from circuits.cost import Estimate
    from circuits.process import EzklProcess
    from circuits.profile import CircuitProfile
    from circuits.settings import CircuitSettings
    from circuits.tuning import Candidate, Found
    from rexis.cli._calibration import Calibration

app = typer.Typer(help="Estimate, tune and rebuild circuits.", no_args_is_help=True)

_MAX_MODEL_BYTES = 256 << 20
_MAX_SETTINGS_BYTES = 8 << 20
_GUESSED_BY = 8  # random records

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
        from circuits.build import make_settings
        from circuits.cost import columns_of
        from circuits.cost import estimate as cost_of
        from circuits.diagnosis import require_circuit
        from circuits.memory import available_bytes, require_memory
        from circuits.process import EzklProcess

    onnx, chosen = _sized(_model(model), axis), _known_profile(profile, model)
    _note_records(onnx)
    how = None
    with working("counting rows"), EzklProcess() as ezkl:
        wide = require_circuit(onnx, ezkl)
        if chosen is None:
            chosen, how = _guessed(onnx, wide, ezkl)
        settings = make_settings(onnx, chosen, ezkl)
    cost = cost_of(columns_of(settings), settings.rows)
    free = available_bytes() if memory is None else memory << 20
    if as_json:
        shown = _shown(cost) | {"fits": cost.needed_bytes <= free, "availableBytes": free}
        emit(shown | {"profile": chosen.to_object(), "guessed": how is not None})
    else:
        for line in _lines(cost):
            say(line)
        if how is not None:
            say(_guess_line(chosen, how))
    require_memory(settings, free)


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
        from rexis.cli._tuning import sides_of, written

    from rexis.files import require_absent

    if out is not None:
        if out.exists() and not out.is_dir():
            raise ConflictError(f"{out} exists and is no folder", field="out", hint="choose another name")
        require_absent(out / "profile.json", out / "evidence.json", *([out / "model.onnx"] if axis else []))
    onnx = _sized(_model(model), axis)
    if plain:
        keys = 0
        _note_records(onnx)
    else:
        require_one_record(boundary_of(onnx))
    bound = Bound(agreement, float("inf") if max_error is None else max_error)
    limits = Limits(
        available_bytes() if memory is None else memory << 20,
        float("inf") if max_proof_bytes is None else max_proof_bytes,
    )
    given = None if data is None else _given(onnx, data, records)
    with working("reading the model"), EzklProcess() as ezkl:
        wide = require_circuit(onnx, ezkl)
        calibration = given or _calibration(model, onnx, records)
        astray = warned_of(onnx, calibration.records, ezkl)
    if astray is not None and max_error is None:
        raise CircuitError(
            "no bound on errors is given, and this circuit is not the model's",
            hint="export the model without the operator; or bound the error with --max-error",
        )
    if wide.output_length == 1 and max_error is None:
        note("warning: one output has no decisions, and without --max-error nothing bounds its error.")
    sides = sides_of(onnx, calibration.records, keys, bound.error)
    scales = SCALES if vocabulary_of(onnx) is None else ID_SCALES
    if calibration.is_random:
        note(
            f"warning: calibrated on {calibration.source} records. Real ones may be larger, so that they have no "
            "witness, and errors on them may differ: tune again with --data before you register this."
        )
    with tempfile.TemporaryDirectory(prefix="rexis-tune-") as folder, steps() as at:
        found = search(sides, bound, work_dir=Path(folder), limits=limits, finalists=finalists, scales=scales, at=at)
    report = written(onnx, calibration, keys, bound, limits, found) | {"otherFunction": astray}
    if out is not None:
        _write(out, found.best.profile, report, onnx if axis else None)
    if as_json:
        emit(report)
        return
    _table(found)
    best = report["checked"]
    error = "unknown, for one has no witness" if best["error"] is None else f"{best['error']:.3g}"
    say(
        f"checked on {best['records']} other records{' under another key' if keys else ''}: decisions agree "
        f"{best['agreement']:.1%}, largest error {error}"
    )
    if best["agreement"] < agreement or best["error"] is None or best["error"] > bound.error:
        note("warning: that is outside the bound. Tune with more records and keys, or with a tighter one.")
    if calibration.is_random:
        say(f"calibration: {calibration.source}")
    if out is not None:
        say(f"written to {out}")


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
    onnx = read_file(model, "encrypted model", max_bytes=_MAX_MODEL_BYTES)
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


def _is_file(name: str) -> bool:
    return name.endswith(".onnx") or Path(name).is_file()


def _model(name_or_file: str) -> bytes:
    from rexis.files import read_file

    if _is_file(name_or_file):
        return read_file(Path(name_or_file), "model", max_bytes=_MAX_MODEL_BYTES)
    from models.zoo import load_model_bytes

    return load_model_bytes(name_or_file)


def _sized(model: bytes, axes: list[str] | None) -> bytes:
    """The model with the axes fixed that ``--axis`` names."""
    from circuits.boundary import with_sizes

    if not axes:
        return model
    sizes: dict[str, int] = {}
    for each in axes:
        name, _, size = each.rpartition("=")
        if not name or not size.isdecimal() or not int(size):
            raise typer.BadParameter(f"{each!r} is not NAME=SIZE", param_hint="--axis")
        sizes[name] = int(size)
    return with_sizes(model, sizes)


def _note_records(model: bytes) -> None:
    """Say where a circuit is not one that jobs use."""
    from circuits.boundary import boundary_of

    boundary = boundary_of(model)
    if not boundary.counts_records:
        note(
            f"note: one proof is about all of input {boundary.input!r}, {list(boundary.given)}. Jobs prove record by "
            "record: to register it, export it as [batch, …] with an open first axis, or with 1."
        )


def _known_profile(name_or_file: str | None, model: str) -> CircuitProfile | None:
    """The profile that is named, or the zoo model's; None if there is none."""
    from circuits.profile import tuned_models
    from rexis.cli.owner import read_profile

    if name_or_file is not None:
        if name_or_file.endswith(".onnx"):
            raise typer.BadParameter("a model is no profile: leave it out to have one guessed", param_hint="--profile")
        return read_profile(name_or_file)
    return read_profile(model) if model in tuned_models() and not _is_file(model) else None


def _guessed(model: bytes, wide: CircuitSettings, ezkl: EzklProcess) -> tuple[CircuitProfile, str]:
    """A profile from random records, and how it was come by."""
    with needs("verifier"):
        from circuits.boundary import vocabulary_of
        from circuits.guess import guessed
        from rexis.cli._calibration import drawn, warned_of
        from rexis.cli._tuning import plain_side

    calibration = drawn(model, _GUESSED_BY, 0)
    ids = vocabulary_of(model) is not None
    guess = guessed(plain_side(model, calibration.records), wide, ezkl, ids=ids)
    off = "" if guess.error is None else f"; outputs are off by up to {guess.error:.2g}"
    warned_of(model, calibration.records, ezkl)
    return guess.profile, f"from {calibration.source} records, {guess.how}{off}"


def _given(model: bytes, data: Path, count: int) -> Calibration:
    from circuits.boundary import boundary_of
    from rexis.cli._calibration import Calibration, require_shape
    from rexis.cli.records import read_records

    rows = read_records(data, None)
    if len(rows) < 2:
        raise RexisError("tuning needs two records at least", field="data")
    require_shape(boundary_of(model), rows)
    half = len(rows) // 2
    return Calibration(rows[:half][:count], rows[half:], "given")


def _calibration(name: str, model: bytes, count: int) -> Calibration:
    """The zoo's records of its models, random ones for others."""
    import numpy as np

    from rexis.cli._calibration import Calibration, drawn

    if _is_file(name):
        return drawn(model, count)
    with needs("models"):
        from models.zoo import held_out, training_split
    rows = training_split(name)[0]
    chosen = np.random.default_rng(0).permutation(len(rows))[:count]
    return Calibration(rows[chosen], held_out(name)[0], "zoo")


def _write(out: Path, profile: CircuitProfile, report: dict[str, Any], model: bytes | None) -> None:
    from rexis.files import write_file

    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "profile.json", profile.to_json() + b"\n")
    write_file(out / "evidence.json", (json.dumps(report, indent=2, sort_keys=True) + "\n").encode())
    if model is not None:
        write_file(out / "model.onnx", model)
        note(f"the model with its axes fixed is {out / 'model.onnx'}: encrypt and register that one")


def _guess_line(profile: CircuitProfile, how: str) -> str:
    return (
        f"profile     guessed {how}: scales {profile.input_scale} and {profile.param_scale}, "
        f"{profile.decomposition_legs} digits to base {profile.decomposition_base}, {profile.inner_columns} inner "
        "columns. `rexis circuits tune` searches the cheapest that is accurate enough"
    )


def _shown(cost: Estimate) -> dict[str, Any]:
    return {
        "rows": cost.rows,
        "logrows": cost.columns.logrows,
        "adviceColumns": cost.columns.advice,
        "extension": cost.columns.extension,
        "keyBytes": cost.key_bytes,
        "setupBytes": cost.setup_bytes,
        "peakBytes": cost.peak_bytes,
        "cpuSeconds": round(cost.cpu_seconds, 3),
        "proofBytes": cost.proof_bytes,
    }


def _lines(cost: Estimate) -> list[str]:
    columns = cost.columns
    return [
        f"rows        {cost.rows} in blocks of 2^{columns.logrows}: {columns.blocks}",
        f"columns     {columns.advice} advice, {columns.tables} of tables; extended domain {columns.extension} times",
        f"set-up      about {cost.setup_bytes >> 20} MiB, proving key {cost.key_bytes >> 20} MiB",
        f"a proof     about {cost.cpu_seconds:.2f} s of processor time, {cost.peak_bytes >> 20} MiB, "
        f"{cost.proof_bytes} bytes",
    ]


def _table(found: Found) -> None:
    head = ("scales", "digits", "rows", "inner", "error", "agreement", "cpu s", "proof", "memory", "measured")
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
        f"{cost.needed_bytes >> 20} MiB",
        measured,
    )
