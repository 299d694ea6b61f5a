"""``rexis wallet``: the Ethereum account that signs jobs, evidence and transactions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rexis.cli.console import emit, say
from rexis.cli.options import Json, PassphraseFile, WeakPassphrase

app = typer.Typer(help="Make and look at wallets (Ethereum keystore files).", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The wallet file.")]


@app.command()
def new(
    file: File, passphrase_file: PassphraseFile = None, weak: WeakPassphrase = False, as_json: Json = False
) -> None:
    """Make a fresh account and write it, encrypted with a passphrase, to a new file."""
    from rexis.cli.passphrase import read_passphrase
    from rexis.files import require_absent
    from rexis.wallet import create_wallet

    require_absent(file)
    address = create_wallet(file, read_passphrase(f"new wallet {file}", passphrase_file, new=True, weak=weak))
    _show(file, address, as_json)


@app.command()
def show(file: File, as_json: Json = False) -> None:
    """Print a wallet's address. Needs no passphrase."""
    from rexis.wallet import wallet_address

    _show(file, wallet_address(file), as_json)


def _show(file: Path, address: str, as_json: bool) -> None:
    if as_json:
        emit({"address": address, "file": str(file)})
    else:
        say(address)
