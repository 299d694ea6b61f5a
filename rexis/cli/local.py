"""The demonstrations, ``rexis up`` and ``down``: their options, apart so that ``--help`` loads nothing they need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_OUT = typer.Option(metavar="DIR", help="Folder for wallets, keys, logs and data.")


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for wallets, keys, logs and certificates.")] = Path(
        "demo-out"
    ),
    model: Annotated[str, typer.Option(metavar="NAME", help="A zoo model (`rexis zoo list`).")] = "breast_cancer",
) -> None:
    """Run the main job end to end on this machine, then show a cheat caught and a forgery refused.

    A model with a tuned circuit is proved; of any other, opened records are re-executed.
    """
    from rexis.cli.demo import demo

    demo(out, model)


def demo_train(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for wallets, keys, logs and certificates.")] = Path(
        "demo-train-out"
    ),
    model: Annotated[list[str] | None, typer.Option(metavar="ecg|vit", help="Only this; may be repeated.")] = None,
) -> None:
    """Fine-tune zoo models between two parties on a stranger's worker, audit the training, and catch a cheat."""
    from rexis.cli.demo_train import COURSES, demo_train

    known = {course.model for course in COURSES}
    if model and not known.issuperset(model):
        raise typer.BadParameter(f"one of {', '.join(sorted(known))}", param_hint="--model")
    demo_train(out, tuple(model or ()))


def demo_dispute(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for keys and the deployment's manifest.")] = Path(
        "demo-dispute-out"
    ),
) -> None:
    """Challenge two workers on chain about one record: the honest one is vindicated, the other loses its stake."""
    from rexis.cli.options import needs

    with needs("circuits"):
        from rexis.cli.demo_dispute import demo_dispute

    demo_dispute(out)


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
