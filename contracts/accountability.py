"""A deployment of stakes, disputes, escrow and validators: its terms, and the addresses that follow from them.

Whoever deploys chooses the terms and who governs. They are constructor arguments, and the addresses are hashes of these
and of the code (:mod:`contracts.addresses`): a manifest whose addresses do not follow from its terms is refused, and
reading an existing deployment takes its manifest and no trust in who wrote it.
"""

from __future__ import annotations

from typing import Annotated, Self

from eth_abi.abi import encode
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from contracts.addresses import address_of_contract, create2
from contracts.artefacts import AccountabilityName, load
from rexis.protocol.keccak import keccak
from rexis.protocol.parsing import ZERO_ADDRESS, Address, AddressField, Strict, UInt16, UInt64

_BPS = 10_000


def _amount(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or str(int(value)) != value:
        raise ValueError("not an amount: decimal digits, as a string")
    return int(value)


# Of a token's smallest unit, or wei: more than JSON's numbers hold, so a string of digits.
Amount = Annotated[int, BeforeValidator(_amount), PlainSerializer(str), Field(gt=0, lt=2**128)]


class Terms(Strict):
    """What a deployment fixes for good.

    Attributes
    ----------
    governance
        May pause what takes on new obligations, and hand that power over in two steps.
    token
        Of stakes and bonds; the zero address is the chain's own coin.
    bond
        What a challenge costs if the worker was right.
    penalty
        What a worker loses for a record at most.
    reward_bps
        Share of the penalty that the challenger gets, in 1/10,000.
    treasury
        Gets the rest of it.
    challenge_period, response_window
        Blocks after an anchor in which its statements can be challenged; blocks for an answer.
    validator_delay
        Blocks that a validator's stake takes to leave.
    validator_min_stake
        What a validator has to have at stake.
    threshold_bps
        A verdict needs more than this share of the validators' active stake, in 1/10,000.
    """

    governance: AddressField
    token: AddressField
    bond: Amount
    penalty: Amount
    reward_bps: Annotated[UInt16, Field(lt=_BPS)]
    treasury: AddressField
    challenge_period: Annotated[UInt64, Field(gt=0)]
    response_window: Annotated[UInt64, Field(gt=0)]
    validator_delay: Annotated[UInt64, Field(gt=0)]
    validator_min_stake: Amount
    threshold_bps: Annotated[UInt16, Field(ge=_BPS // 2, lt=_BPS)]

    @model_validator(mode="after")
    def _somebody_is_named(self) -> Self:
        for name in ("governance", "treasury"):
            if getattr(self, name) == ZERO_ADDRESS:
                raise ValueError(f"{name} is the zero address")
        return self

    def init_codes(self) -> dict[AccountabilityName, bytes]:
        """Creation code with arguments of what the deployer makes, in order. Disputes makes its WorkerRegistry."""
        certifier, log = address_of_contract("Certifier"), address_of_contract("EvidenceLog")
        dispute = (
            self.bond, self.penalty, self.reward_bps, self.treasury, self.challenge_period, self.response_window
        )  # fmt: skip
        disputes = load("Disputes").bytecode + encode(
            ["address", "address", "address", "(uint128,uint128,uint16,address,uint64,uint64)"],
            [self.governance, self.token, certifier, dispute],
        )
        escrow = load("JobEscrow").bytecode + encode(
            ["address", "address", "address"], [self.governance, certifier, create2(disputes)]
        )
        quorum = load("ValidatorQuorum").bytecode + encode(
            ["address", "address", "uint64", "address", "uint16", "uint128"],
            [self.governance, self.token, self.validator_delay, log, self.threshold_bps, self.validator_min_stake],
        )
        return {"Disputes": disputes, "JobEscrow": escrow, "ValidatorQuorum": quorum}

    def addresses(self) -> dict[AccountabilityName, Address]:
        """Where these contracts stand, on every chain."""
        found = {name: create2(code) for name, code in self.init_codes().items()}
        # CREATE, nonce 1: keccak256(rlp([creator, 1])).
        found["WorkerRegistry"] = Address.from_bytes(keccak(b"\xd6\x94" + found["Disputes"].raw() + b"\x01")[12:])
        return found


class Accountability(Strict):
    """The manifest of a deployment: on which chain, on what terms, where."""

    chain_id: UInt64
    terms: Terms
    disputes: AddressField
    worker_registry: AddressField
    job_escrow: AddressField
    validator_quorum: AddressField

    @classmethod
    def on(cls, chain_id: int, terms: Terms) -> Self:
        """The deployment on a chain, whether it is there yet or not."""
        at = terms.addresses()
        return cls(
            chain_id=chain_id,
            terms=terms,
            disputes=at["Disputes"],
            worker_registry=at["WorkerRegistry"],
            job_escrow=at["JobEscrow"],
            validator_quorum=at["ValidatorQuorum"],
        )

    @model_validator(mode="after")
    def _stands_where_its_terms_say(self) -> Self:
        for name, found, expected in (
            ("disputes", self.disputes, self.terms.addresses()["Disputes"]),
            ("workerRegistry", self.worker_registry, self.terms.addresses()["WorkerRegistry"]),
            ("jobEscrow", self.job_escrow, self.terms.addresses()["JobEscrow"]),
            ("validatorQuorum", self.validator_quorum, self.terms.addresses()["ValidatorQuorum"]),
        ):
            if found != expected:
                raise ValueError(f"{name} {found} does not follow from the terms: {expected} does")
        return self
