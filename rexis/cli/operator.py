"""Commands of those who run the parts: contracts, coordinator. Workers have a module of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rexis.cli.console import emit, note, say, working
from rexis.cli.options import (
    Coordinator,
    Json,
    PassphraseFile,
    Rpc,
    Wallet,
    needs,
    open_chain,
    open_wallet,
)

if TYPE_CHECKING:
    from coordinator.blobs import Blobs
    from coordinator.settings import Settings

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
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Change tables of an older version on PostgreSQL, too. [REXIS_MIGRATE]")
    ] = False,
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
        "migrate": migrate or None,
    }
    settings = Settings.load(**{name: value for name, value in given.items() if value is not None})
    if passphrase_file is None and (settings.passphrase or settings.passphrase_file):
        run(settings)
        return
    passphrase = read_passphrase(f"wallet {settings.wallet}", passphrase_file)
    run(settings.model_copy(update={"passphrase": SecretStr(passphrase), "passphrase_file": None}))


@coordinator.command("collect")
def collect_blobs(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be condemned and removed.")] = False,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Also take in blobs that the database does not know: they go in time.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For the database and the blobs. [REXIS_DATA_DIR]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove blobs that nobody needs any more, as a running coordinator does every hour.

    How long blobs are kept is set by REXIS_RETENTION_… variables. Coordinators may go on running.
    """
    with needs("coordinator"):
        from coordinator.collecting import collector
        from coordinator.settings import Settings

    settings = Settings.load(**({} if data is None else {"data_dir": data}))
    with collector(settings) as garbage:
        lost = list(garbage.orphans(adopt=orphans and not dry_run)) if orphans else []
        if dry_run:
            found = garbage.rehearse()
            if as_json:
                blobs = [{"digest": str(digest), "size": size, "state": state.value} for digest, size, state in found]
                emit({"blobs": blobs, "orphans": [{"digest": str(digest), "size": size} for digest, size in lost]})
                return
            for digest, size, state in found:
                say(f"{digest}  {'?' if size is None else size:>14}  {state.value}")
            for digest, size in lost:
                say(f"{digest}  {size:>14}  orphan")
            return
        done = garbage.run()
    if as_json:
        emit(done.to_object() | {"adopted": len(lost)})
        return
    say(f"{done.condemned} blobs condemned, {done.removed} removed ({done.removed_bytes} bytes), {len(lost)} taken in")


@coordinator.command("migrate")
def migrate_database(
    check: Annotated[
        bool, typer.Option("--check", help="Only say what would be done; exit code 1 if anything.")
    ] = False,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the database is. [REXIS_DATA_DIR]")] = None,
    as_json: Json = False,
) -> None:
    """Bring the coordinator's database to the tables that this version needs.

    The database is that of REXIS_DATABASE_URL, otherwise the SQLite file in the data folder; of such a file a copy is
    kept. Coordinators of the version before may go on running.
    """
    with needs("coordinator"):
        from coordinator.schema import migrate, standing
        from coordinator.settings import Settings

    settings = Settings.load(**({} if data is None else {"data_dir": data}))
    if check:
        before, backup = standing(settings.database), None
    else:
        done = migrate(settings.database)
        before, backup = done.before, done.backup
    if as_json:
        emit(
            {
                "found": before.found,
                "wanted": before.wanted,
                "migrated": not check and not before.current,
                "backup": str(backup) if backup else None,
            }
        )
    elif before.current:
        say(f"the database stands at {before.found}, as it should")
    else:
        say(f"{before.found} → {before.wanted}" + (" is to be done" if check else " is done"))
        if backup:
            say(f"as it was before: {backup}")
    if check and not before.current:
        raise typer.Exit(1)


_Data = Annotated[Path | None, typer.Option(metavar="DIR", help="The coordinator's data folder. [REXIS_DATA_DIR]")]


@coordinator.command("backup")
def back_up_coordinator(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for copies; may have earlier ones in it.")],
    data: _Data = None,
    as_json: Json = False,
) -> None:
    """Copy the coordinator's database, then the blobs that the folder has not, while coordinators run.

    Database and blobs are those of the REXIS_… variables. PostgreSQL is copied by its own pg_dump. Exit code 1 if a
    blob that the database knows of is missing or damaged.
    """
    with needs("coordinator"):
        from coordinator.backup import back_up

    settings, blobs = _state(data)
    with working("copying"):
        made = back_up(settings.database, blobs, out)
    if as_json:
        emit(made.to_object())
    else:
        name = made.at.replace(":", "")
        say(f"{out}: copy {name}, {made.kind} at {made.revision}, {made.blobs} blobs of {made.bytes} bytes")
        for digest in made.missing:
            note(f"missing or damaged: {digest}")
    if made.missing:
        raise typer.Exit(1)


@coordinator.command("restore")
def restore_coordinator(
    folder: Annotated[Path, typer.Option("--from", metavar="DIR", help="What `rexis coordinator backup` wrote.")],
    copy: Annotated[str | None, typer.Option(metavar="NAME", help="Which copy. Default: the newest.")] = None,
    data: _Data = None,
    as_json: Json = False,
) -> None:
    """Make a copy's state that of an empty database and blob store. No coordinator may run meanwhile."""
    with needs("coordinator"):
        from coordinator.backup import restore

    settings, blobs = _state(data)
    with working("restoring"):
        made = restore(folder, settings.database, blobs, copy)
    if as_json:
        emit(made.to_object())
    else:
        say(f"restored the copy of {made.at}, {made.kind} at {made.revision}, {made.blobs} blobs")


def _state(data: Path | None) -> tuple[Settings, Blobs]:
    """Where the coordinator's state is."""
    from coordinator.blobs import Blobs
    from coordinator.settings import Settings

    settings = Settings.load(**({} if data is None else {"data_dir": data}))
    return settings, Blobs(settings.blob_url, settings.data_dir, settings.max_blob_bytes)
