"""Equivariant Encryption: encrypt a model, and say what that hides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.attacker import attack
from rexis.cli.console import emit, note, say, working
from rexis.cli.options import Json, KeyFile, PassphraseFile, needs
from rexis.protocol.errors import EncryptionError, RexisError

if TYPE_CHECKING:
    from rexis.ee.attack_card import AttackReport
    from rexis.ee.card import LeakageCard
    from rexis.ee.compiler import EncryptedModel

app = typer.Typer(help="Encrypt models, see what that hides, and attack it.", no_args_is_help=True)

MAX_MODEL_BYTES = 2 << 30  # a protobuf message cannot be larger
_RUNGS = ("ee-outsourced", "ee-private-weights")
_CHECK_RECORDS = 32
_MAX_REPORT_BYTES = 1 << 20
_MAX_ERROR = 1e-4

Attacks = Annotated[
    Path | None, typer.Option(metavar="FILE", help="What attacks got, for the card: see `rexis ee attack --out`.")
]
PlainModel = Annotated[Path, typer.Option("--model", metavar="FILE", help="The plain model (ONNX).")]


@app.command("encrypt")
def encrypt(
    model: PlainModel,
    key: KeyFile,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The encrypted model to write (ONNX).")],
    epoch: Annotated[
        int, typer.Option(min=1, help="Key epoch. Rotate keys by encrypting again with the next one.")
    ] = 1,
    allow_clear: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS", help="An axis (value/axis) that may stay readable; may be repeated."),
    ] = None,
    decoy_inputs: Annotated[
        int, typer.Option(min=0, metavar="N", help="Features of fresh noise that every record gets. Changes shapes.")
    ] = 0,
    decoy_neurons: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, metavar="SHARE", help="Share of hidden neurons to split in two. Changes shapes."
        ),
    ] = 0.0,
    card: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the leakage card here: .json, or .html for a page.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The public model that this one was fine-tuned from (ONNX).")
    ] = None,
    attacks: Attacks = None,
    rung: Annotated[
        str, typer.Option(metavar="|".join(_RUNGS), help="Refuse a model that does not earn this rung.")
    ] = _RUNGS[0],
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Draw a fresh EE key, write it to a new file, and encrypt a model with it.

    The key file is itself encrypted with a passphrase. Whoever has both reads your records and your model.

    Decoys make the model larger and slower, and a worker who looks for them finds them: docs/ee-leakage.md.
    """
    from rexis.cli.passphrase import read_passphrase
    from rexis.files import read_file, require_absent, write_file

    with needs("ee"):
        from rexis.ee.card import card_of, with_attacks
        from rexis.ee.compiler import encrypt_model
        from rexis.ee.decoys import Decoys
    from rexis.ee import save_key

    if rung not in _RUNGS:
        raise typer.BadParameter(f"one of {', '.join(_RUNGS)}", param_hint="--rung")
    require_absent(key, out, *([card] if card else []))
    plain = read_file(model, "model", max_bytes=MAX_MODEL_BYTES)
    public = read_file(base, "base model", max_bytes=MAX_MODEL_BYTES) if base else None
    with working("encrypting the model"):
        decoys = Decoys(decoy_inputs, decoy_neurons) if decoy_inputs or decoy_neurons else None
        encrypted = encrypt_model(plain, epoch=epoch, allow_clear=allow_clear or (), decoys=decoys)
    error, ratio = _checked(plain, encrypted)
    private = rung == "ee-private-weights"
    made = card_of(encrypted, plain=plain, base=public, require_private=private, runtime_ratio=ratio)
    if attacks is not None:
        made = with_attacks(made, encrypted.model, _report(attacks))
    save_key(key, encrypted.key, read_passphrase(f"new EE key {key}", passphrase_file, new=True))
    try:
        write_file(out, encrypted.model)
    except RexisError:
        key.unlink()  # a key without its model is of no use
        raise
    if card:
        write_file(card, _written(made, card))
    for warning in _warnings(made):
        note(f"warning: {warning}")
    if as_json:
        emit(
            {
                "key": str(key),
                "keyId": encrypted.key.key_id,
                "model": str(out),
                "modelDigest": str(encrypted.digest),
                "keyEpoch": epoch,
                "error": error,
                "card": made.model_dump(by_alias=True, mode="json"),
            }
        )
        return
    say(f"EE key          {key} (epoch {epoch}, id {encrypted.key.key_id})")
    say(f"encrypted model {out}")
    say(f"model digest    {encrypted.digest}")
    for side, found in (("records", made.input), ("outputs", made.output)):
        moved = ", moved by an offset" if found.offset else ""
        say(f"{side:15} {_shape(found.shape)}: {'; '.join(found.axes)}{moved}")
    if made.decoys is not None:
        say(f"decoys          {made.decoys.said}")
    if error is not None:
        say(f"checked         relative error {error:.1e} (median of {_CHECK_RECORDS} random records)")


