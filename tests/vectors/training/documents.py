"""Documents that say something else than what was signed, asked for, or written on chain."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np

from rexis.protocol.digests import sha256
from rexis.protocol.parsing import canonical_json, to_hex
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, sign_digest
from rexis.protocol.statement import Statement, policy_digest
from rexis.protocol.training_certificate import TrainingCertificate
from rexis.protocol.transcript import Checkpoint, SignedCheckpoint
from rexis.protocol.typed_data import Domain
from tests.vectors.certificates.accounts import account
from tests.vectors.certificates.issuer import Document, seal
from tests.vectors.training.case import forged
from tests.vectors.training.issuer import SEGMENTS, Cheat, TrainingIssuer, linked
from tests.vectors.training.steps import drawn, drifting


def _sampled(issuer: TrainingIssuer, cheat: Cheat) -> Document:
    return issuer.issue(issuer.job(Tier.SAMPLED, sample=SEGMENTS), cheat)


def _changed(document: Document, change: Callable[[Any], None]) -> Document:
    """Sealed again after a change."""
    copy = deepcopy(document)
    change(copy)
    return seal(copy)


def _retold(issuer: TrainingIssuer, retell: Callable[[list[SignedCheckpoint]], list[SignedCheckpoint]]) -> Document:
    """Honest checkpoints, told otherwise under a statement of their own."""
    job = issuer.job(Tier.SAMPLED, sample=SEGMENTS)
    honest = TrainingCertificate.from_object(issuer.issue(job)).evidence.transcript
    return issuer.certify(job, retell(honest))


# --- form, seal, request ----------------------------------------------------------------------------------------------


@forged(1, "not in canonical form", "anybody")
def not_canonical(issuer: TrainingIssuer) -> bytes:
    """A space behind the document: other bytes that say the same."""
    return canonical_json(issuer.sampled()) + b" \n"


@forged(1, "sorted and unique", "coordinator", "requester")
def plan_with_unsorted_names(issuer: TrainingIssuer) -> Document:
    """The trained tensors are named in another order: another digest for the same plan."""
    return _changed(issuer.sampled(), lambda document: document["plan"]["trainable"].reverse())


@forged(1, "has tiers commit and sampled", "coordinator", "requester")
def tier_zk(issuer: TrainingIssuer) -> Document:
    """A job of tier zk, which training does not have, to look like more than it is."""

    def change(document: Document) -> None:
        document["request"]["policy"] |= {"tier": "zk", "sampleSize": 0}

    return _changed(issuer.sampled(), change)


@forged(1, "planDigest", "coordinator")
def training_as_evaluation(issuer: TrainingIssuer) -> Document:
    """The certificate says that it is of an evaluation, so that nobody looks at the steps."""
    return _changed(issuer.sampled(), lambda document: document.update(format="rexis-certificate-v1"))


@forged(2, "is signed by", "anybody")
def sealed_by_another(issuer: TrainingIssuer) -> Document:
    """A stranger sealed the document."""
    return seal(issuer.sampled(), "stranger")


@forged(2, "is signed by", "anybody")
def losses_and_seal_changed(issuer: TrainingIssuer) -> Document:
    """Time of issue changed, under the old seal."""
    return {**issuer.sampled(), "issuedAt": "2025-01-02T00:00:00Z"}


@forged(3, "request is signed by", "coordinator", "worker")
def request_signed_by_another(issuer: TrainingIssuer) -> Document:
    """Nobody asked for this training but the coordinator."""
    return issuer.issue(issuer.job(Tier.SAMPLED, sample=SEGMENTS, signer="coordinator"))


@forged(3, "request is signed by", "coordinator", "worker")
def request_for_another_domain(issuer: TrainingIssuer) -> Document:
    """The requester's signature for the same job on another chain."""
    job = issuer.job(Tier.SAMPLED, sample=SEGMENTS)
    stolen = sign_digest(account("requester"), _elsewhere(job.domain).digest(job.request))
    document = issuer.issue(job)
    return _changed(document, lambda made: made.update(requestSignature=to_hex(stolen)))


@forged(3, "you pinned", model_digest=str(sha256(b"another model")))
def base_model_not_the_expected(issuer: TrainingIssuer) -> Document:
    """An honest certificate, of a training of another base model than the auditor expects."""
    return issuer.sampled()


@forged(4, "development chain", allow_development_chain=False)
def development_chain(issuer: TrainingIssuer) -> Document:
    """All happened on a chain that anybody could have made up."""
    return issuer.sampled()


