"""Steps 6, 7 and 8: which records the tasks cover, what their statements say, which records are opened."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from rexis.protocol.challenge import challenge_indices
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import sha256
from rexis.protocol.parsing import parse_hex, to_hex
from rexis.protocol.policy import Tier
from rexis.protocol.records import input_root
from rexis.protocol.signing import address_of, sign_digest
from rexis.protocol.statement import Kind, Statement, task_id
from rexis.protocol.typed_data import Domain
from tests.vectors.certificates.accounts import account
from tests.vectors.certificates.attacks.forging import first
from tests.vectors.certificates.case import ACCEPTED, forged
from tests.vectors.certificates.issuer import Document, Issuer, Plan, high_s, records, seal

# --- 6. Tasks cover the job -------------------------------------------------------------------------------------------


def _tasks(document: Document, choose: Callable[[list[Any]], list[Any]]) -> Document:
    return seal({**document, "tasks": choose(document["tasks"])})


def _sharded(issuer: Issuer, *shards: tuple[int, int]) -> Document:
    """Four records in shards of two, as the worker and the coordinator liked to split them."""
    return issuer.issue(issuer.job(Tier.COMMIT, count=4, shard=2, sample=1), Plan(shards=shards))


@forged(6, "the request asks for", "coordinator")
def task_missing(issuer: Issuer) -> Document:
    """The second task, which did not go well, is left out."""
    return _tasks(issuer.commit(), lambda tasks: tasks[:1])


@forged(6, "the request asks for", "coordinator")
def tasks_reordered(issuer: Issuer) -> Document:
    """The tasks stand in another order, so that outputs go to the wrong records."""
    return _tasks(issuer.commit(), lambda tasks: tasks[::-1])


@forged(6, "the request asks for", "coordinator")
def task_duplicated(issuer: Issuer) -> Document:
    """The first task stands in the place of the second too."""
    return _tasks(issuer.commit(), lambda tasks: [tasks[0], tasks[0]])


@forged(6, "the request asks for", "coordinator")
def task_appended(issuer: Issuer) -> Document:
    """The first task once more at the end: one record counted twice."""
    return _tasks(issuer.commit(), lambda tasks: [*tasks, tasks[0]])


@forged(6, "the request asks for", "coordinator", "worker")
def tasks_overlap(issuer: Issuer) -> Document:
    """Two tasks cover one record, with room to give it two outputs."""
    return _sharded(issuer, (1, 3), (3, 2))


@forged(6, "the request asks for", "coordinator", "worker")
def tasks_with_gap(issuer: Issuer) -> Document:
    """Record 3 belongs to no task."""
    return _sharded(issuer, (1, 2), (4, 1))


@forged(6, "the request asks for", "coordinator", "worker")
def shard_boundaries_moved(issuer: Issuer) -> Document:
    """All records are covered, but cut elsewhere: whoever chooses the cuts chooses task ids, and with them draws."""
    return _sharded(issuer, (1, 1), (2, 3))


@forged(6, "the request asks for", "coordinator", "worker")
def one_large_task(issuer: Issuer) -> Document:
    """One task instead of two, so that one sample does for all."""
    return _sharded(issuer, (1, 4))


@forged(6, "the request asks for", "coordinator", "worker")
def task_beyond_the_job(issuer: Issuer) -> Document:
    """The tasks cover a record that the requester did not ask for."""
    return _sharded(issuer, (0, 1), (1, 2), (3, 2))


@forged(6, "the request asks for", "coordinator")
def evidence_of_two_tasks_swapped(issuer: Issuer) -> Document:
    """The evidence of two tasks changed places, with commitments and anchors left where they were."""
    document = issuer.commit()
    one, two = document["tasks"]
    one["evidence"], two["evidence"] = two["evidence"], one["evidence"]
    return seal(document)


@forged(6, "a commitment belongs to", "coordinator")
def commitment_missing(issuer: Issuer) -> Document:
    """Tier sampled without a commitment: records that the worker could choose."""
    document = issuer.sampled()
    document["tasks"][0]["commitment"] = None
    return seal(document)


@forged(6, "a commitment belongs to", "coordinator")
def commitment_for_show(issuer: Issuer) -> Document:
    """A commitment in a tier that has no challenge."""
    document = issuer.commit()
    document["tasks"][0]["commitment"] = issuer.sampled()["tasks"][0]["commitment"]
    return seal(document)


@forged(6, "an opening block belongs to", "coordinator")
def opening_block_missing(issuer: Issuer) -> Document:
    """Tier commit without the block that draws the opened records."""
    document = issuer.commit()
    document["tasks"][0]["openingBlockHash"] = None
    document["tasks"][0]["evidence"]["openings"] = []
    return seal(document)


@forged(6, "the policy allows 2", "coordinator", "worker")
def attempt_beyond_the_policy(issuer: Issuer) -> Document:
    """A third commitment, after two whose challenges did not suit, where the policy allows two."""
    return issuer.issue(issuer.job(Tier.SAMPLED, count=3, shard=3, sample=1, max_attempts=2), Plan(discarded=2))


@forged(6, "on-chain certifications", "coordinator")
def certification_missing(issuer: Issuer) -> Document:
    """The policy wants each record certified on chain; one is not there."""
    document = issuer.issue(issuer.job(Tier.ZK, certify_on_chain=True), Plan(certify=1))
    document["tasks"][0]["certified"] = document["tasks"][0]["certified"][:1]
    return seal(document)


@forged(6, "on-chain certifications", "coordinator")
def certification_for_show(issuer: Issuer) -> Document:
    """Certifications that the policy did not ask for, and that step 18 would therefore not look at."""
    document = issuer.zk()
    document["tasks"][0]["certified"] = [document["tasks"][0]["anchor"]["transaction"]] * 2
    return seal(document)


# --- 7. Statements ----------------------------------------------------------------------------------------------------


def _stated(issuer: Issuer, **changes: Any) -> Document:
    """Tier zk where the worker signs a statement with other fields, and the coordinator anchors it."""
    return issuer.issue(issuer.job(Tier.ZK), Plan(statement=lambda s: s.model_copy(update=changes)))


@forged(7, "statement.jobId", "coordinator", "worker", solidity="WrongTaskId")
def statement_of_another_job(issuer: Issuer) -> Document:
    """The worker signed another job's id."""
    return _stated(issuer, job_id=sha256(b"another job"))


