"""Commands about warranties: `rexis disputes warrant, end-warranty, warranties`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rexis.cli._referee import ArtifactsFolder, RefereeFiles, SettingsFile, SrsFile
from rexis.cli.console import agree, emit, note, say, working
from rexis.cli.options import (
    Json,
    Manifest,
    PassphraseFile,
    Rpc,
    Wallet,
    Yes,
    address,
    digest,
    needs,
    open_accountable,
    open_wallet,
)
from rexis.protocol.errors import ChainError, ConflictError, NotFoundError

if TYPE_CHECKING:
    from circuits.build import ProvingCircuit
    from circuits.process import Calls
    from contracts.warranties import Warranty
    from provers.kept import Kept
    from rexis.protocol.digests import Digest
    from rexis.protocol.parsing import Address

ModelDigest = Annotated[str, typer.Argument(metavar="MODEL", help="The encrypted model's digest.")]
KeyEpoch = Annotated[int, typer.Option("--key-epoch", min=1, help="The key epoch that it is registered for.")]
_MAX_TOLERANCE = (1 << 64) - 1


def warrant(
    model: ModelDigest,
    tolerance: Annotated[
        int,
        typer.Option(
            min=0,
            max=_MAX_TOLERANCE,
            metavar="UNITS",
            help="In units of 2^-outputScale of the circuit.",
        ),
    ],
    rpc: Rpc,
    manifest: Manifest,
    wallet: Wallet,
    model_file: Annotated[
        Path | None, typer.Option("--model", metavar="FILE", help="The encrypted model, if not in --artifacts.")
    ] = None,
    settings: SettingsFile = None,
    srs: SrsFile = None,
    artifacts: ArtifactsFolder = None,
    key_epoch: KeyEpoch = 1,
    dataset: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Encrypted records: run both, and see how far they lie apart.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(metavar="DIR", help="The worker's `--cache`.")] = None,
    allow_development_srs: Annotated[
        bool, typer.Option("--allow-development-srs", help="Accept an SRS whose secret its maker could know.")
    ] = False,
    yes: Yes = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Say on chain that a worker's tier commit is within a tolerance of a circuit: it can be challenged then.

    The circuit is made again here from the model, and has to be the registered one. The warranty covers what is
    anchored in later blocks; it is given once for a model and its circuit, and the tolerance stays. Give it while the
    worker has no task. Given again, it only puts the circuit into the cache, which the worker looks by before it signs.
    """
    from rexis.cli.worker import cache_folder

    with needs("worker"):
        from circuits.process import EzklProcess
        from circuits.srs import SrsKind, srs_kind
        from provers.cache import make_private_folder
        from provers.kept import Kept
        from provers.options import WorkerOptions
        from provers.warranted import WarrantedCircuits
        from rexis.protocol.digests import Digest

    about, folder = digest(model, "MODEL"), make_private_folder(cache_folder(cache))
    chain = open_accountable(rpc, manifest, open_wallet(wallet, passphrase_file))
    registered = chain.registration(about, key_epoch)
    before = chain.warranty_of(chain.address, about, registered.circuit_hash)
    if before is not None and (before.until is not None or before.tolerance != tolerance):
        raise ConflictError(
            f"{chain.address} gave a warranty for this model before: {_text(before)}", field="tolerance"
        )
    _warn_of_pending(Kept(folder, chain.address, max_bytes=WorkerOptions.kept_bytes), about)
    if srs_kind(registered.srs_digest) == SrsKind.DEVELOPMENT and not allow_development_srs:
        raise ConflictError(
            "the circuit's SRS is a development one: its maker could prove anything, and take the stake",
            hint="--allow-development-srs, on a chain of your own",
        )
    files = RefereeFiles(model_file, settings, srs, artifacts)
    with working("making the circuit from the model"), EzklProcess() as ezkl:
        data, made = files.rebuild(chain, about, key_epoch, make_private_folder(folder / "keys"), ezkl)
        measured = None if dataset is None else _measured(data, made, ezkl, dataset, tolerance)
    circuit = made.artefacts.description
    unit = 2.0**-circuit.output_scale
    if not as_json:
        say(f"circuit      {circuit.vk_digest}, as registered")
        say(f"tolerance    {tolerance} units of 2^-{circuit.output_scale}: {tolerance * unit:g}")
        far = "nothing: give --dataset" if measured is None else f"{measured} units: {measured * unit:g}"
        say(f"measured     {far}")
    WarrantedCircuits(folder).keep(circuit, made.artefacts.settings, made.srs.path)
    if before is not None:
        _done(before, chain.address, as_json=as_json, measured=measured)
        return
    agree("Whoever proves a record on which you are further off takes a part of your stake. Give it?", yes=yes)
    circuit_hash = Digest(circuit.hash_struct())
    chain.warrant(about, circuit_hash, tolerance)
    _done(chain.warranty_of(chain.address, about, circuit_hash), chain.address, as_json=as_json, measured=measured)


