"""A coordinator that lies to an auditor, who has a certificate and a chain node of their own, and nothing else.

It has all that a coordinator has: its key, its database, every certificate, and here and there a worker that
is in with it. Whatever it changes, it seals again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from contracts.onchain import Deployment
from contracts.sending import Sender
from rexis.protocol.certificate import Certificate, seal_text
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.evidence import Evidence
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.parsing import to_hex
from rexis.protocol.signing import address_of, new_account, sign_digest, sign_text
from rexis.protocol.statement import Statement
from tests.integration.coordinator.world import World, start_world
from tests.unit.coordinator.fakes import make_policy
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.report import Outcome, Verdict

Document = dict[str, Any]


class Liar:
    """The coordinator of `world` with two finished jobs of one requester, and a worker that does as it is told."""

    def __init__(self, world: World) -> None:
        self.world = world
        scene = world.scene
        scene.publish()
        self.worker = scene.worker()
        policy = make_policy(sample_size=3)
        jobs = [scene.submit(policy=policy), scene.submit(policy=policy, nonce=sha256(b"another"))]
        while (lease := world.coordinator.leases.grant(self.worker.address)) is not None:
            scene.hand_in(self.worker, lease)
        world.dev.hold()
        for _ in range(5):
            world.turn()
            world.dev.mine()
        self.job_id = jobs[0].job_id
        self.honest, self.other = (json.loads(world.certificate(job)) for job in jobs)

    def seal(self, document: Document) -> bytes:
        body = {key: value for key, value in document.items() if key != "seal"}
        sealed = {**body, "seal": to_hex(sign_text(self.world.account, seal_text(body)))}
        return Certificate.from_object(sealed).to_json()

    def change(self, change: Callable[[Document], None]) -> bytes:
        document = deepcopy(self.honest)
        change(document)
        return self.seal(document)

    def audit(self, certificate: bytes) -> Verdict:
        """What the auditor does: their own node, the job that they asked for."""
        return verify_certificate(
            certificate,
            VerifyOptions(rpc_url=self.world.dev.url, job_id=self.job_id, allow_development_chain=True),
        )

    def anchor(self, *digests: Digest) -> tuple[Document, list[list[str]]]:
        """Write a root on chain beside those of its database, with its own account; its place, and each leaf's path."""
        tree = MerkleTree(digests)
        self.world.dev.hold(False)
        chain = Sender.connect(self.world.dev.url, account=self.world.account)
        chain.attach(Deployment.on(31337))
        made, transaction = chain.anchor(tree.root, len(digests))
        self.world.dev.mine(3)
        place = {
            "anchorId": made.anchor_id,
            "root": str(made.root),
            "size": made.size,
            "blockNumber": made.block,
            "transaction": str(transaction.hash),
        }
        return place, [[str(node) for node in tree.path(index)] for index in range(len(digests))]


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory, deployed: Path) -> Iterator[Liar]:
    world = start_world(tmp_path_factory.mktemp("liar"), deployed)
    yield Liar(world)
    world.close()


# --- what it may try, and the step at which it fails ------------------------------------------------------------------


def _output_altered(liar: Liar) -> bytes:
    def lie(document: Document) -> None:
        opening = document["tasks"][0]["evidence"]["openings"][0]
        opening["output"] = "0x" + "00" * 8

    return liar.change(lie)


def _input_altered(liar: Liar) -> bytes:
    def lie(document: Document) -> None:
        opening = document["tasks"][0]["evidence"]["openings"][0]
        opening["input"] = "0x" + "00" * 16

    return liar.change(lie)


def _statement_altered(liar: Liar) -> bytes:
    def lie(document: Document) -> None:
        document["tasks"][0]["evidence"]["statement"]["outputRoot"] = str(sha256(b"better outputs"))

    return liar.change(lie)


def _opened_record_dropped(liar: Liar) -> bytes:
    return liar.change(lambda document: document["tasks"][0]["evidence"]["openings"].pop())


def _opened_record_twice(liar: Liar) -> bytes:
    def lie(document: Document) -> None:
        openings = document["tasks"][0]["evidence"]["openings"]
        openings[1] = openings[0]

    return liar.change(lie)


def _opened_records_reordered(liar: Liar) -> bytes:
    return liar.change(lambda document: document["tasks"][0]["evidence"]["openings"].reverse())


def _records_swapped_under_their_numbers(liar: Liar) -> bytes:
    def lie(document: Document) -> None:
        one, two = document["tasks"][0]["evidence"]["openings"][:2]
        one["index"], two["index"] = two["index"], one["index"]
        document["tasks"][0]["evidence"]["openings"][:2] = [two, one]

    return liar.change(lie)


def _task_hidden(liar: Liar) -> bytes:
    return liar.change(lambda document: document["tasks"].pop())


def _task_twice(liar: Liar) -> bytes:
    return liar.change(lambda document: document["tasks"].__setitem__(1, document["tasks"][0]))


def _tasks_reordered(liar: Liar) -> bytes:
    return liar.change(lambda document: document["tasks"].reverse())


def _evidence_of_tasks_swapped(liar: Liar) -> bytes:
    def lie(document: Document) -> None:
        one, two = document["tasks"]
        one["evidence"], two["evidence"] = two["evidence"], one["evidence"]

    return liar.change(lie)


def _task_of_another_job(liar: Liar) -> bytes:
    return liar.change(lambda document: document["tasks"].__setitem__(0, deepcopy(liar.other["tasks"][0])))


