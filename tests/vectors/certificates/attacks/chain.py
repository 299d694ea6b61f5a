"""Steps 11 and 14 to 18: anchors, and everything that the certificate says of the chain."""

from __future__ import annotations

from rexis.protocol.certificate import Certificate
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.keccak import keccak
from rexis.protocol.merkle import node_hash
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of
from rexis.protocol.typed_data import Domain
from tests.vectors.certificates.accounts import account
from tests.vectors.certificates.attacks.forging import first, flipped
from tests.vectors.certificates.attacks.honest import challenge_ground
from tests.vectors.certificates.case import ACCEPTED, forged
from tests.vectors.certificates.issuer import Document, Issuer, Job, Plan, seal

_NOWHERE = str(sha256(b"no such transaction"))


def _sampled_job(issuer: Issuer, epoch: int = 1) -> Job:
    return issuer.job(Tier.SAMPLED, count=3, shard=3, sample=1, epoch=epoch)


# --- 11. Anchor -------------------------------------------------------------------------------------------------------


@forged(11, "the path leads to", "coordinator", solidity="NotAnchored")
def anchor_path_wrong(issuer: Issuer) -> Document:
    """The anchor's path has another sibling."""
    document = issuer.zk()
    return seal(first(document, "anchor", path=[flipped(node) for node in document["tasks"][0]["anchor"]["path"]]))


@forged(11, "the path leads to", "coordinator")
def anchor_root_replaced(issuer: Issuer) -> Document:
    """The root of another anchor, under which this statement does not stand."""
    other = issuer.commit()["tasks"][0]["anchor"]
    return seal(first(issuer.zk(), "anchor", root=other["root"]))


@forged(11, "the path leads to", "coordinator", solidity="NotAnchored")
def anchor_leaf_index_lied(issuer: Issuer) -> Document:
    """The statement's place in the tree is another than its path's."""
    return seal(first(issuer.zk(), "anchor", leafIndex=0))


@forged(11, "the path is too short", "coordinator")
def anchor_size_lied(issuer: Issuer) -> Document:
    """The tree is said to be larger than it is."""
    return seal(first(issuer.zk(), "anchor", size=5))


@forged(11, "the path is too short", "coordinator")
def anchor_inner_node(issuer: Issuer) -> Document:
    """The statement is anchored nowhere: its leaf hash is passed off as the root, by way of an empty path."""
    return seal(first(issuer.zk(), "anchor", path=[]))


# --- 14. Deployment ---------------------------------------------------------------------------------------------------


_CERTIFIER, _LOG = "contracts.certifier: is", "domain.verifyingContract: is"


@forged(14, _CERTIFIER, "coordinator")
def certifier_without_code(issuer: Issuer) -> Document:
    """The certifier's address is an account without code."""
    document = issuer.commit()
    document["contracts"]["certifier"] = str(address_of(account("stranger")))
    return seal(document)


@forged(14, _CERTIFIER, "coordinator")
def certifier_of_their_own(issuer: Issuer) -> Document:
    """The certifier's address holds a contract of the attackers that answers as the real one does, and more."""
    document = issuer.commit()
    document["contracts"]["certifier"] = issuer.with_code(issuer.code(issuer.deployment.certifier) + b"\0")
    return seal(document)


@forged(14, _CERTIFIER, "coordinator")
def certifier_with_seeded_storage(issuer: Issuer) -> Document:
    """A contract with the Certifier's very code, immutables and all, whose constructor wrote into its storage that
    every record of the statement was certified. The real Certifier has seen none."""
    document = issuer.issue(issuer.job(Tier.ZK, certify_on_chain=True), Plan(certify=0))
    statement = Certificate.from_object(document).tasks[0].evidence.statement
    slot = keccak(bytes(issuer.deployment.domain.digest(statement)) + bytes(32))  # _progress, slot 0
    progress = (statement.record_count | 1 << 64).to_bytes(32, "big")
    seeded = issuer.with_code(issuer.code(issuer.deployment.certifier), {slot: progress})
    document["contracts"]["certifier"] = seeded
    document["tasks"][0]["certified"] = [document["tasks"][0]["anchor"]["transaction"]] * statement.record_count
    return seal(document)