def end_warranty(
    model: ModelDigest,
    rpc: Rpc,
    manifest: Manifest,
    wallet: Wallet,
    key_epoch: KeyEpoch = 1,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Do not answer for what is anchored in later blocks, for good. What is anchored already is covered as before."""
    about = digest(model, "MODEL")
    chain = open_accountable(rpc, manifest, open_wallet(wallet, passphrase_file))
    circuit_hash = chain.registration(about, key_epoch).circuit_hash
    if chain.warranty_of(chain.address, about, circuit_hash) is None:
        raise NotFoundError(f"{chain.address} gave no warranty for model {about}, key epoch {key_epoch}")
    chain.end_warranty(about, circuit_hash)
    _done(chain.warranty_of(chain.address, about, circuit_hash), chain.address, as_json=as_json)


def warranties(
    model: ModelDigest,
    rpc: Rpc,
    manifest: Manifest,
    worker: Annotated[str | None, typer.Option(metavar="ADDRESS", help="This worker's, whenever it was given.")] = None,
    key_epoch: KeyEpoch = 1,
    since: Annotated[
        int | None,
        typer.Option(min=0, metavar="BLOCK", help="Given from here. Default: the last challengePeriod."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show who answers for tier commit of a model, and within what tolerance."""
    about = digest(model, "MODEL")
    chain = open_accountable(rpc, manifest)
    circuit_hash = chain.registration(about, key_epoch).circuit_hash
    if worker is not None:
        workers = [address(worker, "--worker")]
    else:
        head = chain.block_number()
        first = max(0, head - chain.accountability.terms.challenge_period) if since is None else since
        found = chain.warranties(first, head, model_digest=about)
        workers = [one.worker for one in found if one.circuit_hash == circuit_hash]
    rows = [(one, given) for one in workers if (given := chain.warranty_of(one, about, circuit_hash)) is not None]
    if as_json:
        emit([_object(one, given) for one, given in rows])
        return
    for one, given in rows:
        say(f"{one}: {_text(given)}")
    if not rows:
        say("no warranties")


def _warn_of_pending(kept: Kept, model: Digest) -> None:
    """A statement that was signed before and is anchored afterwards is covered, and its records are not kept."""
    for one in kept.not_anchored():
        if kept.statement(one).statement.model_digest == model:
            note(f"warning: statement {one} was signed before and may be anchored later: the warranty covers it then")


def _measured(model: bytes, made: ProvingCircuit, ezkl: Calls, dataset: Path, tolerance: int) -> int:
    """How far model and circuit lie apart on these records."""
    import tempfile

    from circuits.proving import Prover
    from provers.executor import OnnxExecutor
    from provers.warranted import require_near
    from rexis.datafiles import open_dataset_file
    from rexis.protocol.onsite import PrivateDataset

    data = open_dataset_file(dataset)
    if isinstance(data, PrivateDataset):
        raise ConflictError("private records are not what a warranty is about", field="dataset")
    records = data.records[:]
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model)
        file.flush()
        outputs = OnnxExecutor(Path(file.name)).run(records)
    return require_near(Prover(made, ezkl), made.artefacts.description, records, outputs, tolerance)


def _done(warranty: Warranty | None, worker: Address, *, as_json: bool, measured: int | None = None) -> None:
    if warranty is None:
        raise ChainError("the node does not show the warranty yet", hint="rexis disputes warranties")
    if as_json:
        emit({**_object(worker, warranty), "measured": measured})
        return
    say(f"{worker}: {_text(warranty)}")


def _object(worker: Address, warranty: Warranty) -> dict[str, Any]:
    return {"worker": worker, "tolerance": str(warranty.tolerance), "since": warranty.since, "until": warranty.until}


def _text(warranty: Warranty) -> str:
    ends = "" if warranty.until is None else f" to {warranty.until}"
    return f"{warranty.tolerance} units, for what is anchored in blocks from {warranty.since}{ends}"
