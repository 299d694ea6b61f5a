"""``rexis demo``, ``up`` and ``down``: their options, apart so that ``rexis --help`` does not load what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_OUT = typer.Option(metavar="DIR", help="Folder for wallets, keys, logs and data.")


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for wallets, keys, logs and certificates.")] = Path(
        "demo-out"
    ),
) -> None:
    """Run the main job end to end on this machine, then show a cheat caught and a forgery refused."""
    from rexis.cli.demo import demo

    demo(out)


def up(
    out: Annotated[Path, _OUT] = Path("stack-out"),
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, and stop everything on Ctrl-C.")] = False,
) -> None:
    """Start a development stack with a registered model, and leave it running."""
    from rexis.cli.stack import up

    up(out, foreground=foreground)


def down(out: Annotated[Path, _OUT] = Path("stack-out")) -> None:
    """Stop the stack that `rexis up` started; its files stay."""
    from rexis.cli.stack import down

    down(out)
