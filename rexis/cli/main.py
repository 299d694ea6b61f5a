"""The ``rexis`` command: one module per role, thin over the library.

Commands import what they need when they run, so that ``--help`` is fast and works with the core dependencies alone.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from rexis.cli import (
    auditor,
    bench,
    circuits,
    disputes,
    ee,
    escrow,
    export,
    job,
    keys,
    lineage,
    local,
    members,
    model,
    monitor,
    onsite,
    operator,
    owner,
    plan,
    policy,
    requester,
    stake,
    training,
    validator,
    verifier,
    wallets,
    worker,
    zoo,
)
from rexis.cli.console import complain
from rexis.protocol.errors import RexisError

app = typer.Typer(
    name="rexis",
    help="Evaluate a model on data that nobody else may see, on hardware that nobody has to trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"rexis {version('rexis')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


_OWNER, _REQUESTER, _AUDITOR, _OPERATOR = "Model owner", "Data owner and requester", "Auditor", "Operator"
_MONEY, _TRY = "Stakes, disputes and payment", "Try it on one machine"

app.add_typer(wallets.app, name="wallet", rich_help_panel="Everybody")
app.command(rich_help_panel="Everybody")(operator.info)

app.command("keygen", rich_help_panel=_OWNER)(ee.encrypt)
app.add_typer(ee.app, name="ee", rich_help_panel=_OWNER)
app.add_typer(keys.app, name="key", rich_help_panel=_OWNER)
app.command(rich_help_panel=_OWNER)(owner.register)
app.command(rich_help_panel=_OWNER)(owner.revoke)
app.add_typer(model.app, name="model", rich_help_panel=_OWNER)
app.add_typer(circuits.app, name="circuits", rich_help_panel=_OWNER)
app.add_typer(zoo.app, name="zoo", rich_help_panel=_OWNER)

app.command(rich_help_panel=_REQUESTER)(requester.encrypt)
app.add_typer(onsite.app, name="onsite", rich_help_panel=_REQUESTER)
app.command(rich_help_panel=_REQUESTER)(plan.plan)
app.add_typer(policy.app, name="policy", rich_help_panel=_REQUESTER)
app.command(rich_help_panel=_REQUESTER)(requester.submit)
app.command(rich_help_panel=_REQUESTER)(requester.status)
app.command(rich_help_panel=_REQUESTER)(requester.jobs)
app.command(rich_help_panel=_REQUESTER)(requester.cancel)
app.command(rich_help_panel=_REQUESTER)(requester.token)
app.add_typer(job.app, name="job", rich_help_panel=_REQUESTER)
app.command(rich_help_panel=_REQUESTER)(requester.fetch)
app.command(rich_help_panel=_REQUESTER)(requester.decrypt)

app.add_typer(training.app, name="train", rich_help_panel=_REQUESTER)

app.command(rich_help_panel=_AUDITOR)(auditor.verify)
app.command(rich_help_panel=_AUDITOR)(lineage.lineage)
app.command(rich_help_panel=_AUDITOR)(monitor.monitor)
app.add_typer(export.app, name="export", rich_help_panel=_AUDITOR)
app.add_typer(verifier.app, name="verifier", rich_help_panel=_AUDITOR)

app.command(rich_help_panel=_OPERATOR)(operator.deploy)
app.add_typer(disputes.app, name="disputes", rich_help_panel=_MONEY)
app.add_typer(stake.app, name="stake", rich_help_panel=_MONEY)
app.add_typer(escrow.app, name="escrow", rich_help_panel=_MONEY)
app.add_typer(worker.app, name="worker", rich_help_panel=_OPERATOR)
app.add_typer(validator.app, name="validator", rich_help_panel=_OPERATOR)
app.add_typer(operator.coordinator, name="coordinator", rich_help_panel=_OPERATOR)
app.add_typer(members.members, name="members", rich_help_panel=_OPERATOR)
app.add_typer(members.audit, name="audit", rich_help_panel=_OPERATOR)

app.command(rich_help_panel=_TRY)(local.demo)
app.command("demo-train", rich_help_panel=_TRY)(local.demo_train)
app.command("demo-dispute", rich_help_panel=_TRY)(local.demo_dispute)
app.command(rich_help_panel=_TRY)(local.up)
app.command(rich_help_panel=_TRY)(local.down)
app.add_typer(bench.app, name="bench", rich_help_panel=_TRY)


def run() -> None:
    """Entry point: errors become one line and an exit code.

    Exit codes: 0 done or valid; 1 refused or not valid; 2 wrong usage or could not check; 130 interrupted.
    """
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        app(arguments, prog_name="rexis")
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 0
    except RexisError as error:
        complain(error)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # the interpreter flushes it once more at exit
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        complain(RexisError(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")))
    except Exception as error:
        if os.environ.get("REXIS_DEBUG"):
            raise
        complain(
            RexisError(f"internal fault: {type(error).__name__}", hint="REXIS_DEBUG=1 shows where; please report it")
        )
    return 1