@forged(7, "statement.jobId", "coordinator", "worker", solidity=ACCEPTED)
def statement_of_another_job_with_its_task(issuer: Issuer) -> Document:
    """The worker signed another job's id, and the task id that follows from it. The contract knows no requests."""
    job = sha256(b"another job")
    return _stated(issuer, job_id=job, task_id=task_id(job, 1, 2))


@forged(7, "statement.taskId", "coordinator", "worker", solidity="WrongTaskId")
def statement_task_id(issuer: Issuer) -> Document:
    """The worker signed an invented task id, under which attempts would be counted from one again."""
    return _stated(issuer, task_id=sha256(b"another task"))


@forged(1, "training have no circuit", "coordinator", "worker")
def statement_kind(issuer: Issuer) -> Document:
    """An evaluation passed off as training."""
    return _stated(issuer, kind=Kind.TRAINING)


@forged(7, "statement.modelDigest", "coordinator", "worker", solidity="CircuitNotRegistered")
def statement_model(issuer: Issuer) -> Document:
    """The worker signed another, registered model's digest."""
    return _stated(issuer, model_digest=issuer.other_model.digest)


@forged(7, "statement.keyEpoch", "coordinator", "worker", solidity="ModelNotActive")
def statement_key_epoch(issuer: Issuer) -> Document:
    """The worker signed another key epoch."""
    return _stated(issuer, key_epoch=999)