@forged(4, "is what it uses", "coordinator")
def development_chain_hidden(issuer: TrainingIssuer) -> Document:
    """The same, and the certificate does not say so."""
    return _changed(issuer.sampled(), lambda document: document.update(development=[]))


@forged(6, "belongs to tier sampled", "coordinator")
def commitment_left_out(issuer: TrainingIssuer) -> Document:
    """No commitment, so that nothing draws segments."""
    return _changed(issuer.sampled(), lambda document: document.update(commitment=None))


@forged(6, "belongs to tier sampled", "coordinator")
def commitment_for_show(issuer: TrainingIssuer) -> Document:
    """Tier commit with a commitment, to look like tier sampled."""
    return _changed(issuer.commit(), lambda document: document.update(commitment=issuer.sampled()["commitment"]))


@forged(6, "the policy allows 3", "coordinator", "worker")
def attempt_beyond_the_policy(issuer: TrainingIssuer) -> Document:
    """The fourth commitment, of the three that the requester allowed."""
    return _sampled(issuer, Cheat(discarded=3))


# --- statement, plan, transcript --------------------------------------------------------------------------------------


@forged(7, "statement.tier", "coordinator", "worker")
def statement_tier(issuer: TrainingIssuer) -> Document:
    """The requester asked for tier sampled; the statement says commit, so that nothing need be shown."""
    return _sampled(issuer, Cheat(statement=lambda honest: honest.model_copy(update={"tier": Tier.COMMIT})))


@forged(7, "statement.policyDigest", "coordinator", "worker")
def statement_policy(issuer: TrainingIssuer) -> Document:
    """The worker signed a policy that tolerates more."""
    job = issuer.job(Tier.SAMPLED, sample=SEGMENTS)
    loose = job.request.policy.model_copy(update={"rel_tolerance_e9": 10**9})

    def stated(honest: Statement) -> Statement:
        return honest.model_copy(update={"policy_digest": policy_digest(loose)})

    return issuer.issue(job, Cheat(statement=stated))


@forged(7, "statement is signed by", "coordinator")
def statement_signed_by_another(issuer: TrainingIssuer) -> Document:
    """A stranger signed for the worker."""
    return _sampled(issuer, Cheat(signer="stranger"))


@forged(7, "statement is signed by", "coordinator")
def statement_for_another_domain(issuer: TrainingIssuer) -> Document:
    """The worker's signature for the same statement on another chain."""
    document = issuer.sampled()
    made = TrainingCertificate.from_object(document)
    stolen = sign_digest(account("worker"), _elsewhere(made.domain).digest(made.evidence.statement))
    return _changed(document, lambda changed: changed["evidence"].update(signature=to_hex(stolen)))


@forged(21, "the request pins", "coordinator", "worker")
def plan_forged(issuer: TrainingIssuer) -> Document:
    """A plan with a lower learning rate than the one that was signed, and steps to go with it."""
    job = issuer.job(Tier.SAMPLED, sample=SEGMENTS)
    other = job.plan.model_copy(
        update={"optimiser": job.plan.optimiser.model_copy(update={"learning_rate_e9": 1_000_000})}
    )
    document = issuer.issue(job, Cheat(plan=other))
    return _changed(document, lambda made: made.update(plan=other.to_object()))


@forged(22, "checkpoint.index", "coordinator", "worker")
def checkpoints_reordered(issuer: TrainingIssuer) -> Document:
    """Two checkpoints changed places."""
    return _retold(issuer, lambda honest: [honest[0], honest[2], honest[1], *honest[3:]])


@forged(22, "checkpoint.index", "coordinator", "worker")
def checkpoint_dropped(issuer: TrainingIssuer) -> Document:
    """One checkpoint is left out, so that nobody can draw what lies around it."""
    return _retold(issuer, lambda honest: [*honest[:2], *honest[3:]])


@forged(22, "checkpoint.index", "coordinator", "worker")
def checkpoint_duplicated(issuer: TrainingIssuer) -> Document:
    """One checkpoint stands twice."""
    return _retold(issuer, lambda honest: [*honest[:3], honest[2], *honest[3:]])


@forged(22, "the plan has 5", "coordinator", "worker")
def transcript_cut_short(issuer: TrainingIssuer) -> Document:
    """The last checkpoint is missing: a training that was given up."""
    return _retold(issuer, lambda honest: honest[:-1])


@forged(22, "checkpoint.step", "coordinator", "worker")
def checkpoint_step(issuer: TrainingIssuer) -> Document:
    """A checkpoint counts a step more than were taken."""
    return _sampled(issuer, Cheat(checkpoints=lambda made: _with(made, 2, step=7, cursor=28)))


