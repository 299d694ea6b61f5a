"""The chain as the coordinator uses it: connected when it is first needed, and searchable after a crash.

Every transaction follows a row that says what is intended. Whether a transaction of an earlier run was sent is asked of
the chain's event log, so that nothing is written twice.
"""

from __future__ import annotations

import threading
from typing import Any

from eth_account.signers.local import LocalAccount

from contracts.chain import Chain
from contracts.node import checksummed
from contracts.onchain import Anchored, Committed, Deployment
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ChainError, UnavailableError


class Ledger(Chain):
    """A :class:`~contracts.chain.Chain` that finds what this account wrote before."""

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

    def find_certified(self, statement_digest: Digest, record_index: int, since_block: int) -> Digest | None:
        """The transaction, whoever sent it, in which the Certifier accepted a record."""
        event = self._contracts["Certifier"].events["RecordCertified"]()
        arguments = {"statementDigest": bytes(statement_digest), "recordIndex": record_index}
        with self._translated():
            found = event.get_logs(argument_filters=arguments, from_block=since_block)
        return Digest(bytes(found[0]["transactionHash"])) if found else None

    def require_settled(self) -> None:
        """Raise :class:`UnavailableError` while a transaction of this account waits to be mined."""
        account = checksummed(self.address)
        with self._translated():
            mined = self._web3.eth.get_transaction_count(account)
            known = self._web3.eth.get_transaction_count(account, "pending")
        if known > mined:
            raise UnavailableError("an earlier transaction waits to be mined", hint="it is looked for again")

    def _find(self, name: str, arguments: dict[str, Any], since_block: int) -> Any:
        with self._translated():
            event = self._contracts["EvidenceLog"].events[name]()
            found = event.get_logs(argument_filters=arguments, from_block=since_block)
        return found[0] if found else None


class ChainLink:
    """Connects and attaches when it is first asked, so that the coordinator also starts without its node.

    Parameters
    ----------
    rpc_url
        HTTP(S) JSON-RPC endpoint.
    deployment
        The contracts; their code is checked when the connection is made.
    """

    def __init__(self, rpc_url: str, deployment: Deployment, account: LocalAccount) -> None:
        self._rpc_url, self._deployment, self._account = rpc_url, deployment, account
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
                ledger = Ledger.connect(self._rpc_url, account=self._account)
                try:
                    ledger.attach(self._deployment)
                except ChainError as error:
                    raise UnavailableError(error.message, hint=error.hint) from None
                self._ledger = ledger
            return self._ledger
