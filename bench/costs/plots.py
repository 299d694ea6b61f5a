"""The report's plots, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.costs import figures, peer_ezkl, peer_reexecution
from bench.costs.result import MEASURED, ChainCost, ModelCost, PeerCost, Report, TierCost
from bench.costs.svg import SERIES, Log, element, figure, line, marker, path, spaced, text

_WIDTH = 860.0
_SHAPES = {"commit": "circle", "sampled": "square", "zk": "triangle"}
_PEERS = {peer_reexecution.NAME: "diamond", peer_ezkl.NAME: "cross"}
_PARTS = ("inference", "commitment", "witness", "proofs", "verify")
_ROW = 22.0


def frontier(report: Report) -> str:
    """What it costs to be believed: extra time a record against the probability that a cheat is caught."""
    models = [model for model in report.models if model.circuit] or report.models
    tasks = {model.name: _of_smallest_task(model) for model in models}
    peers = [peer for peer in report.peers if peer.model in tasks and peer.peer in _PEERS and peer.verify]
    costs = [tier.extra_s_per_record for tiers in tasks.values() for tier in tiers]
    costs += [_peer_seconds(peer) for peer in peers]
    left, right, top, bottom = 190.0, _WIDTH - 175, 30.0, 400.0
    x = Log.over(costs, left, right)
    parts = _x_axis(x, top, bottom, "the worker's and the checker's time beyond inference, per record", _seconds)

    def y(caught: float) -> float:
        return bottom - 14 - caught * (bottom - top - 28)

    levels = {tier.caught: _level(tier) for tiers in tasks.values() for tier in tiers} | ({1.0: "all"} if peers else {})
    for caught, label in sorted(levels.items()):
        parts += [line(left, y(caught), right, y(caught), "grid")]
        parts += [text(left - 8, y(caught) + 4, f"{label}: {figures.share(caught)}", anchor="end")]
    parts.append(
        text(
            16,
            (top + bottom) / 2,
            "probability that altering 5 % of the outputs is caught",
            anchor="middle",
            turned=-90,
        )
    )
    for index, (name, tiers) in enumerate(tasks.items()):
        colour = f"s{index % SERIES}"
        places = sorted((tier.extra_s_per_record, tier.caught) for tier in tiers)
        parts.append(path([(x.at(cost), y(caught)) for cost, caught in places], f"line {colour}"))
        for tier in tiers:
            cost, shape = tier.extra_s_per_record, _SHAPES[tier.tier]
            said = f"{name}, {tier.label}: {figures.seconds(cost)} a record, caught {figures.share(tier.caught)}"
            said += "" if tier.basis == MEASURED else f" ({tier.basis})"
            parts.append(marker(shape, x.at(cost), y(tier.caught), f"mark {colour}", said))
        for peer in (peer for peer in peers if peer.model == name):
            said = f"{name}, {peer.peer}: {figures.seconds(_peer_seconds(peer))} a record"
            parts.append(marker(_PEERS[peer.peer], x.at(_peer_seconds(peer)), y(1.0), f"mark hollow {colour}", said))
    entries = [("circle", f"mark s{index % SERIES}", name) for index, name in enumerate(tasks)]
    entries += [(shape, "mark grey", name) for name, shape in _SHAPES.items()]
    entries += [(shape, "mark hollow grey", name) for name, shape in _PEERS.items()]
    parts += _legend(right + 16, top + 6, entries)
    return figure(
        _WIDTH,
        bottom + 60,
        "Cost against assurance",
        "Per tier and peer: extra time a record, and probability of a catch.",
        parts,
    )


def against_size(report: Report) -> str:
    """What the parts cost a record, by the model's number of parameters."""
    models = sorted(report.models, key=lambda model: model.parameters)
    series: list[tuple[str, str, list[tuple[ModelCost, float]]]] = [
        ("inference", "circle", [(m, m.encrypted.median / m.records) for m in models]),
        ("commitment", "square", [(m, t.commitment.median / t.records) for m in models if (t := _commit(m))]),
        ("witness", "diamond", [(m, m.circuit.witness.median) for m in models if m.circuit]),
        ("proof", "triangle", [(m, m.circuit.prove.median) for m in models if m.circuit]),
    ]
    left, right, top, bottom = 90.0, _WIDTH - 130, 110.0, 440.0
    x = Log.over([model.parameters for model in models], left, right)
    y = Log.over([value for _, _, points in series for _, value in points], bottom, top)
    parts = _x_axis(x, top, bottom, "parameters of the model", _count)
    for tick in y.ticks:
        parts += [line(left, y.at(tick), right, y.at(tick), "grid")]
        parts += [text(left - 8, y.at(tick) + 4, _seconds(tick), anchor="end")]
    parts.append(text(16, (top + bottom) / 2, "time per record", anchor="middle", turned=-90))
    places = [x.at(model.parameters) for model in models]
    for model, place, label in zip(models, places, spaced(places, 20), strict=True):
        parts += [line(place, top, place, bottom, "grid faint"), line(place, top, label, top - 12, "grid faint")]
        parts.append(text(label + 4, top - 16, model.name, turned=-50))
    entries = []
    for index, (name, shape, points) in enumerate(series):
        for model, value in points:
            said = f"{model.name}, {name}: {figures.seconds(value)} a record"
            parts.append(marker(shape, x.at(model.parameters), y.at(value), f"mark s{index}", said))
        entries.append((shape, f"mark s{index}", name))
    parts += _legend(right + 16, top + 6, entries)
    return figure(
        _WIDTH,
        bottom + 60,
        "Cost against model size",
        "Time per record of inference, commitment, witness, proof.",
        parts,
    )


