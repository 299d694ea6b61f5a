"""Handing keys on: the part that somebody needs, sealed to them. Never by way of the coordinator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import emit, note, say
from rexis.cli.options import Json, KeyFile, PassphraseFile, WeakPassphrase, digest
from rexis.cli.rotation import rotate
from rexis.protocol.errors import DigestMismatchError, RexisError

if TYPE_CHECKING:
    from rexis.ee.keys import KeyPart
    from rexis.protocol.digests import Digest

app = typer.Typer(help="Export, share and rotate EE keys.", no_args_is_help=True)

_Part = Annotated[
    str,
    typer.Option(
        metavar="encrypt|decrypt|label|full",
        help="For the data owner, the reader of results, the data owner of a training, or everything.",
    ),
]
_Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")]
_MAX_LINE_BYTES = 16 << 10


@app.command("show")
def show(key: KeyFile, passphrase_file: PassphraseFile = None, as_json: Json = False) -> None:
    """What a key file is: id, epoch, model, part. Nothing of the key itself."""
    from rexis.cli.passphrase import read_passphrase
    from rexis.ee import load_key

    found = load_key(key, read_passphrase(f"EE key {key}", passphrase_file))
    if as_json:
        emit(
            {"keyId": found.key_id, "keyEpoch": found.epoch, "modelDigest": str(found.model_digest), "part": found.part}
        )
        return
    say(f"key id       {found.key_id}")
    say(f"epoch        {found.epoch}")
    say(f"model digest {found.model_digest}")
    say(f"part         {found.part}")


@app.command("export")
def export(key: KeyFile, part: _Part, out: _Out, passphrase_file: PassphraseFile = None) -> None:
    """Write a part of a key to a new key file, under the same passphrase."""
    from rexis.cli.passphrase import read_passphrase
    from rexis.ee import load_key, save_key
    from rexis.files import require_absent

    require_absent(out)
    passphrase = read_passphrase(f"EE key {key}", passphrase_file)
    save_key(out, load_key(key, passphrase).only(_part(part)), passphrase)
    say(f"{out}: {part} part")


@app.command("recipient")
def recipient(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where your private half goes.")],
    public: Annotated[Path, typer.Option("--public", metavar="FILE", help="Where your public half goes.")],
    passphrase_file: PassphraseFile = None,
    weak: WeakPassphrase = False,
) -> None:
    """Make a key pair that others can seal EE keys to."""
    from rexis.cli.passphrase import read_passphrase
    from rexis.ee.share import RecipientKey
    from rexis.files import require_absent, write_file

    require_absent(out, public)
    mine = RecipientKey.fresh()
    mine.save(out, read_passphrase(f"new recipient key {out}", passphrase_file, new=True, weak=weak))
    write_file(public, mine.recipient.text.encode() + b"\n")
    say(f"private half {out}")
    say(f"public half  {public}, to be sent to who shares a key with you")
    say(f"fingerprint  {mine.recipient.digest}, to be compared over another channel")


@app.command("share")
def share(
    key: KeyFile,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The recipient's public half.")],
    part: _Part,
    out: _Out,
    fingerprint: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="The recipient's fingerprint, as they told you over another channel."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether the fingerprint is theirs.")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Seal a part of a key to a recipient (HPKE, post-quantum hybrid). Only they can open it.

    Whoever can swap the recipient's public half on its way to you gets the key instead. So compare its fingerprint
    with them over another channel, and give it with --fingerprint, or say yes when asked.
    """
    from rexis.cli.passphrase import read_passphrase
    from rexis.ee import load_key
    from rexis.ee.share import Recipient, seal_key
    from rexis.files import read_file, require_absent, write_file

    require_absent(out)
    line = read_file(to, "recipient's public half", max_bytes=_MAX_LINE_BYTES).decode("utf-8", "replace")
    whom = Recipient.parse(line.strip())
    _confirm(whom.digest, digest(fingerprint, "--fingerprint") if fingerprint else None, yes=yes)
    found = load_key(key, read_passphrase(f"EE key {key}", passphrase_file))
    write_file(out, seal_key(found.only(_part(part)), whom))
    say(f"{out}: {part} part of key {found.key_id}, for {whom.digest}")


@app.command("receive")
def receive(
    sealed: Annotated[Path, typer.Argument(metavar="SEALED", help="What `rexis key share` wrote for you.")],
    private: Annotated[Path, typer.Option("--with", metavar="FILE", help="Your private half.")],
    out: _Out,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Open a key that was sealed to you, and write it to a new key file under your passphrase."""
    from rexis.cli.passphrase import read_passphrase
    from rexis.ee import save_key
    from rexis.ee.share import MAX_SEALED_BYTES, RecipientKey
    from rexis.files import read_file, require_absent

    require_absent(out)
    passphrase = read_passphrase(f"recipient key {private}", passphrase_file)
    found = RecipientKey.load(private, passphrase).open(read_file(sealed, "sealed key", max_bytes=MAX_SEALED_BYTES))
    save_key(out, found, passphrase)
    say(f"{out}: {found.part} part of key {found.key_id}, epoch {found.epoch}")
    say(f"model digest {found.model_digest}, to be compared with what the model owner published")


@app.command("follow")
def follow(
    key: KeyFile,
    checkpoint: Annotated[Path, typer.Option(metavar="FILE", help="The trained model, encrypted (ONNX).")],
    training: Annotated[
        Path, typer.Option(metavar="FILE", help="What `rexis ee encrypt-for-training` wrote beside the base model.")
    ],
    out: _Out,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write the key of a model that was trained under EE: the base model's key, under the trained model's digest.

    It encrypts records for the trained model, and decrypts its outputs. Of a part of a key it is that part.
    """
    from rexis.cli.finetuning import MAX_MODEL_BYTES, read_description
    from rexis.cli.passphrase import read_passphrase
    from rexis.ee import load_key, save_key
    from rexis.ee.finetune.decrypting import key_of_trained
    from rexis.files import read_file, require_absent

    require_absent(out)
    description = read_description(training)
    trained = read_file(checkpoint, "trained model", max_bytes=MAX_MODEL_BYTES)
    passphrase = read_passphrase(f"EE key {key}", passphrase_file)
    found = key_of_trained(trained, load_key(key, passphrase), description)
    save_key(out, found, passphrase)
    say(f"{out}: {found.part} part, for model {found.model_digest}")


app.command("rotate")(rotate)


def _confirm(found: Digest, expected: Digest | None, *, yes: bool) -> None:
    """Show the recipient's fingerprint; go on only if it is the expected one, or somebody says that it is."""
    note(f"recipient's fingerprint {found}")
    if expected is not None:
        if found != expected:
            raise DigestMismatchError(
                f"the public half has fingerprint {found}, not {expected}",
                field="to",
                hint="nothing was sealed; somebody may have exchanged it: ask the recipient",
            )
        return
    if yes:
        return
    if not sys.stdin.isatty():
        raise RexisError(
            "nobody is here to confirm the fingerprint",
            field="to",
            hint="--fingerprint DIGEST, or --yes without asking",
        )
    if not typer.confirm("Did the recipient tell you this fingerprint over another channel?", err=True):
        raise RexisError("nothing was sealed: the fingerprint was not confirmed", field="to")


def _part(text: str) -> KeyPart:
    from rexis.ee.keys import KeyPart

    try:
        return KeyPart(text)
    except ValueError:
        raise typer.BadParameter("encrypt, decrypt, label or full", param_hint="--part") from None