@forged(7, "statement.circuit", "coordinator", "worker", solidity="CircuitNotRegistered")
def statement_circuit(issuer: Issuer) -> Document:
    """The worker signed another circuit, which is cheaper to prove."""
    return _stated(issuer, circuit=issuer.other_model.circuit)


@forged(7, "statement.inputRoot", "coordinator", "worker", solidity=ACCEPTED)
def other_records(issuer: Issuer) -> Document:
    """The worker used records of its own, with a tree and honest proofs for them. The contract knows no requests."""
    job = issuer.job(Tier.ZK)
    data = records(8, len(job.data))
    root = input_root(Tier.ZK, job.request.circuit, data.records, data.salts)
    return issuer.issue(job, Plan(data=data, statement=lambda s: s.model_copy(update={"input_root": root})))


@forged(7, "statement.inputSize", "coordinator", "worker", solidity="InputNotInTree")
def statement_input_size(issuer: Issuer) -> Document:
    """The worker signed another size of the input tree, under which other leaves would have the same paths."""
    return _stated(issuer, input_size=5)


@forged(7, "statement.circuit", "coordinator", "worker", solidity="UnsupportedTier")
def tier_downgraded(issuer: Issuer) -> Document:
    """The request asks for tier zk; the worker signed tier commit, which proves nothing."""
    return _stated(issuer, tier=Tier.COMMIT, circuit=NO_CIRCUIT)


@forged(7, "statement.tier", "coordinator", "worker", solidity="UnsupportedTier")
def tier_lowered(issuer: Issuer) -> Document:
    """The request asks for tier zk; the worker signed tier sampled with the same circuit."""
    return _stated(issuer, tier=Tier.SAMPLED)


@forged(7, "statement.policyDigest", "coordinator", "worker", solidity=ACCEPTED)
def statement_policy(issuer: Issuer) -> Document:
    """The worker signed a looser policy. The contract knows no policies."""
    return _stated(issuer, policy_digest=sha256(b"any"))


@forged(7, "statement is signed by", "coordinator", solidity="WrongSigner")
def statement_signed_by_another(issuer: Issuer) -> Document:
    """The coordinator signed in the worker's place, to blame it."""
    return issuer.issue(issuer.job(Tier.ZK), Plan(signer="coordinator"))


@forged(7, "statement is signed by", "coordinator", solidity="WrongSigner")
def worker_replaced(issuer: Issuer) -> Document:
    """Somebody else's address stands in the statement that the worker signed: whose work was it?"""
    document = issuer.zk()
    document["tasks"][0]["evidence"]["statement"]["worker"] = str(address_of(account("stranger")))
    return seal(document)


@forged(7, "high s", "coordinator", solidity="WrongSigner")
def statement_signature_malleated(issuer: Issuer) -> Document:
    """The worker's signature in its other form (EIP-2)."""
    document = issuer.zk()
    signature = parse_hex(document["tasks"][0]["evidence"]["signature"])
    return seal(first(document, "evidence", signature=to_hex(high_s(signature))))


@forged(7, "65 bytes", "coordinator", solidity="WrongSigner")
def statement_signature_compact(issuer: Issuer) -> Document:
    """The worker's signature in the 64-byte form of EIP-2098: a second encoding of one signature."""
    document = issuer.zk()
    raw = bytearray(parse_hex(document["tasks"][0]["evidence"]["signature"]))
    raw[32] |= (raw[64] - 27) << 7
    return seal(first(document, "evidence", signature=to_hex(bytes(raw[:64]))))


@forged(7, "statement is signed by", "coordinator", solidity="WrongSigner")
def statement_signed_for_another_log(issuer: Issuer) -> Document:
    """The worker's signature over the same statement for another deployment, where the worker does work too."""
    document = issuer.zk()
    statement = Statement.from_object(document["tasks"][0]["evidence"]["statement"])
    elsewhere = Domain(chain_id=31337, verifying_contract=address_of(account("stranger")))
    signature = sign_digest(account("worker"), elsewhere.digest(statement))
    return seal(first(document, "evidence", signature=to_hex(signature)))


