"""The leakage card of an encrypted model: what is hidden how, what stays visible, how far it is from public weights.

A card follows from the graph alone (the plan), so that anybody can make it again from the encrypted model; distances
need the plain model and a public one. It is a JSON document and a page.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from rexis.ee.attack_card import AttackCard, AttackReport, structure_of
from rexis.ee.compiler import EncryptedModel, planned
from rexis.ee.container import model_digest
from rexis.ee.decoys import Widening
from rexis.ee.finetune.encrypting import TrainableModel
from rexis.ee.glossary import GLOSSARY
from rexis.ee.graph import Graph, is_encrypted
from rexis.ee.groups import FREE, MAX_CONDITION, NONE, Power, group_name, key_space
from rexis.ee.layout import ORDER, Keyring
from rexis.ee.plan import Grouping, Plan
from rexis.ee.rules import Acceptance
from rexis.ee.training_card import TrainingCard, training_card
from rexis.protocol.errors import EncryptionError
from rexis.protocol.rung import PRIVATE_WEIGHTS_DISTANCE_E9

# Measured on the zoo (docs/ee-leakage.md): of a public base model's neurons, 60 to 100 % are identified at a relative
# distance of 20 %, and still 9 to 63 % at 50 %. Only weights that moved by their own length are another model's.
PRIVATE_WEIGHTS_DISTANCE = PRIVATE_WEIGHTS_DISTANCE_E9 / 1e9

Values = Literal["mixed", "renamed", "scaled", "moved", "readable"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class AxisCard(_Part):
    """One secret variable: where it stands, its group, how many keys there are.

    Attributes
    ----------
    where
        Values and constants with the axis, as ``name/axis``; the first few.
    per_place
        The variable has a key of its own for each combination of places of another axis: heads.
    bits, parameters
        Size of the discrete part of the key space in bits; real parameters of the continuous part.
    """

    where: list[str]
    size: int
    group: str
    per_place: int
    bits: float
    parameters: int


class SideCard(_Part):
    """The records of one input, or the outputs: their shape, the groups on each axis, and what becomes of the values.

    Attributes
    ----------
    element
        ``float32``, ``int64``, ``int32`` or ``bool``.
    values
        ``mixed``: sums of several, by a dense key. ``renamed``: token ids of a permuted vocabulary. ``scaled``: secret
        factors, so that zeros stay readable. ``moved``: readable, but not where they stood. ``readable``: as they are.
    """

    name: str
    element: str
    values: Values
    shape: list[int]
    axes: list[str]
    offset: bool
    vocabulary: int | None


class ClearCard(_Part):
    """An axis that anybody can read."""

    where: str
    size: int
    reason: str
    allowed_by_owner: bool


class DecoyCard(_Part):
    """Decoys in the model: the one option of EE that changes shapes.

    Attributes
    ----------
    inputs
        Features of noise that each record gets.
    neurons
        Hidden axes with split neurons: how many there were, and are.
    not_split
        Values whose neurons could not be split, with the node that is in the way.
    runtime_ratio
        Time of the encrypted model over the plain one's, as measured when it was encrypted; None if it was not.
    """

    inputs: int
    neurons: dict[str, tuple[int, int]]
    not_split: dict[str, str]
    runtime_ratio: float | None

    @property
    def said(self) -> str:
        """In one line."""
        before, after = (sum(pair[side] for pair in self.neurons.values()) for side in (0, 1))
        slower = "not measured" if self.runtime_ratio is None else f"{self.runtime_ratio:.2f} times the plain model's"
        return (
            f"{self.inputs} noise features a record, {after} neurons for {before} in {len(self.neurons)} layers; "
            f"shapes changed, run time {slower}"
        )


class Distance(_Part):
    """Relative Frobenius distance of one constant from the public base model's."""

    constant: str
    distance: float


