"""`rexis validator`: a key, a place in a quorum, and the process that checks and signs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import emit, note, say, working
from rexis.cli.options import (
    Coordinator,
    Json,
    PassphraseFile,
    Rpc,
    Wallet,
    WeakPassphrase,
    needs,
    open_wallet,
    read_accountability,
)
from rexis.protocol.errors import NotFoundError

if TYPE_CHECKING:
    from contracts.accountable import AccountableChain
    from rexis.protocol.bls import BlsKey
    from rexis.protocol.parsing import Address
    from verifier.validator.documents import ValidatorStatus

app = typer.Typer(
    help="Be an independent validator: check finished jobs and sign what you found.", no_args_is_help=True
)

ValidatorKey = Annotated[
    Path,
    typer.Option("--key", envvar="REXIS_VALIDATOR_KEY", metavar="FILE", help="The BLS key (`rexis validator key`)."),
]
KeyPassphraseFile = Annotated[
    Path | None,
    typer.Option(
        envvar="REXIS_VALIDATOR_PASSPHRASE_FILE", metavar="FILE", help="As --passphrase-file, of the BLS key's file."
    ),
]
Quorum = Annotated[
    Path,
    typer.Option("--quorum", envvar="REXIS_QUORUM", metavar="FILE", help="What `rexis disputes deploy` wrote."),
]
StateFolder = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="Folder of the journal, which belongs to the key."),
]


@app.command("key")
def new_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The key file to write.")],
    passphrase_file: PassphraseFile = None,
    weak: WeakPassphrase = False,
    as_json: Json = False,
) -> None:
    """Make a BLS12-381 key and write it, encrypted with a passphrase, to a new file (EIP-2335)."""
    from rexis.cli.passphrase import read_passphrase
    from rexis.files import require_absent

    with needs("validator"):
        from rexis.validator_key import create_validator_key

    require_absent(file)
    passphrase = read_passphrase(f"new validator key {file}", passphrase_file, new=True, weak=weak)
    public = create_validator_key(file, passphrase)
    if as_json:
        emit({"file": str(file), "publicKey": f"0x{public.hex()}"})
        return
    say(f"{file}: public key 0x{public.hex()}")


@app.command()
def join(
    rpc: Rpc,
    wallet: Wallet,
    key: ValidatorKey,
    quorum: Quorum,
    stake: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="To have at stake, in the token's smallest unit. Default: the least."),
    ] = None,
    slot: Annotated[int | None, typer.Option(min=0, max=255, help="Default: the lowest free one.")] = None,
    passphrase_file: PassphraseFile = None,
    key_passphrase_file: KeyPassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Stake, show that you hold the key, and take a slot of the quorum. Doing it again changes nothing.

    If the terms name a token, the wallet must have allowed the ValidatorQuorum to take the stake (ERC-20 `approve`).
    """
    secret, chain = open_key(key, key_passphrase_file), _chain(rpc, quorum, wallet, passphrase_file)
    amount = chain.accountability.terms.validator_min_stake if stake is None else _amount(stake)
    with needs("validator"):
        from verifier.validator.seat import take_seat

    with working("staking and joining"):
        seat = take_seat(chain, secret, amount, slot)
    if as_json:
        emit({"account": chain.address, "slot": seat.slot, "active": str(seat.active)})
        return
    say(f"{chain.address} holds slot {seat.slot} of {chain.accountability.validator_quorum}: {seat.active} at stake")


@app.command()
def leave(
    rpc: Rpc, wallet: Wallet, quorum: Quorum, passphrase_file: PassphraseFile = None, as_json: Json = False
) -> None:
    """Ask the stake back; once its delay is over, run it again: it fetches the stake and frees the slot, for good.

    From the first time on your verdicts count for nothing. Until the end the stake can be lost for signing twice.
    """
    chain = _chain(rpc, quorum, wallet, passphrase_file)
    with needs("validator"):
        from verifier.validator.seat import give_seat_up

    with working("asking, or fetching"):
        left = give_seat_up(chain)
    if as_json:
        emit({"account": chain.address, "stake": str(left.amount), "leavesAt": left.leaves_at})
    elif left.amount:
        say(f"{left.amount} asked back: from block {left.leaves_at} on, run this again")
    else:
        say("the stake is fetched and the slot is free")


