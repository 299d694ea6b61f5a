"""Typed access to the contracts over JSON-RPC: reads, and transactions that a local account signs.

Without an account a :class:`Chain` is read-only. Nothing here judges evidence; a caller compares what the chain holds
with what it expects.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, cast

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.contract import Contract
from web3.logs import DISCARD
from web3.types import TxReceipt

from contracts.addresses import DEPLOYER, SALT, address_of_contract, create2, in_order, init_code
from contracts.artefacts import ContractName, CoreName, load
from contracts.node import Node, Payload, RevertError, Transaction, as_transaction, checksummed
from contracts.onchain import (
    Anchored,
    AnchorProof,
    Committed,
    Deployment,
    Registration,
    public_instances,
    vka_digest,
)
from rexis.protocol.circuit import Circuit, Visibility
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ChainError, MerkleError, NotFoundError, UnavailableError
from rexis.protocol.keccak import keccak
from rexis.protocol.parsing import ZERO_ADDRESS, Address
from rexis.protocol.records import Opening
from rexis.protocol.statement import Statement
from rexis.protocol.typed_data import Struct

__all__ = ["AnchorProof", "Anchored", "Chain", "Committed", "Deployment", "Registration", "RevertError", "Transaction"]


class Chain(Node):
    """A node and one deployment of the contracts.

    Connect, then :meth:`attach`, :meth:`discover` or :meth:`deploy_all`.
    """

    def __init__(
        self, web3: Web3, endpoint: str, account: LocalAccount | None, mined_within_s: float, fee_cap: int | None
    ) -> None:
        super().__init__(web3, endpoint, account, mined_within_s, fee_cap)
        self._deployment: Deployment | None = None
        self._contracts: dict[ContractName, Contract] = {}

    def missing(self) -> list[CoreName]:
        """The contracts that are not on this chain yet."""
        return [name for name in in_order() if not self._has_code(address_of_contract(name))]

    def deploy_all(self) -> Deployment:
        """Deploy those of the four contracts that are not there yet, and attach.

        Anybody may do that, once a chain; whoever comes later finds the same contracts at the same addresses.

        Raises
        ------
        UnavailableError
            The chain lacks the deployer contract.
        """
        for name in self.missing():
            self._create(init_code(name))
        return self.discover()

    def discover(self) -> Deployment:
        """Attach to this version's contracts on this chain.

        Raises
        ------
        ChainError
            One of them is not there.
        """
        deployment = Deployment.on(self.chain_id)
        self.attach(deployment)
        return deployment

    def attach(self, deployment: Deployment) -> None:
        """Use a deployment, after checking that it is here: the chain id is this chain's, and each address has code.

        Which code follows from the address.

        Raises
        ------
        ChainError
            It is not.
        """
        if deployment.chain_id != self.chain_id:
            raise ChainError(
                f"the deployment is on chain {deployment.chain_id}, this node is on chain {self.chain_id}",
                field="chainId",
            )
        if deployment != Deployment.on(self.chain_id):
            raise ChainError("the deployment is not this version's")
        missing = self.missing()
        if missing:
            raise ChainError(
                f"no {missing[0]} at {address_of_contract(missing[0])} on chain {self.chain_id}",
                hint="deployed by another version of rexis, or not yet: see `rexis deploy`",
            )
        self._use(deployment)

    @property
    def deployment(self) -> Deployment:
        """The deployment in use."""
        if self._deployment is None:
            raise ChainError("no contracts", hint="deploy them, or attach to a deployment")
        return self._deployment

    # --- ModelRegistry ------------------------------------------------------------------------------------------

    def register(self, model_digest: Digest, key_epoch: int, circuit: Circuit) -> Transaction:
        """Register a key epoch of a model; the account becomes (or must be) the model's owner."""
        call = self._functions("ModelRegistry").register(bytes(model_digest), key_epoch, solidity(circuit))
        return as_transaction(self._send(call))

    def revoke(self, model_digest: Digest, key_epoch: int) -> Transaction:
        """Revoke a key epoch, for good; the account is the model's owner, also where another registered the epoch."""
        return as_transaction(self._send(self._functions("ModelRegistry").revoke(bytes(model_digest), key_epoch)))

    def propose_owner(self, model_digest: Digest, proposed: Address) -> Transaction:
        """Propose the model's next owner, in the place of any proposed before. It owns nothing until it accepts."""
        return as_transaction(self._send(self._functions("ModelRegistry").proposeOwner(bytes(model_digest), proposed)))

    def withdraw_proposal(self, model_digest: Digest) -> Transaction:
        """Withdraw a proposal that nobody has accepted yet."""
        return as_transaction(self._send(self._functions("ModelRegistry").withdrawProposal(bytes(model_digest))))

    def accept_ownership(self, model_digest: Digest) -> Transaction:
        """Become the owner of a model, with all its key epochs, as its owner proposed."""
        return as_transaction(self._send(self._functions("ModelRegistry").acceptOwnership(bytes(model_digest))))

    def owner_of(self, model_digest: Digest) -> Address:
        """Who owns a model, over all its key epochs; :class:`NotFoundError` if nobody registered it."""
        return _owner(model_digest, self._read(self._functions("ModelRegistry").ownerOf(bytes(model_digest))))

    def owner_at(self, model_digest: Digest, block: int) -> Address:
        """Who owned a model when a block ended.

        Raises
        ------
        NotFoundError
            Nobody did, or the chain has no such block yet.
        """
        call = self._functions("ModelRegistry").ownerAt(bytes(model_digest), block)
        return _owner(model_digest, self._read(call, missing="FutureBlock"), f" in block {block}")

    def proposed_owner_of(self, model_digest: Digest) -> Address | None:
        """Who may accept a model; None if nobody is proposed."""
        found = Address.parse(self._read(self._functions("ModelRegistry").proposedOwnerOf(bytes(model_digest))))
        return None if found == ZERO_ADDRESS else found

    def registration(self, model_digest: Digest, key_epoch: int) -> Registration:
        """A model's registration; :class:`NotFoundError` if there is none."""
        found = self._read(self._functions("ModelRegistry").get(bytes(model_digest), key_epoch))
        registrant, registered_at, revoked_at, circuit_hash, vka_digest, srs_digest = found
        if registered_at == 0:
            raise NotFoundError(f"model {model_digest} is not registered for key epoch {key_epoch}")
        return Registration(
            registrant=Address.parse(registrant),
            circuit_hash=Digest(circuit_hash),
            vka_digest=Digest(vka_digest),
            srs_digest=Digest(srs_digest),
            registered_at=registered_at,
            revoked_at=revoked_at or None,
        )

    # --- EvidenceLog --------------------------------------------------------------------------------------------

    def commit(self, task_id: Digest, statement_digest: Digest) -> tuple[Committed, Transaction]:
        """Commit to a statement. The block after `Committed.block` draws the challenge."""
        receipt = self._send(self._functions("EvidenceLog").commit(bytes(task_id), bytes(statement_digest)))
        event = self._event(receipt, "EvidenceLog", "Committed")
        made = Committed(
            submitter=Address.parse(event["submitter"]),
            task_id=task_id,
            attempt=event["attempt"],
            statement_digest=statement_digest,
            block=receipt["blockNumber"],
        )
        return made, as_transaction(receipt)

    def attempts(self, submitter: Address, task_id: Digest) -> int:
        """How many times `submitter` has committed to a task."""
        return int(self._read(self._functions("EvidenceLog").attempts(submitter, bytes(task_id))))

    def commitment(self, submitter: Address, task_id: Digest, attempt: int) -> Committed:
        """A commitment by its attempt, from 1; :class:`NotFoundError` if there is none."""
        call = self._functions("EvidenceLog").commitmentOf(submitter, bytes(task_id), attempt)
        statement_digest, block = self._read(call, missing="UnknownAttempt")
        return Committed(submitter, task_id, attempt, Digest(statement_digest), block)

    def anchor(self, root: Digest, size: int) -> tuple[Anchored, Transaction]:
        """Write the root of a tree of `size` statement digests."""
        receipt = self._send(self._functions("EvidenceLog").anchor(bytes(root), size))
        event = self._event(receipt, "EvidenceLog", "Anchored")
        made = Anchored(event["anchorId"], root, size, receipt["blockNumber"], Address.parse(event["submitter"]))
        return made, as_transaction(receipt)

    def anchor_of(self, anchor_id: int) -> Anchored:
        """An anchor by its id, from 0; :class:`NotFoundError` if there is none."""
        found = self._read(self._functions("EvidenceLog").anchorOf(anchor_id), missing="UnknownAnchor")
        root, size, block, submitter = found
        return Anchored(anchor_id, Digest(root), size, block, Address.parse(submitter))

    def check_inclusion(self, statement_digest: Digest, proof: AnchorProof) -> Anchored:
        """Let the contract check a statement's place in an anchored tree; returns the anchor.

        Raises
        ------
        NotFoundError
            No such anchor.
        MerkleError
            The digest is not that leaf.
        """
        call = self._functions("EvidenceLog").verifyInclusion(
            proof.anchor_id, bytes(statement_digest), proof.leaf_index, [bytes(node) for node in proof.path]
        )
        if not self._read(call, missing="UnknownAnchor"):
            raise MerkleError(
                f"statement {statement_digest} is not leaf {proof.leaf_index} of anchor {proof.anchor_id}"
            )
        return self.anchor_of(proof.anchor_id)

    # --- Certifier ----------------------------------------------------------------------------------------------

    def is_vka_registered(self, vka_digest: Digest) -> bool:
        """Whether ezkl's verifier knows a VKA."""
        # Its mapping `registeredVkas` has no getter and is its only state: slot 0 (Solidity's layout of mappings).
        slot = int.from_bytes(keccak(bytes(vka_digest) + bytes(32)), "big")
        with self._translated():
            word = self._web3.eth.get_storage_at(checksummed(self.deployment.halo2_verifier), slot)
        return any(word)

    def register_vka(self, vka: Sequence[Digest]) -> Transaction | None:
        """Register a circuit's VKA with ezkl's verifier; None if it was there."""
        if self.is_vka_registered(vka_digest(vka)):
            return None
        call = self._functions("Halo2VerifierReusable").registerVka([bytes(word) for word in vka])
        return as_transaction(self._send(call))

    def certify_record(
        self,
        statement: Statement,
        signature: bytes,
        anchor: AnchorProof,
        opening: Opening,
        proof: bytes,
        vka: Sequence[Digest],
    ) -> Transaction:
        """Have the Certifier check one record of a statement of tier ``zk``.

        Everything in `opening` becomes public on chain, for ever: salt and encrypted values.

        Parameters
        ----------
        signature
            The worker's, over the statement.
        opening
            The record; the proof's public instances are rebuilt from it.
        proof
            ezkl's proof bytes.
        vka
            Words of the circuit's verification key artefact, registered before.

        Raises
        ------
        RevertError
            The contract refused; `name` says why, for example ``ProofRejected`` or ``AlreadyCertified``.
        """
        arguments = certify_arguments(statement, signature, anchor, opening, proof, vka)
        call = self._functions("Certifier").certifyRecord(*arguments)
        return as_transaction(self._send(call))

    def certified_count(self, statement_digest: Digest) -> int:
        """How many records of a statement the Certifier accepted."""
        return int(self._read(self._functions("Certifier").certifiedCount(bytes(statement_digest))))

    def is_certified(self, statement_digest: Digest) -> bool:
        """Whether the Certifier accepted every record of a statement."""
        return bool(self._read(self._functions("Certifier").isCertified(bytes(statement_digest))))

    def is_record_certified(self, statement_digest: Digest, offset: int) -> bool:
        """Whether the Certifier accepted one record; `offset` counts from the statement's first record."""
        return bool(self._read(self._functions("Certifier").isRecordCertified(bytes(statement_digest), offset)))

    # --- transactions -------------------------------------------------------------------------------------------

    def transaction_with(
        self, digest: Digest, contract: ContractName, event: str, **arguments: int | str | bytes
    ) -> Transaction:
        """A transaction in which one of our contracts wrote this event with these arguments.

        Raises
        ------
        NotFoundError
            There is no such transaction, or it wrote no such event.
        RevertError
            It reverted.
        """
        receipt = self._receipt(digest)
        at = self._contracts[contract]
        with self._translated():
            for entry in at.events[event]().process_receipt(receipt, errors=DISCARD):
                if entry["address"] == at.address and arguments.items() <= dict(entry["args"]).items():
                    return as_transaction(receipt)
        raise NotFoundError(f"transaction {digest} wrote no such {event}")

    # --- inside -------------------------------------------------------------------------------------------------

    def _at(self, name: ContractName, address: Address) -> Contract:
        return self._web3.eth.contract(address=checksummed(address), abi=cast(Any, load(name).abi))

    def _functions(self, name: ContractName) -> Any:
        _ = self.deployment  # raises if nothing is attached
        return self._contracts[name].functions

    def _use(self, deployment: Deployment) -> None:
        addresses: dict[ContractName, Address] = {
            "ModelRegistry": deployment.model_registry,
            "EvidenceLog": deployment.evidence_log,
            "Certifier": deployment.certifier,
            "Halo2VerifierReusable": deployment.halo2_verifier,
        }
        self._contracts = {name: self._at(name, address) for name, address in addresses.items()}
        self._deployment = deployment

    def code(self, name: ContractName) -> bytes:
        """The code that a contract of the deployment has on this chain."""
        _ = self.deployment  # raises if nothing is attached
        with self._translated():
            return bytes(self._web3.eth.get_code(self._contracts[name].address))

    def _create(self, code: bytes) -> Address:
        """Have the deployer make a contract, unless it is there."""
        address = create2(code)
        if self._has_code(address):
            return address
        if not self._has_code(DEPLOYER):
            raise UnavailableError(
                f"chain {self.chain_id} has no deployer contract at {DEPLOYER}",
                hint="it takes one transaction: https://github.com/Arachnid/deterministic-deployment-proxy",
            )
        try:
            self._send(Payload(self._web3, DEPLOYER, SALT + code))
        except RevertError:
            if not self._has_code(address):  # else somebody was quicker
                raise
        return address

    def _has_code(self, address: Address) -> bool:
        with self._translated():
            return len(self._web3.eth.get_code(checksummed(address))) > 0

    def _event(self, receipt: TxReceipt, name: ContractName, event: str) -> Any:
        contract = self._contracts[name]
        for entry in contract.events[event]().process_receipt(receipt, errors=DISCARD):
            if entry["address"] == contract.address:
                return entry["args"]
        raise ChainError(f"transaction emitted no {event}")


