"""``rexis verifier``: run a verifier for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rexis.cli.options import needs, read_accountability

app = typer.Typer(help="Run a verifier service.", no_args_is_help=True)


@app.command("serve")
def serve(
    rpc: Annotated[
        str | None,
        typer.Option("--rpc", envvar="REXIS_RPC", metavar="URL", help="A chain node that you trust; if any."),
    ] = None,
    artifacts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with files named sha256-…: SRS files, base models.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8090,
    allow_development_srs: Annotated[
        bool, typer.Option("--allow-development-srs", help="Accept an SRS whose secret its maker could know.")
    ] = False,
    allow_development_chain: Annotated[
        bool, typer.Option("--allow-development-chain", help="Accept a chain that anybody could have made up.")
    ] = False,
    max_mib: Annotated[int, typer.Option(min=1, max=256, help="Largest certificate, in MiB.")] = 16,
    memory_mib: Annotated[int, typer.Option(min=512, help="Memory of one verification, in MiB.")] = 4096,
    seconds: Annotated[int, typer.Option(min=1, help="Time of one verification.")] = 120,
    at_once: Annotated[
        int | None, typer.Option(min=1, help="Verifications at a time. Default: one a processor.")
    ] = None,
    per_minute: Annotated[float, typer.Option(min=0, help="Certificates a minute of one client; 0: no limit.")] = 30,
    burst: Annotated[int, typer.Option(min=1, help="Certificates at once of one client.")] = 10,
    proxy: Annotated[
        list[str] | None, typer.Option(metavar="NETWORK", help="Whose X-Forwarded-For is believed. May be repeated.")
    ] = None,
    examples: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Certificates to offer at the desk; everybody can read them.")
    ] = None,
    quorum: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Manifest of the validators whose verdicts count; if any. With --rpc."),
    ] = None,
    browse: Annotated[bool, typer.Option("--open", help="Open the desk in a browser here.")] = False,
    https: Annotated[bool, typer.Option("--https", help="A proxy serves it by https: browsers shall insist.")] = False,
) -> None:
    """Verify the certificates that people send, each in a process of its own; until Ctrl-C or SIGTERM.

    At `/` is the auditor's desk, a page that verifies by itself. `POST /v1/verify` takes a certificate and returns the
    verdict with every step. There is no account and nothing is kept. What it accepts is set here, for all callers, and
    named at `/v1/about`.
    """
    import os

    with needs("verifier-service"):
        from rexis.web.clients import read_networks
        from verifier.confined import Bounds
        from verifier.service.main import run
        from verifier.service.settings import ServiceSettings

    try:
        proxies = read_networks(proxy or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--proxy") from None
    settings = ServiceSettings(
        rpc=rpc,
        artifacts=artifacts,
        allow_development_chain=allow_development_chain,
        allow_development_srs=allow_development_srs,
        max_bytes=max_mib << 20,
        bounds=Bounds(memory_mib << 20, seconds),
        at_once=at_once or os.cpu_count() or 1,
        rate=per_minute / 60,
        burst=burst,
        proxies=proxies,
        https=https,
        examples=examples,
        quorum=read_accountability(quorum) if quorum else None,
    )
    run(settings, host, port, browse=browse)