@forged(7, "statement.jobId", "coordinator", solidity="AlreadyCertified")
def evidence_replayed(issuer: Issuer) -> Document:
    """The same requester had the same records evaluated before: that job's evidence, anchor and certifications stand
    in the certificate of a second job, for which nobody worked."""
    done = issuer.issue(issuer.job(Tier.ZK, certify_on_chain=True))
    asked = issuer.issue(issuer.job(Tier.ZK, certify_on_chain=True), Plan(certify=0))
    return seal({**asked, "tasks": deepcopy(done["tasks"])})


# --- 8. Selection -----------------------------------------------------------------------------------------------------


@forged(8, "asked for but not there", "coordinator", "worker")
def zk_record_left_out(issuer: Issuer) -> Document:
    """Tier zk with one record neither opened nor proved: the one whose output is wrong."""
    document = issuer.zk()
    evidence = document["tasks"][0]["evidence"]
    evidence["openings"], evidence["proofs"] = evidence["openings"][:1], evidence["proofs"][:1]
    return seal(document)


@forged(8, "evidence.proofs", "coordinator", "worker")
def proof_left_out(issuer: Issuer) -> Document:
    """All records are opened, one is not proved."""
    document = issuer.zk()
    document["tasks"][0]["evidence"]["proofs"].pop()
    return seal(document)


@forged(8, "asked for but not there", "coordinator", "worker")
def challenge_record_missing(issuer: Issuer) -> Document:
    """One of the drawn records is neither opened nor proved."""
    document = issuer.sampled()
    evidence = document["tasks"][0]["evidence"]
    evidence["openings"].pop()
    evidence["proofs"].pop()
    return seal(document)


@forged(8, "asked for but not there", "coordinator", "worker")
def records_chosen_by_the_worker(issuer: Issuer) -> Document:
    """The worker proved as many records as were drawn, but others, whose outputs it knew to be right."""
    job = issuer.job(Tier.SAMPLED, count=6, shard=6, sample=2)
    return issuer.issue(job, Plan(choose=lambda drawn: [i for i in range(1, 7) if i not in drawn][:2]))


@forged(8, "was not asked for", "coordinator", "worker")
def record_too_many(issuer: Issuer) -> Document:
    """A record more than was drawn is opened: its values and salt are nobody's business."""
    job = issuer.job(Tier.SAMPLED, count=6, shard=6, sample=2)
    return issuer.issue(
        job, Plan(choose=lambda drawn: sorted({*drawn, next(i for i in range(1, 7) if i not in drawn)}))
    )


@forged(8, "asked for but not there", "coordinator", "worker")
def record_repeated(issuer: Issuer) -> Document:
    """The first drawn record is proved twice, the second not at all."""
    document = issuer.sampled()
    evidence = document["tasks"][0]["evidence"]
    evidence["openings"] = evidence["openings"][:1] * 2
    evidence["proofs"] = evidence["proofs"][:1] * 2
    return seal(document)


@forged(8, "repeated or out of order", "coordinator", "worker")
def records_out_of_order(issuer: Issuer) -> Document:
    """The proofs stand in another order than their records."""
    document = issuer.sampled()
    document["tasks"][0]["evidence"]["proofs"].reverse()
    return seal(document)


@forged(8, "repeated or out of order", "coordinator", "worker")
def records_in_reverse(issuer: Issuer) -> Document:
    """All drawn records are there, opened and proved, from the last to the first."""
    document = issuer.sampled()
    for part in ("openings", "proofs"):
        document["tasks"][0]["evidence"][part].reverse()
    return seal(document)


@forged(8, "evidence.openings: records are repeated", "coordinator", "worker")
def record_twice(issuer: Issuer) -> Document:
    """All drawn records are there, and one of them a second time, so that more seems to have been proved."""
    document = issuer.sampled()
    for part in ("openings", "proofs"):
        items = document["tasks"][0]["evidence"][part]
        items.append(deepcopy(items[-1]))
    return seal(document)


