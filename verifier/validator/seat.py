"""A validator's place in its quorum: a slot, held by its account, with its key."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.accountable import AccountableChain, Stake
from rexis.protocol.bls import BlsKey
from rexis.protocol.errors import ConflictError, NotFoundError, ResourceError
from rexis.protocol.parsing import Address
from rexis.protocol.policy import MAX_VALIDATORS


@dataclass(frozen=True)
class Seat:
    """A slot and what its holder has at stake and has not asked back."""

    slot: int
    public_key: bytes
    active: int


def seat_of(chain: AccountableChain, account: Address) -> Seat | None:
    """The slot that an account holds."""
    slot = chain.slot_of(account)
    found = None if slot is None else chain.validator_in(slot)
    return None if slot is None or found is None else Seat(slot, found.public_key, found.active)


def require_seat(chain: AccountableChain, account: Address, key: BlsKey) -> Seat:
    """As :func:`seat_of`, with this key and something at stake.

    Raises
    ------
    NotFoundError, ConflictError
        The account has not joined, joined with another key, or has asked its whole stake back.
    """
    found = seat_of(chain, account)
    if found is None:
        quorum = chain.accountability.validator_quorum
        raise NotFoundError(f"{account} is no validator of quorum {quorum}", hint="`rexis validator join`")
    if found.public_key != key.public_key:
        raise ConflictError(f"{account} joined with another key than this", hint="give that one's file")
    if found.active == 0:
        raise ConflictError(f"{account} has asked its whole stake back: its verdicts count for nothing")
    return found


def take_seat(chain: AccountableChain, key: BlsKey, stake: int, slot: int | None = None) -> Seat:
    """Bring the account's active stake to `stake` at least, and join in a free slot. What is done already stays.

    Raises
    ------
    ConflictError
        The account holds a slot with another key.
    ResourceError
        All slots are taken.
    """
    account = chain.address
    held = seat_of(chain, account)
    if held is not None:
        return require_seat(chain, account, key)
    free = slot if slot is not None else _free_slot(chain)
    now = chain.validator_stake_of(account)
    missing = max(0, stake - (now.amount - now.leaving))
    chain.join(missing, free, key.public_key, key.prove_possession(account, chain.deployment.domain))
    return require_seat(chain, account, key)


def give_seat_up(chain: AccountableChain) -> Stake:
    """Ask the account's active stake back; or, if that was done and its delay is over, fetch it and free the slot.

    Returns what is left at stake.

    Raises
    ------
    NotFoundError
        The account has nothing at stake.
    RevertError
        ``NotYet``: the delay is not over.
    """
    account, stake = chain.address, chain.validator_stake_of(chain.address)
    if stake.amount == 0:
        raise NotFoundError(f"{account} has nothing at stake in this quorum")
    if stake.amount > stake.leaving:
        chain.leave(stake.amount - stake.leaving)
        return chain.validator_stake_of(account)
    held = seat_of(chain, account)
    chain.withdraw_validator_stake()
    left = chain.validator_stake_of(account)
    if held is not None and left.amount < chain.accountability.terms.validator_min_stake:
        chain.evict(held.slot)
    return left


def _free_slot(chain: AccountableChain) -> int:
    for slot in range(MAX_VALIDATORS):
        if chain.validator_in(slot) is None:
            return slot
    raise ResourceError("all slots of the quorum are taken", hint="a slot is free again when its holder has left")
