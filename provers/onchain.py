"""What a worker looks up on chain itself, before it spends a second on a task."""

from __future__ import annotations

from typing import Protocol

from contracts.chain import Chain
from contracts.onchain import require_deployment
from rexis.api import Info
from rexis.protocol.certificate import Commitment
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ChainError
from rexis.protocol.statement import JobRequest

_NEXT_BLOCK_S = 5.0  # the worker's node may lag a little behind the coordinator's


class ChainChecks(Protocol):
    """The worker's view of the chain."""

    def require_model(self, request: JobRequest) -> None:
        """Return if the request's model and circuit are registered and not revoked."""
        ...

    def require_challenge(self, request: JobRequest, task_id: Digest, statement: Digest, found: Commitment) -> None:
        """Return if a challenge rests on a commitment to this statement and on the block after it."""
        ...


class OnChain:
    """Checks over a node.

    Parameters
    ----------
    chain
        Read-only, attached to the deployment that the worker pinned.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    @classmethod
    def connect(cls, rpc_url: str, info: Info) -> OnChain:
        """Find this version's contracts on the node's chain, which the coordinator must name too.

        Raises
        ------
        ChainError
            It names others, or they are not there.
        """
        deployment = require_deployment(info.domain, info.contracts)
        chain = Chain.connect(rpc_url)
        chain.attach(deployment)
        return cls(chain)

    def require_model(self, request: JobRequest) -> None:
        """See :class:`ChainChecks`."""
        found = self._chain.registration(request.model_digest, request.key_epoch)
        if not found.active:
            raise ChainError(f"model {request.model_digest}, key epoch {request.key_epoch}, was revoked")
        if request.circuit != NO_CIRCUIT and not found.has_circuit(request.circuit):
            raise ChainError("the requested circuit is not the one registered for the model", field="request.circuit")

    def require_challenge(self, request: JobRequest, task_id: Digest, statement: Digest, found: Commitment) -> None:
        """See :class:`ChainChecks`."""
        made = self._chain.commitment(request.coordinator, task_id, found.attempt)
        if made.statement_digest != statement or made.block != found.block_number:
            raise ChainError(f"attempt {found.attempt} on chain is not the commitment to this statement")
        block_hash = self._chain.block_hash(found.block_number + 1, wait_s=_NEXT_BLOCK_S)
        if block_hash != found.challenge_block_hash:
            raise ChainError(
                f"block {found.block_number + 1} has hash {block_hash}, "
                f"the coordinator says {found.challenge_block_hash}"
            )


class Unchecked:
    """For a worker that was told to go without a node. The coordinator and every auditor make these checks too."""

    def require_model(self, request: JobRequest) -> None:
        """See :class:`ChainChecks`."""

    def require_challenge(self, request: JobRequest, task_id: Digest, statement: Digest, found: Commitment) -> None:
        """See :class:`ChainChecks`."""
