"""What stakes, bonds and payments are in: an ERC-20 token, or the chain's own coin: the token at address zero."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rexis.protocol.errors import MalformedError
from rexis.protocol.parsing import Address

COIN_DECIMALS = 18
_AMOUNT = re.compile(r"([0-9]{1,40})(?:\.([0-9]{1,40}))?(wei)?")
_MOST = 2**128


def _view(name: str, inputs: tuple[str, ...], output: str, mutability: str = "view") -> dict[str, Any]:
    return {
        "type": "function",
        "name": name,
        "stateMutability": mutability,
        "inputs": [{"name": "", "type": kind} for kind in inputs],
        "outputs": [{"name": "", "type": output}],
    }


# EIP-20, as far as it is used here.
ERC20 = (
    _view("symbol", (), "string"),
    _view("decimals", (), "uint8"),
    _view("balanceOf", ("address",), "uint256"),
    _view("allowance", ("address", "address"), "uint256"),
    _view("approve", ("address", "uint256"), "bool", "nonpayable"),
)


@dataclass(frozen=True)
class Token:
    """A currency, and how its amounts are written.

    Attributes
    ----------
    decimals
        A whole unit is ``10**decimals`` of the smallest one, in which contracts count.
    """

    address: Address
    symbol: str
    decimals: int

    def amount(self, text: str, field: str = "amount") -> int:
        """Read an amount of the smallest unit: ``1.5`` in whole units, ``1500wei`` in smallest ones.

        Raises
        ------
        MalformedError
            Not a positive number, with more decimals than the token has, or too large.
        """
        match = _AMOUNT.fullmatch(text)
        if match is None:
            raise MalformedError(f"{text!r} is not an amount", field=field, hint="write 0.5 or 500000wei")
        whole, part, smallest = match[1], (match[2] or "").rstrip("0"), match[3]
        decimals = 0 if smallest else self.decimals
        if len(part) > decimals:
            raise MalformedError(f"{text} has more than {decimals} decimals", field=field)
        amount = int(whole + part.ljust(decimals, "0"))
        if not 0 < amount < _MOST:
            raise MalformedError(f"{text} is not an amount: nothing, or too much", field=field)
        return amount

    def text(self, amount: int) -> str:
        """An amount for a person, exactly."""
        whole, part = divmod(amount, 10**self.decimals)
        digits = f"{part:0{self.decimals}d}".rstrip("0") if part else ""
        return f"{whole}{'.' if digits else ''}{digits} {self.symbol}"
