"""``rexis ee attack``: what Equivariant Encryption leaks of a model and its records, by trying."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import emit, say, working
from rexis.cli.options import Json, needs
from rexis.protocol.errors import NotFoundError, TensorError

if TYPE_CHECKING:
    from rexis.ee.attack_card import AttackCard
    from rexis.ee.attacks import Target

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
    decoy_inputs: Annotated[int, typer.Option(min=0, metavar="N", help="As for `rexis ee encrypt`.")] = 0,
    decoy_neurons: Annotated[
        float, typer.Option(min=0.0, max=1.0, metavar="SHARE", help="As for `rexis ee encrypt`.")
    ] = 0.0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report here (JSON), for `rexis ee card --attacks`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Encrypt a model with a throw-away key, and attack it in every way that rexis knows.

    Half of the records are attacked; the attacker has the other half as its public sample. Every input is attacked in
    its turn. With decoys, each attack runs as it is and after the attacker looked for them, and the better one counts.
    Without --out nothing is written.
    """
    from rexis.cli.records import read_inputs, read_records
    from rexis.files import read_file, require_absent, write_file

    with needs("models"):
        from rexis.ee.attack_card import AttackReport, structure_of
        from rexis.ee.attacks import ATTACKS, Target
        from rexis.ee.attacks.undecoyed import ways
        from rexis.ee.decoys import Decoys
    require_absent(*([out] if out else []))
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
    decoys = Decoys(decoy_inputs, decoy_neurons) if decoy_inputs or decoy_neurons else None
    if isinstance(given, dict):
        halves = [{name: each[part] for name, each in given.items()} for part in (slice(half), slice(half, None))]
        targets = Target.of_inputs(plain, *halves, base=public_base, decoys=decoys)
    else:
        one = Target.compiled(plain, given[:half], given[half:], base=public_base, decoys=decoys)
        targets = {one.input: one}
    made = []
    for attacked, target in targets.items():
        found = ways(target)
        for name in attacks or ATTACKS:
            with working(f"attacking {attacked}: {name}"):
                made.append(_tried(name, found, attacked if len(targets) > 1 else None))
    encrypted = next(iter(targets.values())).encrypted
    report = AttackReport(
        structure=structure_of(encrypted.plan.graph),
        private=half,
        public=count - half,
        base=public_base is not None,
        attacks=made,
    )
    if out is not None:
        write_file(out, report.to_json())
    if as_json:
        emit(report.model_dump(by_alias=True, mode="json"))
        return
    shown = None
    for row in report.attacks:
        if row.input != shown:
            shown = row.input
            say(f"input {shown}:")
        if row.score is None:
            say(f"{row.name:<19} not run: {row.says}")
        else:
            between = f"guess {row.floor:.2f}, no EE {row.ceiling:.2f}"
            say(f"{row.name:<19} {row.score:.2f} ({between})  {row.verdict}. {row.says}")


def _tried(name: str, targets: dict[str, Target], attacked: str | None) -> AttackCard:
    """The best that one attack gets."""
    from rexis.ee.attack_card import attack_card, skipped
    from rexis.ee.attacks import ATTACKS, NotApplicableError

    try:
        best = max((ATTACKS[name](target) for target in targets.values()), key=lambda result: result.value)
    except NotApplicableError as reason:
        return skipped(name, reason.message, attacked)
    return attack_card(
        name,
        best.metric,
        best.attacker_knows,
        score=best.value,
        ceiling=best.ceiling,
        floor=best.floor,
        says=best.says,
        attacked=attacked,
    )
