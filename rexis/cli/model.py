"""``rexis model``: whose a registered model is, and handing it over in two steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import emit, say, working
from rexis.cli.options import (
    DeploymentFile,
    Json,
    PassphraseFile,
    Rpc,
    Wallet,
    address,
    digest,
    open_chain,
    open_wallet,
)

if TYPE_CHECKING:
    from contracts.chain import Transaction
    from rexis.protocol.digests import Digest

app = typer.Typer(help="Whose a registered model is, and handing it over.", no_args_is_help=True)

Model = Annotated[str, typer.Option(metavar="DIGEST", help="The encrypted model's digest.")]


@app.command()
def owner(
    model: Model,
    rpc: Rpc,
    deployment: DeploymentFile,
    block: Annotated[
        int | None, typer.Option(min=0, help="Whose it was when this block ended. Default: whose it is now.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show whose a registered model is, or was, and who may accept it."""
    model_digest, chain = digest(model, "--model"), open_chain(rpc, deployment, None)
    with working("looking the model up on chain"):
        found = chain.owner_of(model_digest) if block is None else chain.owner_at(model_digest, block)
        proposed = chain.proposed_owner_of(model_digest) if block is None else None
    if as_json:
        emit({"modelDigest": str(model_digest), "block": block, "owner": found, "proposed": proposed})
        return
    say(f"owner     {found}")
    if proposed is not None:
        say(f"proposed  {proposed}, which has not accepted")


@app.command()
def transfer(
    model: Model,
    to: Annotated[str, typer.Option(metavar="ADDRESS", help="Its next owner.")],
    rpc: Rpc,
    deployment: DeploymentFile,
    wallet: Wallet,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Propose the next owner of your model. It stays yours until that wallet runs `rexis model accept`.

    Handed over are all key epochs: the new owner registers and revokes them. Keys and files are not on chain: hand them
    over as well. What you claimed of an epoch that you registered stays your claim.
    """
    model_digest, proposed = digest(model, "--model"), address(to, "--to")
    chain = open_chain(rpc, deployment, open_wallet(wallet, passphrase_file))
    with working("proposing the next owner on chain"):
        done = chain.propose_owner(model_digest, proposed)
    _report(as_json, model_digest, done, f"proposed {proposed} as the owner of {model_digest}; it has to accept")


@app.command()
def withdraw(
    model: Model,
    rpc: Rpc,
    deployment: DeploymentFile,
    wallet: Wallet,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Withdraw what `rexis model transfer` proposed, as long as nobody has accepted it."""
    model_digest = digest(model, "--model")
    chain = open_chain(rpc, deployment, open_wallet(wallet, passphrase_file))
    with working("withdrawing the proposal on chain"):
        done = chain.withdraw_proposal(model_digest)
    _report(as_json, model_digest, done, f"nobody is proposed as the owner of {model_digest} any more")


@app.command()
def accept(
    model: Model,
    rpc: Rpc,
    deployment: DeploymentFile,
    wallet: Wallet,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Become the owner of a model, with all its key epochs, as its owner proposed."""
    model_digest = digest(model, "--model")
    chain = open_chain(rpc, deployment, open_wallet(wallet, passphrase_file))
    with working("accepting the model on chain"):
        done = chain.accept_ownership(model_digest)
    _report(as_json, model_digest, done, f"{model_digest} is yours")


def _report(as_json: bool, model: Digest, done: Transaction, text: str) -> None:
    if as_json:
        emit({"modelDigest": str(model), "transaction": str(done.hash), "block": done.block})
    else:
        say(f"{text} (block {done.block})")