@app.command()
def status(
    state: StateFolder = None,
    rpc: Annotated[
        str | None, typer.Option("--rpc", envvar="REXIS_RPC", metavar="URL", help="With --quorum: ask the chain, too.")
    ] = None,
    quorum: Annotated[
        Path | None,
        typer.Option("--quorum", envvar="REXIS_QUORUM", metavar="FILE", help="Whether it still holds its slot."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what the validator of a folder is doing. Exit code 1 if none runs."""
    with needs("validator"):
        from verifier.validator.status import last_shown

    shown, runs = last_shown(_folder(state))
    seat = _seat(rpc, quorum, shown.account) if rpc is not None and quorum is not None else None
    if as_json:
        emit({"running": runs, "status": shown.to_object(), "seat": seat})
    else:
        _show(shown, seat, runs=runs)
    if not runs:
        note("it does not run")
        raise typer.Exit(1)


@app.command()
def run(
    coordinator: Coordinator,
    wallet: Wallet,
    key: ValidatorKey,
    quorum: Quorum,
    rpc: Rpc,
    state: StateFolder = None,
    artifacts: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with files named sha256-…: the SRS. What is fetched goes there, too."),
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How often the coordinator is asked.")] = 5.0,
    memory_mib: Annotated[int, typer.Option(min=512, help="Memory of one check, in MiB.")] = 4096,
    seconds: Annotated[int, typer.Option(min=1, help="Time of one check.")] = 600,
    max_mib: Annotated[int, typer.Option(min=1, max=256, help="Largest certificate, in MiB.")] = 64,
    allow_development_srs: Annotated[
        bool, typer.Option("--allow-development-srs", help="Accept an SRS whose secret its maker could know.")
    ] = False,
    allow_development_chain: Annotated[
        bool, typer.Option("--allow-development-chain", help="Accept a chain that anybody could have made up.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    key_passphrase_file: KeyPassphraseFile = None,
) -> None:
    """Check each job that waits for validators, by yourself and against your own node, and sign what you found.

    SIGTERM lets the check under way come to its end. What was signed is in the journal, which a restart goes on from;
    without it the key must not be used again.
    """
    with needs("validator"):
        from verifier.confined import Bounds
        from verifier.validator.run import ValidatorOptions, run_validator

    run_validator(
        ValidatorOptions(
            coordinator=coordinator,
            account=open_wallet(wallet, passphrase_file),
            key=open_key(key, key_passphrase_file),
            quorum=read_accountability(quorum),
            rpc=rpc,
            state=_folder(state),
            artifacts=artifacts,
            bounds=Bounds(memory_mib << 20, seconds),
            max_bytes=max_mib << 20,
            every_s=every,
            allow_development_chain=allow_development_chain,
            allow_development_srs=allow_development_srs,
        )
    )


def open_key(file: Path, passphrase_file: Path | None) -> BlsKey:
    """The BLS key in a file."""
    from rexis.cli.passphrase import read_passphrase
    from rexis.files import require_private

    with needs("validator"):
        from rexis.validator_key import load_validator_key

    require_private(file, "validator's key")  # before anybody is asked for its passphrase
    return load_validator_key(file, read_passphrase(f"validator key {file}", passphrase_file))


def _chain(rpc: str, quorum: Path, wallet: Path | None, passphrase_file: Path | None) -> AccountableChain:
    with needs("chain"):
        from contracts.accountable import AccountableChain

    manifest = read_accountability(quorum)
    chain = AccountableChain.connect(rpc, account=open_wallet(wallet, passphrase_file) if wallet else None)
    chain.discover()
    chain.attach_accountability(manifest)
    return chain


def _seat(rpc: str, quorum: Path, account: Address) -> dict[str, object]:
    with needs("validator"):
        from verifier.validator.seat import seat_of

    found = seat_of(_chain(rpc, quorum, None, None), account)
    if found is None:
        raise NotFoundError(f"{account} holds no slot of this quorum", hint="it left, or was never there")
    return {"slot": found.slot, "active": str(found.active)}


def _folder(given: Path | None) -> Path:
    from platformdirs import user_state_path

    return given or user_state_path("rexis") / "validator"


def _amount(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**128:
        raise typer.BadParameter(f"{text!r} is no amount: decimal digits", param_hint="--stake")
    return int(text)


def _show(shown: ValidatorStatus, seat: dict[str, object] | None, *, runs: bool) -> None:
    tally = shown.tally
    rows = {
        "validator": f"{shown.account}, slot {shown.slot} of {shown.quorum}",
        "coordinator": shown.coordinator,
        "state": f"{shown.state if runs else 'not running'}; started {shown.started_at}, shown {shown.updated_at}",
        "jobs": f"{tally.valid} valid, {tally.refuted} refuted, {tally.refused} refused, {tally.undecided} undecided",
        "handed in": f"verdicts on {tally.handed_in} statements",
        "trouble": shown.trouble or "none",
    }
    if seat is not None:
        rows["on chain"] = f"slot {seat['slot']}, {seat['active']} at stake"
    for name, value in rows.items():
        say(f"{name:<12} {value}")
