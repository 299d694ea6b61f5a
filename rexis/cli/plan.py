"""``rexis plan``: which policy gives the assurance that is wanted, within a budget, and what the others would take."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rexis.cli.console import emit, note, say, working
from rexis.cli.options import Json, fraction, needs
from rexis.protocol.errors import ResourceError

if TYPE_CHECKING:
    from circuits.chain import ChainSettings
    from circuits.planning import Assurance, Budget, Option, Plan

_BUDGET = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?(?:e[0-9]{1,2})?)(?P<unit>s|min|h|gas|Mgas|)\Z")
_UNITS = {
    "s": ("cpu_seconds", 1.0),
    "min": ("cpu_seconds", 60.0),
    "h": ("cpu_seconds", 3600.0),
    "gas": ("gas", 1.0),
    "Mgas": ("gas", 1e6),
    "": ("money", 1.0),
}
_WORDS = ("signed", "every", "on-chain")


def plan(
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE", help="A zoo model, an ONNX file, or the settings file of a registered model's circuit."
        ),
    ],
    records: Annotated[int, typer.Option(min=1, max=1 << 40, help="The job's records.")],
    assurance: Annotated[
        str,
        typer.Option(
            metavar="WANTED",
            help="5%@99.9%: whoever alters 5 % of the outputs is caught with 99.9 %. every: each output is proved. "
            "on-chain: and checked by a contract. signed: who claimed what, and when.",
        ),
    ] = "5%@99%",
    budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MOST",
            help="Processor time of all workers (90s, 30min, 2h), gas (5Mgas), or money (12.50, with prices). "
            "May be repeated.",
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="A tuned profile. Default: the zoo model's own, or a guess.")
    ] = None,
    cpu_hour_price: Annotated[float | None, typer.Option(min=0, help="Money for an hour of processor time.")] = None,
    gas_price: Annotated[float | None, typer.Option(min=0, help="Money for a million gas.")] = None,
    memory: Annotated[int | None, typer.Option(metavar="MIB", min=1, help="Memory of a worker.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=10_000, help="Make a task for each of so many.")] = 1,
    max_attempts: Annotated[int, typer.Option(min=1, max=100, help="Commitments allowed per task.")] = 3,
    each_task: Annotated[
        bool, typer.Option("--each-task", help="Catch the fraction in each task, not only in the whole job.")
    ] = False,
    task_time: Annotated[
        int, typer.Option(metavar="SECONDS", min=1, help="Processor time of the proofs of one task, at most.")
    ] = 3600,
    as_json: Json = False,
) -> None:
    """Recommend a policy: tier, sample size and shard size, with what workers, certificate and chain will take.

    Estimates only: nothing is built, and no coordinator or chain is asked. Times are those of the machine that the cost
    model was fitted on; set-up of each worker is counted, plain inference is not.
    """
    with needs("circuits"):
        from circuits.cost import estimate_of
        from circuits.planning import Job, Prices
        from circuits.planning import plan as planned

    wanted = _assurance(assurance, each_task=each_task)
    most = _budget(budget or [], memory, priced=cpu_hour_price is not None or gas_price is not None)
    settings = _settings(model, profile)
    job = Job(
        records=records,
        segments=tuple(estimate_of(each) for each in settings.segments),
        values=settings.input_length + settings.output_length,
        settings_bytes=len(settings.data),
        max_attempts=max_attempts,
        workers=workers,
        task_seconds=task_time,
    )
    found = planned(job, wanted, most, Prices(cpu_hour_price or 0.0, gas_price or 0.0))
    if as_json:
        emit(_document(found))
    else:
        _show(found, priced=cpu_hour_price is not None or gas_price is not None)
    if found.recommended is None:
        raise ResourceError("no tier gives this assurance within this budget", field="budget", hint=_hint(found))


def submit_options(option: Option) -> str:
    """The options of `rexis submit` that a policy amounts to."""
    from rexis.protocol.policy import Rung

    words = ["--tier", option.tier.name.lower()]
    if option.sample_size:
        words += ["-k", str(option.sample_size)]
    words += ["--shard-size", str(option.shard_size), "--max-attempts", str(option.max_attempts)]
    words += ["--certify-on-chain"] if option.certify_on_chain else []
    return " ".join([*words, *(["--rung", "zk-onsite"] if option.rung == Rung.ZK_ONSITE else [])])


def _assurance(text: str, *, each_task: bool) -> Assurance:
    from circuits.planning import Assurance, Strength

    if text in _WORDS:
        return Assurance(Strength[text.upper().replace("-", "_")], each_task=each_task)
    altered, at, confidence = text.partition("@")
    if not at:
        raise typer.BadParameter(
            f"{text!r} is no assurance; write 5%@99.9%, or one of {', '.join(_WORDS)}", param_hint="--assurance"
        )
    return Assurance(
        Strength.SAMPLED,
        altered=fraction(altered, "--assurance"),
        confidence=fraction(confidence, "--assurance"),
        each_task=each_task,
    )


def _budget(texts: list[str], memory: int | None, *, priced: bool) -> Budget:
    from circuits.planning import Budget

    found: dict[str, float] = {} if memory is None else {"memory_bytes": memory << 20}
    for text in texts:
        match = _BUDGET.match(text)
        if match is None:
            raise typer.BadParameter(
                f"{text!r} is no budget; write 90s, 30min, 2h, 5Mgas or 12.50", param_hint="--budget"
            )
        name, unit = _UNITS[match["unit"]]
        if name in found:
            raise typer.BadParameter(f"{text} is a second budget of its kind", param_hint="--budget")
        if name == "money" and not priced:
            raise typer.BadParameter(
                f"{text} is money: give --cpu-hour-price or --gas-price, or write {text}s for seconds",
                param_hint="--budget",
            )
        found[name] = float(match["number"]) * unit
    return Budget(**found)


def _settings(model: str, profile: str | None) -> ChainSettings:
    from pathlib import Path

    from rexis.cli._models import guess_line, guessed_profile, known_profile, read_model
    from rexis.files import read_file

    with needs("circuits"):
        from circuits.build import make_chain
        from circuits.chain import MAX_CHAIN_BYTES, ChainSettings
        from circuits.diagnosis import require_circuit
        from circuits.process import EzklProcess
        from circuits.segments import cut_model

    file = Path(model)
    if file.is_file() and file.suffix != ".onnx":
        return ChainSettings.parse(read_file(file, "settings", max_bytes=MAX_CHAIN_BYTES))
    onnx, chosen = read_model(model), known_profile(profile, model)
    with working("counting rows"), EzklProcess() as ezkl:
        if chosen is None:
            chosen, how = guessed_profile(onnx, require_circuit(onnx, ezkl), ezkl)
            note(guess_line(chosen, how))
        return make_chain(cut_model(onnx, chosen.cuts), chosen, ezkl)


def _document(found: Plan) -> dict[str, Any]:
    def of(option: Option | None) -> dict[str, Any] | None:
        return None if option is None else _row(option)

    return {
        "options": [_row(each) for each in found.options],
        "recommended": of(found.recommended),
        "nearest": of(found.nearest),
        "affordable": of(found.affordable),
    }


def _row(option: Option) -> dict[str, Any]:
    return {
        "tier": option.tier.name.lower(),
        "sampleSize": option.sample_size,
        "shardSize": option.shard_size,
        "maxAttempts": option.max_attempts,
        "certifyOnChain": option.certify_on_chain,
        "tasks": option.tasks,
        "proofs": option.proofs,
        "caught": option.caught,
        "cpuSeconds": round(option.cpu_seconds, 3),
        "neededBytes": option.needed_bytes,
        "proofBytes": option.proof_bytes,
        "certificateBytes": option.certificate_bytes,
        "gas": option.gas,
        "money": round(option.money, 4),
        "objections": list(option.objections),
        "submit": submit_options(option),
    }


def _show(found: Plan, *, priced: bool) -> None:
    from circuits.planning import shown_time
    from rexis.protocol.policy import Rung, Tier

    head = ["", "tier", "-k", "shard", "tasks", "proofs", "caught", "CPU", "memory", "proof size", "certificate", "gas"]
    rows = [head + ["money"] * priced]
    for each in found.options:
        row = [
            "*" if each is found.recommended else "",
            each.tier.name.lower() + (", on chain" if each.certify_on_chain else ""),
            str(each.sample_size),
            str(each.shard_size),
            str(each.tasks),
            str(each.proofs),
            _probability(each.caught),
            shown_time(each.cpu_seconds),
            f"{each.needed_bytes >> 20} MiB",
            _size(each.proof_bytes),
            _size(each.certificate_bytes),
            f"{each.gas / 1e6:.3g} M",
        ]
        rows.append(row + [f"{each.money:.2f}"] * priced)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for each, row in zip(found.options, rows[1:], strict=True):
        for objection in each.objections:
            say(f"not {row[1]}: {objection}")
    if found.recommended is not None:
        say(f"rexis submit … {submit_options(found.recommended)}")
        note("estimates; caught: whoever alters the fraction in question, by the evidence alone")
        if found.recommended.rung == Rung.ZK_ONSITE and found.recommended.tier == Tier.SAMPLED:
            note(
                "rung zk-onsite: who asks also proves, and can ask again until a sample suits; `every` leaves no choice"
            )


def _hint(found: Plan) -> str:
    from circuits.planning import shown_time

    words = []
    if (option := found.nearest) is not None:
        words.append(
            f"{submit_options(option)} would do it with {shown_time(option.cpu_seconds)}, {option.gas:,} gas and "
            f"{option.needed_bytes >> 20} MiB a worker"
        )
    if (option := found.affordable) is not None:
        words.append(f"the budget is enough for {submit_options(option)}, which catches {_probability(option.caught)}")
    return "; ".join(words) or "the budget is not enough for one proof a task: give more, or fewer records"


def _probability(value: float) -> str:
    return "over 0.999999" if 0.999999 < value < 1 else f"{value:.6g}"


def _size(count: int) -> str:
    return f"{count / 1e3:.3g} kB" if count < 1e6 else f"{count / 1e6:.3g} MB"
