"""What attacks got from a model, as a document, and as lines of its leakage card.

``rexis ee attack --out`` writes the document. A card takes it if it is of a model of the same structure: keys differ
from run to run, what they can hide does not.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import onnx
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from rexis.ee.graph import Graph
from rexis.protocol.errors import MalformedError

# Shares of the way from guessing to what the same attack gets without EE.
_BROKEN, _MOSTLY, _PARTLY = 0.9, 0.5, 0.1
_TOLD = 0.02  # an attack whose ceiling is not further from its floor shows nothing


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class AttackCard(_Part):
    """One attack: what it got, between what guessing gets and what it gets without EE.

    Attributes
    ----------
    input
        The attacked input, of a model with several; None for the only one.
    score, ceiling, floor
        None where it was not run.
    verdict
        In plain words.
    says
        What was read, or why there was nothing to run.
    """

    name: str
    input: str | None = None
    metric: str | None
    attacker_knows: str | None
    score: float | None
    ceiling: float | None
    floor: float | None
    verdict: str
    says: str

    @property
    def title(self) -> str:
        """The attack, and the input if there are several, for people."""
        return self.name.replace("_", " ") + ("" if self.input is None else f" on {self.input}")


class AttackReport(_Part):
    """A run of all attacks on one model.

    Attributes
    ----------
    structure
        Of the encrypted model: :func:`structure_of`.
    private, public
        Records that were attacked, and that the attacker had.
    base
        Whether a public base model was named; otherwise the plain weights, moved by 10 %, stand for one.
    """

    format: Literal["rexis-attacks-v1"] = "rexis-attacks-v1"
    structure: str
    private: int
    public: int
    base: bool
    attacks: list[AttackCard]

    def to_json(self) -> bytes:
        """As a JSON document."""
        return self.model_dump_json(by_alias=True, indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> AttackReport:
        """The document that :meth:`to_json` wrote.

        Raises
        ------
        MalformedError
            It is something else.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise MalformedError(
                "not a report of attacks", field=where or None, hint="rexis ee attack --out writes one"
            ) from None


def attack_card(
    name: str,
    metric: str,
    attacker_knows: str,
    *,
    score: float,
    ceiling: float,
    floor: float,
    says: str,
    attacked: str | None = None,
) -> AttackCard:
    """The line of an attack that was run."""
    return AttackCard(
        name=name,
        input=attacked,
        metric=metric,
        attacker_knows=attacker_knows,
        score=round(score, 4),
        ceiling=round(ceiling, 4),
        floor=round(floor, 4),
        verdict=verdict_of(score, ceiling, floor),
        says=says,
    )


def skipped(name: str, reason: str, attacked: str | None = None) -> AttackCard:
    """The line of an attack that has nothing to attack in this model."""
    return AttackCard(
        name=name,
        input=attacked,
        metric=None,
        attacker_knows=None,
        score=None,
        ceiling=None,
        floor=None,
        verdict="not run: this method has nothing to work on here, which is no promise",
        says=reason,
    )


def verdict_of(score: float, ceiling: float, floor: float) -> str:
    """A score in plain words."""
    if ceiling - floor < _TOLD:
        return "shows nothing: it gets nothing without EE either"
    share = (score - floor) / (ceiling - floor)
    if share >= _BROKEN:
        return "broken: as good as without EE"
    if share >= _MOSTLY:
        return "mostly broken: more than half of what it gets without EE"
    if share >= _PARTLY:
        return "partly broken"
    return "not broken by this attack: about as good as guessing"


def structure_of(graph: Graph) -> str:
    """SHA-256 over operators, names and shapes: what EE leaves as it is (but for decoys)."""
    parts: list[Any] = [
        (
            node.op,
            node.inputs,
            node.outputs,
            [(name, _written(value)) for name, value in sorted(node.attributes.items())],
        )
        for node in graph.nodes
    ]
    parts += [(name, graph.shape(name)) for name in (*graph.inputs, graph.output, *graph.roots())]
    return "0x" + hashlib.sha256(repr(parts).encode()).hexdigest()


def _written(value: Any) -> str:
    """An attribute; of a stored tensor its shape, since its values are keyed."""
    return str(list(value.dims)) if isinstance(value, onnx.TensorProto) else repr(value)
