"""``rexis onsite``: records that stay where they are (rung ``zk-onsite``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import emit, note, say, working
from rexis.cli.options import Coordinator, Json, PassphraseFile, Wallet, connect, digest, needs
from rexis.protocol.errors import MalformedError

if TYPE_CHECKING:
    from rexis.protocol.records import Floats

app = typer.Typer(help="Prove on the data owner's own machine, with private inputs.", no_args_is_help=True)

_MAX_DATASET_BYTES = 8 << 30


@app.callback()
def _group() -> None:
    pass


@app.command("commit")
def commit(
    model: Annotated[str, typer.Option(metavar="DIGEST", help="The model's digest.")],
    epoch: Annotated[int, typer.Option(min=1, help="The model's key epoch.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The private dataset to write: records, secret salts and hashes.")
    ],
    coordinator: Coordinator,
    wallet: Wallet,
    dataset: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Encrypted records, for an encrypted model: `rexis encrypt`.")
    ] = None,
    records: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plain records, for a plain model: .npy, or .csv with a header.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --records: the model's manifest, as for `rexis encrypt`.")
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="A column of the CSV that is no feature (id, label); may be repeated."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Salt records with fresh secrets and hash them as the model's circuit does. Nothing leaves this machine.

    `rexis submit --rung zk-onsite` then uploads the hashes alone, and `rexis worker run --onsite FILE` proves here.
    Keep the file as safe as the records: with its salts anybody can try records out on the hashes.
    """
    from rexis.files import require_absent, write_file
    from rexis.protocol.circuit import Visibility
    from rexis.protocol.onsite import PrivateDataset

    if (dataset is None) == (records is None):
        raise typer.BadParameter("give encrypted records, or plain ones", param_hint="--dataset / --records")
    require_absent(out)
    values = _encrypted(dataset) if dataset is not None else _plain(records or Path(), manifest, drop or [])
    with connect(coordinator, wallet, passphrase_file) as client:
        circuit = client.model(digest(model, "--model"), epoch).circuit
    if circuit.visibility != Visibility.HASHED:
        raise MalformedError(
            "the model's circuit shows its inputs",
            field="model",
            hint="its owner registers one that hashes them: `rexis register --rung zk-onsite`",
        )
    with needs("circuits"):
        from circuits.hashing import poseidon
        from circuits.process import EzklProcess
    with working("hashing the records"), EzklProcess() as ezkl:
        private = PrivateDataset.of(values, circuit.input_scale, lambda rows: poseidon(rows, ezkl))
    if (fault := private.misfit(circuit)) is not None:
        raise MalformedError(fault, field="records")
    write_file(out, private.to_bytes(), private=True)
    if as_json:
        emit({"dataset": str(out), "datasetDigest": str(private.digest), "records": len(private)})
        return
    say(f"{out}: {len(private)} records, whose hashes have digest {private.digest}")
    note("keep this file private: its salts are what hides the records under their hashes")


def _encrypted(dataset: Path) -> Floats:
    from rexis.files import read_file
    from rexis.protocol.tensors import Dataset

    return Dataset.from_bytes(read_file(dataset, "dataset", max_bytes=_MAX_DATASET_BYTES)).records


def _plain(records: Path, manifest: Path | None, drop: list[str]) -> Floats:
    import numpy as np

    from rexis.cli.records import look_raw, read_manifest, read_records

    values = read_records(records, read_manifest(manifest) if manifest else None, drop)
    if look_raw(values):
        note("warning: values beyond ±100. Are these records standardised? If not, give --manifest.")
    return values.astype(np.float32)
