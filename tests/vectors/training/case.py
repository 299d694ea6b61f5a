"""What a case is, and the two decorators that declare one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import getdoc
from typing import Any

from tests.vectors.certificates.case import Role
from tests.vectors.certificates.issuer import Document
from tests.vectors.training.issuer import TrainingIssuer

# One certificate, or those of a lineage.
Make = Callable[[TrainingIssuer], Document | bytes | list[Document]]

# What an auditor of these vectors allows and asks for; a case changes some of it.
OPTIONS: dict[str, Any] = {"offline": False, "allow_development_chain": True}


@dataclass(frozen=True)
class Case:
    """Certificates with the verdict that they must get.

    Attributes
    ----------
    name
        Of its folder, less the suffix.
    attack
        What the attacker did; for valid ones, what they show.
    colludes
        Who took part.
    step
        The step that must fail; None for valid ones.
    match
        Part of the reason, or of what is shown.
    options
        Fields of ``VerifyOptions``.
    """

    name: str
    attack: str
    colludes: tuple[Role, ...]
    step: int | None
    match: str
    options: dict[str, Any]
    make: Make

    @property
    def folder(self) -> str:
        return self.name if self.step is None else f"{self.name}_fail"

    def to_object(self) -> dict[str, Any]:
        """``case.json``."""
        return {
            "attack": self.attack,
            "colludes": list(self.colludes),
            "options": {**OPTIONS, **self.options},
            "step": self.step,
            "match": self.match,
            "exit": 0 if self.step is None else 1,
        }


CASES: list[Case] = []


def forged(step: int, match: str, *colludes: Role, **options: Any) -> Callable[[Make], Make]:
    """Declare a forgery. The function's name names it, its docstring says what the attacker did."""
    return lambda make: _declare(make, colludes, step, match, options)


def valid(*colludes: Role, match: str = "", **options: Any) -> Callable[[Make], Make]:
    """Declare what must pass."""
    return lambda make: _declare(make, colludes, None, match, options)


def _declare(make: Make, colludes: tuple[Role, ...], step: int | None, match: str, options: dict[str, Any]) -> Make:
    attack = " ".join((getdoc(make) or "").split())
    CASES.append(Case(make.__name__.replace("_", "-"), attack, colludes, step, match, options, make))
    return make
