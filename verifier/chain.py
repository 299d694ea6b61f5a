"""Steps 14–18 and 28: the deployment, then what is to be seen on chain, against a node that the auditor chose."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from contracts.artefacts import ContractName
from contracts.evm import LocalVerifier
from contracts.onchain import require_deployment
from rexis.protocol.certificate import Place, SealedDocument
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import ChainError, EvidenceError, UnavailableError
from rexis.protocol.policy import Tier
from verifier.report import Status, Verdict
from verifier.second_opinion import SECOND_OPINION
from verifier.validators import check_validators, concerns, leave_out

if TYPE_CHECKING:
    from contracts.accountable import AccountableChain
    from contracts.chain import Chain
    from verifier.certificate import VerifyOptions

DEPLOYMENT, MODEL, COMMITMENTS, ANCHORS, CERTIFICATION = 14, 15, 16, 17, 18


def check_deployment(certificate: SealedDocument) -> str:
    """14, without a node. The addresses are those of this version's contracts: they follow from the contracts' code.

    What stands there ran this very code and nothing else, so nobody can have put anything into it beforehand.
    """
    found = require_deployment(certificate.domain, certificate.contracts)
    return f"EvidenceLog {found.evidence_log}, its registry and its certifier stand where their code puts them"


def check_chain(
    certificate: SealedDocument, options: VerifyOptions, verdict: Verdict, *, compare_verifier: bool = False
) -> None:
    """Take the chain steps; raises ``StepFailed`` at the first that fails, stops where the node is out of reach.

    Parameters
    ----------
    options
        With the node to ask.
    compare_verifier
        Also compare the chain's Solidity verifier with the one that gives second opinions (20).
    """
    chain: AccountableChain | None = None
    with verdict.step(DEPLOYMENT, "deployment on chain") as notes:
        chain = _connect(options.rpc_url or "")
        notes.say(_attach(certificate, chain))
    if chain is None or verdict.steps[-1].status != Status.OK:
        return
    steps: list[tuple[int, str, Callable[[SealedDocument, Chain], str]]] = [
        (MODEL, "model registered on chain", _check_model),
        (COMMITMENTS, "commitments and their blocks", _check_commitments),
        (ANCHORS, "anchors on chain", _check_anchors),
        (CERTIFICATION, "on-chain certification", _check_certification),
    ]
    if compare_verifier:
        steps.append((SECOND_OPINION, "second opinion, the verifier's code on chain", _check_verifier_code))
    for number, name, check in steps:
        with verdict.step(number, name) as notes:
            notes.say(check(certificate, chain))
    if concerns(certificate, options) and not leave_out(certificate, options, verdict) and options.quorum is not None:
        check_validators(certificate, chain, options.quorum, verdict)


def _connect(rpc_url: str) -> AccountableChain:
    # Only now: web3's HTTP library opens a socket when it is imported, which an auditor offline did not ask for.
    try:
        from contracts.accountable import AccountableChain
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"the Python package {error.name} is missing", hint="pip install 'rexis[verifier]'"
        ) from None
    return AccountableChain.connect(rpc_url)


def _attach(certificate: SealedDocument, chain: Chain) -> str:
    """14, on the node: it is on the certificate's chain, and has the contracts."""
    if chain.chain_id != certificate.domain.chain_id:
        raise ChainError(
            f"the node is on chain {chain.chain_id}, the certificate is for chain {certificate.domain.chain_id}",
            field="domain.chainId",
        )
    chain.discover()
    return f"chain {chain.chain_id} has them"


def _check_verifier_code(certificate: SealedDocument, chain: Chain) -> str:
    """20, on the node: the verifier that the Certifier asks has the code that was run here."""
    here, there = LocalVerifier(()).runtime, chain.code("Halo2VerifierReusable")
    if there != here:
        raise ChainError(f"the chain's verifier has code {sha256(there)}, the one run here {sha256(here)}")
    return f"{len(there)} bytes at {chain.deployment.halo2_verifier} are those that were run here"