def _owner(model_digest: Digest, found: str, when: str = "") -> Address:
    owner = Address.parse(found)
    if owner == ZERO_ADDRESS:
        raise NotFoundError(f"nobody owns model {model_digest}{when}")
    return owner


def certify_arguments(
    statement: Statement,
    signature: bytes,
    anchor: AnchorProof,
    opening: Opening,
    proof: bytes,
    vka: Sequence[Digest],
) -> tuple[Any, ...]:
    """The arguments of ``Certifier.certifyRecord``; the proof's public instances are rebuilt from the opening."""
    hashed = statement.circuit.visibility == Visibility.HASHED
    return (
        solidity(statement),
        signature,
        anchor_argument(anchor),
        record_argument(opening, proof, hashed=hashed),
        [bytes(word) for word in vka],
    )


def anchor_argument(anchor: AnchorProof) -> tuple[Any, ...]:
    """Solidity's AnchorProof."""
    return anchor.anchor_id, anchor.leaf_index, [bytes(node) for node in anchor.path]


def record_argument(opening: Opening, proof: bytes, *, hashed: bool = False) -> tuple[Any, ...]:
    """Solidity's RecordProof; the proof's public instances are rebuilt from the opening."""
    return (
        opening.index,
        bytes(opening.salt),
        [bytes(node) for node in opening.input_path],
        [bytes(node) for node in opening.output_path],
        public_instances(opening.input, opening.output, hashed=hashed),
        proof,
    )


def solidity(value: object) -> Any:
    """A struct as the tuple that the ABI coder takes: our fields stand in the order of Solidity's."""
    if isinstance(value, Struct):
        return tuple(solidity(getattr(value, name)) for name in type(value).model_fields)
    if isinstance(value, IntEnum):
        return int(value)
    if isinstance(value, bytes):
        return bytes(value)
    return value