@forged(22, "checkpoint.cursor", "coordinator", "worker")
def checkpoint_cursor(issuer: TrainingIssuer) -> Document:
    """A checkpoint says that fewer records were used."""
    return _sampled(issuer, Cheat(checkpoints=lambda made: _with(made, 2, cursor=20)))


@forged(22, "checkpoint.previous", "coordinator", "worker")
def checkpoint_of_another_chain(issuer: TrainingIssuer) -> Document:
    """A checkpoint refers to another one than stands before it."""

    def change(made: list[Checkpoint]) -> list[Checkpoint]:
        other = made[2].model_copy(update={"previous": sha256(b"elsewhere")})
        return [*made[:2], other, *made[3:]]

    return _sampled(issuer, Cheat(checkpoints=change))


@forged(22, "checkpoint.taskId", "coordinator", "worker")
def checkpoint_of_another_task(issuer: TrainingIssuer) -> Document:
    """The transcript of another job of the same plan: one training sold twice."""
    other = TrainingCertificate.from_object(issuer.sampled()).evidence.transcript
    return issuer.certify(issuer.job(Tier.SAMPLED, sample=SEGMENTS), other)


@forged(22, "checkpoint 3 is signed by", "coordinator", "worker")
def checkpoint_signed_by_another(issuer: TrainingIssuer) -> Document:
    """A checkpoint names a worker that did not sign it."""
    return _sampled(issuer, Cheat(signers=("worker", "worker", "worker", "stranger", "worker")))


@forged(22, "checkpoint 0 is signed by", "coordinator", "worker")
def checkpoints_for_another_domain(issuer: TrainingIssuer) -> Document:
    """Checkpoints that were signed for another chain."""
    return _sampled(issuer, Cheat(signing_domain=_elsewhere(issuer.deployment.domain)))


@forged(22, "the losses are not those", "coordinator")
def loss_altered(issuer: TrainingIssuer) -> Document:
    """The coordinator lowered a loss in the document."""

    def change(document: Document) -> None:
        losses = np.frombuffer(bytes.fromhex(document["evidence"]["transcript"][2]["losses"][2:]), "<f4").copy()
        losses[0] *= np.float32(0.5)
        document["evidence"]["transcript"][2]["losses"] = to_hex(losses.tobytes())

    return _changed(issuer.sampled(), change)


@forged(22, "NaN or infinite", "coordinator", "worker")
def loss_not_a_number(issuer: TrainingIssuer) -> Document:
    """A loss is NaN, from which nothing differs."""
    return _sampled(issuer, Cheat(losses=lambda index, honest: honest * np.float32("nan") if index == 2 else honest))


@forged(22, "the last checkpoint names its model", "coordinator", "worker")
def model_named_early(issuer: TrainingIssuer) -> Document:
    """A checkpoint in the middle names a model, to have it taken for the result."""
    return _sampled(issuer, Cheat(checkpoints=lambda made: _with(made, 2, model_digest=sha256(b"a model"))))


@forged(22, "the statement says", "coordinator", "worker")
def output_root_of_another(issuer: TrainingIssuer) -> Document:
    """The statement stands for another transcript than the one that is shown."""
    other = sha256(b"another transcript")
    return _sampled(issuer, Cheat(statement=lambda honest: honest.model_copy(update={"output_root": other})))


@forged(22, "the last checkpoint", "coordinator", "worker")
def statement_of_who_did_not_finish(issuer: TrainingIssuer) -> Document:
    """A worker that took no step puts its name to another's transcript."""
    thief = address_of(account("thief"))
    return _sampled(issuer, Cheat(statement=lambda honest: honest.model_copy(update={"worker": thief}), signer="thief"))


# --- files ------------------------------------------------------------------------------------------------------------


@forged(24, "is said to be", "coordinator", "worker")
def wrong_trained_model(issuer: TrainingIssuer) -> Document:
    """The last checkpoint names a model that the worker had lying about."""
    other = issuer.keep(issuer.other_base)
    return _sampled(issuer, Cheat(checkpoints=lambda made: _with(made, SEGMENTS, model_digest=other)))


@forged(24, "its checkpoint says", "coordinator", "worker")
def last_state_of_another(issuer: TrainingIssuer) -> Document:
    """The last state's file is the one before: files are named by digest, and this one is not what was signed."""

    def change(document: Document) -> None:
        transcript = document["evidence"]["transcript"]
        transcript[-1]["stateDigest"] = transcript[-2]["stateDigest"]

    return _changed(issuer.sampled(), change)


