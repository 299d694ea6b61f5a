"""What a case is, and the two decorators that declare one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import getdoc
from typing import Any, Literal

from tests.vectors.certificates.issuer import Document, Issuer

Role = Literal["coordinator", "worker", "model owner", "requester", "anybody"]
Make = Callable[[Issuer], Document | bytes]

ACCEPTED = "accepted"

# What an auditor of these vectors allows and asks for; a case changes some of it.
OPTIONS: dict[str, Any] = {"offline": False, "allow_development_srs": True, "allow_development_chain": True}


@dataclass(frozen=True)
class Case:
    """A certificate with the verdict that it must get.

    Attributes
    ----------
    name
        Of its folder, less the suffix.
    attack
        What the attacker did; for a valid one, what it shows.
    colludes
        Who took part.
    step
        The step that must fail; None for a valid certificate.
    match
        Part of the reason.
    solidity
        What the Certifier contract says of the same records: ``accepted``, a custom error, or None if it is not asked.
    options
        Fields of ``VerifyOptions``; files by their names in ``artifacts``.
    """

    name: str
    attack: str
    colludes: tuple[Role, ...]
    step: int | None
    match: str
    solidity: str | None
    options: dict[str, Any]
    make: Make

    @property
    def folder(self) -> str:
        return self.name if self.step is None else f"{self.name}_fail"

    def to_object(self, issuer: Issuer) -> dict[str, Any]:
        """``case.json``."""
        options = {
            name: value(issuer) if callable(value) else value for name, value in {**OPTIONS, **self.options}.items()
        }
        return {
            "attack": self.attack,
            "colludes": list(self.colludes),
            "options": options,
            "step": self.step,
            "match": self.match,
            "exit": 0 if self.step is None else 1,
            "solidity": self.solidity,
        }


CASES: list[Case] = []


def forged(
    step: int, match: str, *colludes: Role, solidity: str | None = None, **options: Any
) -> Callable[[Make], Make]:
    """Declare a forged certificate. The function's name names it, its docstring says what the attacker did."""

    def declare(make: Make) -> Make:
        CASES.append(_case(make, colludes, step, match, solidity, options))
        return make

    return declare


def valid(*colludes: Role, match: str = "", solidity: str | None = None, **options: Any) -> Callable[[Make], Make]:
    """Declare a certificate that must pass."""

    def declare(make: Make) -> Make:
        CASES.append(_case(make, colludes, None, match, solidity, options))
        return make

    return declare


def _case(
    make: Make, colludes: tuple[Role, ...], step: int | None, match: str, solidity: str | None, options: dict[str, Any]
) -> Case:
    attack = " ".join((getdoc(make) or "").split())
    return Case(make.__name__.replace("_", "-"), attack, colludes, step, match, solidity, options, make)