class LeakageCard(_Part):
    """See the module.

    Attributes
    ----------
    max_condition
        Largest condition number of a key: how far distances between records, and rounding errors, can be stretched.
        None without the key; every key stays below :data:`~rexis.ee.groups.MAX_CONDITION`.
    decoys
        None where there are none, or none are known: they cannot be told from the graph without looking at weights.
    attacks
        What attacks got from a model of this structure; empty if none were run.
    training
        What a training shows beyond all this; None for a model that was encrypted for inference.
    file
        Whether the model is encrypted: ``rexis ee encrypt`` marks what it writes. Anybody can set or remove the mark.
    distances, smallest_distance
        Against the public base model; empty and None if none was named.
    rung
        ``ee-private-weights`` only with a base model, and every matched layer beyond the threshold.
    """

    format: Literal["rexis-leakage-card-v2"] = "rexis-leakage-card-v2"
    model_digest: str
    inputs: list[SideCard]
    output: SideCard
    axes: list[AxisCard]
    clear: list[ClearCard]
    decoys: DecoyCard | None = None
    attacks: list[AttackCard] = []
    training: TrainingCard | None = None
    file: Literal["encrypted", "plain"]
    visible: list[str]
    max_condition: float | None
    base_digest: str | None
    distances: list[Distance]
    smallest_distance: float | None
    rung: Literal["ee-outsourced", "ee-private-weights"]

    def to_json(self) -> bytes:
        """As a JSON document."""
        return self.model_dump_json(by_alias=True, indent=2).encode() + b"\n"


def card_of(
    encrypted: EncryptedModel,
    *,
    plain: bytes | Path | None = None,
    base: bytes | Path | None = None,
    require_private: bool = False,
    runtime_ratio: float | None = None,
) -> LeakageCard:
    """The card of a model that was just encrypted.

    Parameters
    ----------
    plain, base
        The plain model and the public one that it may have come from, to measure their distance.
    require_private
        Refuse a model that does not earn ``ee-private-weights``.
    runtime_ratio
        With decoys: time over the plain model's.

    Raises
    ------
    EncryptionError
        Another structure than the base model's; or the rung is not earned.
    """
    distances = _distances(plain, base) if plain is not None and base is not None else []
    accepts = Acceptance(encrypted.plan.graph)
    key = encrypted.key
    offsets = {name for name, side in key.inputs.items() if side.offset is not None}
    if key.output is not None and key.output.offset is not None:
        offsets.add(encrypted.plan.graph.output)
    card = _card(
        encrypted.plan, accepts, str(encrypted.digest), encrypted.allowed_clear, offsets, key.keyring, base, distances
    )
    if encrypted.widening is not None:
        decoys = _decoys(encrypted.widening, runtime_ratio)
        card = card.model_copy(update={"decoys": decoys, "visible": [*card.visible, *_seen_decoys(encrypted.widening)]})
    if require_private and card.rung != "ee-private-weights":
        why = (
            "no public base model was named"
            if card.smallest_distance is None
            else f"a layer is only {card.smallest_distance:.1%} from the public model, "
            f"{PRIVATE_WEIGHTS_DISTANCE:.0%} are needed"
        )
        raise EncryptionError(
            f"the model does not earn the rung ee-private-weights: {why}",
            field="rung",
            hint="fine-tune further, or offer it as ee-outsourced",
        )
    return card


def card_of_graph(model: bytes | Path) -> LeakageCard:
    """The card of any encrypted (or plain) model, without its key: groups and visibility, no offsets, no distances."""
    graph = Graph(model)
    accepts = Acceptance(graph)
    plan = planned(graph, accepts)
    offsets = {name for name in (*graph.inputs, graph.output) if accepts.of(name) and _is_free(plan, name)}
    card = _card(plan, accepts, str(model_digest(model)), (), offsets, None, None, [])
    return card if is_encrypted(model) else card.model_copy(update={"file": "plain"})


def card_for_training(made: TrainableModel) -> LeakageCard:
    """The card of a model that was just encrypted for training."""
    encrypted = made.encrypted
    card = card_of(encrypted)
    return card.model_copy(update={"training": training_card(made.description, len(encrypted.plan.graph.roots()))})


def with_attacks(card: LeakageCard, graph: Graph, report: AttackReport) -> LeakageCard:
    """The card with what attacks got.

    Parameters
    ----------
    graph
        Of the encrypted model that the card is of.

    Raises
    ------
    EncryptionError
        The report is of a model of another structure.
    """
    if report.structure != structure_of(graph):
        raise EncryptionError(
            "the attacks were run on a model of another structure",
            field="attacks",
            hint="rexis ee attack with the plain model that this one was made from, and the same decoys",
        )
    return card.model_copy(update={"attacks": report.attacks})


