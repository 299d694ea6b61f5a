"""Commands before a training job: encrypt labelled records, make a plan. The job itself: see ``training_jobs``."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rexis.cli.console import emit, note, say
from rexis.cli.finetuning import Description, read_description
from rexis.cli.options import Json, KeyFile, PassphraseFile, digest
from rexis.cli.requester import Manifest
from rexis.cli.training_jobs import fetch, submit
from rexis.protocol.training_kinds import OptimiserKind

app = typer.Typer(
    help="Fine-tune an encrypted model on encrypted records: encrypt, plan, submit, fetch.", no_args_is_help=True
)

_CHECKPOINTS = 10  # by default: enough to see the loss go down, and to lose a tenth at most


class ScheduleName(StrEnum):
    """How the learning rate goes on, as options name it."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


@app.command("encrypt-records")
def encrypt_records(
    key: KeyFile,
    training: Description,
    records: Annotated[Path, typer.Option(metavar="FILE", help="Plain records: .npy, or .csv with a header line.")],
    labels: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="What they should give: .npy or .csv; class numbers, or with --manifest class names."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The encrypted dataset to write (.safetensors).")],
    manifest: Manifest = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="A column of the CSV that is no feature (id, label); may be repeated."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Encrypt records together with their labels, and salt them for the commitment.

    It takes the label part of the key (`rexis key share --part label`), or the full key.
    """
    from rexis.cli.passphrase import read_passphrase
    from rexis.cli.records import look_raw, open_records, read_manifest, read_targets
    from rexis.datafiles import write_dataset
    from rexis.ee import load_key, record_salts
    from rexis.ee.finetune.targets import encrypt_rows, require_targets
    from rexis.files import require_absent
    from rexis.protocol.rows import blocks

    require_absent(out)
    description = read_description(training)
    known = read_manifest(manifest) if manifest else None
    plain = open_records(records, known, drop or ())
    targets = read_targets(labels, known.class_names or None if known else None)
    require_targets(len(plain), targets)
    if look_raw(plain) and known is None:
        note("warning: values beyond ±100. Are these records standardised? If not, give --manifest.")
    ee_key = load_key(key, read_passphrase(f"EE key {key}", passphrase_file))
    ee_key.require(model_digest=description.model_digest, epoch=description.key_epoch)
    dataset_digest, shape = write_dataset(
        out,
        len(plain),
        (
            encrypt_rows(ee_key, description.loss, block, targets[start : start + len(block)])
            for start, block in blocks(plain)
        ),
        lambda encrypted, start, count: record_salts(ee_key, encrypted, count, start=start),
    )
    if as_json:
        emit({"dataset": str(out), "datasetDigest": str(dataset_digest), "shape": list(shape)})
        return
    width = math.prod(description.input_shape)
    say(f"{out}: {shape[0]} records of {width} values with their targets, digest {dataset_digest}")


@app.command("plan")
def plan(
    training: Description,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The plan to write (.json).")],
    learning_rate: Annotated[float, typer.Option("--learning-rate", "--lr", min=1e-9, help="The largest one.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Records of one step.")],
    steps: Annotated[int | None, typer.Option(min=1, help="How many updates.")] = None,
    epochs: Annotated[
        float | None, typer.Option(min=0, help="Instead of --steps: how often each record is used; with --dataset.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For --epochs: what `rexis train encrypt-records` wrote.")
    ] = None,
    optimiser: Annotated[OptimiserKind | None, typer.Option(help="Default: what the model was encrypted for.")] = None,
    momentum: Annotated[float, typer.Option(min=0, max=1, help="sgd.")] = 0.0,
    nesterov: Annotated[bool, typer.Option("--nesterov", help="sgd, with momentum.")] = False,
    beta1: Annotated[float, typer.Option(min=0, max=1, help="adam, adamw.")] = 0.9,
    beta2: Annotated[float, typer.Option(min=0, max=1, help="adam, adamw.")] = 0.999,
    epsilon: Annotated[float, typer.Option(min=0, help="adam, adamw.")] = 1e-8,
    weight_decay: Annotated[float, typer.Option(min=0, help="Of adamw it is decoupled.")] = 0.0,
    clip_norm: Annotated[float, typer.Option(min=0, help="Scale gradients down to this global norm. 0: never.")] = 0.0,
    schedule: Annotated[
        ScheduleName, typer.Option(help="How the learning rate goes down after warming up.")
    ] = ScheduleName.CONSTANT,
    warmup: Annotated[int, typer.Option(min=0, help="Steps in which the learning rate goes up from 0.")] = 0,
    final: Annotated[float, typer.Option("--final-learning-rate", min=0, help="Where the schedule ends.")] = 0.0,
    interval: Annotated[
        int | None,
        typer.Option(min=1, help="Steps between two committed states. Default: 50, or a tenth of all."),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="32 bytes that decide the records' order. Not secret. Default: fresh."),
    ] = None,
    allow_inexact: Annotated[
        bool,
        typer.Option(
            "--allow-inexact", help="Take an optimiser that does not commute with the keys: other weights come out."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the plan of a training. A request pins it by its digest, and who has it takes the same steps."""
    import secrets

    from rexis.ee.exactness import require_exact_plan
    from rexis.ee.finetune.description import optimiser_of
    from rexis.files import write_file
    from rexis.protocol.digests import Digest
    from rexis.protocol.training import BILLION, Schedule
    from rexis.protocol.training_kinds import ScheduleKind

    description = read_description(training)
    taken = _steps(steps, epochs, dataset, batch_size)
    chosen = optimiser if optimiser is not None else description.optimiser
    made = description.plan(
        optimiser_of(
            chosen,
            learning_rate,
            momentum=momentum,
            nesterov=nesterov,
            betas=(beta1, beta2),
            epsilon=epsilon,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
        ),
        steps=taken,
        batch_size=batch_size,
        checkpoint_interval=interval or _interval(taken),
        order_seed=digest(seed, "--seed") if seed is not None else Digest(secrets.token_bytes(32)),
        schedule=Schedule(kind=ScheduleKind(schedule.value), warmup_steps=warmup, final_e9=round(final * BILLION)),
        allow_inexact=allow_inexact,
    )
    require_exact_plan(made)
    write_file(out, made.to_json())
    if as_json:
        emit({"plan": str(out), "planDigest": str(made.digest), **made.to_object()})
        return
    say(f"{out}: {made.steps} steps of {made.batch_size} records with {chosen}, digest {made.digest}")
    say(f"trains {len(made.trainable)} constants; {made.segments + 1} committed states")


app.command("submit")(submit)
app.command("fetch")(fetch)


def _interval(steps: int) -> int:
    from rexis.protocol.training import DEFAULT_INTERVAL, MAX_SEGMENTS

    return max(min(DEFAULT_INTERVAL, -(-steps // _CHECKPOINTS)), -(-steps // MAX_SEGMENTS))


def _steps(steps: int | None, epochs: float | None, dataset: Path | None, batch_size: int) -> int:
    from rexis.datafiles import open_dataset_file

    if (steps is None) == (epochs is None):
        raise typer.BadParameter("give either --steps or --epochs", param_hint="--steps")
    if steps is not None:
        return steps
    if dataset is None or epochs is None:
        raise typer.BadParameter("--epochs needs --dataset", param_hint="--dataset")
    return max(1, math.ceil(epochs * len(open_dataset_file(dataset)) / batch_size))
