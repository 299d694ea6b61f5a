"""Commands of the model owner: register and revoke a model. Encrypting one: see ``ee``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import emit, note, say, transfer, working
from rexis.cli.options import (
    Coordinator,
    DeploymentFile,
    Json,
    PassphraseFile,
    Rpc,
    RungName,
    Wallet,
    digest,
    needs,
    open_chain,
    open_wallet,
)
from rexis.protocol.errors import ConflictError, DigestMismatchError, NotFoundError, TensorError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from circuits.build import ProvingCircuit
    from circuits.process import EzklProcess
    from circuits.profile import CircuitProfile
    from circuits.srs import Srs
    from contracts.chain import Chain, Transaction
    from rexis.protocol.circuit import Circuit
    from rexis.protocol.digests import Digest
    from rexis.protocol.rung import SignedRungClaim
    from rexis.protocol.typed_data import Domain

DEVELOPMENT = "development"
_MAX_PROFILE_BYTES = 64 << 10
_COMPARED = 4  # random records that the circuit is compared with the model on
_MAX_CARD_BYTES = 16 << 20
_MAX_MODEL_BYTES = 2 << 30  # a protobuf message cannot be larger


def register(
    model: Annotated[Path, typer.Option(metavar="FILE", help="The encrypted model (ONNX).")],
    epoch: Annotated[int, typer.Option(min=1, help="Its key epoch.")],
    rpc: Rpc,
    deployment: DeploymentFile,
    wallet: Wallet,
    coordinator: Coordinator,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Circuit profile: of a zoo model, or a JSON file. Without it the model serves tier commit only.",
        ),
    ] = None,
    srs: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|development[:FILE]",
            help="The SRS: a file of the perpetual powers of tau, checked by its pinned SHA-256; or "
            "`development`, made here, or a shared `development:FILE`, which nobody else should believe.",
        ),
    ] = None,
    rung: Annotated[
        RungName,
        typer.Option(
            help="The rung to offer it as. ee-private-weights is your signed claim, and needs --card; zk-onsite makes "
            "a circuit whose inputs are hashed, for data owners who prove on their own machine."
        ),
    ] = RungName.EE_OUTSOURCED,
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The leakage card with the measured distances: `rexis ee encrypt --base --card`."
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where circuits and development SRS are kept.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Build an encrypted model's circuit and register both, on chain and with a coordinator.

    Running it again goes on where it stopped; with --rung and --card it adds the claim to a model that is registered.
    """
    from rexis.api import ModelRegistration
    from rexis.client import RexisClient
    from rexis.files import read_file
    from rexis.protocol.circuit import NO_CIRCUIT
    from rexis.protocol.digests import sha256
    from rexis.protocol.parsing import enum_name

    if (profile is None) != (srs is None):
        raise typer.BadParameter("a circuit needs both --profile and --srs", param_hint="--profile")
    if rung == RungName.ZK_ONSITE and profile is None:
        raise typer.BadParameter("rung zk-onsite rests on proofs: give --profile and --srs", param_hint="--rung")
    if (rung == RungName.EE_PRIVATE_WEIGHTS) != (card is not None):
        raise typer.BadParameter("rung ee-private-weights and a card go together", param_hint="--card")
    onnx = read_file(model, "encrypted model", max_bytes=_MAX_MODEL_BYTES)
    found = read_file(card, "leakage card", max_bytes=_MAX_CARD_BYTES) if card else None
    with needs("ee"):
        from circuits.onnx_model import require_one_input, require_plain_model

        require_plain_model(onnx)
        require_one_input(onnx)
    account = open_wallet(wallet, passphrase_file)
    chain = open_chain(rpc, deployment, account)
    claim = None if found is None else _claim(found, sha256(onnx), epoch, account, chain.deployment.domain)
    with RexisClient(coordinator, account, domain=chain.deployment.domain) as client:
        client.info()  # a wrong coordinator is found before the minutes of work
        hashed = rung == RungName.ZK_ONSITE
        built = _build(onnx, profile, srs, cache or _cache_folder(), hashed=hashed) if profile and srs else None
        circuit = built.artefacts.description if built else NO_CIRCUIT
        blobs: dict[str, Path | bytes] = {"encrypted model": onnx}
        if built is not None:
            artefacts = built.artefacts
            blobs |= {"settings": artefacts.settings, "verifying key": artefacts.vk, "SRS": built.srs.path}
        for what, blob in blobs.items():
            with transfer(f"uploading the {what}") as progress:
                client.upload_blob(blob, progress=progress)
        transaction = _register_on_chain(chain, sha256(onnx), epoch, circuit, claimed=claim is not None)
        view = client.register_model(
            ModelRegistration(
                model_digest=sha256(onnx),
                key_epoch=epoch,
                circuit=circuit,
                vka=list(built.artefacts.vka) if built else [],
                rung_claim=claim,
            )
        )
    if as_json:
        emit(view.to_object() | {"transaction": str(transaction.hash) if transaction else None})
        return
    say(f"model digest {view.model_digest}")
    say(f"key epoch    {view.key_epoch}")
    say(f"owner        {chain.address}")
    if built is None:
        say("circuit      none: tier commit only")
    else:
        say(f"circuit      2^{built.srs.logrows} rows, inputs {enum_name(circuit.visibility)}, vk {circuit.vk_digest}")
        say(f"SRS          {built.srs.kind.value}, {circuit.srs_digest}")
    if view.rung_claim is not None:
        say(f"rung         {enum_name(view.rung_claim.claim.rung)}: {view.rung_claim.claim}")
    say(f"on chain     {f'block {transaction.block}' if transaction else 'since before'}")


