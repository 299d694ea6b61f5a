"""One chain node: blocks, signed transactions, and errors a person can read.

Keys never leave the process: the node only sees signed raw transactions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, cast

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress, HexAddress, HexStr
from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import (
    BlockNotFound,
    ContractLogicError,
    TimeExhausted,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.middleware import ExtraDataToPOAMiddleware
from web3.types import Nonce, TxParams, TxReceipt, Wei

from contracts.artefacts import ContractError, decode_revert
from contracts.providers import FallbackProvider
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ChainError, MalformedError, NotFoundError, UnavailableError
from rexis.protocol.parsing import Address, parse_hex
from rexis.protocol.signing import address_of

# Between the estimate and the block other transactions may land, and make a storage write dearer.
GAS_MARGIN = 1.25
_POLL_S = 0.2
_PRIORITY_FEE = Wei(10**9)
# What Python raises when it is handed something else than it expects.
_GARBAGE = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


class RevertError(ChainError):
    """A contract refused, with its custom error where it is one of ours.

    Attributes
    ----------
    reason
        The decoded error; None where the node gave no data or the data is of another contract.
    """

    code = "chain-revert"

    def __init__(self, message: str, reason: ContractError | None, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason

    @property
    def name(self) -> str | None:
        """Name of the custom error, for example ``AlreadyCertified``."""
        return self.reason.name if self.reason else None


@dataclass(frozen=True)
class Transaction:
    """A transaction that was mined and did not revert."""

    hash: Digest
    block: int
    gas_used: int


@dataclass(frozen=True)
class Payload:
    """A transaction of raw bytes, for a contract without an ABI; looks like web3's calls."""

    web3: Web3
    to: Address
    data: bytes

    def estimate_gas(self, transaction: TxParams) -> int:
        """Gas that it takes."""
        return self.web3.eth.estimate_gas(self.build_transaction(transaction))

    def build_transaction(self, transaction: TxParams) -> TxParams:
        """`transaction`, with recipient and data."""
        return {**transaction, "to": checksummed(self.to), "data": HexBytes(self.data), "value": Wei(0)}


