"""Commands of whoever challenges a record: `rexis disputes admit, challenge, list, watch, close, dismiss, withdraw`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rexis.cli._referee import ArtifactsFolder, ModelFile, RefereeFiles, SettingsFile, SrsFile, prove_record
from rexis.cli.console import agree, emit, say, working
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
from rexis.protocol.errors import ConflictError, NotFoundError, RexisError

if TYPE_CHECKING:
    from contracts.accountable import AccountableChain, Challenge, Dispute
    from contracts.challenging import Prospect
    from contracts.tokens import Token
    from contracts.warranties import ProvenRecord
    from rexis.protocol.anchored import AnchoredStatement
    from rexis.protocol.records import InputOpening, Opening
    from rexis.protocol.statement import Statement

Evidence = Annotated[
    Path,
    typer.Argument(metavar="CERTIFICATE", help="A certificate; or a single statement with its place on chain."),
]
StatementDigest = Annotated[str, typer.Argument(metavar="STATEMENT", help="The statement's digest.")]
Record = Annotated[int, typer.Option("--record", min=0, help="The record's index in the dataset.")]
_Since = Annotated[
    int | None, typer.Option(min=0, metavar="BLOCK", help="Look from here. Default: all that can be open still.")
]
_Worker = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Only about this worker's statements.")]
_TYPICAL_GAS, _TYPICAL_GAS_BY_PROOF = 260_000, 970_000  # contracts/snapshots/accountability.json


def admit(
    certificate: Annotated[Path, typer.Argument(metavar="CERTIFICATE", help="A certificate with a proof.")],
    rpc: Rpc,
    manifest: Manifest,
    wallet: Wallet,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Show the chain one proof of a circuit, so that statements with it can be challenged. Once a circuit.

    The record of that proof becomes public for ever. Of a circuit with several segments no proof can be shown.
    """
    from rexis.files import read_file
    from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES, Certificate

    found = Certificate.parse(read_file(certificate, "certificate", max_bytes=MAX_CERTIFICATE_BYTES))
    if found.circuit is None:
        raise ConflictError("tier commit has no circuit")
    evidence = found.tasks[0].evidence
    if len(evidence.proofs[0].proofs) != 1:
        raise ConflictError("the circuit has several segments, and the contract takes one proof a record")
    chain = open_accountable(rpc, manifest, open_wallet(wallet, passphrase_file))
    vka_digest = evidence.statement.circuit.vka_digest
    if not chain.is_admitted(vka_digest):
        with working("showing the chain a proof of the circuit"):
            chain.register_vka(found.circuit.vka)
            chain.admit_circuit(evidence.openings[0], evidence.proofs[0].proofs[0], found.circuit.vka)
    if as_json:
        emit({"vkaDigest": str(vka_digest)})
        return
    say(f"circuit {vka_digest} is admitted")


