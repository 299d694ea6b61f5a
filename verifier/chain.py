"""Steps 14–18: the deployment, then what the certificate says of the chain, against a node that the auditor chose."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from contracts.artefacts import ContractName
from contracts.evm import LocalVerifier
from contracts.onchain import require_deployment
from rexis.protocol.certificate import Certificate, CertifiedTask
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import ChainError, EvidenceError, UnavailableError
from rexis.protocol.policy import Tier
from verifier.report import Verdict
from verifier.second_opinion import SECOND_OPINION

if TYPE_CHECKING:
    from contracts.chain import Chain

DEPLOYMENT, MODEL, COMMITMENTS, ANCHORS, CERTIFICATION = 14, 15, 16, 17, 18


def check_deployment(certificate: Certificate) -> str:
    """14, without a node. The addresses are those of this version's contracts: they follow from the contracts' code.

    What stands there ran this very code and nothing else, so nobody can have put anything into it beforehand.
    """
    found = require_deployment(certificate.domain, certificate.contracts)
    return f"EvidenceLog {found.evidence_log}, its registry and its certifier stand where their code puts them"


def check_chain(certificate: Certificate, rpc_url: str, verdict: Verdict, *, compare_verifier: bool = False) -> None:
    """Take the chain steps; raises ``StepFailed`` at the first that fails, stops where the node is out of reach.

    Parameters
    ----------
    compare_verifier
        Also compare the chain's Solidity verifier with the one that gives second opinions (20).
    """
    chain: Chain | None = None
    with verdict.step(DEPLOYMENT, "deployment on chain") as notes:
        chain = _connect(rpc_url)
        notes.say(_attach(certificate, chain))
    if chain is None or verdict.unchecked:
        return
    steps: list[tuple[int, str, Callable[[Certificate, Chain], str]]] = [
        (MODEL, "model registered on chain", _check_model),
        (COMMITMENTS, "commitments and their blocks", _check_commitments),
        (ANCHORS, "anchors on chain", _check_anchors),
        (CERTIFICATION, "on-chain certification", _check_certification),
    ]
    if compare_verifier and certificate.circuit is not None:
        steps.append((SECOND_OPINION, "second opinion, the verifier's code on chain", _check_verifier_code))
    for number, name, check in steps:
        with verdict.step(number, name) as notes:
            notes.say(check(certificate, chain))


def _connect(rpc_url: str) -> Chain:
    # Only now: web3's HTTP library opens a socket when it is imported, which an auditor offline did not ask for.
    try:
        from contracts.chain import Chain
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"the Python package {error.name} is missing", hint="pip install 'rexis[verifier]'"
        ) from None
    return Chain.connect(rpc_url)


def _attach(certificate: Certificate, chain: Chain) -> str:
    """14, on the node: it is on the certificate's chain, and has the contracts."""
    if chain.chain_id != certificate.domain.chain_id:
        raise ChainError(
            f"the node is on chain {chain.chain_id}, the certificate is for chain {certificate.domain.chain_id}",
            field="domain.chainId",
        )
    chain.discover()
    return f"chain {chain.chain_id} has them"


def _check_verifier_code(certificate: Certificate, chain: Chain) -> str:
    """20, on the node: the verifier that the Certifier asks has the code that was run here."""
    assert certificate.circuit is not None  # noqa: S101
    here, there = LocalVerifier(()).runtime, chain.code("Halo2VerifierReusable")
    if there != here:
        raise ChainError(f"the chain's verifier has code {sha256(there)}, the one run here {sha256(here)}")
    return f"{len(there)} bytes at {chain.deployment.halo2_verifier} are those that were run here"


def _check_model(certificate: Certificate, chain: Chain) -> str:
    """15. Registered with this circuit before the first anchor, not revoked by the last; its owner claimed the rung."""
    request = certificate.request
    registration = chain.registration(request.model_digest, request.key_epoch)
    blocks = [task.anchor.block_number for task in certificate.tasks]
    if registration.registered_at > min(blocks):
        raise EvidenceError(
            f"registered in block {registration.registered_at}, after an anchor in block {min(blocks)}",
            field="request.modelDigest",
        )
    if registration.revoked_at is not None and registration.revoked_at <= max(blocks):
        raise EvidenceError(
            f"revoked in block {registration.revoked_at}, before an anchor in block {max(blocks)}",
            field="request.modelDigest",
        )
    if request.circuit != NO_CIRCUIT and registration.circuit_hash != request.circuit.hash_struct():
        raise EvidenceError("another circuit is registered for this model and epoch", field="request.circuit")
    if certificate.rung_claim is not None and certificate.rung_claim.claim.owner != registration.owner:
        raise EvidenceError(
            f"{certificate.rung_claim.claim.owner} claims the rung, the model is {registration.owner}'s",
            field="rungClaim.claim.owner",
        )
    later = f"; revoked later, in block {registration.revoked_at}" if registration.revoked_at else ""
    return f"by {registration.owner} in block {registration.registered_at}, epoch {request.key_epoch}{later}"