class Node:
    """A connection to one node, as one account or read-only.

    Safe to share between threads. Two processes should not share an account: each counts its own nonces.
    """

    def __init__(
        self, web3: Web3, endpoint: str, account: LocalAccount | None, mined_within_s: float, fee_cap: int | None
    ) -> None:
        self._web3 = web3
        self._endpoint = endpoint
        self._account = account
        self._mined_within_s = mined_within_s
        self._fee_cap = fee_cap
        self._sending = threading.Lock()
        self._next_nonce = 0
        with self._translated():
            self.chain_id = int(web3.eth.chain_id)

    @classmethod
    def connect(
        cls,
        rpc_url: str,
        *fallbacks: str,
        account: LocalAccount | None = None,
        timeout_s: float = 10.0,
        mined_within_s: float = 120.0,
        max_fee_per_gas: int | None = None,
    ) -> Self:
        """Connect to a node.

        Parameters
        ----------
        rpc_url, fallbacks
            HTTP(S) JSON-RPC endpoints of one chain, in the order in which they are tried. They may hold a provider's
            key: no error text repeats more than their hosts.
        account
            Signs transactions; without it the chain is read-only.
        timeout_s
            For one answer of the node.
        mined_within_s
            How long to wait for a transaction's receipt.
        max_fee_per_gas
            Never offer more, in wei.

        Raises
        ------
        UnavailableError
            Nothing that is a chain node answers there, or it is no http(s) URL.
        """
        provider = FallbackProvider([rpc_url, *fallbacks], timeout_s)
        # EIP-3668: a contract's revert would have this machine fetch a URL of the contract's choice.
        provider.global_ccip_read_enabled = False
        web3 = Web3(provider)
        # Proof-of-authority chains have longer extraData than web3 wants to see.
        web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
        return cls(web3, provider.endpoints, account, mined_within_s, max_fee_per_gas)

    @property
    def address(self) -> Address:
        """Address of the account that signs."""
        return address_of(self._signer())

    def block_number(self) -> int:
        """Number of the newest block."""
        with self._translated():
            return int(self._web3.eth.block_number)

    def block_hash(self, number: int, *, wait_s: float = 0.0, confirmations: int = 0) -> Digest:
        """Hash of a block, waiting for it to come.

        Parameters
        ----------
        wait_s
            How long to wait for it.
        confirmations
            Blocks that must follow it, on chains that may drop a block again.

        Raises
        ------
        UnavailableError
            The block has not come (yet).
        """
        self.wait_for_block(number + confirmations, wait_s=wait_s)
        with self._translated():
            return Digest(bytes(self._web3.eth.get_block(number)["hash"]))

    def wait_for_block(self, number: int, *, wait_s: float) -> None:
        """Return once block `number` is there; :class:`UnavailableError` if it is not within `wait_s` seconds."""
        deadline = time.monotonic() + wait_s
        while (head := self.block_number()) < number:
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    f"the chain is at block {head}, block {number} has not come", hint="is the chain making blocks?"
                )
            time.sleep(_POLL_S)

    def transaction(self, digest: Digest) -> Transaction:
        """A mined transaction that did not revert.

        Raises
        ------
        NotFoundError
            No such transaction, or not mined yet.
        RevertError
            It reverted.
        """
        return as_transaction(self._receipt(digest))

    # --- inside -------------------------------------------------------------------------------------------------

    def _receipt(self, digest: Digest) -> TxReceipt:
        with self._translated():
            try:
                receipt = self._web3.eth.get_transaction_receipt(HexStr(str(digest)))
            except TransactionNotFound:
                raise NotFoundError(f"no transaction {digest} on chain {self.chain_id}") from None
            if bytes(receipt["transactionHash"]) != digest:
                raise UnavailableError("the chain node answers with another transaction")
            if receipt["status"] != 1:
                raise RevertError(f"transaction {digest} reverted", None)
        return receipt

    def _signer(self) -> LocalAccount:
        if self._account is None:
            raise ChainError("this connection is read-only", hint="connect with an account to send transactions")
        return self._account

    def _read(self, call: ContractFunction, *, missing: str | None = None) -> Any:
        """Call a view; a revert with the error named `missing` is a :class:`NotFoundError`.

        Our views have no other reason to revert, so that any other one is the node's doing.
        """
        try:
            with self._translated():
                return call.call()
        except RevertError as error:
            if missing is not None and error.name == missing:
                raise NotFoundError(f"not on chain: {error.reason}") from None
            raise UnavailableError(f"the chain node's answer cannot be used: {error.message}") from None

    def _send(self, call: ContractFunction | Payload, *, value: int = 0) -> TxReceipt:
        """Sign, send and wait. The lock is held from the choice of the nonce until the node has the transaction.

        `value` in wei goes with a call of a contract.
        """
        account = self._signer()
        sender = checksummed(self.address)
        with self._translated(sending=True):
            gas = int(call.estimate_gas({"from": sender, "value": Wei(value)}) * GAS_MARGIN)
            with self._sending:
                pending = self._web3.eth.get_transaction_count(sender, "pending")
                nonce = max(self._next_nonce, pending)
                unsigned: TxParams = {
                    "from": sender, "nonce": Nonce(nonce), "gas": gas, "chainId": self.chain_id, "value": Wei(value)
                }  # fmt: skip
                signed = account.sign_transaction(cast(Any, call.build_transaction({**unsigned, **self._fees()})))
                try:
                    digest = self._web3.eth.send_raw_transaction(signed.raw_transaction)
                except Exception:
                    # Not taken, or not known whether: start again from what the node has.
                    self._next_nonce = 0
                    raise
                self._next_nonce = nonce + 1
            try:
                receipt = self._web3.eth.wait_for_transaction_receipt(digest, self._mined_within_s, _POLL_S)
            except TimeExhausted:
                self._next_nonce = 0
                raise UnavailableError(
                    f"transaction 0x{bytes(digest).hex()} was not mined within {self._mined_within_s:g} s",
                    hint="it may still be; look before sending it again",
                ) from None
            if receipt["status"] != 1:
                # Mined, but in another state than it was estimated in: run it again there to learn why.
                if isinstance(call, ContractFunction):
                    call.call(
                        {"from": sender, "gas": gas, "value": Wei(value)}, block_identifier=receipt["blockNumber"]
                    )
                raise RevertError(f"transaction 0x{bytes(digest).hex()} reverted", None)
        return receipt

    def _fees(self) -> TxParams:
        """EIP-1559 fees: the base fee may double before the transaction is mined."""
        base = self._web3.eth.get_block("latest").get("baseFeePerGas", Wei(0))
        try:
            priority = self._web3.eth.max_priority_fee
        except Web3RPCError:
            priority = _PRIORITY_FEE
        most = 2 * base + priority
        if self._fee_cap is not None:
            if base > self._fee_cap:
                raise UnavailableError(
                    f"the chain's base fee, {base} wei, is above the limit of {self._fee_cap}", hint="wait, or raise it"
                )
            most = min(most, self._fee_cap)
        return {"maxFeePerGas": Wei(most), "maxPriorityFeePerGas": Wei(min(priority, most))}

    @contextmanager
    def _translated(self, *, sending: bool = False) -> Iterator[None]:
        """Turn what web3 and requests raise into our errors.

        A node that cannot or will not answer is an :class:`UnavailableError`: it says nothing of what is on chain. A
        node that refuses a transaction of ours (`sending`) is a :class:`ChainError`.
        """
        try:
            yield
        except ContractLogicError as error:  # ContractCustomError and ContractPanicError too
            raise self._revert(error) from None
        except RequestException as error:
            raise UnavailableError(
                f"no chain node answers at {self._endpoint} ({type(error).__name__})", hint="is the node running?"
            ) from None
        except BlockNotFound:
            raise UnavailableError("the chain node does not have the block", hint="is it synchronised?") from None
        except Web3RPCError as error:
            text = f"the chain node refused: {message_of(error)}"
            if not sending:
                raise UnavailableError(text) from None
            poor = self._account is not None and "funds" in text.lower()
            raise ChainError(text, hint=f"send some to {self.address}" if poor else None) from None
        except (Web3Exception, MalformedError, *_GARBAGE) as error:
            # web3 decodes what the node says without much suspicion: an unknown panic code is a KeyError.
            raise UnavailableError(
                f"the chain node's answer cannot be used ({type(error).__name__})", hint="is it a chain node?"
            ) from None

    def _revert(self, error: ContractLogicError) -> RevertError:
        data = error.data.get("data") if isinstance(error.data, dict) else error.data
        try:
            raw = parse_hex(data)
        except MalformedError:
            raw = b""
        reason = decode_revert(raw)
        return RevertError(f"the contract refused: {reason or error.message or 'no reason given'}", reason)


def message_of(error: Web3RPCError) -> str:
    """What the node said, if it said it in the usual form."""
    said = error.rpc_response.get("error") if isinstance(error.rpc_response, dict) else None
    return str((said.get("message") if isinstance(said, dict) else said) or error.message)


def checksummed(address: Address) -> ChecksumAddress:
    """An address as web3 types it; ours always has its EIP-55 checksum."""
    return ChecksumAddress(HexAddress(HexStr(address)))


def as_transaction(receipt: TxReceipt) -> Transaction:
    """What we keep of a receipt."""
    return Transaction(Digest(bytes(receipt["transactionHash"])), receipt["blockNumber"], receipt["gasUsed"])
