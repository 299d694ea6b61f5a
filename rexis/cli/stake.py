"""``rexis stake``: what a worker can lose, which lets others rely on its statements."""

from __future__ import annotations

from typing import Annotated

import typer

from rexis.cli.console import emit, say, working
from rexis.cli.options import Json, Manifest, PassphraseFile, Rpc, Wallet, address, open_accountable, open_wallet

app = typer.Typer(help="A worker's stake, which it loses by false statements.", no_args_is_help=True)

_AMOUNT = "In whole units (0.5), or in smallest ones (500000wei)."


@app.command()
def deposit(
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help=_AMOUNT)],
    rpc: Rpc,
    manifest: Manifest,
    wallet: Wallet,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Add to the wallet's stake. A token other than the chain's coin is allowed first: two transactions."""
    chain = open_accountable(rpc, manifest, open_wallet(wallet, passphrase_file))
    token = chain.token(chain.accountability.terms.token)
    wanted = token.amount(amount, "AMOUNT")
    with working(f"staking {token.text(wanted)}"):
        sent = chain.stake(wanted)
    stake = chain.stake_of(chain.address)
    if as_json:
        emit({"transaction": str(sent.hash), "stake": vars(stake)})
        return
    say(f"{chain.address} has {token.text(stake.active)} at stake")


@app.command()
def withdraw(
    rpc: Rpc,
    manifest: Manifest,
    wallet: Wallet,
    amount: Annotated[
        str | None, typer.Argument(metavar="[AMOUNT]", help=f"Ask so much back. {_AMOUNT} Without it: fetch.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Ask a part of the stake back, then, after the delay, fetch it: the same command without an amount.

    What was asked back counts for nobody any more, but can still be lost until it is fetched. Asking for more starts
    the delay of all that was asked for again.
    """
    chain = open_accountable(rpc, manifest, open_wallet(wallet, passphrase_file))
    token = chain.token(chain.accountability.terms.token)
    before = chain.stake_of(chain.address)
    if amount is not None:
        sent = chain.request_withdrawal(token.amount(amount, "AMOUNT"))
        after = chain.stake_of(chain.address)
        done = f"{token.text(after.leaving)} may be fetched from block {after.leaves_at}"
        done += f", now {chain.block_number()}: `rexis stake withdraw`"
    else:
        sent = chain.withdraw()
        after = chain.stake_of(chain.address)
        done = f"fetched {token.text(before.amount - after.amount)}"
    if as_json:
        emit({"transaction": str(sent.hash), "stake": vars(after)})
        return
    say(done)


@app.command()
def status(
    worker: Annotated[str, typer.Argument(metavar="ADDRESS", help="The worker's.")],
    rpc: Rpc,
    manifest: Manifest,
    as_json: Json = False,
) -> None:
    """Show a worker's stake, what the chain saw of it, and what it is owed."""
    who = address(worker, "ADDRESS")
    chain = open_accountable(rpc, manifest)
    token = chain.token(chain.accountability.terms.token)
    stake, seen, owed = chain.stake_of(who), chain.reputation_of(who), chain.owed("Disputes", token.address, who)
    if as_json:
        emit({"stake": vars(stake), "reputation": vars(seen), "owed": owed, "block": chain.block_number()})
        return
    leaving = f"{token.text(stake.leaving)}" + (f", from block {stake.leaves_at}" if stake.leaving else "")
    for name, value in {
        "worker": who,
        "at stake": token.text(stake.active),
        "asked back": leaving,
        "locked": f"{token.text(stake.locked)} for open disputes",
        "record": f"{seen.certified} tasks certified, {seen.vindicated} disputes won, {seen.faulted} lost",
        "owed": f"{token.text(owed)} of bonds and rewards" + (": `rexis disputes withdraw`" if owed else ""),
    }.items():
        say(f"{name:<12} {value}")
