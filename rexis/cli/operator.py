"""Commands of those who run the parts: contracts, coordinator, workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rexis.cli.console import emit, say, working
from rexis.cli.options import (
    Coordinator,
    Json,
    PassphraseFile,
    Rpc,
    Wallet,
    address,
    needs,
    open_chain,
    open_wallet,
    read_deployment,
)

if TYPE_CHECKING:
    from rexis.protocol.policy import Tier

worker = typer.Typer(help="Run a worker.", no_args_is_help=True)
coordinator = typer.Typer(help="Run a coordinator.", no_args_is_help=True)


def info(coordinator: Coordinator, as_json: Json = False) -> None:
    """Show what a coordinator says of itself: its address, chain, contracts, tiers and limits."""
    from rexis.client import RexisClient

    with RexisClient(coordinator) as client:
        found = client.info()
    if as_json:
        emit(found.to_object())
        return
    rows = {
        "version": found.version,
        "coordinator": found.coordinator,
        "chain": found.domain.chain_id,
        "evidence log": found.domain.verifying_contract,
        "model registry": found.contracts.model_registry,
        "certifier": found.contracts.certifier,
        "chain node": found.rpc_url or "none suggested",
        "tiers": ", ".join(tier.name.lower() for tier in found.tiers),
        "largest blob": f"{found.max_blob_bytes} bytes",
    }
    for name, value in rows.items():
        say(f"{name:<15} {value}")


def deploy(
    rpc: Rpc,
    wallet: Wallet,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the contracts' addresses.")],
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Deploy the contracts, if they are not there yet, and write where they stand to a new file.

    Their addresses follow from their code, so that they are the same on every chain and for everybody. Whoever comes
    first pays; nobody owns them.
    """
    from rexis.files import require_absent, write_file

    require_absent(out)
    chain = open_chain(rpc, None, open_wallet(wallet, passphrase_file))
    missing = chain.missing()
    with working(f"deploying {len(missing)} contracts" if missing else "looking the contracts up"):
        deployment = chain.deploy_all()
    write_file(out, deployment.to_json())
    if as_json:
        emit(deployment.to_object())
        return
    say(f"deployed       {', '.join(missing) if missing else 'nothing: all contracts were there already'}")
    say(f"chain          {deployment.chain_id}")
    say(f"model registry {deployment.model_registry}")
    say(f"evidence log   {deployment.evidence_log}")
    say(f"certifier      {deployment.certifier}")
    say(f"written to     {out}")


@worker.command("run")
def run_worker(
    coordinator: Coordinator,
    wallet: Wallet,
    rpc: Annotated[
        str | None,
        typer.Option(
            "--rpc", envvar="REXIS_RPC", metavar="URL", help="A chain node that you trust, to check models on."
        ),
    ] = None,
    trust_coordinator_rpc: Annotated[
        bool,
        typer.Option(
            "--trust-coordinator-rpc",
            help="Instead of --rpc: the coordinator's node, which can show any model and challenge.",
        ),
    ] = False,
    unchecked_chain: Annotated[
        bool,
        typer.Option("--unchecked-chain", help="Instead of --rpc: do not check models and challenges on chain."),
    ] = False,
    deployment: Annotated[
        Path | None,
        typer.Option(
            envvar="REXIS_DEPLOYMENT", metavar="FILE", help="Work for this deployment only. Default: the coordinator's."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Shown to people. Default: this machine's name.")] = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where models, keys and finished proofs are kept.")
    ] = None,
    tiers: Annotated[
        str | None, typer.Option(metavar="TIER,…", help="Tiers to serve. Default: all that can be proved here.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Records per run of the model.")] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.5, metavar="GIB", help="Memory for keys and proofs. Default: what is free.")
    ] = None,
    proof_timeout: Annotated[
        float | None,
        typer.Option(
            min=1.0, metavar="SECONDS", help="Give a task up whose set-up or proof takes longer. Default: 3600."
        ),
    ] = None,
    provers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Proofs made side by side, if the memory is there. Default: one a core."),
    ] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="When told to stop, finish the task rather than give it back.")
    ] = False,
    onsite: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A private dataset (`rexis onsite commit`): prove on it, here, and do nothing else. May be repeated.",
        ),
    ] = None,
    onsite_requester: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Whose jobs on it are done. Default: those of this worker's own wallet."),
    ] = None,
    dishonest: Annotated[str | None, typer.Option("--dishonest-for-tests-only", hidden=True)] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Lease tasks, compute on ciphertext, prove, hand in; until Ctrl-C or SIGTERM."""
    import socket

    from platformdirs import user_cache_path

    if [rpc is not None, trust_coordinator_rpc, unchecked_chain].count(True) != 1:
        raise typer.BadParameter(
            "give one of --rpc URL, --trust-coordinator-rpc, --unchecked-chain (REXIS_RPC counts as --rpc)",
            param_hint="--rpc",
        )
    with needs("worker"):
        from provers.worker import WorkerOptions, run_worker

    found: dict[str, Any] = {
        "rpc_url": rpc,
        "domain": read_deployment(deployment).domain if deployment else None,
        "tiers": _tiers(tiers) if tiers else None,
        "batch_size": batch_size,
        "memory_bytes": int(memory * (1 << 30)) if memory else None,
        "proof_seconds": proof_timeout,
        "provers": provers,
        "onsite_requester": address(onsite_requester, "--onsite-requester") if onsite_requester else None,
    }
    run_worker(
        WorkerOptions(
            coordinator=coordinator,
            account=open_wallet(wallet, passphrase_file),
            name=name or socket.gethostname(),
            cache=cache or user_cache_path("rexis") / "worker",
            trust_coordinator_rpc=trust_coordinator_rpc,
            unchecked_chain=unchecked_chain,
            finish=finish,
            dishonest=dishonest,
            onsite=tuple(onsite or ()),
            **{option: value for option, value in found.items() if value is not None},
        )
    )


@coordinator.command("run")
def run_coordinator(
    deployment: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What `rexis deploy` wrote. [REXIS_DEPLOYMENT]")
    ] = None,
    wallet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The coordinator's wallet; pays for anchors. [REXIS_WALLET]")
    ] = None,
    rpc: Annotated[str | None, typer.Option("--rpc", metavar="URL", help="A chain node. [REXIS_RPC]")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [REXIS_HOST, else 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on. [REXIS_PORT, else 8080]")
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where clients reach it; they sign in to this host.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For the database and the blobs. [REXIS_DATA_DIR]")
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Store, schedule, check evidence, anchor and certify; until Ctrl-C or SIGTERM.

    Everything can also be set by REXIS_… variables, and some things (database, S3, members, timing) only so: see
    `coordinator.settings`.
    """
    from pydantic import SecretStr

    from rexis.cli.passphrase import read_passphrase

    with needs("coordinator"):
        from coordinator.main import run
        from coordinator.settings import Settings

    given: dict[str, Any] = {
        "deployment": deployment,
        "wallet": wallet,
        "rpc": rpc,
        "host": host,
        "port": port,
        "public_url": public_url,
        "data_dir": data,
    }
    settings = Settings.load(**{name: value for name, value in given.items() if value is not None})
    passphrase = read_passphrase(f"wallet {settings.wallet}", passphrase_file)
    run(settings.model_copy(update={"passphrase": SecretStr(passphrase), "passphrase_file": None}))


def _tiers(text: str) -> tuple[Tier, ...]:
    from rexis.protocol.policy import Tier

    names = [name.strip() for name in text.split(",")]
    known = {tier.name.lower(): tier for tier in Tier}
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}", param_hint="--tiers")
    return tuple(known[name] for name in names)
