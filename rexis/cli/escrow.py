"""``rexis escrow``: a job's payment, paid in by its requester and released task by task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rexis.cli.challenging import Evidence
from rexis.cli.console import emit, note, say, working
from rexis.cli.options import (
    Coordinator,
    Json,
    Manifest,
    PassphraseFile,
    Rpc,
    Wallet,
    address,
    connect,
    digest,
    open_accountable,
    open_wallet,
)
from rexis.protocol.errors import ConflictError, MalformedError, NotFoundError, RexisError

if TYPE_CHECKING:
    from contracts.accountable import AccountableChain
    from contracts.tokens import Token
    from rexis.protocol.anchored import AnchoredStatement
    from rexis.protocol.digests import Digest
    from rexis.protocol.parsing import Address
    from rexis.protocol.statement import JobRequest

app = typer.Typer(help="Payment of jobs: paid in, claimed task by task, released or given back.", no_args_is_help=True)

NATIVE = "native"
DEFAULT_BLOCKS = 50_400  # a week, at 12 s a block
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
TokenName = Annotated[
    str, typer.Option("--token", metavar="ADDRESS|native", help="An ERC-20 token, or the chain's own coin.")
]
ClaimBlocks = Annotated[
    int, typer.Option("--claim-blocks", min=1, help="Blocks in which tasks can be claimed; then the rest goes back.")
]
MinStake = Annotated[
    str | None,
    typer.Option(
        "--min-stake", metavar="AMOUNT", help="What a worker must have at stake to claim, in the stakes' token."
    ),
]
_Payer = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Who paid. Default: the wallet.")]


@app.command()
def fund(
    job: JobId,
    pay: Annotated[str, typer.Option("--pay", metavar="AMOUNT", help="For the whole job, at most: 0.5 or 500000wei.")],
    rpc: Rpc,
    manifest: Manifest,
    coordinator: Coordinator,
    wallet: Wallet,
    token: TokenName = NATIVE,
    claim_blocks: ClaimBlocks = DEFAULT_BLOCKS,
    min_stake: MinStake = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Pay a job of yours in that was submitted before. `rexis submit --pay` does both."""
    job_id = digest(job, "JOB")
    with connect(coordinator, wallet, passphrase_file) as client:
        request = client.job(job_id).request
        chain = open_accountable(rpc, manifest, client.account)
    found = pay_in(chain, request, job_id, Offer.read(chain, pay, token, claim_blocks, min_stake, request.record_count))
    if as_json:
        emit(found)
        return
    say(f"paid in for job {job_id}: {found['amount']} to be claimed until block {found['deadline']}")


@app.command()
def status(
    job: JobId,
    payer: Annotated[str, typer.Option(metavar="ADDRESS", help="Who paid: the job's requester, as a rule.")],
    rpc: Rpc,
    manifest: Manifest,
    as_json: Json = False,
) -> None:
    """Show what was paid in for a job, and how each task's payment stands."""
    from contracts.accountable import ClaimState

    job_id, who = digest(job, "JOB"), address(payer, "--payer")
    chain = open_accountable(rpc, manifest)
    found = chain.funding_of(job_id, who)
    if found is None:
        raise NotFoundError(f"{who} has paid nothing in for job {job_id}")
    claims = [chain.claim_of(job_id, who, task) for task in range(found.tasks)]
    if as_json:
        paid = [{**vars(one), "state": one.state.name.lower()} for one in claims]
        emit({"funding": vars(found), "claims": paid, "block": chain.block_number()})
        return
    money, head = chain.token(found.token), chain.block_number()
    stake = chain.token(chain.accountability.terms.token).text(found.min_stake) if found.min_stake else "none asked for"
    for name, value in {
        "job": f"{job_id}, coordinator {found.coordinator}",
        "price": f"{money.text(found.price)} a record, {found.record_count} records in {found.tasks} tasks",
        "workers' stake": stake,
        "claims": f"until block {found.deadline}, now {head}",
        "not claimed": money.text(found.free) + (": `rexis escrow refund`" if head > found.deadline else ""),
    }.items():
        say(f"{name:<15} {value}")
    for task, claim in enumerate(claims):
        if claim.state != ClaimState.NONE:
            until = f", due after block {claim.challengeable_until}" if claim.state == ClaimState.CLAIMED else ""
            say(f"  task {task}: {claim.state.name.lower()} for {claim.worker}, {money.text(claim.amount)}{until}")