def where_time_goes(report: Report) -> str:
    """Shares of one task's time, a bar for each model and tier."""
    rows = [(model.name, tier) for model in report.models for tier in _of_smallest_task(model)]
    left, right, top = 210.0, _WIDTH - 90, 46.0
    bottom = top + _ROW * len(rows)
    parts, at = [], left
    for index, part in enumerate(_PARTS):
        parts += [element("rect", x=at, y=12, width=12, height=12, class_=f"bar s{index}"), text(at + 17, 22, part)]
        at += 28 + 7.5 * len(part)
    for index, (name, tier) in enumerate(rows):
        shares, y = _shares(tier), top + index * _ROW
        total = sum(shares)
        parts.append(text(left - 8, y + 14, f"{name}, {tier.label}", anchor="end"))
        at = left
        for series, value in enumerate(shares):
            width = value / total * (right - left)
            if width > 0:
                said = element("title", f"{_PARTS[series]}: {figures.seconds(value)}, {figures.share(value / total)}")
                parts.append(element("rect", said, x=at, y=y, width=width, height=_ROW - 5, class_=f"bar s{series}"))
            at += width
        parts.append(text(right + 8, y + 14, figures.seconds(total)))
    for tick in range(0, 101, 25):
        place = left + tick / 100 * (right - left)
        parts.append(text(place, bottom + 16, f"{tick} %", anchor="middle"))
    parts.append(text((left + right) / 2, bottom + 38, "share of the task's time, worker and checker", anchor="middle"))
    return figure(
        _WIDTH,
        bottom + 50,
        "Where the time goes",
        "Shares of inference, commitment, witness, proofs, verification.",
        parts,
    )


def anchoring(chain: ChainCost) -> str:
    """Gas of an anchor, a task's share of it."""
    left, right, top, bottom = 100.0, _WIDTH - 200, 20.0, 240.0
    x = Log.over([each.batch for each in chain.anchors], left, right)
    y = Log.over([*(each.gas_per_task for each in chain.anchors), chain.commit], bottom, top)
    parts = _x_axis(x, top, bottom, "statements in one anchor", _count)
    for tick in y.ticks:
        parts += [line(left, y.at(tick), right, y.at(tick), "grid")]
        parts += [text(left - 8, y.at(tick) + 4, _count(tick), anchor="end")]
    parts.append(text(16, (top + bottom) / 2, "gas per task", anchor="middle", turned=-90))
    commit = [(left, y.at(chain.commit)), (right, y.at(chain.commit))]
    parts += [path(commit, "line s1"), text(right + 8, y.at(chain.commit) + 4, "a sampled task's commitment")]
    parts.append(path([(x.at(each.batch), y.at(each.gas_per_task)) for each in chain.anchors], "line s0"))
    for each in chain.anchors:
        said = f"{each.batch} statements: {figures.gas(each.gas)} gas, {figures.gas(each.gas_per_task)} a task"
        parts.append(marker("circle", x.at(each.batch), y.at(each.gas_per_task), "mark s0", said))
    parts.append(text(right + 8, y.at(chain.anchors[-1].gas_per_task) + 4, "its share of the anchor"))
    return figure(
        _WIDTH, bottom + 60, "Gas of anchoring", "Gas per task by the number of statements in one anchor.", parts
    )


def _of_smallest_task(model: ModelCost) -> list[TierCost]:
    least = min((tier.records for tier in model.tiers), default=0)
    return [tier for tier in model.tiers if tier.records == least]


def _commit(model: ModelCost) -> TierCost | None:
    return next((tier for tier in model.tiers if tier.tier == "commit"), None)


def _level(tier: TierCost) -> str:
    return "all" if tier.caught == 1 else tier.label


def _peer_seconds(peer: PeerCost) -> float:
    """What a peer takes beyond one inference; re-execution is the checker's work alone."""
    work = peer.work.median if peer.work and peer.peer != peer_reexecution.NAME else 0.0
    return work + (peer.verify.median if peer.verify else 0.0)


def _shares(tier: TierCost) -> list[float]:
    parts = (tier.inference, tier.commitment, tier.witness, tier.prove, tier.verify)
    return [0.0 if part is None else part.median for part in parts]


def _x_axis(x: Log, top: float, bottom: float, label: str, written: Callable[[float], str]) -> list[str]:
    parts = []
    for tick in x.ticks:
        parts += [line(x.at(tick), top, x.at(tick), bottom, "grid")]
        parts += [text(x.at(tick), bottom + 18, written(tick), anchor="middle")]
    parts.append(line(x.start, bottom, x.end, bottom, "axis"))
    parts.append(text((x.start + x.end) / 2, bottom + 42, label, anchor="middle"))
    return parts


def _legend(x: float, y: float, entries: Sequence[tuple[str, str, str]]) -> list[str]:
    parts = []
    for index, (shape, class_, name) in enumerate(entries):
        at = y + index * 20
        parts += [marker(shape, x, at, class_, name), text(x + 12, at + 4, name)]
    return parts


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _seconds(value: float) -> str:
    """For an axis: never minutes, which are no power of ten."""
    return f"{_count(value)} s" if value >= 1 else figures.seconds(value)
