"""``rexis disputes``: deploy stakes, disputes, escrow and validators around the log, and look at a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli import challenging, warranting
from rexis.cli.console import emit, say, working
from rexis.cli.options import (
    Json,
    Manifest,
    PassphraseFile,
    Rpc,
    Wallet,
    digest,
    needs,
    open_accountable,
    open_wallet,
    read_accountability,
)

if TYPE_CHECKING:
    from contracts.accountability import Accountability

app = typer.Typer(help="Stakes, disputes, escrow and validators on chain.", no_args_is_help=True)

_MAX_BYTES = 64 << 10

for _command in (
    challenging.admit,
    challenging.challenge,
    challenging.watch,
    challenging.close,
    challenging.dismiss,
    challenging.withdraw,
    warranting.warrant,
    warranting.end_warranty,
    warranting.warranties,
):
    app.command()(_command)
app.command("list")(challenging.list_disputes)


@app.command()
def deploy(
    rpc: Rpc,
    wallet: Wallet,
    terms: Annotated[Path, typer.Option(metavar="FILE", help="The deployment's terms, as docs/disputes.md shows.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the manifest.")],
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Deploy on these terms, if nobody did yet, and write the manifest to a new file.

    The contracts of `rexis deploy` must be there. Terms are for good: others are another deployment.
    """
    from rexis.files import read_file, require_absent, write_file

    with needs("chain"):
        from contracts.accountability import Terms
        from contracts.accountable import AccountableChain

    require_absent(out)
    wanted = Terms.from_json(read_file(terms, "terms file", max_bytes=_MAX_BYTES))
    chain = AccountableChain.connect(rpc, account=open_wallet(wallet, passphrase_file))
    chain.discover()
    with working("deploying, or looking the contracts up"):
        manifest = chain.deploy_accountability(wanted)
    write_file(out, manifest.to_json())
    if as_json:
        emit(manifest.to_object())
        return
    _show(manifest)
    say(f"written to       {out}")


@app.command()
def show(
    rpc: Rpc,
    manifest: Manifest,
    worker: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A worker's stake and record too.")] = None,
    as_json: Json = False,
) -> None:
    """Check that a manifest's addresses follow from its terms and that the contracts are there, and show them."""
    from rexis.protocol.parsing import Address

    chain = open_accountable(rpc, manifest)
    found = chain.accountability
    about = {}
    if worker is not None:
        address = Address.parse(worker)
        about = {"stake": vars(chain.stake_of(address)), "reputation": vars(chain.reputation_of(address))}
    if as_json:
        emit({"manifest": found.to_object(), **about})
        return
    _show(found)
    for name, values in about.items():
        say(f"{name:<16} " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items()))


@app.command()
def answer(
    statement: challenging.StatementDigest,
    record: challenging.Record,
    rpc: Rpc,
    manifest: Manifest,
    wallet: Wallet,
    cache: Annotated[Path | None, typer.Option(metavar="DIR", help="The worker's `--cache`.")] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Answer a challenge by hand, from what the worker of this wallet keeps: by its proof, made anew if need be.

    Of tier commit by the output alone. A challenge that is out of time is dismissed instead. `rexis worker run
    --disputes` does it by itself.
    """
    from rexis.cli.worker import cache_folder

    with needs("worker"):
        from provers.answering import Answerer, connect_disputes
        from provers.cache import ProofCache, make_private_folder
        from provers.circuit import LocalSite
        from provers.kept import Kept
        from provers.options import WorkerOptions

    about, folder = digest(statement, "STATEMENT"), cache_folder(cache)
    account = open_wallet(wallet, passphrase_file)
    chain = connect_disputes(rpc, read_accountability(manifest), account)
    kept = Kept(make_private_folder(folder), chain.address, max_bytes=WorkerOptions.kept_bytes)
    proofs = ProofCache(folder / "proofs", max_bytes=WorkerOptions.proof_cache_bytes)
    site = LocalSite(make_private_folder(folder / "keys"), None)
    try:
        with working("proving the record and sending the answer"):
            letters = make_private_folder(folder / "letters" / chain.address)
            done = Answerer(chain, kept, site, proofs, letters).answer(about, record)
    finally:
        site.close()
    if as_json:
        emit({"statementDigest": str(about), "record": record, "done": done})
        return
    say(f"record {record} of statement {about}: {done}")


def _show(manifest: Accountability) -> None:
    terms = manifest.terms
    for name, value in {
        "chain": manifest.chain_id,
        "disputes": manifest.disputes,
        "worker registry": manifest.worker_registry,
        "job escrow": manifest.job_escrow,
        "validator quorum": manifest.validator_quorum,
        "governance": f"{terms.governance} (pauses new obligations, nothing else)",
        "a lost record": f"costs {terms.penalty}, {terms.reward_bps / 100:g} % to the challenger; bond {terms.bond}",
        "blocks": f"{terms.challenge_period} to challenge, {terms.response_window} to answer",
    }.items():
        say(f"{name:<16} {value}")