def _check_model(certificate: SealedDocument, chain: Chain) -> str:
    """15. Registered with this circuit before the first anchor, not revoked by the last; who did it claims the rung.

    Whose the model is now changes nothing: who registered a key epoch made it, and can say what its weights are.
    """
    request = certificate.request
    registration = chain.registration(request.model_digest, request.key_epoch)
    blocks = [place.anchor.block_number for place in certificate.places]
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
    if certificate.rung_claim is not None and certificate.rung_claim.claim.owner != registration.registrant:
        raise EvidenceError(
            f"{certificate.rung_claim.claim.owner} claims the rung, {registration.registrant} registered the model",
            field="rungClaim.claim.owner",
        )
    later = f"; revoked later, in block {registration.revoked_at}" if registration.revoked_at else ""
    owner = chain.owner_of(request.model_digest)
    if owner != registration.registrant:
        later += f"; the model is {owner}'s now"
    return f"by {registration.registrant} in block {registration.registered_at}, epoch {request.key_epoch}{later}"


def _check_commitments(certificate: SealedDocument, chain: Chain) -> str:
    """16. The log has each commitment, in that block, attempt and transaction; block b+1 has the hash that drew."""
    if certificate.request.policy.tier != Tier.SAMPLED:
        return "none: the tier has no challenge"
    for place in certificate.places:
        _check_commitment(certificate, chain, place, f"{place.where}commitment")
    return f"{len(certificate.places)} commitments and their challenge blocks are the chain's"


def _check_commitment(certificate: SealedDocument, chain: Chain, place: Place, where: str) -> None:
    statement, claimed = place.statement, place.commitment
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


def _check_anchors(certificate: SealedDocument, chain: Chain) -> str:
    """17. The log has each anchor, from the request's coordinator, after the commitment it anchors."""
    for place in certificate.places:
        where, claimed = f"{place.where}anchor", place.anchor
        found = chain.anchor_of(claimed.anchor_id)
        for name, here, there in (
            ("root", claimed.root, found.root),
            ("size", claimed.size, found.size),
            ("blockNumber", claimed.block_number, found.block),
            ("submitter", certificate.request.coordinator, found.submitter),
        ):
            if here != there:
                raise EvidenceError(f"is {here}, on chain it is {there}", field=f"{where}.{name}")
        if place.commitment is not None and place.commitment.block_number >= found.block:
            raise EvidenceError("was anchored before its challenge could be known", field=where)
        _require_transaction(
            chain, claimed.transaction, claimed.block_number, where, "EvidenceLog", "Anchored",
            anchorId=claimed.anchor_id, submitter=certificate.request.coordinator,
        )  # fmt: skip
        if place.opening_block_hash is not None:
            drawn = chain.block_hash(found.block + 1)
            if drawn != place.opening_block_hash:
                raise EvidenceError(
                    f"block {found.block + 1} has hash {drawn}, not {place.opening_block_hash}",
                    field=f"{place.where}openingBlockHash",
                )
    return f"{len(certificate.places)} statements stand under roots that {certificate.request.coordinator} anchored"


def _check_certification(certificate: SealedDocument, chain: Chain) -> str:
    """18. The Certifier accepted every record of every task, if the policy asked for it."""
    if not certificate.request.policy.certify_on_chain:
        return "not asked for by the policy"
    for place in certificate.places:
        digest = certificate.domain.digest(place.statement)
        if not chain.is_certified(digest):
            done = chain.certified_count(digest)
            raise EvidenceError(
                f"the Certifier accepted {done} of {place.statement.record_count} records",
                field=f"{place.where}certified",
            )
        for index, transaction in enumerate(place.certified, place.statement.record_start):
            _require_transaction(
                chain, transaction, None, f"{place.where}certified", "Certifier", "RecordCertified",
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
