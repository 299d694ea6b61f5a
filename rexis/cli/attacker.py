"""``rexis ee attack``: what Equivariant Encryption leaks of a model and its records, by trying."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from rexis.cli.console import emit, say, working
from rexis.cli.options import Json, needs
from rexis.protocol.errors import NotFoundError, TensorError

_MAX_BYTES = 2 << 30
_FEWEST = 40  # records: half are attacked, half are the attacker's public sample


def attack(
    model: Annotated[Path, typer.Option(metavar="FILE", help="The plain model (ONNX).")],
    records: Annotated[Path, typer.Option(metavar="FILE", help="Records as the model takes them (.npy).")],
    base: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The public model (ONNX) that yours was tuned from.")
    ] = None,
    attacks: Annotated[
        list[str] | None, typer.Option("--attack", metavar="NAME", help="Only this attack; may be given again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Encrypt a model with a throw-away key, and attack it in every way that rexis knows.

    Half of the records are attacked; the attacker has the other half as its public sample. Nothing is written.
    """
    from rexis.cli.records import read_records
    from rexis.files import read_file

    with needs("models"):
        from rexis.ee.attacks import ATTACKS, NotApplicableError, Target
    unknown = sorted(set(attacks or ()) - set(ATTACKS))
    if unknown:
        raise NotFoundError(f"no attack named {unknown[0]!r}", field="attack", hint=f"known: {', '.join(ATTACKS)}")
    values = read_records(records, None)
    if len(values) < _FEWEST:
        raise TensorError(f"{len(values)} records are too few to attack", hint=f"at least {_FEWEST} are needed")
    half = len(values) // 2
    plain = read_file(model, "model", max_bytes=_MAX_BYTES)
    public_base = None if base is None else read_file(base, "base model", max_bytes=_MAX_BYTES)
    target = Target.compiled(plain, values[:half], values[half:], base=public_base)
    rows: list[dict[str, Any]] = []
    for name in attacks or ATTACKS:
        try:
            with working(f"attacking: {name}"):
                rows.append(asdict(ATTACKS[name](target)))
        except NotApplicableError as reason:
            rows.append({"name": name, "skipped": reason.message})
    if as_json:
        emit(rows)
        return
    for row in rows:
        if "skipped" in row:
            say(f"{row['name']:<19} not run: {row['skipped']}")
        else:
            between = f"guess {row['floor']:.2f}, no EE {row['ceiling']:.2f}"
            say(f"{row['name']:<19} {row['value']:.2f} ({between})  {row['says']}")
