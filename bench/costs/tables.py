"""The report as tables of text: the same ones on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.costs import figures
from bench.costs.published import PUBLISHED
from bench.costs.result import ChainCost, ModelCost, PeerCost, Report, TierCost


@dataclass(frozen=True)
class Table:
    """Cells of text under a head, and what a reader has to know about them."""

    name: str
    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(report: Report) -> list[Table]:
    """Everything that was measured, in the order of the page."""
    return [
        _models(report.models),
        _circuits(report.models),
        _tiers(report.models),
        _chain(report.chain, report.no_chain),
        _peers(report.peers),
    ]


def published() -> Table:
    """Other people's figures; never part of :func:`tables`."""
    return Table(
        "published",
        "Published by others",
        "Other models on other machines, as their authors say: not measured here, and not comparable with the tables "
        "above.",
        ("system", "year", "what", "figures", "hardware", "source"),
        [(p.system, str(p.year), p.measured, p.figures, p.hardware, f"{p.source}, {p.url}") for p in PUBLISHED],
    )


def checks(report: Report) -> Table:
    """Every check, with equal ones of one subject in one row."""
    found: dict[tuple[str, str, str, str], int] = {}
    for check in report.checks:
        key = (check.outcome.value, check.about, check.name, check.detail)
        found[key] = found.get(key, 0) + 1
    rows = [(outcome, about, name, str(count), detail) for (outcome, about, name, detail), count in found.items()]
    return Table(
        "checks",
        "Results that were checked",
        "The command fails if one of them is wrong; it never fails for a time.",
        ("outcome", "about", "check", "times", "found"),
        rows,
    )


def _models(models: Iterable[ModelCost]) -> Table:
    rows = [
        (
            model.name,
            model.modality,
            f"{model.parameters:,}",
            f"{model.record_values:,}",
            figures.spread(model.plain),
            figures.spread(model.encrypted),
            f"{model.circuit.segments} × 2^{model.circuit.logrows} rows"
            if model.circuit
            else f"no: {model.no_circuit}",
        )
        for model in models
    ]
    counts = figures.listed([str(count) for count in sorted({model.records for model in models})])
    return Table(
        "models",
        "Models, and inference",
        f"ONNX Runtime on {counts} records at once: median (quartiles). "
        "Encrypted means under an EE key: same nodes, same shapes.",
        ("model", "modality", "parameters", "values a record", "plain", "encrypted", "circuit"),
        rows,
    )


def _circuits(models: Iterable[ModelCost]) -> Table:
    rows = [
        (
            model.name,
            figures.spread(circuit.setup),
            figures.spread(circuit.witness),
            figures.spread(circuit.prove),
            figures.spread(circuit.verify),
            figures.spread(circuit.verify_next),
            figures.size(circuit.proof_bytes),
            f"{figures.size(circuit.vk_bytes)}, {figures.size(circuit.pk_bytes)}",
            f"{figures.size(circuit.setup_peak_bytes)}, {figures.size(circuit.prove_peak_bytes)}",
            figures.gas(circuit.evm_gas),
            f"{figures.number(circuit.max_error)}, {figures.share(circuit.agreement)}",
        )
        for model in models
        if (circuit := model.circuit) is not None
    ]
    return Table(
        "circuits",
        "Circuits: one record",
        "A warm proof with its witness and its own check, in a process that runs already. Verification starts a "
        "process. Peak memory: largest resident set of ezkl's process. Gas: verifyProof in an EVM without a chain. "
        "Error and decisions: decrypted outputs against the plain model.",
        (
            "model",
            "set-up",
            "witness",
            "proof",
            "verify one",
            "each further one",
            "proof size",
            "vk, pk",
            "peak memory: set-up, proof",
            "EVM gas",
            "largest error, decisions alike",
        ),
        rows,
    )


def _tiers(models: Iterable[ModelCost]) -> Table:
    rows = [_tier(model, tier) for model in models for tier in model.tiers]
    return Table(
        "tiers",
        "Tiers: one task",
        "Times of the whole task: median (least–largest) of its runs by the worker's and the verifier's own code. "
        "Commitment: input check, hashing, trees, openings, signature. Caught: probability that a worker that altered "
        "5 % of the outputs does not pass this check. The wait for the block that draws a sample is not in it.",
        (
            "model",
            "tier",
            "records",
            "inference",
            "commitment",
            "witness",
            "proofs",
            "verify",
            "evidence",
            "proofs’ size",
            "peak memory",
            "caught",
            "basis",
        ),
        rows,
    )


def _tier(model: ModelCost, tier: TierCost) -> Sequence[str]:
    return (
        model.name,
        tier.label,
        str(tier.records),
        figures.spread(tier.inference),
        figures.spread(tier.commitment),
        figures.spread(tier.witness),
        figures.spread(tier.prove),
        figures.spread(tier.verify),
        figures.size(tier.evidence_bytes),
        figures.size(tier.proof_bytes) if tier.proof_bytes else figures.NONE,
        figures.size(tier.peak_bytes),
        figures.share(tier.caught),
        tier.basis,
    )


def _chain(chain: ChainCost | None, reason: str | None) -> Table:
    rows: list[Sequence[str]] = []
    if chain is not None:
        for each in chain.anchors:
            per_task = figures.gas(each.gas_per_task)
            rows.append(
                (f"anchor of {each.batch} statements", "every tier", figures.gas(each.gas), f"{per_task} a task")
            )
        rows.append(("commitment before a challenge", "sampled", figures.gas(chain.commit), "a task"))
        rows.append(("register a model", "circuits", figures.gas(chain.register_model), "a key epoch"))
        for model in chain.certified:
            rows += [
                (f"register the VKA of {model.model}", "circuits", figures.gas(model.register_vka), "a circuit"),
                (f"certify a record of {model.model}, first", "zk", figures.gas(model.first_record), "a task"),
                (f"certify a record of {model.model}, next", "zk", figures.gas(model.next_record), "a record"),
            ]
    return Table(
        "chain",
        "Gas on chain",
        reason or "Transactions on a development chain (anvil), with the transaction's own cost of 21,000.",
        ("transaction", "for", "gas", "per"),
        rows,
    )


def _peers(peers: Iterable[PeerCost]) -> Table:
    rows = [
        (
            peer.peer,
            peer.model,
            figures.spread(peer.setup),
            figures.spread(peer.work),
            figures.spread(peer.verify),
            figures.size(peer.proof_bytes),
            figures.size(peer.peak_bytes),
            figures.NONE if peer.max_error is None else figures.number(peer.max_error),
            figures.share(peer.agreement),
            peer.shows,
            peer.hides,
            f"not measured: {peer.reason}" if peer.reason else peer.note,
        )
        for peer in peers
    ]
    return Table(
        "peers",
        "Peers, measured in the same run",
        "A record: what whoever computes does, and what whoever checks does.",
        (
            "peer",
            "model",
            "set-up",
            "work",
            "check",
            "proof size",
            "peak memory",
            "largest error",
            "decisions alike",
            "what it shows",
            "what it hides",
            "note",
        ),
        rows,
    )