def revoke(
    model: Annotated[str, typer.Option(metavar="DIGEST", help="The encrypted model's digest.")],
    epoch: Annotated[int, typer.Option(min=1, help="The key epoch to revoke.")],
    rpc: Rpc,
    deployment: DeploymentFile,
    wallet: Wallet,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Revoke a key epoch of a model that is yours on chain, for good. What was certified before stays certified."""
    model_digest = digest(model, "--model")
    chain = open_chain(rpc, deployment, open_wallet(wallet, passphrase_file))
    with working("revoking on chain"):
        done = chain.revoke(model_digest, epoch)
    if as_json:
        emit({"modelDigest": str(model_digest), "keyEpoch": epoch, "transaction": str(done.hash), "block": done.block})
    else:
        say(f"revoked {model_digest}, epoch {epoch}, in block {done.block}")


def _build(onnx: bytes, profile: str, srs: str, cache: Path, *, hashed: bool) -> ProvingCircuit:
    with needs("circuits"):
        from circuits.artefacts import CircuitCache
        from circuits.boundary import boundary_of, require_one_record
        from circuits.build import build_circuit
        from circuits.diagnosis import require_circuit
        from circuits.process import EzklProcess
        from circuits.profile import CircuitProfile
        from circuits.srs import SrsKind
        from circuits.verifying import require_vka

    chosen = read_profile(profile)
    if hashed:
        chosen = CircuitProfile.from_object(chosen.to_object() | {"inputVisibility": "hashed"})
    elif chosen.input_visibility == "hashed":
        raise typer.BadParameter("the profile hashes inputs: that is for --rung zk-onsite", param_hint="--profile")
    require_one_record(boundary_of(onnx))
    found = _srs(srs, chosen.logrows, cache / "srs")
    note(f"SRS: {found.kind.value}, {found.digest}")
    if found.kind == SrsKind.DEVELOPMENT:
        note("warning: a development SRS. Its maker could prove anything, so auditors refuse it by default.")
    with working("building the circuit and its keys"), EzklProcess() as ezkl:
        require_circuit(onnx, ezkl)
        _warn_of_other_functions(onnx, ezkl)
        built = build_circuit(onnx, chosen, found, CircuitCache(cache / "circuits"), ezkl)
    with working("checking that the VKA follows from the verifying key"):
        require_vka(built.artefacts, found)  # what is registered on chain stays there
    return built


def _warn_of_other_functions(onnx: bytes, ezkl: EzklProcess) -> None:
    """Warn where the circuit would not compute the model, if there is something here to run the model with."""
    try:
        from rexis.cli._calibration import drawn, warned_of
    except ModuleNotFoundError:
        return
    try:
        records = drawn(onnx, _COMPARED, 0).records
    except TensorError:
        return  # none that the encrypted model has numbers for
    warned_of(onnx, records, ezkl)


def _claim(card: bytes, model: Digest, epoch: int, account: LocalAccount, domain: Domain) -> SignedRungClaim:
    """The owner's signed claim that the model earns rung ee-private-weights; refused where its card does not."""
    from rexis.protocol.rung import sign_rung_claim
    from rexis.protocol.signing import address_of

    with needs("ee"):
        from rexis.ee.claim import rung_claim_of
    return sign_rung_claim(account, rung_claim_of(card, model=model, epoch=epoch, owner=address_of(account)), domain)


def _srs(srs: str, logrows: int, cache: Path) -> Srs:
    """The SRS that ``--srs`` names. A file is a ceremony's, by its digest, unless it says development itself."""
    from circuits.srs import ensure_development_srs, read_perpetual_srs, read_srs

    if srs == DEVELOPMENT:
        with working(f"development SRS for 2^{logrows} rows"):
            return ensure_development_srs(logrows, cache)
    if srs.startswith(f"{DEVELOPMENT}:"):
        return read_srs(Path(srs.removeprefix(f"{DEVELOPMENT}:")))
    try:
        return read_perpetual_srs(Path(srs), logrows)
    except DigestMismatchError:
        raise DigestMismatchError(
            f"{srs} is not the perpetual powers of tau's SRS for 2^{logrows} rows",
            field="srs",
            hint=f"fetch that one again; --srs {DEVELOPMENT}:FILE takes a development SRS that somebody shared",
        ) from None


def read_profile(name_or_file: str) -> CircuitProfile:
    """A tuned profile by its model's name, or one from a file."""
    from circuits.profile import CircuitProfile, profile_for
    from rexis.files import read_file

    file = Path(name_or_file)
    if file.suffix == ".json" or file.is_file():
        return CircuitProfile.from_json(read_file(file, "circuit profile", max_bytes=_MAX_PROFILE_BYTES))
    return profile_for(name_or_file)


def _register_on_chain(
    chain: Chain, model_digest: Digest, epoch: int, circuit: Circuit, *, claimed: bool
) -> Transaction | None:
    """Register, unless this very registration stands there already; `claimed`: with a rung claim of the wallet's."""
    try:
        found = chain.registration(model_digest, epoch)
    except NotFoundError:
        with working("registering on chain"):
            return chain.register(model_digest, epoch, circuit)
    owner = chain.owner_of(model_digest)
    if owner != chain.address:
        raise ConflictError(
            f"model {model_digest} is {owner}'s",
            hint="use that wallet, or encrypt the model again with a fresh key",
        )
    if claimed and found.registrant != owner:
        raise ConflictError(
            f"epoch {epoch} of model {model_digest} was registered by {found.registrant}, whose claim alone counts",
            hint="register a key epoch of your own",
        )
    if found.circuit_hash != circuit.hash_struct():
        raise ConflictError(
            f"epoch {epoch} of model {model_digest} is registered with another circuit",
            hint="give the profile and the SRS of the first time, or encrypt the model again with a fresh key",
        )
    if found.revoked_at is not None:
        raise ConflictError(
            f"epoch {epoch} of model {model_digest} was revoked in block {found.revoked_at}",
            hint="encrypt the model again with a fresh key",
        )
    return None


def _cache_folder() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("rexis")