@forged(8, "evidence.proofs: records are repeated", "coordinator", "worker")
def record_proved_twice(issuer: Issuer) -> Document:
    """Each drawn record is opened once; one has two proofs, of which a reader by index would check the last only."""
    document = issuer.sampled()
    proofs = document["tasks"][0]["evidence"]["proofs"]
    proofs.insert(0, {**proofs[0], "proofs": proofs[1]["proofs"]})
    return seal(document)


@forged(8, "asked for but not there", "coordinator", "worker")
def sample_of_an_earlier_attempt(issuer: Issuer) -> Document:
    """The statement was committed again, and the later commitment is named; what is opened and proved is what the first
    one's block had drawn."""
    job = issuer.job(Tier.SAMPLED, count=6, shard=6, sample=2)
    document = issuer.issue(job)
    statement = Statement.from_object(document["tasks"][0]["evidence"]["statement"])
    digest, chain = job.domain.digest(statement), issuer.chain("coordinator")
    proved = [opening["index"] for opening in document["tasks"][0]["evidence"]["openings"]]
    while True:  # the chain refuses none; a second draw is the first again in one of fifteen
        made, transaction = chain.commit(statement.task_id, digest)
        issuer.dev.mine()
        drawn_by = chain.block_hash(made.block + 1)
        if challenge_indices(digest, drawn_by, 1, 6, 2) != proved:
            break
    commitment = {"attempt": made.attempt, "blockNumber": made.block, "challengeBlockHash": str(drawn_by)}
    return seal(first(document, "commitment", **commitment, transaction=str(transaction.hash)))


@forged(8, "asked for but not there", "coordinator", "worker")
def commitments_of_each_other(issuer: Issuer) -> Document:
    """Two tasks' commitments changed places, so that each sample was answered for the other's block."""
    document = issuer.issue(issuer.job(Tier.SAMPLED, count=12, shard=6, sample=2))
    one, two = document["tasks"]
    one["commitment"], two["commitment"] = two["commitment"], one["commitment"]
    return seal(document)


@forged(8, "was not asked for", "coordinator", "worker")
def opening_outside_the_task(issuer: Issuer) -> Document:
    """A record of another task is opened besides."""
    document = issuer.commit()
    one, two = document["tasks"]
    one["evidence"]["openings"] = one["evidence"]["openings"] + two["evidence"]["openings"]
    return seal(document)


@forged(8, "asked for but not there", "coordinator", "worker")
def openings_not_the_drawn(issuer: Issuer) -> Document:
    """Tier commit: the record that was drawn stays closed, and its neighbour, whose output is right, is opened."""
    job = issuer.job(Tier.COMMIT, sample=1)
    return issuer.issue(job, Plan(choose=lambda drawn: [3 - index for index in drawn]))


@forged(8, "asked for but not there", "coordinator", "worker")
def openings_left_out(issuer: Issuer) -> Document:
    """Tier commit: nothing is opened, so that nothing can be run again."""
    return issuer.issue(issuer.job(Tier.COMMIT, sample=1), Plan(choose=lambda drawn: []))


@forged(8, "was not asked for", "coordinator", "worker")
def proofs_for_show(issuer: Issuer) -> Document:
    """Tier commit with proofs that nobody would check, to look like more than it is."""
    document = issuer.commit()
    taken = deepcopy(issuer.zk()["tasks"][0]["evidence"]["proofs"][:1])
    return seal(first(document, "evidence", proofs=taken))


@forged(8, "asked for but not there", "coordinator", "worker")
def evidence_inside_swapped(issuer: Issuer) -> Document:
    """Openings and proofs of two tasks changed places, under statements that stayed where they were."""
    document = issuer.issue(issuer.job(Tier.ZK, shard=1))
    one, two = (task["evidence"] for task in document["tasks"])
    for part in ("openings", "proofs"):
        one[part], two[part] = two[part], one[part]
    return seal(document)
