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
    records: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Records as the model takes them: .npy; of several inputs .npz, by name."),
    ],
    base: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The public model (ONNX) that yours was tuned from.")
    ] = None,
    attacks: Annotated[
        list[str] | None, typer.Option("--attack", metavar="NAME", help="Only this attack; may be given again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Encrypt a model with a throw-away key, and attack it in every way that rexis knows.

    Half of the records are attacked; the attacker has the other half as its public sample. Every input is attacked in
    its turn. Nothing is written.
    """
    from rexis.cli.records import read_inputs, read_records
    from rexis.files import read_file

    with needs("models"):
        from rexis.ee.attacks import ATTACKS, NotApplicableError, Target
    unknown = sorted(set(attacks or ()) - set(ATTACKS))
    if unknown:
        raise NotFoundError(f"no attack named {unknown[0]!r}", field="attack", hint=f"known: {', '.join(ATTACKS)}")
    given = read_inputs(records) if records.suffix == ".npz" else read_records(records, None)
    count = min(len(each) for each in (given.values() if isinstance(given, dict) else [given]))
    if count < _FEWEST:
        raise TensorError(f"{count} records are too few to attack", hint=f"at least {_FEWEST} are needed")
    half = count // 2
    plain = read_file(model, "model", max_bytes=_MAX_BYTES)
    public_base = None if base is None else read_file(base, "base model", max_bytes=_MAX_BYTES)
    if isinstance(given, dict):
        halves = [{name: each[part] for name, each in given.items()} for part in (slice(half), slice(half, None))]
        targets = Target.of_inputs(plain, *halves, base=public_base)
    else:
        one = Target.compiled(plain, given[:half], given[half:], base=public_base)
        targets = {one.input: one}
    rows: list[dict[str, Any]] = []
    for attacked, target in targets.items():
        for name in attacks or ATTACKS:
            try:
                with working(f"attacking {attacked}: {name}"):
                    rows.append({"input": attacked, **asdict(ATTACKS[name](target))})
            except NotApplicableError as reason:
                rows.append({"input": attacked, "name": name, "skipped": reason.message})
    if as_json:
        emit(rows)
        return
    shown = ""
    for row in rows:
        if len(targets) > 1 and row["input"] != shown:
            shown = row["input"]
            say(f"input {shown}:")
        if "skipped" in row:
            say(f"{row['name']:<19} not run: {row['skipped']}")
        else:
            between = f"guess {row['floor']:.2f}, no EE {row['ceiling']:.2f}"
            say(f"{row['name']:<19} {row['value']:.2f} ({between})  {row['says']}")
