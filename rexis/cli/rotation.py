"""``rexis key rotate``: the next key epoch of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import note
from rexis.cli.ee import AllowClear, BaseModel, CardFile, PlainModel, Rung, encrypt_to_files, plain_model, report
from rexis.cli.options import Json, KeyFile, PassphraseFile, RungName, WeakPassphrase, needs
from rexis.protocol.errors import KeyFileError

if TYPE_CHECKING:
    from rexis.ee import EEKey

_WHAT_IT_DOES = (
    "The old key was left as it is: it decrypts the results of its epoch.",
    "From now on, records and outputs are under another key. What was sent before is not protected by this.",
    "Not unlinked: the weights are the same, so who has both encrypted models can tell that they belong together.",
    "Not enough if the old key leaked: who read the weights with it finds them again in the new model. Train on first.",
)


def rotate(
    model: PlainModel,
    key: KeyFile,
    new_key: Annotated[Path, typer.Option("--new-key", metavar="FILE", help="The next epoch's key to write.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The next epoch's encrypted model to write.")],
    epoch: Annotated[
        int | None, typer.Option(min=1, help="The new key's epoch; later than the old one's. Default: the next.")
    ] = None,
    allow_clear: AllowClear = None,
    card: CardFile = None,
    base: BaseModel = None,
    rung: Rung = RungName.EE_OUTSOURCED,
    passphrase_file: PassphraseFile = None,
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the new key's passphrase. Default: where the old key's is from."),
    ] = None,
    weak: WeakPassphrase = False,
    as_json: Json = False,
) -> None:
    """Draw the next epoch's EE key and encrypt the plain model with it. The old key stays, for old results.

    Then register the new model (`rexis register --epoch …`), encrypt records anew, share the new key, and revoke the
    old epoch on chain (`rexis revoke`).
    """
    from rexis.cli.passphrase import read_passphrase
    from rexis.ee import load_key
    from rexis.files import require_absent

    require_absent(new_key, out, *([card] if card else []))
    plain = plain_model(model)
    old = load_key(key, read_passphrase(f"EE key {key}", passphrase_file))
    _require_same_structure(old, plain)
    following = _following(old, epoch)

    def passphrase() -> str:
        return read_passphrase(f"new EE key {new_key}", new_passphrase_file or passphrase_file, new=True, weak=weak)

    made = encrypt_to_files(
        plain, new_key, out, following, passphrase, allow_clear=allow_clear or (), card=card, base=base, rung=rung
    )
    report(made, new_key, out, as_json=as_json)
    for line in _WHAT_IT_DOES:
        note(line)


def _following(old: EEKey, epoch: int | None) -> int:
    if epoch is None:
        return old.epoch + 1
    if epoch <= old.epoch:
        what = "is the current key's" if epoch == old.epoch else f"is before the current key's, {old.epoch}"
        raise KeyFileError(
            f"epoch {epoch} {what}: an epoch names one key",
            field="epoch",
            hint=f"{old.epoch + 1} or later; without --epoch it is {old.epoch + 1}",
        )
    return epoch


def _require_same_structure(old: EEKey, plain: Path) -> None:
    """Refuse another model than the key's, as far as the key shows: constants by name, and their numbers of axes.

    Raises
    ------
    KeyFileError
        The key is only a part of one, or of another model.
    """
    from rexis.ee.keys import KeyPart

    with needs("ee"):
        from rexis.ee.graph import Graph
    if old.part != KeyPart.FULL:
        raise KeyFileError(
            f"this is a key for {old.part}ing only", field="key", hint="the model owner rotates, with the full key"
        )
    graph = Graph(plain)
    found = {name: graph.raw(name).ndim for name in graph.roots()}
    if found != {name: len(layout) for name, layout in old.layouts.items()}:
        raise KeyFileError(
            "the plain model has other constants than the model of the current key",
            field="model",
            hint="give the plain model that this key encrypts; `rexis ee encrypt` makes a first key for another one",
        )
