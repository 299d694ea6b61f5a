"""``rexis verify``: check a certificate, alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import complain, emit, say
from rexis.cli.options import Json, address, digest, needs
from rexis.protocol.errors import RexisError

if TYPE_CHECKING:
    from verifier.report import Step

VALID, INVALID, UNDECIDED = 0, 1, 2
_MARKS = {"ok": "✓", "failed": "✗", "unchecked": "?", "skipped": "–"}


def verify(
    certificate: Annotated[Path, typer.Argument(metavar="CERTIFICATE", help="The certificate file.")],
    rpc: Annotated[
        str | None, typer.Option("--rpc", envvar="REXIS_RPC", metavar="URL", help="A chain node that you trust.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Leave the chain out, also if --rpc is given; open no connection.")
    ] = False,
    srs: Annotated[Path | None, typer.Option(metavar="FILE", help="The SRS, if it is not in --artifacts.")] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The encrypted model, if it is not in --artifacts.")
    ] = None,
    artifacts: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with files named sha256-…. Default: the certificate's own folder."),
    ] = None,
    reexecute: Annotated[
        int, typer.Option(min=0, metavar="N", help="Run N opened records again with the encrypted model.")
    ] = 0,
    rebuild_circuit: Annotated[
        bool, typer.Option("--rebuild-circuit", help="Compile the encrypted model again and compare the key.")
    ] = False,
    requester: Annotated[str | None, typer.Option(metavar="ADDRESS", help="The requester that you expect.")] = None,
    model_digest: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="The encrypted model that you expect.")
    ] = None,
    allow_development_srs: Annotated[
        bool, typer.Option("--allow-development-srs", help="Accept an SRS whose secret its maker could know.")
    ] = False,
    allow_development_chain: Annotated[
        bool, typer.Option("--allow-development-chain", help="Accept a chain that anybody could have made up.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a certificate, believing neither the worker nor the coordinator.

    Exit code 0: valid. 1: not valid, and the failed step says why. 2: could not be decided, something is missing.
    """
    with needs("verifier"):
        from verifier.certificate import VerifyOptions, verify_certificate
        from verifier.report import Status

    options = VerifyOptions(
        rpc_url=None if offline else rpc,
        offline=offline,
        srs=srs,
        model=model,
        artifacts=artifacts or certificate.parent,
        reexecute=reexecute,
        rebuild_circuit=rebuild_circuit,
        requester=address(requester, "--requester") if requester else None,
        model_digest=digest(model_digest, "--model-digest") if model_digest else None,
        allow_development_srs=allow_development_srs,
        allow_development_chain=allow_development_chain,
    )
    data = _read(certificate)
    with needs("verifier"):
        verdict = verify_certificate(data, options, on_step=None if as_json else _show)
    if verdict.failed is not None:
        code, result = INVALID, "not valid"
    elif verdict.unchecked:
        code, result = UNDECIDED, "undecided"
    else:
        code, result = VALID, "valid"
    if as_json:
        steps = [asdict(step) for step in verdict.steps]
        emit({"result": result, "exitCode": code, "steps": steps, "shows": verdict.shows if code == VALID else []})
    else:
        skipped = [step.name for step in verdict.steps if step.status == Status.SKIPPED]
        _conclude(result, [step.name for step in verdict.unchecked], skipped, verdict.shows if code == VALID else [])
    raise typer.Exit(code)


def _read(path: Path) -> bytes:
    """The certificate's bytes; a file that cannot be read leaves everything undecided."""
    from rexis.files import read_file
    from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES

    try:
        return read_file(path, "certificate", max_bytes=MAX_CERTIFICATE_BYTES)
    except RexisError as error:
        complain(error)
        raise typer.Exit(UNDECIDED) from None


def _show(step: Step) -> None:
    say(f"{_MARKS[step.status.value]} {step.number:>2}. {step.name}" + (f": {step.detail}" if step.detail else ""))
    if step.hint:
        say(f"      hint: {step.hint}")


def _conclude(result: str, unchecked: list[str], skipped: list[str], shows: list[str]) -> None:
    say("")
    for sentence in shows:
        say(f"shows: {sentence}")
    left_out = f" (left out: {', '.join(skipped)})" if skipped else ""
    missing = f": {', '.join(unchecked)} could not be checked" if unchecked else ""
    say(f"{result.upper()}{missing}{left_out}")