@forged(14, _CERTIFIER, "coordinator")
def certifier_with_two_verifiers(issuer: Issuer) -> Document:
    """The Certifier's code with one immutable changed in one of its places: `halo2()` names the real verifier, proofs
    go to one that says yes to everything. Masked, the code is the real one's."""
    real = issuer.deployment
    code, verifier = issuer.code(real.certifier), real.halo2_verifier.raw().rjust(32, b"\0")
    # (true, VKA digest) to whatever is asked: PUSH1 1, MSTORE at 0, PUSH32 digest, MSTORE at 32, RETURN 64 bytes.
    yes = issuer.with_code(bytes.fromhex(f"60016000527f{issuer.model.circuit.vka_digest.hex()}60205260406000f3"))
    at = [place for place in range(len(code)) if code.startswith(verifier, place)]
    assert len(at) > 1
    document = issuer.issue(issuer.job(Tier.ZK))
    certifier = issuer.with_code(code[: at[-1]] + yes.raw().rjust(32, b"\0") + code[at[-1] + 32 :])
    document["contracts"]["certifier"] = certifier
    return seal(document)


@forged(14, _LOG, "coordinator", "worker", "requester")
def log_of_their_own(issuer: Issuer) -> Document:
    """A real Certifier that refers to an EvidenceLog whose code the attackers changed; all is signed for that log."""
    log = issuer.with_code(issuer.code(issuer.deployment.evidence_log) + b"\0")
    domain = Domain(chain_id=issuer.deployment.chain_id, verifying_contract=log)
    document = issuer.issue(issuer.job(Tier.COMMIT, domain=domain))
    document["contracts"]["certifier"] = issuer.certifier_for(log)
    return seal(document)


@forged(14, _LOG, "coordinator", "worker", "requester", offline=True)
def log_with_seeded_storage(issuer: Issuer) -> Document:
    """A contract with the EvidenceLog's very code, whose constructor wrote a commitment into its storage that says it
    was made long ago; all is signed for that log. The auditor is offline."""
    code = issuer.code(issuer.deployment.evidence_log)
    log = issuer.with_code(code, {bytes(32): (1).to_bytes(32, "big")})
    domain = Domain(chain_id=issuer.deployment.chain_id, verifying_contract=log)
    document = issuer.issue(issuer.job(Tier.COMMIT, domain=domain))
    document["contracts"]["certifier"] = issuer.certifier_for(log)
    return seal(document)


@forged(14, "contracts.modelRegistry", "coordinator")
def registry_lied(issuer: Issuer) -> Document:
    """The certificate names a registry of the attackers; the log believes another."""
    document = issuer.commit()
    document["contracts"]["modelRegistry"] = issuer.second_deployment().model_registry
    return seal(document)


@forged(14, _LOG, "coordinator", "worker", "requester")
def own_deployment(issuer: Issuer) -> Document:
    """Everything happened on a second deployment of the same contracts, where the attackers had the registry to
    themselves. It is consistent with itself."""
    deployment = issuer.second_deployment()
    issuer.chain("owner", deployment).register(issuer.model.digest, 1, issuer.model.circuit)
    return issuer.issue(issuer.job(Tier.COMMIT, domain=deployment.domain), deployment=deployment)


@forged(14, _LOG, "coordinator", "worker", "requester")
def certifier_of_another_deployment(issuer: Issuer) -> Document:
    """All is signed for the attackers' own log, next to the certifier and registry of the well-known deployment."""
    deployment = issuer.second_deployment()
    return issuer.issue(issuer.job(Tier.COMMIT, domain=deployment.domain))


# --- 15. Model --------------------------------------------------------------------------------------------------------


@forged(15, "not registered", "coordinator", "worker", "requester", solidity="ModelNotActive")
def model_never_registered(issuer: Issuer) -> Document:
    """A key epoch that nobody registered: the owner of the model knows nothing of it."""
    return issuer.issue(issuer.job(Tier.ZK, epoch=777))


@forged(15, "before an anchor", "coordinator", "worker", solidity="ModelNotActive")
def model_revoked_before_anchor(issuer: Issuer) -> Document:
    """The model's owner had revoked the key epoch, as its key was lost; coordinator and worker went on."""
    epoch = issuer.register(issuer.model.digest, issuer.model.circuit)
    issuer.chain("owner").revoke(issuer.model.digest, epoch)
    return issuer.issue(issuer.job(Tier.ZK, epoch=epoch))


@forged(15, "before an anchor", "coordinator", "worker")
def model_revoked_by_the_next_owner(issuer: Issuer) -> Document:
    """The model's new owner revoked the key epoch that the former one had registered; coordinator and worker went on."""
    model = issuer.handed_over
    issuer.chain("heir").revoke(model.digest, 2)
    return issuer.issue(issuer.job(Tier.COMMIT, model=model, epoch=2))


