"""Transactions step by step, for a caller that keeps them in a database between the steps.

:meth:`~contracts.node.Node._send` chooses a nonce, signs, sends and waits in one call, which is right for a command
that somebody runs. Whoever must not send anything twice signs first, writes down what was signed, and only then sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_typing import BlockNumber, HexStr
from hexbytes import HexBytes
from web3.exceptions import TransactionNotFound, Web3RPCError
from web3.types import Wei

from contracts.accountable import AccountableChain, commit_answer_arguments
from contracts.chain import anchor_argument, certify_arguments, record_argument, solidity
from contracts.node import GAS_MARGIN, RevertError, checksummed, message_of
from contracts.onchain import Anchored, AnchorProof, Committed
from contracts.warranties import Proven
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ChainError
from rexis.protocol.parsing import Address
from rexis.protocol.records import Opening
from rexis.protocol.statement import Statement

# geth, anvil, Nethermind, Besu and Erigon, in this order: none has a code for it.
_KNOWN = ("already known", "already imported", "alreadyknown", "known transaction")


@dataclass(frozen=True)
class Call:
    """What a transaction asks of a contract."""

    to: Address
    data: bytes


@dataclass(frozen=True)
class Fees:
    """EIP-1559, in wei per gas: the most that is paid in all, and of it to the block's proposer."""

    most: int
    priority: int


@dataclass(frozen=True)
class Signed:
    """A transaction that can be sent any number of times and mined once."""

    hash: Digest
    raw: bytes
    fees: Fees


@dataclass(frozen=True)
class Receipt:
    """What became of a transaction; `cost` in wei."""

    hash: Digest
    block: int
    block_hash: Digest
    gas_used: int
    cost: int
    succeeded: bool


