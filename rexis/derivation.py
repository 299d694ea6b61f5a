"""What opening a keystore may cost: its file names the parameters of the key derivation, and may come from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rexis.protocol.errors import KeyFileError

# Ours, and geth's standard ones, are scrypt with n = 2^18, r = 8, p = 1: 256 MiB and n·r·p = 2^21.
_MAX_SCRYPT_BYTES = 1 << 30
_MAX_SCRYPT_WORK = 1 << 24
_MAX_SCRYPT_LANES = 1 << 10  # r·p: what scrypt's first and last step are long by
_MAX_PBKDF2_ROUNDS = 10_000_000
_DERIVED_BYTES = 32
_PRF = "hmac-sha256"
_NUMBERS = {"scrypt": ("n", "r", "p", "dklen"), "pbkdf2": ("c", "dklen")}


def checked_parameters(function: Any, parameters: Any, path: Path) -> dict[str, Any]:
    """The parameters of a key derivation, once it is known to be affordable, with known fields only.

    They are rebuilt, since eth-keyfile ignores the case of names: a second ``N`` would replace what was checked. For
    the same reason whoever calls this rebuilds what they stand in.

    Raises
    ------
    KeyError, TypeError, AttributeError, ValueError
        They are no such parameters.
    KeyFileError
        It would take too much.
    """
    numbers = {name: parameters[name] for name in _NUMBERS[function]}
    whole = all(type(number) is int and number > 0 for number in numbers.values())
    if not whole or numbers["dklen"] != _DERIVED_BYTES or parameters.get("prf", _PRF) != _PRF:
        raise ValueError("no parameters of a key derivation")
    if not _is_affordable(numbers):
        asked = ", ".join(f"{name} = {number}" for name, number in numbers.items())
        raise KeyFileError(
            f"{path} would take too much to open ({function}: {asked})"[:500],
            hint="a keystore from a stranger? Export yours again with the usual parameters",
        )
    return {**numbers, "salt": parameters["salt"]} | ({"prf": _PRF} if function == "pbkdf2" else {})


def _is_affordable(numbers: dict[str, int]) -> bool:
    if "c" in numbers:
        return numbers["c"] <= _MAX_PBKDF2_ROUNDS
    n, r, p = numbers["n"], numbers["r"], numbers["p"]
    return r * p <= _MAX_SCRYPT_LANES and n * r * p <= _MAX_SCRYPT_WORK and 128 * n * r <= _MAX_SCRYPT_BYTES
