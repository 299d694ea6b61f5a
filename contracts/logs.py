"""What the registry and the log wrote, in order, for whoever follows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from contracts.artefacts import ContractName
from contracts.chain import Chain
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import Address

_FOLLOWED: tuple[tuple[ContractName, str], ...] = (
    ("ModelRegistry", "ModelRegistered"),
    ("ModelRegistry", "ModelRevoked"),
    ("ModelRegistry", "OwnerProposed"),
    ("ModelRegistry", "OwnershipTransferred"),
    ("EvidenceLog", "Committed"),
    ("EvidenceLog", "Anchored"),
    ("Certifier", "RecordCertified"),
)


@dataclass(frozen=True)
class Entry:
    """One event of ours.

    Attributes
    ----------
    name
        As in Solidity, for example ``Anchored``.
    arguments
        By their names in Solidity; ``bytes32`` are digests, addresses have their checksum.
    """

    name: str
    block: int
    block_hash: Digest
    position: int
    transaction: Digest
    arguments: dict[str, Digest | Address | int]


class LogReader(Chain):
    """A :class:`Chain` whose events can be read by blocks."""

    def entries(self, first: int, last: int) -> list[Entry]:
        """All that our contracts wrote in the blocks from `first` to `last`, both included, in the chain's order."""
        return sorted(self._entries(first, last), key=lambda entry: (entry.block, entry.position))

    def certified_by(self, transaction: Digest) -> tuple[Digest, Address] | None:
        """The statement's digest in a transaction's call of ``Certifier.certifyRecord``, and the worker it names.

        None for a transaction that calls the Certifier by way of another contract.
        """
        certifier = self._contracts["Certifier"]
        with self._translated():
            sent = self._web3.eth.get_transaction(str(transaction))  # type: ignore[arg-type]
            if sent.get("to") != certifier.address:
                return None
            _, given = certifier.decode_function_input(sent["input"])
            statement = given["statement"]
            digest = self._contracts["EvidenceLog"].functions.digestOf(statement).call()
        return Digest(bytes(digest)), Address.parse(statement["worker"])

    def _entries(self, first: int, last: int) -> Iterator[Entry]:
        for contract, name in _FOLLOWED:
            with self._translated():
                found = self._contracts[contract].events[name]().get_logs(from_block=first, to_block=last)
            for each in found:
                yield Entry(
                    name,
                    each["blockNumber"],
                    Digest(bytes(each["blockHash"])),
                    each["logIndex"],
                    Digest(bytes(each["transactionHash"])),
                    {key: _plain(value) for key, value in each["args"].items()},
                )


def _plain(value: Any) -> Digest | Address | int:
    if isinstance(value, bytes):
        return Digest(bytes(value))
    return Address.parse(value) if isinstance(value, str) else int(value)