@app.command("card")
def card(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model, encrypted or plain (ONNX).")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it to a file instead: .json, or .html for a page.")
    ] = None,
    attacks: Attacks = None,
    as_json: Json = False,
) -> None:
    """What an encrypted model hides and what stays visible, from its graph alone.

    Distances from a public base model and the rung need the plain model: `rexis ee encrypt --card`.
    """
    from rexis.files import read_file, write_file

    with needs("ee"):
        from rexis.ee.card import card_of_graph, with_attacks

    data = read_file(model, "model", max_bytes=MAX_MODEL_BYTES)
    made = card_of_graph(data)
    if attacks is not None:
        made = with_attacks(made, data, _report(attacks))
    if out is not None:
        write_file(out, _written(made, out))
        return
    if as_json:
        emit(made.model_dump(by_alias=True, mode="json"))
        return
    say(f"model   {made.model_digest}")
    say(f"file    {_FILES[made.file]}")
    say(f"records {_shape(made.input.shape)}: {'; '.join(made.input.axes)}")
    say(f"outputs {_shape(made.output.shape)}: {'; '.join(made.output.axes)}")
    say("visible:")
    for text in made.visible:
        say(f"  - {text}")
    if made.clear:
        say("axes in the clear:")
        for axis in made.clear:
            say(f"  - {axis.where} ({axis.size}): {axis.reason}")
    say("keys:")
    for each in made.axes:
        many = f", {each.per_place} keys" if each.per_place > 1 else ""
        say(f"  - {each.where[0]} ({each.size}): {each.group}{many}, {each.bits:g} bits, {each.parameters} parameters")
    if made.attacks:
        say("attacks (lower bounds):")
        for tried in made.attacks:
            scored = "" if tried.score is None else f"{tried.score:.2f} ({tried.floor:.2f}–{tried.ceiling:.2f}), "
            say(f"  - {tried.name}: {scored}{tried.verdict}. {tried.says}")


app.command("attack")(attack)


def _shape(shape: list[int]) -> str:
    return "×".join(str(size) for size in shape)


_FILES = {
    "encrypted": "encrypted, by the mark that rexis leaves",
    "plain": "plain: nothing in it is hidden; what follows is what encrypting it would hide",
}


def _report(path: Path) -> AttackReport:
    from rexis.ee.attack_card import AttackReport
    from rexis.files import read_file

    return AttackReport.from_json(read_file(path, "attack report", max_bytes=_MAX_REPORT_BYTES))


def _written(card: LeakageCard, path: Path) -> bytes:
    from rexis.ee.card import page

    if path.suffix == ".html":
        return page(card).encode()
    if path.suffix == ".json":
        return card.to_json()
    raise RexisError(f"{path} is neither .json nor .html")


def _warnings(card: LeakageCard) -> list[str]:
    """What an owner should not overlook."""
    found = []
    for what, side in (("records", card.input), ("outputs", card.output)):
        if not any("invertible" in axis or "orthogonal" in axis for axis in side.axes):
            found.append(f"{what} are not mixed by a dense key ({'; '.join(side.axes)}): single values stay readable")
        elif not side.offset:
            found.append(f"{what} are not moved by an offset: zero stays zero")
    if card.input.vocabulary is not None and card.input.vocabulary <= 8:
        found.append(f"a vocabulary of {card.input.vocabulary} falls to counting")
    return found


def _checked(plain: bytes, encrypted: EncryptedModel) -> tuple[float | None, float | None]:
    """Median relative error on random records, and with decoys the runtime ratio, if ONNX Runtime is here.

    Raises
    ------
    EncryptionError
        More than 1e-4: the model is badly conditioned, or the compiler is wrong.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None, None
    import numpy as np

    from rexis.ee import decrypt_outputs, encrypt_records

    key = encrypted.key.input
    if key is None:
        return None, None
    random = np.random.default_rng(0)
    shape = (_CHECK_RECORDS, *key.plain_shape)
    records = random.normal(size=shape) if key.tokens is None else random.integers(0, key.tokens, shape)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sides, fed = [], []
    for model, given in ((plain, records), (encrypted.model, encrypt_records(encrypted.key, records.astype("f4")))):
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        node = session.get_inputs()[0]
        kind = np.float32 if node.type == "tensor(float)" else np.int64
        fed.append((model, given.astype(kind)))
        sides.append(session.run(None, {node.name: fed[-1][1]})[0])
    expected, found = sides[0], decrypt_outputs(encrypted.key, sides[1])
    difference = np.linalg.norm((found - expected).reshape(len(expected), -1), axis=1)
    size = np.linalg.norm(expected.reshape(len(expected), -1), axis=1)
    error = float(np.median(difference / np.maximum(size, np.finfo(np.float32).tiny)))
    if not error <= _MAX_ERROR:
        raise EncryptionError(
            f"the encrypted model is off by {error:.1e} of the plain one's outputs (median of random records)",
            hint="its outputs lose more precision than float32 has; standardise the records and rescale the outputs",
        )
    if encrypted.widening is None:
        return error, None
    from rexis.ee.decoys.cost import runtime_ratio

    return error, runtime_ratio(*fed)
