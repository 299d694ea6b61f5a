"""Options that several commands share, and the typed values behind them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.protocol.errors import MalformedError, UnavailableError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from contracts.accountability import Accountability
    from contracts.accountable import AccountableChain
    from contracts.chain import Chain
    from contracts.onchain import Deployment
    from rexis.client import RexisClient
    from rexis.protocol.digests import Digest
    from rexis.protocol.parsing import Address
    from rexis.protocol.typed_data import Domain

_MAX_DEPLOYMENT_BYTES = 64 << 10

Coordinator = Annotated[
    str, typer.Option("--coordinator", envvar="REXIS_COORDINATOR", metavar="URL", help="The coordinator's URL.")
]
Wallet = Annotated[
    Path, typer.Option("--wallet", envvar="REXIS_WALLET", metavar="FILE", help="Your wallet (`rexis wallet new`).")
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        envvar="REXIS_PASSPHRASE_FILE",
        metavar="FILE",
        help="File whose first line is the passphrase. Otherwise REXIS_PASSPHRASE, otherwise you are asked.",
    ),
]
WeakPassphrase = Annotated[
    bool, typer.Option("--weak-passphrase", help="Take a new passphrase that is short or easily guessed all the same.")
]
Rpc = Annotated[str, typer.Option("--rpc", envvar="REXIS_RPC", metavar="URL", help="A chain node that you trust.")]
DeploymentFile = Annotated[
    Path,
    typer.Option("--deployment", envvar="REXIS_DEPLOYMENT", metavar="FILE", help="What `rexis deploy` wrote."),
]
Manifest = Annotated[
    Path,
    typer.Option(
        "--manifest", envvar="REXIS_ACCOUNTABILITY", metavar="FILE", help="What `rexis disputes deploy` wrote."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]


class RungName(StrEnum):
    """The privacy ladder's rungs that this version runs, as options name them."""

    EE_OUTSOURCED = "ee-outsourced"
    EE_PRIVATE_WEIGHTS = "ee-private-weights"
    ZK_ONSITE = "zk-onsite"


KeyFile = Annotated[Path, typer.Option("--key", envvar="REXIS_KEY", metavar="FILE", help="The EE key.")]


def digest(text: str, option: str) -> Digest:
    """A digest argument; a wrong one is a usage error."""
    from rexis.protocol.digests import Digest

    try:
        return Digest.parse(text)
    except MalformedError as error:
        raise typer.BadParameter(f"{error.message}; {error.hint}", param_hint=option) from None


def fraction(text: str, option: str) -> Fraction:
    """A part of one: ``5%`` or ``0.05``, exactly."""
    try:
        value = Fraction(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(f"{text!r} is no fraction; write 5% or 0.05", param_hint=option) from None
    if not 0 < value < 1:
        raise typer.BadParameter(f"{text} is not between 0 and 1; write 5% or 0.05", param_hint=option)
    return value


def address(text: str, option: str) -> Address:
    """An address argument; a wrong one is a usage error."""
    from rexis.protocol.parsing import Address

    try:
        return Address.parse(text)
    except MalformedError as error:
        raise typer.BadParameter(f"{error.message}; {error.hint}", param_hint=option) from None


def open_wallet(file: Path, passphrase_file: Path | None) -> LocalAccount:
    """The account in a wallet file."""
    from rexis.cli.passphrase import read_passphrase
    from rexis.wallet import load_wallet, wallet_address

    wallet_address(file)  # a missing or unsafe file is reported before anybody is asked for its passphrase
    return load_wallet(file, read_passphrase(f"wallet {file}", passphrase_file))


def connect(coordinator: str, wallet: Path, passphrase_file: Path | None, domain: Domain | None = None) -> RexisClient:
    """A client of the coordinator for a wallet; with `domain`, of no coordinator on another deployment."""
    from rexis.client import RexisClient

    return RexisClient(coordinator, open_wallet(wallet, passphrase_file), domain=domain)


def open_chain(rpc: str, deployment: Path | None, account: LocalAccount | None) -> Chain:
    """A chain node, attached to a deployment if one is given."""
    with needs("chain"):
        from contracts.chain import Chain

    found = read_deployment(deployment) if deployment is not None else None
    chain = Chain.connect(rpc, account=account)
    if found is not None:
        chain.attach(found)
    return chain


def read_deployment(file: Path) -> Deployment:
    """What `rexis deploy` wrote."""
    from rexis.files import read_file

    with needs("chain"):
        from contracts.onchain import Deployment

    return Deployment.from_json(read_file(file, "deployment file", max_bytes=_MAX_DEPLOYMENT_BYTES))


def read_accountability(file: Path) -> Accountability:
    """What `rexis disputes deploy` wrote; its addresses follow from its terms, or it is refused."""
    from rexis.files import read_file

    with needs("chain"):
        from contracts.accountability import Accountability

    return Accountability.from_json(read_file(file, "manifest", max_bytes=_MAX_DEPLOYMENT_BYTES))


def open_accountable(rpc: str, manifest: Path, account: LocalAccount | None = None) -> AccountableChain:
    """A chain node, attached to the deployment of a manifest."""
    found = read_accountability(manifest)
    with needs("chain"):
        from contracts.accountable import AccountableChain

    chain = AccountableChain.connect(rpc, account=account)
    chain.discover()
    chain.attach_accountability(found)
    return chain


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around the imports of an optional part: says which extra to install when they fail."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"this command needs the Python package {error.name}", hint=f"pip install 'rexis[{extra}]'"
        ) from None