def challenge(
    evidence: Evidence,
    record: Record,
    rpc: Rpc,
    manifest: Manifest,
    wallet: Wallet,
    dataset: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The encrypted dataset, where the certificate does not open the record."),
    ] = None,
    model: ModelFile = None,
    settings: SettingsFile = None,
    srs: SrsFile = None,
    artifacts: ArtifactsFolder = None,
    yes: Yes = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Challenge a record of a statement: its worker has to prove it on chain in time, or loses a part of its stake.

    Of tier commit you prove it, by the circuit that the model is registered with and that the worker has warranted; the
    worker has to show an output near that. Everything that the contract will ask is looked at first. A wrong challenge
    costs the bond. The record's salt and encrypted values become public for ever.
    """
    from contracts.challenging import check_challenge, place_of
    from rexis.protocol.policy import Tier

    found, opening, output = _held(evidence, record, dataset)
    chain = open_accountable(rpc, manifest, open_wallet(wallet, passphrase_file))
    proven = None
    if found.statement.tier == Tier.COMMIT:
        files = RefereeFiles(model, settings, srs, artifacts)
        prospect, proven = _proved(chain, found, opening, output, files)
    else:
        prospect = check_challenge(chain, found, opening)
    terms = chain.accountability.terms
    token = chain.token(terms.token)
    if (balance := chain.balance_of(token.address, chain.address)) < terms.bond:
        raise ConflictError(f"the bond is {token.text(terms.bond)}, {chain.address} has {token.text(balance)}")
    place = place_of(found)
    typical = _TYPICAL_GAS
    if proven is None:
        gas = chain.gas_of_challenge(found.statement, found.signature, place, opening)
    else:
        typical = _TYPICAL_GAS_BY_PROOF
        known = chain.is_vka_registered(proven.circuit.vka_digest)
        gas = chain.gas_of_commit_challenge(found.statement, found.signature, place, proven) if known else None
    if not as_json:
        for name, value in {
            "statement": f"{prospect.digest}, anchored in block {prospect.anchored.block}",
            "worker": f"{found.statement.worker}, who can lose {token.text(prospect.locked)}",
            "bond": f"{token.text(terms.bond)}, the worker's if {_right(record, prospect)}",
            "gas": f"{gas:,}" if gas is not None else f"about {typical:,}, and what it takes before",
            "reward": f"{terms.reward_bps / 100:g} % of what the worker loses, and the bond back",
            "time": f"until block {prospect.until}; the worker then has {terms.response_window} blocks",
        }.items():
            say(f"{name:<12} {value}")
    agree(f"Record {record} becomes public for ever. Challenge it?", yes=yes)
    with working("challenging"):
        if proven is None:
            sent = chain.challenge(found.statement, found.signature, place, opening)
        else:
            chain.register_vka(proven.vka)
            sent = chain.challenge_commit(found.statement, found.signature, place, proven)
    dispute = chain.dispute_of(prospect.digest, record)
    if as_json:
        emit({"statementDigest": str(prospect.digest), "transaction": str(sent.hash), **_plain(dispute)})
        return
    say(f"challenged in block {sent.block}: the worker can answer until block {dispute.answer_until}")
    say(f"afterwards: rexis disputes close {prospect.digest} --record {record}")


def list_disputes(
    rpc: Rpc, manifest: Manifest, worker: _Worker = None, since: _Since = None, as_json: Json = False
) -> None:
    """List disputes, the oldest first."""
    chain = open_accountable(rpc, manifest)
    head = chain.block_number()
    token = chain.token(chain.accountability.terms.token)
    lines = []
    for one in _challenges(chain, _first(chain, since, head), head, worker):
        dispute = chain.dispute_of(one.statement_digest, one.record_index)
        lines.append((one, dispute))
    if as_json:
        emit([_object(one, dispute) for one, dispute in lines])
        return
    for one, dispute in lines:
        say(_line(one, dispute, head, token))
    if not lines:
        say("no disputes")


def watch(
    rpc: Rpc,
    manifest: Manifest,
    worker: _Worker = None,
    since: _Since = None,
    every: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How often to look.")] = 12.0,
    as_json: Json = False,
) -> None:
    """Print disputes as they come and as they change, until Ctrl-C."""
    chain = open_accountable(rpc, manifest)
    token = chain.token(chain.accountability.terms.token)
    shown: dict[tuple[str, int], tuple[Challenge, Any]] = {}
    first = _first(chain, since, chain.block_number())
    while True:
        head = chain.block_number()
        for one in _challenges(chain, first, head, worker):
            shown.setdefault((str(one.statement_digest), one.record_index), (one, None))
        first = head + 1
        for key, (one, before) in list(shown.items()):
            dispute = chain.dispute_of(one.statement_digest, one.record_index)
            if dispute.state == before:
                continue
            shown[key] = (one, dispute.state)
            if as_json:
                emit(_object(one, dispute))
            else:
                say(_line(one, dispute, head, token))
        time.sleep(every)


def close(
    statement: StatementDigest,
    record: Record,
    rpc: Rpc,
    manifest: Manifest,
    wallet: Wallet,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Close a dispute that nobody answered in time: the worker loses what was locked. Anybody may."""
    from contracts.accountable import DisputeState

    about = digest(statement, "STATEMENT")
    chain = open_accountable(rpc, manifest, open_wallet(wallet, passphrase_file))
    dispute = chain.dispute_of(about, record)
    if dispute.state != DisputeState.OPEN:
        raise ConflictError(f"no open dispute about record {record}: {dispute.state.name.lower()}")
    if (head := chain.block_number()) < dispute.answer_until:  # in the next block it is not
        raise ConflictError(f"the worker can answer until block {dispute.answer_until}, now {head}", hint="wait")
    sent = chain.close(about, record)
    if as_json:
        emit({"transaction": str(sent.hash), **_plain(chain.dispute_of(about, record))})
        return
    token = chain.token(chain.accountability.terms.token)
    say(f"worker {dispute.worker} has lost {token.text(dispute.locked)}")
    say("what is yours: rexis disputes withdraw")


