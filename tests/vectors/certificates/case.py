"""What a case is, and the three decorators that declare one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
        The step that must fail, or stay open; None for a valid certificate.
    match
        Part of the reason.
    solidity
        What the Certifier contract says of the same records: ``accepted``, a custom error, or None if it is not asked.
    options
        Fields of ``VerifyOptions``; files by their names in ``artifacts``, a quorum by that in ``quorums``.
    decided
        False for a certificate that is neither valid nor refused, since the step cannot be taken.
    """

    name: str
    attack: str
    colludes: tuple[Role, ...]
    step: int | None
    match: str
    solidity: str | None
    options: dict[str, Any]
    make: Make
    decided: bool = True

    @property
    def folder(self) -> str:
        if self.step is None:
            return self.name
        return f"{self.name}_fail" if self.decided else f"{self.name}_undecided"

    @property
    def exit(self) -> int:
        """Of ``rexis verify``."""
        if not self.decided:
            return 2
        return 0 if self.step is None else 1

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
            "exit": self.exit,
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


def undecided(step: int, match: str, *colludes: Role, **options: Any) -> Callable[[Make], Make]:
    """Declare a certificate of which this step cannot be taken with what the auditor gives."""

    def declare(make: Make) -> Make:
        CASES.append(replace(_case(make, colludes, step, match, None, options), decided=False))
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
