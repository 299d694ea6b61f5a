"""``rexis lineage``: where a model comes from, drawn from certificates."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rexis.cli.console import emit, note, say
from rexis.cli.options import Json, PassphraseFile, connect, digest

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

    from rexis.lineage import ModelLineage
    from rexis.protocol.certificate import Certificate
    from rexis.protocol.digests import Digest
    from rexis.protocol.training_certificate import TrainingCertificate

_SHORT = 12
_WIDTH = 130

# Name of a box, its text, the box that it comes from, and how.
_Box = tuple[str, str, str | None, str]


class Drawing(StrEnum):
    """What a lineage is drawn as."""

    TREE = "tree"
    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"


def lineage(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE…", help="A certificate file, or a folder with some; or a model's digest."),
    ],
    drawing: Annotated[Drawing, typer.Option("--as", help="How to draw it, on stdout.")] = Drawing.TREE,
    coordinator: Annotated[
        str | None, typer.Option(metavar="URL", help="Fetch a model's certificates, if none are named.")
    ] = None,
    wallet: Annotated[
        Path | None, typer.Option(envvar="REXIS_WALLET", metavar="FILE", help="Your wallet, for --coordinator.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    key_epoch: Annotated[int, typer.Option(min=1, help="Of the model's key, for --coordinator.")] = 1,
    as_json: Json = False,
) -> None:
    """Draw where models come from: base model, dataset, transcript, trained model, evaluations.

    A digest leaves only what is about that model. What is drawn is what certificates say; whether it is true,
    `rexis verify CERTIFICATE…` tells. From a coordinator come the certificates of the trainings that led to a model,
    and those of your own evaluations of it.
    """
    from rexis.lineage import around, fetch_certificates, lineages
    from rexis.protocol.errors import NotFoundError

    models = [digest(source, "SOURCE") for source in sources if source.startswith("0x")]
    certificates = [each for source in sources if not source.startswith("0x") for each in _read(Path(source))]
    if coordinator is not None and not certificates:
        if wallet is None:
            raise typer.BadParameter("is needed to ask a coordinator", param_hint="--wallet")
        with connect(coordinator, wallet, passphrase_file) as client:
            certificates = [each for model in models for each in fetch_certificates(client, model, key_epoch)]
    roots = lineages(certificates)
    for model in models:
        roots = around(model, roots)
    if not roots:
        raise NotFoundError(
            "no certificate here is about such a model", hint="name certificates, or a folder with some"
        )
    if as_json:
        emit([_object(root) for root in roots])
    elif drawing == Drawing.MERMAID:
        say("\n".join(["flowchart TD", *(f"  {line}" for line in _mermaid(roots))]))
    elif drawing == Drawing.DOT:
        say("\n".join(["digraph lineage {", *(f"  {line}" for line in _dot(roots)), "}"]))
    elif drawing == Drawing.SVG:
        say(_drawn(roots).export_svg(title="rexis lineage"))
    else:
        say(_drawn(roots).export_text().rstrip())


def _read(path: Path) -> Iterator[Certificate | TrainingCertificate]:
    """The certificates in a file or folder; other JSON files of a folder are passed by."""
    from rexis.files import read_file
    from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES
    from rexis.protocol.errors import MalformedError
    from rexis.protocol.training_certificate import parse_certificate

    if not path.is_dir():
        yield parse_certificate(read_file(path, "certificate", max_bytes=MAX_CERTIFICATE_BYTES))
        return
    for file in sorted(path.rglob("*.json")):
        try:
            yield parse_certificate(read_file(file, "certificate", max_bytes=MAX_CERTIFICATE_BYTES))
        except MalformedError as error:
            note(f"{file} is no certificate: {error.message}")


def _object(model: ModelLineage) -> dict[str, Any]:
    return {
        "model": str(model.digest),
        "evaluations": [
            {
                "jobId": str(each.job_id),
                "tier": each.request.policy.tier.name.lower(),
                "records": each.request.record_count,
                "inputRoot": str(each.request.input_root),
                "issuedAt": each.issued_at,
            }
            for each in model.evaluations
        ],
        "trainings": [
            {
                "jobId": str(each.job_id),
                "tier": each.request.policy.tier.name.lower(),
                "planDigest": str(each.request.plan_digest),
                "datasetDigest": str(each.request.dataset_digest),
                "inputRoot": str(each.request.input_root),
                "transcriptRoot": str(each.evidence.statement.output_root),
                "steps": each.plan.steps,
                "segments": each.plan.segments,
                "issuedAt": each.issued_at,
                "made": _object(made),
            }
            for each, made in model.trainings
        ],
    }


def _tree(model: ModelLineage, above: Tree | None = None) -> Tree:
    from rich.tree import Tree

    here = Tree(f"model {model.digest}") if above is None else above.add(f"model {model.digest}")
    for evaluation in model.evaluations:
        here.add(_of_evaluation(evaluation))
    for training, made in model.trainings:
        below = here.add(_of_training(training))
        below.add(f"dataset {training.request.input_root}, {training.request.input_size} records")
        below.add(f"transcript {training.evidence.statement.output_root}, {training.plan.segments} segments")
        _tree(made, below)
    return here


def _drawn(roots: list[ModelLineage]) -> Console:
    """The trees, on paper that is wide enough for digests, whatever the terminal is."""
    import io

    from rich.console import Console

    paper = Console(record=True, file=io.StringIO(), width=_WIDTH, markup=False, highlight=False, emoji=False)
    for root in roots:
        paper.print(_tree(root))
    return paper


def _mermaid(roots: list[ModelLineage]) -> Iterator[str]:
    for key, text, origin, how in _boxes(roots):
        shape = f'{key}["{text}"]' if key.startswith("model") else f'{key}(["{text}"])'
        yield shape if origin is None else f'{origin} -->|"{how}"| {shape}'


def _dot(roots: list[ModelLineage]) -> Iterator[str]:
    for key, text, origin, how in _boxes(roots):
        yield f'{key} [label="{text}", shape={"box" if key.startswith("model") else "oval"}];'
        if origin is not None:
            yield f'{origin} -> {key} [label="{how}"];'


def _boxes(roots: list[ModelLineage], origin: str | None = None, how: str = "") -> Iterator[_Box]:
    for model in roots:
        key = f"model_{model.digest.hex()[:_SHORT]}"
        yield key, f"model {_short(model.digest)}", origin, how
        for each in model.evaluations:
            yield f"job_{each.job_id.hex()[:_SHORT]}", _of_evaluation(each), key, "evaluated"
        for training, made in model.trainings:
            yield from _boxes([made], key, f"{_of_training(training)}, dataset {_short(training.request.input_root)}")


def _of_training(training: TrainingCertificate) -> str:
    plan = training.plan
    return (
        f"training {_short(training.job_id)}, tier {training.request.policy.tier.name.lower()}: "
        f"{plan.steps} steps of {plan.batch_size} with {plan.optimiser.kind}"
    )


def _of_evaluation(evaluation: Certificate) -> str:
    count, tier = evaluation.request.record_count, evaluation.request.policy.tier
    return f"evaluation {_short(evaluation.job_id)}, tier {tier.name.lower()}: {count} records"


def _short(found: Digest) -> str:
    return f"0x{found.hex()[:_SHORT]}…"