def _card(
    plan: Plan,
    accepts: Acceptance,
    digest: str,
    allowed: Collection[str],
    offsets: Collection[str],
    keyring: Keyring | None,
    base: bytes | Path | None,
    distances: list[Distance],
) -> LeakageCard:
    smallest = min((each.distance for each in distances), default=None)
    private = smallest is not None and smallest >= PRIVATE_WEIGHTS_DISTANCE
    clear = [
        ClearCard(where=each.where, size=each.size, reason=each.reason, allowed_by_owner=each.where in allowed)
        for each in plan.clear_axes()
    ]
    conditions = [key.condition for element in keyring.elements for key in element.keys] if keyring else []
    return LeakageCard(
        model_digest=digest,
        inputs=[_side(plan, name, offset=name in offsets) for name in plan.graph.inputs],
        output=_side(plan, plan.graph.output, offset=plan.graph.output in offsets),
        axes=_axes(plan),
        clear=clear,
        file="encrypted",
        visible=_visible(plan),
        max_condition=max(conditions) if conditions else None,
        base_digest=str(model_digest(base)) if base is not None else None,
        distances=distances,
        smallest_distance=smallest,
        rung="ee-private-weights" if private else "ee-outsourced",
    )


def _decoys(widening: Widening, runtime_ratio: float | None) -> DecoyCard:
    return DecoyCard(
        inputs=widening.padding.count if widening.padding else 0,
        neurons={each.axis.value: (each.axis.size, len(each.origin)) for each in widening.split},
        not_split=widening.left_out,
        runtime_ratio=runtime_ratio,
    )


def _seen_decoys(widening: Widening) -> list[str]:
    """What a worker, who has the model, makes of decoys."""
    said = []
    if widening.padding is not None:
        said.append("which part of a record is decoy noise: the first weight does not see it, so that it is removed")
    if widening.split:
        said.append("which neurons were split: their halves have parallel weights, so that they are put together")
    return said


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


_FILES = {"encrypted": "Encrypted model", "plain": "Plain model, not encrypted: what its keys would be."}
_LOWER = "Lower bounds: somebody who tries harder gets at least as much. Each is scored from guessing to no EE at all."


def _side(plan: Plan, name: str, *, offset: bool) -> SideCard:
    shape = plan.graph.shape(name) or ()
    axes = [
        " ⊗ ".join(group_name(powers, size) for size, powers in parts) or "trivial" for _, parts in plan.groups_of(name)
    ]
    vocabulary = plan.vocabulary(name)
    return SideCard(
        name=name,
        element=plan.graph.element(name),
        values=values_of(plan, name),
        shape=[size or 1 for size in shape[1:]],
        axes=axes,
        offset=offset,
        vocabulary=None if vocabulary is None else plan.size(vocabulary),
    )


def values_of(plan: Plan, name: str) -> Values:
    """What the keys of its axes make of the values of an input or output."""
    sides = [each for _, parts in plan.groups_of(name) for each in parts]
    powers = NONE
    for size, each in sides:
        powers |= each if size > 1 else each & ~(Power.MIX | Power.PERMUTE)
    if name in plan.tokens:
        return "renamed"
    if Power.MIX in powers:
        return "mixed"
    if powers & (Power.SCALE | Power.SIGN):
        return "scaled"
    return "moved" if Power.PERMUTE in powers else "readable"


def _is_free(plan: Plan, name: str) -> bool:
    """Whether some axis has any invertible key, which an offset needs."""
    return any(size > 1 and powers == FREE for _, parts in plan.groups_of(name) for size, powers in parts)


def _axes(plan: Plan) -> list[AxisCard]:
    """Each secret once, in the order of the graph; jointly mixed axes together."""
    together = {member: grouping for grouping in plan.groupings() for member in grouping.members}
    places: dict[Grouping, list[str]] = {}
    powers: dict[Grouping, Power] = {}
    for name, layout in plan.layouts.items():
        for position, axis in enumerate(layout):
            for factor in plan.leaves([axis]):
                if factor.variable == 0 or plan.size((factor,)) == 1 or plan.powers((factor,)) == NONE:
                    continue
                grouping = together[factor.variable]
                powers[grouping] = plan.powers((factor,))
                where = places.setdefault(grouping, [])
                follows = factor.action == ORDER and powers[grouping] != Power.PERMUTE
                text = f"{name}/{position}" + (" (its order only)" if follows else "")
                if text not in where:
                    where.append(text)
    found = []
    for grouping, where in places.items():
        size, copies = plan.extent(grouping.members), plan.extent(grouping.places)
        bits, parameters = key_space(powers[grouping], size)
        found.append(
            AxisCard(
                where=where[:6],
                size=size,
                group=group_name(powers[grouping], size),
                per_place=copies,
                bits=round(bits * copies, 1),
                parameters=parameters * copies,
            )
        )
    return found


