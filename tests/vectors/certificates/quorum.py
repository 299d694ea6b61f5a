"""Quorums of validators: on what terms, who sits in them, and what they signed on the recorded chain.

``quorums/<name>.json`` holds a quorum's chain and terms. The manifest that ``rexis verify --quorum`` takes has beside
them addresses, of ``Disputes`` and others, which follow from the contracts' code; :func:`manifest_of` derives it, so
that a change to one of those contracts leaves the vectors as they are. ``ValidatorQuorum`` refers to ``EvidenceLog``
only. ``python -m tests.vectors.certificates.quorum`` writes the files, which takes a moment and no chain.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from contracts.accountability import Accountability, Terms
from contracts.accountable import AccountableChain
from contracts.devchain import DevChain
from rexis.protocol.bls import BlsKey, aggregate_signatures
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import ZERO_ADDRESS, Strict, UInt64
from rexis.protocol.signing import address_of
from rexis.protocol.validation import Finding, ValidatorVerdict
from tests.vectors.certificates.accounts import account, bls_key

QUORUMS = Path(__file__).parent / "quorums"

_CHAIN = 31337  # anvil's
_STAKE = 10**16


class QuorumTerms(Strict):
    """``quorums/<name>.json``: a manifest without what follows from it."""

    chain_id: UInt64
    terms: Terms

    def manifest(self) -> Accountability:
        """With the addresses of this version's contracts."""
        return Accountability.on(self.chain_id, self.terms)


def _terms(threshold_bps: int, chain_id: int = _CHAIN) -> QuorumTerms:
    governance = address_of(account("governance"))
    terms = Terms(
        governance=governance, token=ZERO_ADDRESS, bond=1, penalty=1, reward_bps=1, treasury=governance,
        challenge_period=10, response_window=10, validator_delay=10, validator_min_stake=_STAKE,
        threshold_bps=threshold_bps,
    )  # fmt: skip
    return QuorumTerms(chain_id=chain_id, terms=terms)


# By file name. The coordinator's friends differ in their terms, else theirs would be the same contract.
TERMS = {
    "validators": _terms(6666),
    "friends": _terms(5000),
    "nowhere": _terms(7777),
    "another-chain": _terms(6666, chain_id=1),
}
# What each validator has at stake, by slot. Of "validators" the third one has too little to be needed.
SEATS: dict[str, tuple[int, ...]] = {"validators": (4 * _STAKE, 4 * _STAKE, _STAKE), "friends": (_STAKE,)}


def manifest_of(name: str) -> Accountability:
    """The manifest of a quorum that a case names, by this version's contracts."""
    return QuorumTerms.from_json((QUORUMS / f"{name}.json").read_bytes()).manifest()


def write_quorums(folder: Path = QUORUMS) -> None:
    """The files of :data:`TERMS`."""
    folder.mkdir(exist_ok=True)
    for name, found in TERMS.items():
        text = json.dumps(found.to_object(), indent=2)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Quorum:
    """A quorum on the chain, with its validators' keys by slot."""

    chain: AccountableChain
    keys: Sequence[BlsKey]

    @classmethod
    def seated(cls, dev: DevChain, name: str) -> Self:
        """Deploy a quorum, and have its validators stake and join; those that did are left as they are."""
        governance, keys = _node(dev, "governance"), []
        manifest = TERMS[name].manifest()
        governance._create(manifest.terms.init_codes()["ValidatorQuorum"])  # alone: nothing here needs the others
        governance.attach_quorum(manifest)
        for slot, stake in enumerate(SEATS[name]):
            who = f"{name} {slot}"
            chain, key = _node(dev, who), bls_key(who)
            chain.attach_quorum(manifest)
            if chain.slot_of(chain.address) is None:
                chain.join(stake, slot, key.public_key, key.prove_possession(chain.address, chain.deployment.domain))
            keys.append(key)
        return cls(governance, keys)

    def record(self, digest: Digest, finding: Finding, slots: Sequence[int]) -> None:
        """Write down what the validators in these slots say of a statement."""
        message = self.chain.deployment.domain.digest(ValidatorVerdict(statement_digest=digest, verdict=finding))
        signature = aggregate_signatures([self.keys[slot].sign(message) for slot in slots])
        self.chain.record_verdict(digest, finding, slots, signature)


def _node(dev: DevChain, name: str) -> AccountableChain:
    dev.fund(address_of(account(name)))
    chain = AccountableChain.connect(dev.url, account=account(name))
    chain.discover()
    return chain


if __name__ == "__main__":
    write_quorums()
