"""``rexis verify``: check a certificate, alone."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import complain, emit, say
from rexis.cli.options import Json, address, digest, needs, read_accountability
from rexis.protocol.errors import RexisError

if TYPE_CHECKING:
    from verifier.report import Step

VALID, INVALID, UNDECIDED = 0, 1, 2
_RESULTS = {VALID: "valid", INVALID: "not valid", UNDECIDED: "undecided"}
_MARKS = {"ok": "✓", "failed": "✗", "unchecked": "?", "skipped": "–"}


def verify(
    certificates: Annotated[
        list[Path],
        typer.Argument(metavar="CERTIFICATE…", help="The certificate file; of a trained model's lineage, all of them."),
    ],
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
        int, typer.Option(min=0, metavar="N", help="Run N opened records, or segments of a training, again.")
    ] = 0,
    rebuild_circuit: Annotated[
        bool, typer.Option("--rebuild-circuit", help="Compile the encrypted model again and compare the key.")
    ] = False,
    second_opinion: Annotated[
        bool, typer.Option("--second-opinion", help="Have an EVM on this machine check every proof too, beside ezkl.")
    ] = False,
    job: Annotated[str | None, typer.Option(metavar="DIGEST", help="The job that you expect.")] = None,
    requester: Annotated[str | None, typer.Option(metavar="ADDRESS", help="The requester that you expect.")] = None,
    model_digest: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="The encrypted model that you expect; of a training, its base.")
    ] = None,
    allow_development_srs: Annotated[
        bool, typer.Option("--allow-development-srs", help="Accept an SRS whose secret its maker could know.")
    ] = False,
    allow_development_chain: Annotated[
        bool, typer.Option("--allow-development-chain", help="Accept a chain that anybody could have made up.")
    ] = False,
    quorum: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Manifest of the validators that you trust: they must have found everything valid."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a certificate, believing neither the worker nor the coordinator.

    Several certificates are walked as one lineage, from the base model by its trainings to their evaluations.

    Exit code 0: valid. 1: not valid, and the failed step says why. 2: could not be decided, something is missing.
    """
    if job and len(certificates) > 1:
        raise typer.BadParameter("is one certificate's", param_hint="--job")
    pinned_requester = address(requester, "--requester") if requester else None
    pinned_job = digest(job, "--job") if job else None
    pinned_model = digest(model_digest, "--model-digest") if model_digest else None
    steps: list[Step] = []

    def on_step(step: Step) -> None:
        steps.append(step)
        if not as_json:
            _show(step)

    def check() -> tuple[int, list[str]]:
        from rexis.files import read_file
        from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES

        with needs("verifier"):
            from verifier.certificate import VerifyOptions, verify_certificate
            from verifier.lineage import verify_lineage

            options = VerifyOptions(
                rpc_url=None if offline else rpc,
                offline=offline,
                srs=srs,
                model=model,
                artifacts=artifacts or certificates[0].parent,
                reexecute=reexecute,
                rebuild_circuit=rebuild_circuit,
                second_opinion=second_opinion,
                allow_development_srs=allow_development_srs,
                allow_development_chain=allow_development_chain,
                job_id=pinned_job,
                requester=pinned_requester,
                model_digest=pinned_model,
                quorum=read_accountability(quorum) if quorum else None,
            )
            read = [
                (path.name, read_file(path, "certificate", max_bytes=MAX_CERTIFICATE_BYTES)) for path in certificates
            ]
            if len(read) == 1:
                verdict = verify_certificate(read.pop()[1], options, on_step)
            else:
                verdict = verify_lineage(read, options, on_step)
        if verdict.failed is not None:
            return INVALID, []
        return (UNDECIDED, []) if verdict.unchecked else (VALID, verdict.shows)

    code, shows = UNDECIDED, list[str]()
    fault: RexisError | None = None
    try:
        code, shows = check()
    except BrokenPipeError:
        raise typer.Exit(_unheard()) from None
    except RexisError as error:
        fault = error
    except Exception as error:  # a fault of ours or of this machine says nothing against the certificate
        if os.environ.get("REXIS_DEBUG"):
            raise
        fault = RexisError(
            f"internal fault: {type(error).__name__}", hint="REXIS_DEBUG=1 shows where; please report it"
        )
    if fault is not None:
        complain(fault)
    try:
        _report(code, steps, shows, fault, as_json=as_json)
        sys.stdout.flush()
    except BrokenPipeError:
        code = _unheard()
    raise typer.Exit(code)


def _unheard() -> int:
    """Whoever read the report has gone."""
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # the interpreter flushes it once more at exit
    return UNDECIDED


def _report(code: int, steps: list[Step], shows: list[str], fault: RexisError | None, *, as_json: bool) -> None:
    if as_json:
        emit(
            {
                "result": _RESULTS[code],
                "exitCode": code,
                "steps": [asdict(step) for step in steps],
                "shows": shows,
                "error": fault.message if fault else None,
            }
        )
    else:
        _conclude(_RESULTS[code], steps, shows)


def _show(step: Step) -> None:
    say(f"{_MARKS[step.status.value]} {step.number:>2}. {step.name}" + (f": {step.detail}" if step.detail else ""))
    if step.hint:
        say(f"      hint: {step.hint}")


def _conclude(result: str, steps: list[Step], shows: list[str]) -> None:
    say("")
    for sentence in shows:
        say(f"shows: {sentence}")
    unchecked, skipped = (
        ", ".join(step.name for step in steps if step.status.value == status) for status in ("unchecked", "skipped")
    )
    left_out = f" (left out: {skipped})" if skipped else ""
    missing = f": {unchecked} could not be checked" if unchecked else ""
    say(f"{result.upper()}{missing}{left_out}")