def _visible(plan: Plan) -> list[str]:
    """What no key of this graph hides, in sentences."""
    graph = plan.graph
    operators = {node.op for node in graph.computing}
    said = [
        "the graph: operators, shapes, widths, numbers of layers, heads and records",
        "that two records, or two sessions of one key epoch, are equal or near: keys are fixed and bounded "
        f"(condition number at most {MAX_CONDITION:g})",
    ]
    said += [text for name in (*graph.inputs, graph.output) if (text := _readable(plan, name))]
    if plan.tokens:
        said.append("how often each token occurs and what follows what: a vocabulary of few symbols falls at once")
    if "Softmax" in operators and "MatMul" in operators:
        said.append("attention patterns, up to the order of tokens and heads")
    said += [f"the order of places: {text}" for text in _orders(plan)]
    reasons = {axis.reason.split(" of ")[0] for axis in plan.clear_axes() if axis.inherent}
    if reasons & {"space", "kernel"}:
        said.append("where in space something is: convolutions and pooling see positions in the clear")
    others = reasons - {"space", "kernel", "repeated values"}  # equal values have no order to hide
    if others:
        said.append("positions: " + ", ".join(sorted(others)))
    if any(
        Power.MIX not in plan.powers((factor,)) and factor.variable != 0 and (plan.size((factor,)) or 1) > 1
        for layout in plan.layouts.values()
        for axis in layout
        for factor in plan.leaves([axis])
    ):
        said.append("along permuted axes: the set of values, which of them are zero, and their distribution")
    return said


def _readable(plan: Plan, name: str) -> str | None:
    """What anybody reads of an input's or the output's values; None where no value is seen alone."""
    graph, values = plan.graph, values_of(plan, name)
    what = f"{'output' if name == graph.output else 'input'} {name!r}"
    if values in ("mixed", "renamed"):
        return None
    if values == "readable":
        return f"every value of {what}, as it is and where it is"
    moved: dict[frozenset[int], list[int]] = {}
    for place, axis in enumerate(plan.layout(name)):
        hidden = [f for f in plan.leaves([axis]) if (plan.size((f,)) or 1) > 1 and Power.PERMUTE in plan.powers((f,))]
        if hidden:
            moved.setdefault(frozenset(factor.variable for factor in hidden), []).append(place)
    orders = [_listed(places) for places in moved.values()]
    if values == "scaled":
        order = f", in a hidden order along {' and '.join(orders)}" if orders else ""
        return f"which values of {what} are zero{order}; secret factors multiply the others"
    graph_like = any(len(places) > 1 for places in moved.values())
    as_graph = "; as the edges of a graph, it is that graph without the names of its nodes" if graph_like else ""
    return (
        f"every value of {what}; hidden is their order along {' and '.join(orders)}, unless a pattern that they "
        f"follow in many records gives it away (padding at the end){as_graph}"
    )


def _listed(places: list[int]) -> str:
    if len(places) == 1:
        return f"axis {places[0]}"
    return f"axes {', '.join(str(place) for place in places)} (one order for all of them)"


def _orders(plan: Plan) -> list[str]:
    """Tables that state the order of a permuted axis, because everybody knows what they look like unpermuted."""
    graph, found = plan.graph, []
    for node in graph.computing:
        for name in node.inputs:
            shape = graph.shape(name)
            if graph.view(name) is None or shape is None or sum(size != 1 for size in shape) < 2:
                continue
            if node.op == "Mul":
                found.append(f"{name!r} is multiplied with them, as the table of a rotary embedding is")
            elif node.op in ("Add", "Where") and len(shape) > 1 and plan.layout(name)[-1] == plan.layout(name)[-2]:
                found.append(f"{name!r} is square and added to scores, as a causal mask is")
    return list(dict.fromkeys(found))


def _distances(plain: bytes | Path, base: bytes | Path) -> list[Distance]:
    mine, theirs = Graph(plain), Graph(base)
    names = [
        name
        for name in mine.roots()
        if (value := mine.raw(name)).ndim > 1 and bool(np.isfinite(value).all())  # an infinite mask has no length
    ]
    found = []
    for name in names:
        if name not in theirs.roots() or mine.shape(name) != theirs.shape(name):
            raise EncryptionError(
                f"the base model has no constant {name!r} of this shape",
                field="base",
                hint="export both models alike, with named parameters",
            )
        reference = theirs.raw(name)
        size = float(np.linalg.norm(reference))
        distance = float(np.linalg.norm(mine.raw(name) - reference))
        found.append(Distance(constant=name, distance=distance / size if size else float(distance > 0)))
    return found