def dismiss(
    evidence: Evidence,
    record: Record,
    rpc: Rpc,
    manifest: Manifest,
    wallet: Wallet,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """End a dispute that came too late: the statement was anchored before, so long ago. Anybody may."""
    from contracts.challenging import place_of

    found, _ = _statement(evidence, record)
    chain = open_accountable(rpc, manifest, open_wallet(wallet, passphrase_file))
    sent = chain.dismiss(found.check(), record, place_of(found))
    if as_json:
        emit({"transaction": str(sent.hash), **_plain(chain.dispute_of(found.digest, record))})
        return
    say(f"the dispute about record {record} is dismissed, the bond is the worker's")


def withdraw(
    rpc: Rpc,
    manifest: Manifest,
    wallet: Wallet,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Fetch what disputes have given the wallet: bonds, rewards."""
    chain = open_accountable(rpc, manifest, open_wallet(wallet, passphrase_file))
    token = chain.token(chain.accountability.terms.token)
    owed = chain.owed("Disputes", token.address, chain.address)
    if not owed:
        raise NotFoundError(f"nothing is owed to {chain.address}")
    sent = chain.collect("Disputes", token.address)
    if as_json:
        emit({"transaction": str(sent.hash), "amount": owed})
        return
    say(f"fetched {token.text(owed)}")


def _statement(file: Path, record: int) -> tuple[AnchoredStatement, Opening | None]:
    from rexis.files import read_file
    from rexis.protocol.anchored import read_statements, statement_about
    from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES

    return statement_about(read_statements(read_file(file, "certificate", max_bytes=MAX_CERTIFICATE_BYTES)), record)


def _proved(
    chain: AccountableChain, found: AnchoredStatement, opening: InputOpening, output: bytes | None, files: RefereeFiles
) -> tuple[Prospect, ProvenRecord]:
    with needs("circuits"):
        from circuits.process import EzklProcess

    with (
        working("making the circuit from the model, and proving the record"),
        tempfile.TemporaryDirectory(prefix="rexis-challenge-") as keys,
        EzklProcess() as ezkl,
    ):
        return prove_record(chain, found, opening, output, files, Path(keys), ezkl)


def _right(record: int, prospect: Prospect) -> str:
    if prospect.tolerance is None:
        return f"it proves record {record}"
    return f"its output of record {record} lies within {prospect.tolerance} units of what is proved"


def _held(evidence: Path, record: int, dataset: Path | None) -> tuple[AnchoredStatement, InputOpening, bytes | None]:
    """The statement about a record, the record's input (from the dataset, or as the certificate opens it), and its
    output if the certificate opens it."""
    from contracts.challenging import require_disputable

    found, opened = _statement(evidence, record)
    require_disputable(found.statement)
    output = None if opened is None else opened.output
    if dataset is not None:
        return found, _open(dataset, found.statement, record), output
    if opened is None:
        raise NotFoundError(
            f"{evidence} does not open record {record}", field="record", hint="whoever has the record: --dataset FILE"
        )
    return found, opened, output


def _open(dataset: Path, statement: Statement, record: int) -> InputOpening:
    from rexis.datafiles import open_dataset_file
    from rexis.protocol.onsite import PrivateDataset
    from rexis.protocol.policy import Tier
    from rexis.protocol.records import open_input

    data = open_dataset_file(dataset)
    if isinstance(data, PrivateDataset):
        raise ConflictError("private records cannot be disputed", hint="see docs/disputes.md")
    fault = None if statement.tier == Tier.COMMIT else data.misfit(statement.circuit)
    if len(data) != statement.input_size:
        fault = f"it has {len(data)} records, not {statement.input_size}"
    if fault is not None:
        raise RexisError(f"{dataset} is not the statement's dataset: {fault}", field="dataset")
    return open_input(statement.tier, statement.circuit, data.records, data.salts, record)


def _first(chain: AccountableChain, since: int | None, head: int) -> int:
    terms = chain.accountability.terms
    return max(0, head - terms.challenge_period - terms.response_window) if since is None else since


def _challenges(chain: AccountableChain, first: int, last: int, worker: str | None) -> list[Challenge]:
    return list(chain.challenges(first, last, address(worker, "--worker") if worker else None))


def _plain(dispute: Dispute) -> dict[str, Any]:
    return {
        "state": dispute.state.name.lower(),
        "worker": dispute.worker,
        "challenger": dispute.challenger,
        "answerUntil": dispute.answer_until,
        "locked": str(dispute.locked),
    }


def _object(one: Challenge, dispute: Dispute) -> dict[str, Any]:
    about = {"statementDigest": str(one.statement_digest), "record": one.record_index, "madeIn": one.made_in}
    return {**about, **_plain(dispute)}


def _line(one: Challenge, dispute: Dispute, head: int, token: Token) -> str:
    state = dispute.state.name.lower()
    if state == "open":
        left = dispute.answer_until - head
        state = f"open, {left} blocks to answer" if left > 0 else "open, not answered: anybody can close it"
    return (
        f"{one.statement_digest} record {one.record_index}: {state}; worker {one.worker}, "
        f"{token.text(dispute.locked)} locked, challenged in block {one.made_in}"
    )
