"""Commands of the model owner around a training: encrypt a model for it, and decrypt the one that came out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import emit, note, say, working
from rexis.cli.options import Json, KeyFile, PassphraseFile, WeakPassphrase, needs
from rexis.protocol.training_kinds import LossKind, OptimiserKind

if TYPE_CHECKING:
    from rexis.ee.finetune.description import TrainingDescription
    from rexis.ee.finetune.encrypting import TrainableModel

MAX_MODEL_BYTES = 2 << 30
_MAX_DESCRIPTION_BYTES = 4 << 20


class PartName(StrEnum):
    """What trains, as options name it."""

    ALL = "all"
    HEAD = "head"
    LORA = "lora"


Description = Annotated[
    Path,
    typer.Option("--training", metavar="FILE", help="What `rexis ee encrypt-for-training` wrote beside the model."),
]


def encrypt_for_training(
    model: Annotated[Path, typer.Option(metavar="FILE", help="The plain base model (ONNX).")],
    key: KeyFile,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The encrypted model to write (ONNX).")],
    training: Annotated[
        Path, typer.Option(metavar="FILE", help="What plans and data owners need to know of it, to write (.json).")
    ],
    loss: Annotated[LossKind, typer.Option(help="What will be minimised. It decides the outputs' key.")],
    optimiser: Annotated[
        OptimiserKind, typer.Option(help="What will train. Keys for sgd hide more than those for adam and adamw.")
    ] = OptimiserKind.SGD,
    train: Annotated[
        list[PartName] | None,
        typer.Option(help="What trains; may be repeated. Default: all. lora adds adapters to the graph."),
    ] = None,
    freeze: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A constant that does not train; may be repeated.")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="lora: rank of the adapters.")] = 8,
    alpha: Annotated[
        float | None, typer.Option(min=0, help="lora: adapters are scaled with alpha/rank. Default: the rank.")
    ] = None,
    adapt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="lora: a weight to adapt; may be repeated. Default: all that are wider than the rank.",
        ),
    ] = None,
    epoch: Annotated[int, typer.Option(min=1, help="Key epoch.")] = 1,
    allow_clear: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS", help="An axis (value/axis) that may stay readable; may be repeated."),
    ] = None,
    card: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the leakage card here: .json, or .html for a page.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also encrypt a model that is encrypted already.")] = False,
    passphrase_file: PassphraseFile = None,
    weak: WeakPassphrase = False,
    as_json: Json = False,
) -> None:
    """Draw a key that a training commutes with, and encrypt a model with it.

    Decrypting what the training gives is then, up to rounding, what training in the clear gives. Constants that do not
    train keep the keys that they have for inference. Where torch is installed, one step is compared with one in the
    clear first.
    """
    from rexis.cli.ee import plain_model, written_card
    from rexis.cli.passphrase import read_passphrase
    from rexis.files import require_absent, write_file

    with needs("ee"):
        from rexis.ee.card import card_for_training
        from rexis.ee.finetune.adapters import add_adapters
        from rexis.ee.finetune.encrypting import encrypt_for_training as encrypted_for_training
        from rexis.ee.finetune.trainable import Part
    from rexis.ee import save_key

    parts = train or [PartName.ALL]
    require_absent(key, out, training, *([card] if card else []))
    with working("encrypting the model"):
        plain: Path | bytes = plain_model(model, again=again)
        if PartName.LORA in parts:
            plain = add_adapters(plain, rank=rank, alpha=float(rank) if alpha is None else alpha, weights=adapt)
        made = encrypted_for_training(
            plain,
            optimiser=optimiser,
            loss=loss,
            train=[Part(part.value) for part in parts],
            frozen=freeze or (),
            epoch=epoch,
            allow_clear=allow_clear or (),
        )
        made = _compared(made)
    leaks = card_for_training(made)
    page = written_card(leaks, card) if card else b""
    save_key(key, made.encrypted.key, read_passphrase(f"new EE key {key}", passphrase_file, new=True, weak=weak))
    there = [key]
    try:
        for path, data in ((out, made.encrypted.model), (training, made.description.to_json())):
            write_file(path, data)
            there.append(path)
        if card:
            write_file(card, page)
    except BaseException:  # an interrupt, too, leaves no key behind that opens nothing
        for path in there:
            path.unlink()
        raise
    _report(made, key, out, training, leaks.training.visible if leaks.training else [], as_json=as_json)


def decrypt_model(
    checkpoint: Annotated[Path, typer.Option(metavar="FILE", help="The trained model, encrypted (ONNX).")],
    key: KeyFile,
    training: Description,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The plain trained model to write (ONNX).")],
    merge_lora: Annotated[
        bool, typer.Option("--merge-lora", help="Add adapters to their weights: the graph is the base model's again.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Decrypt a model that was trained under EE, with the key of the model that it was trained from."""
    from rexis.cli.passphrase import read_passphrase
    from rexis.files import read_file, require_absent, write_file

    with needs("ee"):
        from rexis.ee.finetune.decrypting import decrypt_model as decrypted
    from rexis.ee import load_key
    from rexis.protocol.digests import sha256

    require_absent(out)
    description = read_description(training)
    found = read_file(checkpoint, "trained model", max_bytes=MAX_MODEL_BYTES)
    ee_key = load_key(key, read_passphrase(f"EE key {key}", passphrase_file))
    plain = decrypted(found, ee_key, description, merge=merge_lora)
    write_file(out, plain, private=True)
    if as_json:
        emit({"model": str(out), "modelDigest": str(sha256(plain)), "trained": len(description.trainable)})
    else:
        say(f"{out}: plain model, {len(description.trainable)} constants trained")


def read_description(path: Path) -> TrainingDescription:
    """What :func:`encrypt_for_training` wrote beside the model."""
    from rexis.ee.finetune.description import TrainingDescription
    from rexis.files import read_file

    return TrainingDescription.from_json(read_file(path, "training description", max_bytes=_MAX_DESCRIPTION_BYTES))


def _compared(made: TrainableModel) -> TrainableModel:
    """Without the parameters that the optimiser would make walk, once a step is shown to commute with the keys."""
    try:
        from rexis.ee.finetune.checking import require_commuting
    except ModuleNotFoundError:
        note("warning: torch is not installed, so that no step was compared with one in the clear")
        return made
    idle = require_commuting(made)
    made = made.leaving_out(idle)
    left_out = [name for name in idle if name not in made.description.trainable]
    if left_out:
        note(f"left frozen, since the loss does not depend on them: {', '.join(left_out)}")
    return made


def _report(made: TrainableModel, key: Path, out: Path, training: Path, shows: list[str], *, as_json: bool) -> None:
    description, ee_key = made.description, made.encrypted.key
    if as_json:
        emit(
            {
                "key": str(key),
                "keyId": ee_key.key_id,
                "model": str(out),
                "modelDigest": str(description.model_digest),
                "keyEpoch": ee_key.epoch,
                "training": description.to_object(),
                "visible": shows,
            }
        )
        return
    say(f"EE key          {key} (epoch {ee_key.epoch}, id {ee_key.key_id})")
    say(f"encrypted model {out}")
    say(f"model digest    {description.model_digest}")
    say(f"training        {training}: {description.loss}, {description.optimiser}")
    say(f"trains          {len(description.trainable)} constants; their keys {', '.join(description.powers) or 'none'}")
    say("a training shows, beyond what inference does:")
    for text in shows:
        say(f"  - {text}")
