"""Equivariant Encryption: encrypt a model, and say what that hides."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rexis.cli.attacker import attack
from rexis.cli.console import emit, note, say, working
from rexis.cli.finetuning import decrypt_model, encrypt_for_training
from rexis.cli.options import Json, KeyFile, PassphraseFile, RungName, WeakPassphrase, needs
from rexis.protocol.errors import EncryptionError, RexisError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rexis.ee.attack_card import AttackReport
    from rexis.ee.card import LeakageCard, SideCard
    from rexis.ee.compiler import EncryptedModel
    from rexis.ee.container import ConstantsFile

app = typer.Typer(help="Encrypt models, see what that hides, and attack it.", no_args_is_help=True)

_CHECK_RECORDS = 32
_MAX_REPORT_BYTES = 1 << 20
_MAX_ERROR = 1e-4
_FEW_TOKENS = 8

Attacks = Annotated[
    Path | None, typer.Option(metavar="FILE", help="What attacks got, for the card: see `rexis ee attack --out`.")
]
PlainModel = Annotated[Path, typer.Option("--model", metavar="FILE", help="The plain model (ONNX).")]


@dataclass(frozen=True)
class Made:
    """What encrypting a model to files gave: the model with its key, its card, and how far its outputs are off."""

    encrypted: EncryptedModel
    card: LeakageCard
    error: float | None


AllowClear = Annotated[
    list[str] | None,
    typer.Option("--allow-clear", metavar="AXIS", help="An axis (value/axis) that may stay readable; may be repeated."),
]
DecoyInputs = Annotated[
    int,
    typer.Option(
        "--decoy-inputs", min=0, metavar="N", help="Features of fresh noise that every record gets. Changes shapes."
    ),
]
DecoyNeurons = Annotated[
    float,
    typer.Option(
        "--decoy-neurons",
        min=0.0,
        max=1.0,
        metavar="SHARE",
        help="Share of hidden neurons to split in two. Changes shapes.",
    ),
]
CardFile = Annotated[
    Path | None, typer.Option("--card", metavar="FILE", help="Write the leakage card here: .json, or .html for a page.")
]
BaseModel = Annotated[
    Path | None,
    typer.Option("--base", metavar="FILE", help="The public model that this one was fine-tuned from (ONNX)."),
]
ExternalData = Annotated[
    bool,
    typer.Option(
        "--external-data",
        help="Keep the encrypted constants in a file beside the model (OUT.data): models over 2 GB, and little "
        "memory. Jobs run models of one file.",
    ),
]
Rung = Annotated[RungName, typer.Option("--rung", help="Refuse a model that does not earn this rung.")]


@app.command("encrypt")
def encrypt(
    model: PlainModel,
    key: KeyFile,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The encrypted model to write (ONNX).")],
    epoch: Annotated[int, typer.Option(min=1, help="Key epoch. The next one: `rexis key rotate`.")] = 1,
    allow_clear: AllowClear = None,
    decoy_inputs: DecoyInputs = 0,
    decoy_neurons: DecoyNeurons = 0.0,
    card: CardFile = None,
    base: BaseModel = None,
    attacks: Attacks = None,
    rung: Rung = RungName.EE_OUTSOURCED,
    external_data: ExternalData = False,
    again: Annotated[bool, typer.Option("--again", help="Also encrypt a model that is encrypted already.")] = False,
    passphrase_file: PassphraseFile = None,
    weak: WeakPassphrase = False,
    as_json: Json = False,
) -> None:
    """Draw a fresh EE key, write it to a new file, and encrypt a model with it.

    The key file is itself encrypted with a passphrase. Whoever has both reads your records and your model.

    Decoys make the model larger and slower, and a worker who looks for them finds them: docs/ee-leakage.md.
    """
    from rexis.cli.passphrase import read_passphrase

    def passphrase() -> str:
        return read_passphrase(f"new EE key {key}", passphrase_file, new=True, weak=weak)

    made = encrypt_to_files(
        plain_model(model, again=again), key, out, epoch, passphrase,
        allow_clear=allow_clear or (), card=card, base=base, rung=rung, external_data=external_data,
        decoy_inputs=decoy_inputs, decoy_neurons=decoy_neurons, attacks=attacks,
    )  # fmt: skip
    report(made, key, out, as_json=as_json)


def plain_model(model: Path, *, again: bool = False) -> Path:
    """A path that names a plain model.

    Raises
    ------
    EncryptionError
        It was encrypted by rexis before, and `again` is false.
    """
    with needs("ee"):
        from rexis.ee.graph import is_encrypted
    if not again and is_encrypted(model):
        raise EncryptionError(
            f"{model} is an encrypted model already",
            field="model",
            hint="give the plain model; --again if you do mean to encrypt it twice, and then its records too",
        )
    return model


def encrypt_to_files(
    plain: Path,
    key: Path,
    out: Path,
    epoch: int,
    passphrase: Callable[[], str],
    *,
    allow_clear: Collection[str],
    card: Path | None,
    base: Path | None,
    rung: RungName,
    external_data: bool = False,
    decoy_inputs: int = 0,
    decoy_neurons: float = 0.0,
    attacks: Path | None = None,
) -> Made:
    """Encrypt a model with a fresh key, and write key, model and card to new files: all of them, or none.

    Raises
    ------
    EncryptionError
        The model has no rule, no place for decoys, does not earn the rung, or loses precision; or the attack report is
        of another structure.
    ConflictError
        One of the files exists.
    """
    from rexis.files import publish, require_absent, write_file

    with needs("ee"):
        from rexis.ee.card import card_of, with_attacks
        from rexis.ee.compiler import encrypt_model
        from rexis.ee.decoys import Decoys
    from rexis.ee import save_key

    require_absent(key, out, *([card] if card else []))
    data = out.with_name(f"{out.name}.data")
    if external_data:
        require_absent(data)
    found = _report(attacks) if attacks else None
    decoys = Decoys(decoy_inputs, decoy_neurons) if decoy_inputs or decoy_neurons else None
    with ExitStack() as stack:
        file = stack.enter_context(_beside(data)) if external_data else None
        with working("encrypting the model"):
            encrypted = encrypt_model(plain, epoch=epoch, allow_clear=allow_clear, decoys=decoys, file=file)
        error, ratio = _checked(plain, encrypted, file)
        private = rung == RungName.EE_PRIVATE_WEIGHTS
        made = card_of(encrypted, plain=plain, base=base, require_private=private, runtime_ratio=ratio)
        if found is not None:
            made = with_attacks(made, encrypted.plan.graph, found)
        page = written_card(made, card) if card else b""
        save_key(key, encrypted.key, passphrase())
        there = [key]  # of no use without the model
        try:
            if file is not None:
                publish(file.path, data, overwrite=False)
                there.append(data)
            write_file(out, encrypted.model)
            there.append(out)
            if card:
                write_file(card, page)
        except BaseException:  # an interrupt, too, leaves no key behind that opens nothing
            for path in there:
                path.unlink()
            raise
    return Made(encrypted, made, error)


def report(made: Made, key: Path, out: Path, *, as_json: bool) -> None:
    """Say what was made."""
    encrypted = made.encrypted
    for warning in _warnings(made.card):
        note(f"warning: {warning}")
    if as_json:
        emit(
            {
                "key": str(key),
                "keyId": encrypted.key.key_id,
                "model": str(out),
                "modelDigest": str(encrypted.digest),
                "keyEpoch": encrypted.key.epoch,
                "error": made.error,
                "card": made.card.model_dump(by_alias=True, mode="json"),
            }
        )
        return
    say(f"EE key          {key} (epoch {encrypted.key.epoch}, id {encrypted.key.key_id})")
    say(f"encrypted model {out}")
    say(f"model digest    {encrypted.digest}")
    for side, found in _sides(made.card):
        moved = ", moved by an offset" if found.offset else ""
        say(f"{side:15} {_shape(found.shape)}: {'; '.join(found.axes)}{moved}")
    if made.card.decoys is not None:
        say(f"decoys          {made.card.decoys.said}")
    if made.card.smallest_distance is not None:
        say(f"rung            {made.card.rung}: every layer at least {made.card.smallest_distance:.1%} from the base")
    if made.error is not None:
        say(f"checked         relative error {made.error:.1e} (median of {_CHECK_RECORDS} random records)")


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
    from rexis.files import write_file

    with needs("ee"):
        from rexis.ee.card import card_of_graph, with_attacks
        from rexis.ee.graph import Graph

    made = card_of_graph(model)
    if attacks is not None:
        made = with_attacks(made, Graph(model), _report(attacks))
    if out is not None:
        write_file(out, written_card(made, out))
        return
    if as_json:
        emit(made.model_dump(by_alias=True, mode="json"))
        return
    say(f"model   {made.model_digest}")
    say(f"file    {_FILES[made.file]}")
    for name, side in _sides(made):
        say(f"{name:7} {_shape(side.shape)}: {'; '.join(side.axes)} (values {side.values})")
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
    if made.training is not None:
        say(f"training with {made.training.optimiser} shows, besides:")
        for text in made.training.visible:
            say(f"  - {text}")
    if made.attacks:
        say("attacks (lower bounds):")
        for tried in made.attacks:
            on = "" if tried.input is None else f" on {tried.input}"
            scored = "" if tried.score is None else f"{tried.score:.2f} ({tried.floor:.2f}–{tried.ceiling:.2f}), "
            say(f"  - {tried.name}{on}: {scored}{tried.verdict}. {tried.says}")


app.command("attack")(attack)
app.command("encrypt-for-training")(encrypt_for_training)
app.command("decrypt-model")(decrypt_model)


def _sides(card: LeakageCard) -> list[tuple[str, SideCard]]:
    """Records and outputs, with names for people: those of the inputs where there are several."""
    several = len(card.inputs) > 1
    return [*((each.name if several else "records", each) for each in card.inputs), ("outputs", card.output)]


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


def written_card(card: LeakageCard, path: Path) -> bytes:
    """A leakage card as the bytes of a file of this name."""
    from rexis.ee.card import page

    if path.suffix == ".html":
        return page(card).encode()
    if path.suffix == ".json":
        return card.to_json()
    raise RexisError(f"{path} is neither .json nor .html")


def _warnings(card: LeakageCard) -> list[str]:
    """What an owner should not overlook."""
    found = []
    for what, side in _sides(card):
        if side.vocabulary is not None:
            few = f"; a vocabulary of {side.vocabulary} falls to counting" if side.vocabulary <= _FEW_TOKENS else ""
            found.append(f"{what}: how often each token occurs stays readable{few}")
        elif side.values != "mixed":
            found.append(f"{what}: no dense key mixes them ({'; '.join(side.axes)}), single values stay readable")
        elif not side.offset:
            found.append(f"{what}: no offset moves them, zero stays zero")
    return found


def _random_records(encrypted: EncryptedModel) -> dict[str, NDArray[Any]]:
    """Standardised values where values are mixed; else what a mask or an adjacency may hold."""
    import numpy as np

    from rexis.ee.card import values_of

    random = np.random.default_rng(0)
    found = {}
    for name, key in encrypted.key.inputs.items():
        shape = (_CHECK_RECORDS, *key.plain_shape)
        made: NDArray[Any]
        if key.tokens is not None:
            made = random.integers(0, key.tokens, shape)
        elif key.element != "float32":
            made = random.integers(0, 2, shape)
        elif len(encrypted.key.inputs) > 1 and values_of(encrypted.plan, name) != "mixed":
            made = random.uniform(0, 1, shape)
        else:
            made = random.normal(size=shape)
        found[name] = made.astype(key.element)
    return found


@contextmanager
def _beside(data: Path) -> Iterator[ConstantsFile]:
    """A file of constants that gets its name once all is well; it is in the same folder until then."""
    from rexis.ee.container import ConstantsFile

    try:
        folder = TemporaryDirectory(dir=data.parent, prefix=f".{data.name}.")
    except OSError as error:
        raise RexisError(f"cannot write in {data.parent}: {error.strerror}", hint="does the folder exist?") from None
    with folder as name, ConstantsFile(Path(name) / data.name, data.name) as file:
        yield file


def _checked(plain: Path, encrypted: EncryptedModel, file: ConstantsFile | None) -> tuple[float | None, float | None]:
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

    records = _random_records(encrypted)
    runnable: bytes | Path = encrypted.model
    if file is not None:  # the runtime finds constants beside a model's path
        runnable = file.path.with_suffix(".onnx")
        runnable.write_bytes(encrypted.model)
    fed = ((plain, records), (runnable, encrypt_records(encrypted.key, records)))
    sides = []
    for model, given in fed:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        sides.append(session.run(None, given)[0])
    # A random mask may leave a record without anything to look at, and the plain model without a number for it.
    kept = np.isfinite(sides[0].reshape(_CHECK_RECORDS, -1)).all(axis=1)
    if not kept.any():
        return None, None
    expected, found = sides[0][kept], decrypt_outputs(encrypted.key, sides[1][kept])
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