def _items(texts: Sequence[str]) -> str:
    return "".join(f"<li>{html.escape(text)}</li>" for text in texts)


def page(card: LeakageCard) -> str:
    """The card as a self-contained HTML page."""

    def cells(tag: str, *texts: object) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(text))}</{tag}>" for text in texts) + "</tr>"

    def table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
        body = "".join(cells("td", *row) for row in rows)
        return f"<table>{cells('th', *head)}{body}</table>" if rows else "<p>none</p>"

    sides = [
        (f"{what} {side.name}", side.element, side.shape, "; ".join(side.axes), side.values,
         "yes" if side.offset else "no", side.vocabulary or "–")
        for what, side in (*(("input", each) for each in card.inputs), ("output", card.output))
    ]  # fmt: skip
    keys = [
        (a.where[0] + (f" and {len(a.where) - 1} more" if len(a.where) > 1 else ""), a.size, a.group, a.per_place,
         f"{a.bits:g}", a.parameters)
        for a in card.axes
    ]  # fmt: skip
    clear = [(c.where, c.size, c.reason, "owner allowed it" if c.allowed_by_owner else "inherent") for c in card.clear]
    attacks = [(a.title, *map(_number, (a.floor, a.score, a.ceiling)), a.verdict, a.says) for a in card.attacks]
    tried = table(("attack", "guess", "with EE", "without EE", "verdict", "in words"), attacks) if attacks else ""
    distances = [(d.constant, f"{d.distance:.1%}") for d in card.distances]
    condition = "not known without the key" if card.max_condition is None else f"{card.max_condition:.3g}"
    visible = _items(card.visible)
    trains = "None: these keys were drawn for inference, and training would not be exact under them."
    if card.training is not None:
        trains = (
            f"For {card.training.optimiser} and {card.training.loss}: {card.training.trained} constants train, under "
            f"{card.training.group}. Whoever trains sees, beyond all that stands above:"
        )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Leakage card</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}}
table{{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}}td,th{{border:1px solid #ccc;padding:.3rem .5rem;
text-align:left;vertical-align:top;word-break:break-word}}th{{background:#f2f2f2}}code{{word-break:break-all}}
.rung{{font-size:1.2rem;font-weight:600}}</style>
<h1>Leakage card</h1>
<p>{_FILES[card.file]} <code>{html.escape(card.model_digest)}</code></p>
<p class="rung">Rung: {html.escape(card.rung)}</p>
<p>Equivariant Encryption is keyed obfuscation, not encryption in the IND-CPA sense: enough known records break an
input key, and a public base model breaks weights. This page says what the keys of this model hide, and what stays
readable.</p>
<h2>Records and outputs</h2>{table(("side", "type", "shape", "keys by axis", "values", "offset", "vocabulary"), sides)}
<h2>What stays visible</h2><ul>{visible}</ul>
<h3>Axes in the clear</h3>{table(("where", "size", "why", "by whom"), clear)}
<h2>Training</h2><p>{html.escape(trains)}</p><ul>{_items(card.training.visible) if card.training else ""}</ul>
<h2>Keys</h2><p>Largest condition number: {condition}.</p>
{table(("where", "size", "group", "keys (one a head)", "bits", "real parameters"), keys)}
<h2>Attacks that were run</h2><p>{_LOWER if attacks else "None: rexis ee attack runs them."}</p>{tried}
<h2>Decoys</h2><p>{html.escape(card.decoys.said) if card.decoys else "none, or none that are known"}</p>
<h2>Distance from a public base model</h2>
<p>{
        "Threshold for ee-private-weights: " + f"{PRIVATE_WEIGHTS_DISTANCE:.0%} in every layer."
        if distances
        else "No base model was named: whether these weights resemble public ones is not known."
    }</p>
{table(("constant", "relative distance"), distances)}
<h2>Words on this page</h2><dl>{
        "".join(f"<dt>{html.escape(word)}</dt><dd>{html.escape(text)}</dd>" for word, text in GLOSSARY.items())
    }</dl>
</html>
"""
