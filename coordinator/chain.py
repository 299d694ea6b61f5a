"""The chain as the coordinator uses it: connected when it is first needed, and searchable after a crash.

Transactions go through :mod:`coordinator.outbox`. Whether a run that the database knows nothing of wrote something is
asked of the chain's event log.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import Any

from eth_account.signers.local import LocalAccount

from contracts.accountability import Accountability
from contracts.onchain import Anchored, Committed, Deployment
from contracts.sending import Call, Sender
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ChainError, UnavailableError
from rexis.protocol.validation import Finding


class Ledger(Sender):
    """A :class:`~contracts.sending.Sender` that finds what this account wrote before."""

    def find_commitment(
        self, task_id: Digest, statement_digest: Digest, since_block: int
    ) -> tuple[Committed, Digest] | None:
        """This account's first commitment of a statement, with its transaction."""
        found = self._find(
            "Committed",
            {"submitter": self.address, "taskId": bytes(task_id), "statementDigest": bytes(statement_digest)},
            since_block,
        )
        if found is None:
            return None
        made = Committed(self.address, task_id, found["args"]["attempt"], statement_digest, found["blockNumber"])
        return made, Digest(bytes(found["transactionHash"]))

    def find_anchor(self, root: Digest, size: int, since_block: int) -> tuple[Anchored, Digest] | None:
        """This account's first anchor of a root, with its transaction."""
        found = self._find("Anchored", {"submitter": self.address, "root": bytes(root)}, since_block)
        if found is None:
            return None
        made = Anchored(found["args"]["anchorId"], root, size, found["blockNumber"], self.address)
        return made, Digest(bytes(found["transactionHash"]))

    def find_certified(
        self, statement_digest: Digest, record_index: int, since_block: int, confirmations: int
    ) -> Digest | None:
        """The transaction, whoever sent it, in which the Certifier accepted a record, if so many blocks follow."""
        event = self._contracts["Certifier"].events["RecordCertified"]()
        arguments = {"statementDigest": bytes(statement_digest), "recordIndex": record_index}
        with self._translated():
            newest = self._web3.eth.block_number - confirmations
            if newest < since_block:
                return None
            found = event.get_logs(argument_filters=arguments, from_block=since_block, to_block=newest)
        return Digest(bytes(found[0]["transactionHash"])) if found else None

    def recording(self, statement_digest: Digest, finding: Finding, slots: Collection[int], signature: bytes) -> Call:
        """Writes validators' verdict on a statement down, with the sum of the signatures of those in these slots."""
        signers = sum(1 << slot for slot in set(slots))
        return self._call("ValidatorQuorum", "record", bytes(statement_digest), int(finding), signers, signature)

    def _find(self, name: str, arguments: dict[str, Any], since_block: int) -> Any:
        with self._translated():
            event = self._contracts["EvidenceLog"].events[name]()
            found = event.get_logs(argument_filters=arguments, from_block=since_block)
        return found[0] if found else None


class ChainLink:
    """Connects and attaches when it is first asked, so that the coordinator also starts without its node.

    Parameters
    ----------
    rpc_urls
        HTTP(S) JSON-RPC endpoints, in the order in which they are tried.
    deployment
        The contracts; their code is checked when the connection is made.
    max_fee_per_gas
        Never offer more, in wei.
    accountability
        Stakes, escrow and validators around the log, if they are used; checked like the contracts.
    """

    def __init__(
        self,
        rpc_urls: Sequence[str],
        deployment: Deployment,
        account: LocalAccount,
        max_fee_per_gas: int | None,
        accountability: Accountability | None = None,
    ) -> None:
        self._rpc_urls, self._deployment, self._account = rpc_urls, deployment, account
        self._max_fee_per_gas, self._around = max_fee_per_gas, accountability
        self._connecting = threading.Lock()
        self._ledger: Ledger | None = None

    def __call__(self) -> Ledger:
        """The connected chain.

        Raises
        ------
        UnavailableError
            The node does not answer, or is not a node of this deployment.
        """
        with self._connecting:
            if self._ledger is None:
                ledger = Ledger.connect(*self._rpc_urls, account=self._account, max_fee_per_gas=self._max_fee_per_gas)
                try:
                    ledger.attach(self._deployment)
                    if self._around is not None:
                        ledger.attach_accountability(self._around)
                except ChainError as error:
                    raise UnavailableError(error.message, hint=error.hint) from None
                self._ledger = ledger
            return self._ledger