def _check_commitments(certificate: Certificate, chain: Chain) -> str:
    """16. The log has each commitment, in that block, attempt and transaction; block b+1 has the hash that drew."""
    if certificate.request.policy.tier != Tier.SAMPLED:
        return "none: the tier has no challenge"
    for position, task in enumerate(certificate.tasks):
        _check_commitment(certificate, chain, task, f"tasks.{position}.commitment")
    return f"{len(certificate.tasks)} commitments and their challenge blocks are the chain's"


def _check_commitment(certificate: Certificate, chain: Chain, task: CertifiedTask, where: str) -> None:
    statement, claimed = task.evidence.statement, task.commitment
    if claimed is None:
        raise EvidenceError("is missing", field=where)
    found = chain.commitment(certificate.request.coordinator, statement.task_id, claimed.attempt)
    if found.statement_digest != certificate.domain.digest(statement):
        raise EvidenceError(
            f"attempt {claimed.attempt} on chain commits to {found.statement_digest}, another statement", field=where
        )
    if found.block != claimed.block_number:
        raise EvidenceError(f"is in block {found.block}, not {claimed.block_number}", field=f"{where}.blockNumber")
    drawn = chain.block_hash(claimed.block_number + 1)
    if drawn != claimed.challenge_block_hash:
        raise EvidenceError(
            f"block {claimed.block_number + 1} has hash {drawn}, not {claimed.challenge_block_hash}",
            field=f"{where}.challengeBlockHash",
        )
    _require_transaction(
        chain, claimed.transaction, claimed.block_number, where, "EvidenceLog", "Committed",
        submitter=certificate.request.coordinator, taskId=bytes(statement.task_id), attempt=claimed.attempt,
        statementDigest=bytes(found.statement_digest),
    )  # fmt: skip


def _check_anchors(certificate: Certificate, chain: Chain) -> str:
    """17. The log has each anchor, from the request's coordinator, after the commitment it anchors."""
    for position, task in enumerate(certificate.tasks):
        where, claimed = f"tasks.{position}.anchor", task.anchor
        found = chain.anchor_of(claimed.anchor_id)
        for name, here, there in (
            ("root", claimed.root, found.root),
            ("size", claimed.size, found.size),
            ("blockNumber", claimed.block_number, found.block),
            ("submitter", certificate.request.coordinator, found.submitter),
        ):
            if here != there:
                raise EvidenceError(f"is {here}, on chain it is {there}", field=f"{where}.{name}")
        if task.commitment is not None and task.commitment.block_number >= found.block:
            raise EvidenceError("was anchored before its challenge could be known", field=where)
        _require_transaction(
            chain, claimed.transaction, claimed.block_number, where, "EvidenceLog", "Anchored",
            anchorId=claimed.anchor_id, submitter=certificate.request.coordinator,
        )  # fmt: skip
        if task.opening_block_hash is not None:
            drawn = chain.block_hash(found.block + 1)
            if drawn != task.opening_block_hash:
                raise EvidenceError(
                    f"block {found.block + 1} has hash {drawn}, not {task.opening_block_hash}",
                    field=f"tasks.{position}.openingBlockHash",
                )
    return f"{len(certificate.tasks)} statements stand under roots that {certificate.request.coordinator} anchored"


def _check_certification(certificate: Certificate, chain: Chain) -> str:
    """18. The Certifier accepted every record of every task, if the policy asked for it."""
    if not certificate.request.policy.certify_on_chain:
        return "not asked for by the policy"
    for position, task in enumerate(certificate.tasks):
        digest = certificate.domain.digest(task.evidence.statement)
        if not chain.is_certified(digest):
            done = chain.certified_count(digest)
            raise EvidenceError(
                f"the Certifier accepted {done} of {task.evidence.statement.record_count} records",
                field=f"tasks.{position}.certified",
            )
        for index, transaction in enumerate(task.certified, task.evidence.statement.record_start):
            _require_transaction(
                chain, transaction, None, f"tasks.{position}.certified", "Certifier", "RecordCertified",
                statementDigest=bytes(digest), recordIndex=index,
            )  # fmt: skip
    return f"the Certifier at {certificate.contracts.certifier} accepted every record"


def _require_transaction(
    chain: Chain,
    digest: Digest,
    block: int | None,
    where: str,
    contract: ContractName,
    event: str,
    **arguments: int | str | bytes,
) -> None:
    """The transaction is the one that did it: it wrote the event, in that block."""
    found = chain.transaction_with(digest, contract, event, **arguments)
    if block is not None and found.block != block:
        raise EvidenceError(f"transaction is in block {found.block}, not {block}", field=f"{where}.transaction")