@forged(15, "after an anchor", "coordinator", "worker", solidity=ACCEPTED)
def model_registered_afterwards(issuer: Issuer) -> Document:
    """The registration is younger than the anchor: a circuit made to fit the outputs."""
    epoch = issuer.next_epoch()
    document = issuer.issue(issuer.job(Tier.ZK, epoch=epoch))
    issuer.chain("owner").register(issuer.model.digest, epoch, issuer.model.circuit)
    return document


@forged(15, "another circuit is registered", "coordinator", "worker", "requester", solidity="CircuitNotRegistered")
def model_registered_with_another_circuit(issuer: Issuer) -> Document:
    """The request pins a circuit of the attackers' choice; the model's owner registered another."""
    epoch = issuer.register(issuer.model.digest, issuer.other_model.circuit)
    return issuer.issue(issuer.job(Tier.ZK, epoch=epoch))


@forged(15, "another circuit is registered", "coordinator", "worker", "requester", solidity="CircuitNotRegistered")
def model_registered_without_circuit(issuer: Issuer) -> Document:
    """The model is registered for tier commit only."""
    epoch = issuer.register(issuer.model.digest, NO_CIRCUIT)
    return issuer.issue(issuer.job(Tier.ZK, epoch=epoch))


# --- 16. Commitments --------------------------------------------------------------------------------------------------


@forged(16, "UnknownAttempt", "coordinator", "worker")
def never_committed(issuer: Issuer) -> Document:
    """Nothing was committed before the challenge: the worker ground its statement against an old block's hash."""
    return issuer.issue(_sampled_job(issuer), Plan(commits=False))


@forged(16, "another statement", "coordinator", "worker")
def committed_another_statement(issuer: Issuer) -> Document:
    """What was committed is another statement, with other outputs, than the one that the evidence is for."""
    document = issuer.issue(_sampled_job(issuer), Plan(discarded=1))
    return seal(first(document, "commitment", attempt=1))


@forged(16, "UnknownAttempt", "coordinator", "worker")
def committed_by_another_account(issuer: Issuer) -> Document:
    """The commitment comes from a second account of the coordinator's, where attempts are counted anew."""
    return issuer.issue(_sampled_job(issuer), Plan(committer="stranger"))


@forged(16, "another statement", "coordinator", "worker")
def attempt_number_lied(issuer: Issuer) -> Document:
    """The third commitment passed off as the second, so that the bound on a cheat looks tighter."""
    document = issuer.issue(_sampled_job(issuer), Plan(discarded=2))
    return seal(first(document, "commitment", attempt=2))


@forged(16, "has hash", "coordinator", "worker")
def challenge_invented(issuer: Issuer) -> Document:
    """The challenge's block hash is invented, and ground until the records came whose outputs are right."""
    return challenge_ground(issuer)


@forged(16, "is in block", "coordinator", "worker")
def commitment_block_lied(issuer: Issuer) -> Document:
    """A later block is said to be that of the commitment, whose successor draws the same records by chance or by
    waiting: the worker picks its draw."""
    document = issuer.sampled()
    block = document["tasks"][0]["commitment"]["blockNumber"]
    return seal(first(document, "commitment", blockNumber=block + 1))


@forged(16, "no transaction", "coordinator")
def commitment_transaction_invented(issuer: Issuer) -> Document:
    """The commitment's transaction is one that the chain does not have."""
    return seal(first(issuer.sampled(), "commitment", transaction=_NOWHERE))


@forged(16, "wrote no such Committed", "coordinator")
def commitment_transaction_of_another(issuer: Issuer) -> Document:
    """The transaction is a real one, of the anchor."""
    document = issuer.sampled()
    return seal(first(document, "commitment", transaction=document["tasks"][0]["anchor"]["transaction"]))


# --- 17. Anchors ------------------------------------------------------------------------------------------------------


@forged(17, "anchor.root", "coordinator", "worker", solidity="NotAnchored")
def anchor_invented(issuer: Issuer) -> Document:
    """Nothing was anchored: the root, with a good path to it, stands under the id of another anchor."""
    return issuer.issue(issuer.job(Tier.ZK), Plan(anchors=False))


@forged(17, "UnknownAnchor", "coordinator")
def anchor_unknown(issuer: Issuer) -> Document:
    """An anchor's id that the log has not given yet."""
    return seal(first(issuer.commit(), "anchor", anchorId=99_999))


