"""Equivariant Encryption: encrypt a model, and say what that hides."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.attacker import attack
from rexis.cli.console import emit, note, say, working
from rexis.cli.options import Json, KeyFile, PassphraseFile, RungName, WeakPassphrase, needs
from rexis.protocol.errors import EncryptionError, RexisError

if TYPE_CHECKING:
    from rexis.ee.card import LeakageCard
    from rexis.ee.compiler import EncryptedModel
    from rexis.ee.container import ConstantsFile

app = typer.Typer(help="Encrypt models, see what that hides, and attack it.", no_args_is_help=True)

_CHECK_RECORDS = 32
_MAX_ERROR = 1e-4
_CONSTANTS_FOLDER = "session.model_external_initializers_file_folder_path"  # onnxruntime_session_options_config_keys.h

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
    card: CardFile = None,
    base: BaseModel = None,
    rung: Rung = RungName.EE_OUTSOURCED,
    external_data: ExternalData = False,
    again: Annotated[bool, typer.Option("--again", help="Also encrypt a model that is encrypted already.")] = False,
    passphrase_file: PassphraseFile = None,
    weak: WeakPassphrase = False,
    as_json: Json = False,
) -> None:
    """Draw a fresh EE key, write it to a new file, and encrypt a model with it.

    The key file is itself encrypted with a passphrase. Whoever has both reads your records and your model.
    """
    from rexis.cli.passphrase import read_passphrase

    def passphrase() -> str:
        return read_passphrase(f"new EE key {key}", passphrase_file, new=True, weak=weak)

    made = encrypt_to_files(
        plain_model(model, again=again), key, out, epoch, passphrase,
        allow_clear=allow_clear or (), card=card, base=base, rung=rung, external_data=external_data,
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
) -> Made:
    """Encrypt a model with a fresh key, and write key, model and card to new files: all of them, or none.

    Raises
    ------
    EncryptionError
        The model has no rule, does not earn the rung, or loses precision.
    ConflictError
        One of the files exists.
    """
    from rexis.files import publish, require_absent, write_file

    with needs("ee"):
        from rexis.ee.card import card_of
        from rexis.ee.compiler import encrypt_model
    from rexis.ee import save_key

    data = out.with_name(f"{out.name}.data")
    require_absent(key, out, *([data] if external_data else []), *([card] if card else []))
    with ExitStack() as stack:
        file = stack.enter_context(_beside(data)) if external_data else None
        with working("encrypting the model"):
            encrypted = encrypt_model(plain, epoch=epoch, allow_clear=allow_clear, file=file)
        made = card_of(encrypted, plain=plain, base=base, require_private=rung == RungName.EE_PRIVATE_WEIGHTS)
        error = _checked(plain, encrypted, file)
        page = _written(made, card) if card else b""
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
        except RexisError:
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
    for side, found in (("records", made.card.input), ("outputs", made.card.output)):
        moved = ", moved by an offset" if found.offset else ""
        say(f"{side:15} {_shape(found.shape)}: {'; '.join(found.axes)}{moved}")
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
    as_json: Json = False,
) -> None:
    """What an encrypted model hides and what stays visible, from its graph alone.

    Distances from a public base model and the rung need the plain model: `rexis ee encrypt --card`.
    """
    from rexis.files import write_file

    with needs("ee"):
        from rexis.ee.card import card_of_graph

    made = card_of_graph(model)
    if out is not None:
        write_file(out, _written(made, out))
        return
    if as_json:
        emit(made.model_dump(by_alias=True, mode="json"))
        return
    say(f"model   {made.model_digest}")
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


app.command("attack")(attack)


def _shape(shape: list[int]) -> str:
    return "×".join(str(size) for size in shape)


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


def _checked(plain: Path, encrypted: EncryptedModel, file: ConstantsFile | None) -> float | None:
    """Median relative error on random records, if ONNX Runtime is here; refuses what is beyond float32's.

    Raises
    ------
    EncryptionError
        More than 1e-4: the model is badly conditioned, or the compiler is wrong.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None
    import numpy as np

    from rexis.ee import decrypt_outputs, encrypt_records

    key = encrypted.key.input
    if key is None:
        return None
    random = np.random.default_rng(0)
    shape = (_CHECK_RECORDS, *key.shape)
    records = random.normal(size=shape) if key.tokens is None else random.integers(0, key.tokens, shape)
    hidden = encrypt_records(encrypted.key, records.astype(np.float32))
    sides = []
    for model, given in ((str(plain), records), (encrypted.model, hidden)):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if file is not None and isinstance(model, bytes):
            options.add_session_config_entry(_CONSTANTS_FOLDER, str(file.path.parent))
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        node = session.get_inputs()[0]
        kind = np.float32 if node.type == "tensor(float)" else np.int64
        sides.append(session.run(None, {node.name: given.astype(kind)})[0])
    expected, found = sides[0], decrypt_outputs(encrypted.key, sides[1])
    difference = np.linalg.norm((found - expected).reshape(len(expected), -1), axis=1)
    size = np.linalg.norm(expected.reshape(len(expected), -1), axis=1)
    error = float(np.median(difference / np.maximum(size, np.finfo(np.float32).tiny)))
    if not error <= _MAX_ERROR:
        raise EncryptionError(
            f"the encrypted model is off by {error:.1e} of the plain one's outputs (median of random records)",
            hint="its outputs lose more precision than float32 has; standardise the records and rescale the outputs",
        )
    return error
