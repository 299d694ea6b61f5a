"""The log of a real coordinator's anchors: what everybody reads of it, and what a monitor makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from contracts.chain import Chain
from rexis.cli.main import main
from rexis.client import RexisClient
from rexis.exports.anchor_log import key_of, log_entry
from rexis.exports.note import NoteKey
from rexis.exports.tlog import LogProof, TreeHead
from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import sha256
from rexis.protocol.errors import NotFoundError
from rexis.protocol.merkle import merkle_root
from rexis.protocol.signing import address_of
from tests.integration.coordinator.rig import Rig, RigWorker
from tests.unit.coordinator.fakes import make_policy


def finish_a_job(rig: Rig, worker: RigWorker, name: bytes) -> Certificate:
    requester = rig.client(rig.requester)
    submitted = requester.submit_job(rig.request(make_policy(shard_size=2), nonce=sha256(name)))
    for _ in submitted.tasks:
        assert worker.do_one(rig.dataset).accepted
    rig.finished(submitted.job_id)
    return Certificate.parse(requester.certificate(submitted.job_id))


def test_the_log_of_a_real_coordinator_is_the_chains(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.publish()
    start = str(Chain.connect(rig.dev.url).block_number() + 1)
    worker, submitter = rig.worker(), address_of(rig.account)
    anonymous = RexisClient(rig.url)
    log = anonymous.log_key()
    key = key_of(log.key, log.signature, rig.deployment.domain, submitter)
    assert TreeHead.opened(anonymous.log_checkpoint(), key).size == 0

    command = ["monitor", "--rpc", rig.dev.url, "--state", str(tmp_path / "monitor.json"), "--start", start]
    command += ["--submitter", submitter, "--coordinator", rig.url, "--grace", "2"]
    assert main(command) == 0
    first = finish_a_job(rig, worker, b"first")
    rig.dev.mine(2)
    assert main(command) == 0
    second = finish_a_job(rig, worker, b"second")
    rig.dev.mine(2)
    assert main(command) == 0
    assert capsys.readouterr().out == ""

    entries = anonymous.anchors(0)
    assert anonymous.anchors(1) == entries[1:]
    assert anonymous.anchors(len(entries)) == []
    assert [entry.index for entry in entries] == list(range(len(entries)))
    head = TreeHead.opened(anonymous.log_checkpoint(), key)
    assert (head.size, head.root) == (len(entries), merkle_root(log_entry(each.root, each.size) for each in entries))
    for entry in entries:
        proof = LogProof.parse(anonymous.log_proof(entry.index))
        assert proof.check(log_entry(entry.root, entry.size), key) == head
    for task in (*first.tasks, *second.tasks):
        (entry,) = (each for each in entries if each.anchor_id == task.anchor.anchor_id)
        anchor = task.anchor
        assert (entry.root, entry.size, entry.transaction) == (anchor.root, anchor.size, anchor.transaction)
        leaves = anonymous.anchor_leaves(entry.index)
        statement = task.evidence.statement
        assert leaves.statements[task.anchor.leaf_index] == rig.deployment.domain.digest(statement)
        assert leaves.workers[task.anchor.leaf_index] == statement.worker

    document, out = tmp_path / "certificate.json", tmp_path / "proofs"
    document.write_bytes(first.to_json())
    assert main(["export", "tlog-proof", str(document), "--coordinator", rig.url, "--out", str(out)]) == 0
    assert NoteKey.parse((out / "log.key").read_text().strip()) == key
    for anchor in {(task.anchor.anchor_id, task.anchor.root, task.anchor.size) for task in first.tasks}:
        proof = LogProof.parse((out / f"anchor-{anchor[0]}.tlog-proof").read_text())
        assert proof.check(log_entry(*anchor[1:]), key) == head
    capsys.readouterr()

    with pytest.raises(NotFoundError):
        anonymous.anchor_leaves(len(entries))
    with pytest.raises(NotFoundError):
        anonymous.log_proof(len(entries))
    for path in ("/v1/anchors?start=-1", "/v1/anchors/x", "/v1/log/proofs/1e3"):
        assert httpx.get(rig.url + path).status_code == 422
    anonymous.close()

    # Another monitor, which watches this worker and knows the statements of the first job only.
    known = tmp_path / "known"
    known.write_text("".join(f"{rig.deployment.domain.digest(each.evidence.statement)}\n" for each in first.tasks))
    command[4] = str(tmp_path / "another.json")
    watching = [*command, "--worker", address_of(worker.client.account), "--known", str(known)]
    assert main(watching) == 3
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    foreign = {line["id"].split(":")[1] for line in told if line["alert"] == "foreign-statement"}
    assert foreign == {str(rig.deployment.domain.digest(task.evidence.statement)) for task in second.tasks}
    assert {line["alert"] for line in told} == {"foreign-statement", "unknown-anchor"}


def test_the_log_outlives_its_process(rig: Rig) -> None:
    rig.publish()
    worker = rig.worker()
    finish_a_job(rig, worker, b"before")
    client = RexisClient(rig.url)
    before = client.log_key(), client.log_checkpoint()
    rig.stop()
    rig.start()
    assert (client.log_key(), client.log_checkpoint()) == before
    client.close()