@forged(25, "the request says", "coordinator", "worker", "requester")
def dataset_of_another_root(issuer: TrainingIssuer) -> Document:
    """The request names a dataset, and the root of other records."""
    return issuer.issue(issuer.job(Tier.SAMPLED, sample=SEGMENTS, root=sha256(b"other records")))


# --- chain ------------------------------------------------------------------------------------------------------------


@forged(11, "leads to", "coordinator")
def anchor_path_wrong(issuer: TrainingIssuer) -> Document:
    """The anchor's path has another sibling."""
    other = [str(sha256(b"another"))]
    return _changed(issuer.sampled(), lambda document: document["anchor"].update(path=other))


@forged(14, "this version's contract stands at", "coordinator")
def registry_lied(issuer: TrainingIssuer) -> Document:
    """The certificate names a registry of the attackers."""
    return _changed(
        issuer.sampled(),
        lambda document: document["contracts"].update(modelRegistry=str(address_of(account("thief")))),
    )


@forged(15, "", "coordinator", "worker", "requester")
def base_model_never_registered(issuer: TrainingIssuer) -> Document:
    """A key epoch of the base model that its owner never registered."""
    return issuer.issue(issuer.job(Tier.SAMPLED, sample=SEGMENTS, epoch=99))


@forged(15, "after an anchor", "coordinator", "worker", "requester")
def base_model_registered_afterwards(issuer: TrainingIssuer) -> Document:
    """The base model was registered after the training's anchor."""
    document = issuer.issue(issuer.job(Tier.SAMPLED, sample=SEGMENTS, epoch=50))
    issuer.register(issuer.base, 50)
    return document


@forged(16, "", "coordinator", "worker")
def never_committed(issuer: TrainingIssuer) -> Document:
    """Nothing was committed before the challenge: the worker ground its transcript against an old block."""
    return _sampled(issuer, Cheat(commits=False))


@forged(16, "has hash", "coordinator", "worker")
def challenge_of_another_block(issuer: TrainingIssuer) -> Document:
    """One segment of four is cheated, one is drawn; the block's hash is invented, and ground until another one came."""
    document = issuer.issue(issuer.job(Tier.SAMPLED, sample=1), drifting(2, 0.5))
    for number in range(1000):
        document["commitment"]["challengeBlockHash"] = str(sha256(b"ground", bytes([number % 256])))
        if drawn(document) != [2]:
            break
    return seal(document)


@forged(16, "transaction", "coordinator")
def commitment_transaction_of_another(issuer: TrainingIssuer) -> Document:
    """The commitment's transaction is that of the anchor."""

    def change(document: Document) -> None:
        document["commitment"]["transaction"] = document["anchor"]["transaction"]

    return _changed(issuer.sampled(), change)


@forged(17, "", "coordinator", "worker")
def never_anchored(issuer: TrainingIssuer) -> Document:
    """Nothing was anchored: the root, with a good path to it, stands under the id of another anchor."""
    issuer.sampled()
    return _sampled(issuer, Cheat(anchors=False))


@forged(17, "root", "coordinator", "worker")
def anchor_of_another(issuer: TrainingIssuer) -> Document:
    """The id of another anchor."""
    other = issuer.commit()["anchor"]["anchorId"]
    return _changed(issuer.sampled(), lambda document: document["anchor"].update(anchorId=other))


@forged(19, "a claim", "coordinator")
def claim_for_show(issuer: TrainingIssuer) -> Document:
    """A claim of private weights in a certificate of rung ee-outsourced, to look like more than it is."""
    claim = {
        "rung": "ee-private-weights",
        "modelDigest": str(sha256(issuer.base)),
        "keyEpoch": 1,
        "baseDigest": str(sha256(b"a public model")),
        "distanceE9": 2 * 10**9,
        "thresholdE9": 10**9,
        "cardDigest": str(sha256(b"a card")),
        "owner": str(address_of(account("owner"))),
    }
    signed = {"claim": claim, "signature": to_hex(bytes(64) + b"\x1b")}
    return _changed(issuer.sampled(), lambda document: document.update(rungClaim=signed))


def _with(made: list[Checkpoint], index: int, **changes: object) -> list[Checkpoint]:
    return linked([each.model_copy(update=changes) if each.index == index else each for each in made])


def _elsewhere(domain: Domain) -> Domain:
    return domain.model_copy(update={"chain_id": domain.chain_id + 1})