@forged(17, "anchor.submitter", "coordinator", "worker", solidity=ACCEPTED)
def anchored_by_another(issuer: Issuer) -> Document:
    """The anchor is not the coordinator's: anybody can write to the log, and only its account counts for this job."""
    return issuer.issue(issuer.job(Tier.ZK), Plan(anchorer="stranger"))


@forged(17, "anchored before its challenge", "coordinator", "worker")
def anchored_before_challenge(issuer: Issuer) -> Document:
    """The anchor is older than the commitment, so that it cannot be of the evidence that the challenge asked for."""
    return issuer.issue(_sampled_job(issuer), Plan(anchor_first=True))


@forged(17, "anchor.blockNumber", "coordinator")
def anchor_antedated(issuer: Issuer) -> Document:
    """The anchor is said to be older than it is: a result before a competitor's."""
    document = issuer.commit()
    for task in document["tasks"]:
        task["anchor"]["blockNumber"] -= 1
    return seal(document)


@forged(17, "anchor.root", "coordinator", solidity="NotAnchored")
def anchor_tree_extended(issuer: Issuer) -> Document:
    """The anchored root is passed off as the left half of a larger tree that nobody anchored."""
    document = issuer.zk()
    anchor = document["tasks"][0]["anchor"]
    branch = sha256(b"a branch that was never anchored")
    root = Digest(node_hash(Digest.parse(anchor["root"]), branch))
    return seal(first(document, "anchor", root=str(root), size=4, path=[*anchor["path"], str(branch)]))


@forged(17, "anchor.size", "coordinator")
def anchor_size_within_reach(issuer: Issuer) -> Document:
    """The tree of three is said to have four leaves: its second leaf has the same path in both, so step 11 passes."""
    document = issuer.commit()
    assert document["tasks"][0]["anchor"]["size"] == 3
    return seal(first(document, "anchor", size=4))


@forged(17, "no transaction", "coordinator")
def anchor_transaction_invented(issuer: Issuer) -> Document:
    """The anchor's transaction is one that the chain does not have."""
    return seal(first(issuer.commit(), "anchor", transaction=_NOWHERE))


@forged(17, "wrote no such Anchored", "coordinator")
def anchor_transaction_of_another(issuer: Issuer) -> Document:
    """The anchor's transaction is a real one, of another anchor."""
    document = issuer.commit()
    return seal(first(document, "anchor", transaction=issuer.zk()["tasks"][0]["anchor"]["transaction"]))


@forged(17, "openingBlockHash", "coordinator", "worker")
def opening_block_invented(issuer: Issuer) -> Document:
    """Tier commit: the hash that draws the opened records is invented, so that the drawn ones are right."""
    document = issuer.issue(issuer.job(Tier.COMMIT, sample=2))
    document["tasks"][0]["openingBlockHash"] = _NOWHERE
    return seal(document)


# --- 18. On-chain certification ---------------------------------------------------------------------------------------


@forged(18, "accepted 0 of 2", "coordinator", solidity=ACCEPTED)
def never_certified(issuer: Issuer) -> Document:
    """The policy wants certification on chain; the transactions that are named did something else."""
    return issuer.issue(issuer.job(Tier.ZK, certify_on_chain=True), Plan(certify=0))


@forged(18, "accepted 1 of 2", "coordinator")
def certified_in_part(issuer: Issuer) -> Document:
    """Only the first record was certified on chain."""
    return issuer.issue(issuer.job(Tier.ZK, certify_on_chain=True), Plan(certify=1))


@forged(18, "wrote no such RecordCertified", "coordinator")
def certification_transactions_of_the_anchor(issuer: Issuer) -> Document:
    """All records were certified on chain, but the transactions named are that of the anchor."""
    document = issuer.issue(issuer.job(Tier.ZK, certify_on_chain=True))
    document["tasks"][0]["certified"] = [document["tasks"][0]["anchor"]["transaction"]] * 2
    return seal(document)


@forged(18, "wrote no such RecordCertified", "coordinator")
def certification_transactions_swapped(issuer: Issuer) -> Document:
    """All records were certified on chain; the transactions of two of them are swapped."""
    document = issuer.issue(issuer.job(Tier.ZK, certify_on_chain=True))
    document["tasks"][0]["certified"].reverse()
    return seal(document)


@forged(18, "no transaction", "coordinator")
def certification_transaction_invented(issuer: Issuer) -> Document:
    """All records were certified on chain, but one of the named transactions does not exist."""
    document = issuer.issue(issuer.job(Tier.ZK, certify_on_chain=True))
    document["tasks"][0]["certified"][1] = _NOWHERE
    return seal(document)
