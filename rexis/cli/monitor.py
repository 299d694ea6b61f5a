"""``rexis monitor``: follow the chain, and say what somebody should look at."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.options import Rpc, address, digest, needs
from rexis.protocol.errors import MalformedError, UnavailableError

if TYPE_CHECKING:
    from rexis.protocol.digests import Digest
    from verifier.monitoring.alerts import Alert

_ALERTED = 3
_MAX_KNOWN = 256 << 20


def monitor(
    rpc: Rpc,
    state: Annotated[Path, typer.Option(metavar="FILE", help="What has been scanned; written after each scan.")],
    model: Annotated[
        list[str] | None, typer.Option(metavar="DIGEST", help="Watch this model only. May be repeated.")
    ] = None,
    submitter: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The coordinator whose anchors and commitments you know.")
    ] = None,
    coordinator: Annotated[
        str | None, typer.Option(metavar="URL", help="Compare what --submitter has on chain with what it says here.")
    ] = None,
    grace: Annotated[
        int, typer.Option(min=1, help="Blocks within which chain and coordinator must both have an anchor.")
    ] = 64,
    worker: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="A worker whose statements you know. May be repeated.")
    ] = None,
    known: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Digests of known statements and anchors' roots, one a line.")
    ] = None,
    start: Annotated[int, typer.Option(min=0, help="First block, where there is no state yet.")] = 0,
    confirmations: Annotated[int, typer.Option(min=0, help="Blocks that must follow one before it is scanned.")] = 0,
    every: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="Go on, and scan so often. Default: scan once.")
    ] = None,
) -> None:
    """Follow the registry and the log, and print an alert a line, as JSON.

    Alerts are: a new model version, a revocation, a model's proposed owner and its new one, an anchor or commitment
    by --submitter that is not in --known, a statement by --worker that is not in --known (where the Certifier accepted
    it, or --coordinator says so), a fork between chain and coordinator, and a reorganisation.

    Exit code 0: nothing to look at. 3: there were alerts. 2: the scan could not be finished; what was scanned stays so.
    """
    import json

    with needs("chain"):
        from contracts.logs import LogReader
        from rexis.client import RexisClient
        from verifier.monitoring.monitor import Monitor, Watched

    if coordinator is not None and submitter is None:
        raise MalformedError("is missing", field="--submitter", hint="whose anchors should --coordinator show?")
    source = RexisClient(coordinator) if coordinator is not None else None
    alerts = 0

    def tell(alert: Alert) -> None:
        nonlocal alerts
        alerts += 1
        print(json.dumps(alert.to_object()), flush=True)

    def scan() -> None:
        writer = address(submitter, "--submitter") if submitter else None
        watched = Watched(
            models=frozenset(digest(each, "--model") for each in model or []),
            # Who asks the coordinator itself, and has no list, learns from it what there should be.
            coordinator=writer if known or source is None else None,
            submitter=writer if source is not None else None,
            workers=frozenset(address(each, "--worker") for each in worker or []),
            known=_read_known(known) if known else frozenset(),  # anew each time: it grows
        )
        chain = LogReader.connect(rpc)
        chain.discover()
        follower = Monitor(chain, state, watched, confirmations=confirmations, start=start, source=source, grace=grace)
        follower.scan(tell)

    while True:
        try:
            scan()
        except UnavailableError as error:
            print(json.dumps({"error": error.message}), flush=True)
            if every is None:
                raise typer.Exit(2) from None
        if every is None:
            raise typer.Exit(_ALERTED if alerts else 0)
        time.sleep(every)


def _read_known(path: Path) -> frozenset[Digest]:
    from rexis.files import read_file
    from rexis.protocol.digests import Digest

    try:
        lines = read_file(path, "known digests", max_bytes=_MAX_KNOWN).decode("ascii").split()
    except UnicodeDecodeError:
        raise MalformedError(f"{path} is not a list of digests") from None
    return frozenset(Digest.parse(line, f"{path}") for line in lines)