@app.command()
def settle(
    evidence: Evidence,
    rpc: Rpc,
    manifest: Manifest,
    wallet: Wallet,
    payer: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Who paid. Default: the certificate's requester.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Claim the payments of a certificate's tasks for their workers, and release those that are due.

    Coordinators do it by themselves; anybody can, with any wallet. The payment is the worker's, whoever sends.
    """
    from rexis.files import read_file
    from rexis.protocol.anchored import read_statements
    from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES

    data = read_file(evidence, "certificate", max_bytes=MAX_CERTIFICATE_BYTES)
    found = [one for one, _ in read_statements(data)]
    who = address(payer, "--payer") if payer else _requester(data)
    chain = open_accountable(rpc, manifest, open_wallet(wallet, passphrase_file))
    done = [_settle(chain, one, who) for one in found]
    if as_json:
        emit(done)
        return
    for each in done:
        say(f"task {each['task']}: {each['step']}, {each['reason']}")


@app.command()
def refund(
    job: JobId,
    rpc: Rpc,
    manifest: Manifest,
    wallet: Wallet,
    payer: _Payer = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """After the last block for claims, give back what no claim holds. Then `rexis escrow withdraw` fetches it."""
    job_id = digest(job, "JOB")
    chain = open_accountable(rpc, manifest, open_wallet(wallet, passphrase_file))
    who = address(payer, "--payer") if payer else chain.address
    found = chain.funding_of(job_id, who)
    if found is None:
        raise NotFoundError(f"{who} has paid nothing in for job {job_id}")
    if (head := chain.block_number()) < found.deadline:
        raise ConflictError(f"tasks can be claimed until block {found.deadline}, now {head}", hint="wait")
    sent = chain.refund(job_id, who)
    if as_json:
        emit({"transaction": str(sent.hash), "amount": str(found.free)})
        return
    say(f"{chain.token(found.token).text(found.free)} are {who}'s again: `rexis escrow withdraw`")


@app.command()
def withdraw(
    rpc: Rpc,
    manifest: Manifest,
    wallet: Wallet,
    token: TokenName = NATIVE,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Fetch what the escrow has given the wallet: a worker's payments, a requester's refunds."""
    chain = open_accountable(rpc, manifest, open_wallet(wallet, passphrase_file))
    money = token_named(chain, token)
    owed = chain.owed("JobEscrow", money.address, chain.address)
    if not owed:
        raise NotFoundError(f"nothing is owed to {chain.address} in {money.symbol}", hint="another --token?")
    sent = chain.collect("JobEscrow", money.address)
    if as_json:
        emit({"transaction": str(sent.hash), "amount": str(owed)})
        return
    say(f"fetched {money.text(owed)}")


@dataclass(frozen=True)
class Offer:
    """What a requester offers for a job, read from options before anything is sent.

    Attributes
    ----------
    token
        What is paid in.
    price
        For each record, in its smallest unit.
    """

    token: Token
    price: int
    min_stake: int
    claim_blocks: int

    @classmethod
    def read(
        cls,
        chain: AccountableChain,
        pay: str,
        token: str,
        claim_blocks: int,
        min_stake: str | None,
        records: int,
    ) -> Offer:
        """The offer for a job of so many records.

        Raises
        ------
        MalformedError
            No amount, or less than one smallest unit a record.
        ConflictError
            The account has not got so much.
        """
        money = token_named(chain, token)
        price = money.amount(pay, "--pay") // records
        if price == 0:
            raise MalformedError(f"{pay} is nothing for each of {records} records", field="--pay")
        amount = price * records
        if (balance := chain.balance_of(money.address, chain.address)) < amount:
            raise ConflictError(f"{chain.address} has {money.text(balance)}, the job takes {money.text(amount)}")
        stakes = chain.token(chain.accountability.terms.token)
        return cls(money, price, stakes.amount(min_stake, "--min-stake") if min_stake else 0, claim_blocks)


def pay_in(chain: AccountableChain, request: JobRequest, job_id: Digest, offer: Offer) -> dict[str, Any]:
    """Fund a job's escrow, unless this account did; returns what stands there now.

    Raises
    ------
    ConflictError
        The request is not that of the job, or a training's: the escrow does not know these.
    """
    from rexis.protocol.training import TrainingRequest

    if isinstance(request, TrainingRequest):
        raise ConflictError("the escrow pays evaluations; trainings have other requests")
    if request.job_id(chain.deployment.domain) != job_id:
        raise ConflictError(f"the coordinator's request is not that of job {job_id}", hint="do not trust it")
    if chain.funding_of(job_id, chain.address) is None:
        deadline = chain.block_number() + offer.claim_blocks
        with working(f"paying {offer.token.text(offer.price * request.record_count)} in"):
            chain.fund(request, offer.token.address, offer.price, offer.min_stake, deadline)
    else:
        note("this wallet has paid the job in before")
    found = chain.funding_of(job_id, chain.address)
    if found is None:
        raise RexisError("the payment is not there", hint="is the chain being reorganised?")
    amount = offer.token.text(found.price * found.record_count)
    return {"jobId": str(job_id), "payer": chain.address, "amount": amount, "deadline": found.deadline}


def token_named(chain: AccountableChain, name: str) -> Token:
    """A currency as options name it."""
    from rexis.protocol.parsing import ZERO_ADDRESS

    return chain.token(ZERO_ADDRESS if name == NATIVE else address(name, "--token"))


def _settle(chain: AccountableChain, one: AnchoredStatement, payer: Address) -> dict[str, Any]:
    """Claim and settle the payment that a statement is for, as far as it goes now."""
    from contracts.challenging import place_of
    from contracts.payments import Standing, Step, standing_of

    about, statement = one.check(), one.statement

    def look() -> Standing:
        return standing_of(chain, payer, statement.job_id, statement.record_start, about)

    standing = look()
    task = standing.task
    if standing.step == Step.CLAIM:
        with working(f"claiming the payment of task {task}"):
            _unless_done(lambda: chain.claim(payer, statement, one.signature, place_of(one)), "TaskTaken")
        standing = look()
    if standing.step == Step.SETTLE:
        with working(f"settling task {task}"):
            _unless_done(lambda: chain.settle(statement.job_id, payer, task), "NotClaimed")
        standing = look()
    return {"task": task, "step": standing.step.value, "reason": standing.reason}


def _unless_done(call: Callable[[], object], name: str) -> None:
    """Send something, or find that somebody was quicker, as the contract's error with this name says."""
    from contracts.node import RevertError

    try:
        call()
    except RevertError as error:
        if error.name != name:
            raise


def _requester(certificate: bytes) -> Address:
    from rexis.protocol.certificate import Certificate

    try:
        return Certificate.parse(certificate).request.requester
    except MalformedError:
        raise typer.BadParameter("a single statement does not say who paid", param_hint="--payer") from None