class Sender(AccountableChain):
    """An :class:`~contracts.accountable.AccountableChain` whose transactions are kept by the caller."""

    # --- what to send -------------------------------------------------------------------------------------------

    def anchoring(self, root: Digest, size: int) -> Call:
        """Writes the root of a tree of `size` statement digests."""
        return self._call("EvidenceLog", "anchor", bytes(root), size)

    def committing(self, task_id: Digest, statement_digest: Digest) -> Call:
        """Commits to a statement."""
        return self._call("EvidenceLog", "commit", bytes(task_id), bytes(statement_digest))

    def registering_vka(self, vka: Sequence[Digest]) -> Call:
        """Registers a circuit's VKA with ezkl's verifier."""
        return self._call("Halo2VerifierReusable", "registerVka", [bytes(word) for word in vka])

    def certifying(
        self,
        statement: Statement,
        signature: bytes,
        anchor: AnchorProof,
        opening: Opening,
        proof: bytes,
        vka: Sequence[Digest],
    ) -> Call:
        """Has the Certifier check one record; see :meth:`~contracts.chain.Chain.certify_record`."""
        return self._call(
            "Certifier", "certifyRecord", *certify_arguments(statement, signature, anchor, opening, proof, vka)
        )

    def answering(self, statement: Statement, opening: Opening, proof: bytes, vka: Sequence[Digest]) -> Call:
        """Answers a challenge; see :meth:`~contracts.accountable.AccountableChain.answer`."""
        words = [bytes(word) for word in vka]
        return self._call("Disputes", "answer", solidity(statement), record_argument(opening, proof), words)

    def answering_commit(self, statement: Statement, opening: Opening, proven: Proven) -> Call:
        """Answers a challenge of tier ``commit``; see :meth:`~contracts.accountable.AccountableChain.answer_commit`."""
        return self._call("Disputes", "answerCommit", *commit_answer_arguments(statement, opening, proven))

    def dismissing(self, statement_digest: Digest, record_index: int, earlier: AnchorProof) -> Call:
        """Ends a dispute that came too late."""
        return self._call("Disputes", "dismiss", bytes(statement_digest), record_index, anchor_argument(earlier))

    def claiming(self, payer: Address, statement: Statement, signature: bytes, anchor: AnchorProof) -> Call:
        """Claims a task's payment for the worker of its statement."""
        return self._call("JobEscrow", "claim", payer, solidity(statement), signature, anchor_argument(anchor))

    def settling(self, job_id: Digest, payer: Address, task: int) -> Call:
        """Releases a claimed payment that is due, or takes it back."""
        return self._call("JobEscrow", "settle", bytes(job_id), payer, task)

    def nothing(self) -> Call:
        """Pays this account nothing: fills a nonce."""
        return Call(self.address, b"")

    # --- the chain ----------------------------------------------------------------------------------------------

    def newest(self) -> tuple[int, Digest]:
        """Number and hash of the newest block."""
        with self._translated():
            block = self._web3.eth.get_block("latest")
            return int(block["number"]), Digest(bytes(block["hash"]))

    # --- sending it ---------------------------------------------------------------------------------------------

    def gas(self, call: Call) -> int:
        """Gas to allow for a call.

        Raises
        ------
        RevertError
            The contract would refuse it.
        """
        with self._translated(sending=True):
            needed = self._web3.eth.estimate_gas(
                {
                    "from": checksummed(self.address),
                    "to": checksummed(call.to),
                    "data": HexBytes(call.data),
                    "value": Wei(0),
                }
            )
        return int(needed * GAS_MARGIN)

    def fees(self) -> Fees:
        """What the market asks now, within the cap.

        Raises
        ------
        UnavailableError
            The base fee alone is above the cap.
        """
        with self._translated():
            found = self._fees()
        return Fees(int(found["maxFeePerGas"]), int(found["maxPriorityFeePerGas"]))

    def base_fee(self) -> int:
        """Of the newest block, in wei per gas."""
        with self._translated():
            return int(self._web3.eth.get_block("latest").get("baseFeePerGas", Wei(0)))

    @property
    def fee_cap(self) -> int | None:
        """The most that may be offered, in wei per gas."""
        return self._fee_cap

    def nonces(self) -> tuple[int, int]:
        """How many transactions of this account are mined; how many with those that wait."""
        account = checksummed(self.address)
        with self._translated():
            mined = int(self._web3.eth.get_transaction_count(account))
            return mined, max(mined, int(self._web3.eth.get_transaction_count(account, "pending")))

    def nonces_at(self, block: int) -> int:
        """How many transactions of this account were mined up to a block."""
        with self._translated():
            return int(self._web3.eth.get_transaction_count(checksummed(self.address), BlockNumber(max(block, 0))))

    def sign(self, call: Call, gas: int, nonce: int, fees: Fees) -> Signed:
        """Sign a transaction. No node is asked."""
        return self._signed(
            {
                "type": 2,
                "chainId": self.chain_id,
                "nonce": nonce,
                "gas": gas,
                "to": checksummed(call.to),
                "value": 0,
                "data": HexBytes(call.data),
            },
            fees,
        )

    def sign_again(self, raw: bytes, fees: Fees) -> Signed:
        """The same transaction with other fees: of the two one at most is mined, as they share the nonce."""
        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        return self._signed({key: value for key, value in fields.items() if key not in ("v", "r", "s")}, fees)

    def broadcast(self, raw: bytes) -> None:
        """Hand a signed transaction to the node, which may have it already.

        Raises
        ------
        ChainError
            The node refuses it.
        """
        with self._translated(sending=True):
            try:
                self._web3.eth.send_raw_transaction(HexBytes(raw))
            except Web3RPCError as error:
                if not any(known in message_of(error).lower() for known in _KNOWN):
                    raise

    def receipt(self, digest: Digest) -> Receipt | None:
        """What became of a transaction; None as long as it is not mined."""
        with self._translated():
            try:
                found = self._web3.eth.get_transaction_receipt(HexStr(str(digest)))
            except TransactionNotFound:
                return None
            return Receipt(
                hash=digest,
                block=int(found["blockNumber"]),
                block_hash=Digest(bytes(found["blockHash"])),
                gas_used=int(found["gasUsed"]),
                cost=int(found["gasUsed"]) * int(found.get("effectiveGasPrice", 0)),
                succeeded=found["status"] == 1,
            )

    def nonce_of(self, digest: Digest) -> int:
        """The nonce of a transaction of this account that is mined."""
        with self._translated():
            return int(self._web3.eth.get_transaction(HexStr(str(digest)))["nonce"])

    def why_reverted(self, raw: bytes, block: int) -> RevertError:
        """Run a reverted transaction again in the state before its block."""
        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        try:
            with self._translated(sending=True):
                self._web3.eth.call(
                    {
                        "from": checksummed(self.address),
                        "to": checksummed(Address.from_bytes(bytes(cast(Any, fields["to"])))),
                        "data": HexBytes(cast(Any, fields["data"])),
                        "gas": int(cast(Any, fields["gas"])),
                    },
                    block_identifier=BlockNumber(block),
                )
        except RevertError as error:
            return error
        return RevertError("the transaction reverted", None)

    # --- what it wrote ------------------------------------------------------------------------------------------

    def anchored_in(self, digest: Digest) -> Anchored:
        """The anchor that a mined transaction wrote."""
        receipt = self._receipt(digest)
        event = self._event(receipt, "EvidenceLog", "Anchored")
        return Anchored(
            event["anchorId"],
            Digest(event["root"]),
            event["size"],
            receipt["blockNumber"],
            Address.parse(event["submitter"]),
        )

    def committed_in(self, digest: Digest) -> Committed:
        """The commitment that a mined transaction wrote."""
        receipt = self._receipt(digest)
        event = self._event(receipt, "EvidenceLog", "Committed")
        return Committed(
            submitter=Address.parse(event["submitter"]),
            task_id=Digest(event["taskId"]),
            attempt=event["attempt"],
            statement_digest=Digest(event["statementDigest"]),
            block=receipt["blockNumber"],
        )

    # --- inside -------------------------------------------------------------------------------------------------

    def _call(self, contract: Any, function: str, *arguments: object) -> Call:
        _ = self.deployment  # raises if nothing is attached
        at = self._contracts[contract]
        data = at.encode_abi(function, args=list(arguments))
        return Call(Address.parse(at.address), bytes(HexBytes(data)))

    def _signed(self, fields: dict[str, Any], fees: Fees) -> Signed:
        made = self._signer().sign_transaction(
            {**fields, "maxFeePerGas": fees.most, "maxPriorityFeePerGas": fees.priority}
        )
        return Signed(Digest(bytes(made.hash)), bytes(made.raw_transaction), fees)


def dearer(before: Fees, market: Fees, cap: int | None) -> Fees:
    """Fees with which a node replaces a transaction by another of the same nonce: an eighth more at least.

    Nodes want a tenth (geth's ``txpool.pricebump``), some an eighth.

    Raises
    ------
    ChainError
        That is above the cap.
    """
    wanted = Fees(
        max(market.most, _an_eighth_more(before.most)), max(market.priority, _an_eighth_more(before.priority))
    )
    if cap is not None and wanted.most > cap:
        if cap < _an_eighth_more(before.most):
            raise ChainError(
                f"a replacement would offer {_an_eighth_more(before.most)} wei per gas, above the limit of {cap}",
                hint="raise REXIS_MAX_FEE_GWEI, or wait",
            )
        wanted = Fees(cap, min(wanted.priority, cap))
    return wanted


def _an_eighth_more(fee: int) -> int:
    return fee + fee // 8 + 1