def _certificate_of_another_job(liar: Liar) -> bytes:
    return liar.seal(liar.other)


def _never_anchored(liar: Liar) -> bytes:
    """The worker signs another statement, with good outputs even; nothing of it is on chain but a root's number."""

    def lie(document: Document) -> None:
        digest = _another_answer(liar, document)
        tree = MerkleTree([digest])
        document["tasks"][0]["anchor"].update(root=str(tree.root), size=1, leafIndex=0, path=[])

    return liar.change(lie)


def _anchored_under_another_place_in_the_tree(liar: Liar) -> bytes:
    def lie(document: Document) -> None:
        one, two = document["tasks"]
        one["anchor"], two["anchor"] = two["anchor"], one["anchor"]

    return liar.change(lie)


def _antedated(liar: Liar) -> bytes:
    def lie(document: Document) -> None:
        for task in document["tasks"]:
            task["anchor"]["blockNumber"] -= 1

    return liar.change(lie)


def _draw_of_its_own(liar: Liar) -> bytes:
    """The records that are opened were chosen by no block of the chain."""
    return liar.change(lambda document: document["tasks"][0].__setitem__("openingBlockHash", str(sha256(b"a hash"))))


def _another_key_epoch(liar: Liar) -> bytes:
    """As if the job had asked for another of the model's key epochs."""
    return liar.change(lambda document: document["request"].__setitem__("keyEpoch", 2))


def _another_chain(liar: Liar) -> bytes:
    return liar.change(lambda document: document["domain"].__setitem__("chainId", 1337))


def _another_log(liar: Liar) -> bytes:
    where = Deployment.on(31337).model_registry
    return liar.change(lambda document: document["domain"].__setitem__("verifyingContract", where))


def _another_registry(liar: Liar) -> bytes:
    where = Deployment.on(31337).certifier
    return liar.change(lambda document: document["contracts"].__setitem__("modelRegistry", where))


def _coordinator_of_the_job_replaced(liar: Liar) -> bytes:
    def lie(document: Document) -> None:
        document["request"]["coordinator"] = address_of(new_account())

    return liar.change(lie)


LIES: dict[Callable[[Liar], bytes], int] = {
    _output_altered: 9,
    _input_altered: 9,
    _statement_altered: 7,
    _opened_record_dropped: 8,
    _opened_record_twice: 8,
    _opened_records_reordered: 8,
    _records_swapped_under_their_numbers: 9,
    _task_hidden: 6,
    _task_twice: 6,
    _tasks_reordered: 6,
    _evidence_of_tasks_swapped: 6,
    _task_of_another_job: 7,
    _certificate_of_another_job: 3,
    _never_anchored: 17,
    _anchored_under_another_place_in_the_tree: 11,
    _antedated: 17,
    _draw_of_its_own: 17,
    _another_key_epoch: 3,
    _another_chain: 3,
    _another_log: 3,
    _another_registry: 14,
    _coordinator_of_the_job_replaced: 2,
}


def test_the_honest_certificate_holds(liar: Liar) -> None:
    assert liar.audit(liar.seal(liar.honest)).outcome == Outcome.VALID


@pytest.mark.parametrize(("lie", "step"), LIES.items(), ids=lambda one: getattr(one, "__name__", "").strip("_") or None)
def test_an_auditor_notices(liar: Liar, lie: Callable[[Liar], bytes], step: int) -> None:
    verdict = liar.audit(lie(liar))
    assert verdict.outcome == Outcome.INVALID, verdict.steps
    assert verdict.failed is not None
    assert verdict.failed.number == step, verdict.failed


def test_two_answers_to_one_job_are_two_certificates_that_hold(liar: Liar) -> None:
    """What neither certificate nor chain shows in tier ``commit``: see docs/threat-model.md.

    Coordinator and worker make another statement about the same task, anchor it too, and hand out a second certificate.
    Each holds by itself. Whoever has both has a proof against the two: signatures of one worker and seals of one
    coordinator, about one task.
    """
    document = deepcopy(liar.honest)
    digest = _another_answer(liar, document)
    place, paths = liar.anchor(digest)
    document["tasks"][0]["anchor"] = {**place, "leafIndex": 0, "path": paths[0]}
    reader = Sender.connect(liar.world.dev.url)
    drawn = reader.block_hash(place["blockNumber"] + 1)
    document["tasks"][0]["openingBlockHash"] = str(drawn)
    second = liar.seal(document)
    assert liar.audit(second).outcome == Outcome.VALID
    one, two = Certificate.from_object(liar.honest), Certificate.parse(second)
    assert one.job_id == two.job_id
    statements = [certificate.tasks[0].evidence.statement for certificate in (one, two)]
    assert statements[0].task_id == statements[1].task_id
    assert statements[0].worker == statements[1].worker
    assert statements[0] != statements[1]


def _another_answer(liar: Liar, document: Document) -> Digest:
    """Another statement of the worker about the first task, in the place of the one that it made: its lease's nonce
    differs, and so might its outputs. All records are opened, so that whatever is drawn is there."""
    task = document["tasks"][0]
    statement = Statement.from_object(task["evidence"]["statement"]).model_copy(update={"nonce": sha256(b"again")})
    domain = liar.world.coordinator.deployment.domain
    digest = domain.digest(statement)
    evidence = Evidence.from_object(task["evidence"]).model_copy(
        update={"statement": statement, "signature": sign_digest(liar.worker.account, digest)}
    )
    task["evidence"] = evidence.to_object()
    return Digest(bytes(digest))
