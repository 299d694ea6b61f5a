"""What must be true in the end, from the certificates, the chain, the database and its history."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np
from sqlalchemy import create_engine
from sqlmodel import Session, select

from contracts.chain import Chain
from coordinator.places import leaf_digests
from coordinator.tables import AnchorRow, JobRow, LeafRow, LeaseRow, Outcome, TaskRow
from rexis.api import JobState, TaskState
from rexis.client import RexisClient
from rexis.ee import decrypt_outputs
from rexis.outputs import as_floats, read_outputs, require_certified
from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import Digest
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.signing import address_of
from tests.faults.site import Site
from tests.faults.work import Work
from tests.histories import check_histories
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.report import Status


def check(site: Site, client: RexisClient, jobs: Mapping[Digest, Work]) -> dict[str, int]:
    """Fails with what is not true; returns what was counted."""
    anchored = _check_certificates(site, client, jobs)
    counted = _check_database(site, jobs)
    on_chain = _check_chain(site, anchored)
    waits = _check_answers(site)
    proved = sum(work.srs is not None for work in jobs.values())
    jobs_of = {"jobs": len(jobs), "of them with proofs": proved, "certified tasks": len(anchored)}
    return jobs_of | counted | on_chain | waits


def _check_certificates(site: Site, client: RexisClient, jobs: Mapping[Digest, Work]) -> dict[Digest, tuple[int, int]]:
    """Every certificate verifies, with its proofs, and its outputs, decrypted, are the plain model's.

    Returns
    -------
    anchored
        Anchor id and place of each statement.
    """
    anchored: dict[Digest, tuple[int, int]] = {}
    for job, work in jobs.items():
        options = VerifyOptions(
            rpc_url=site.chain.url,
            requester=address_of(site.requester),
            model_digest=work.encrypted.digest,
            srs=work.srs,
            allow_development_srs=True,
            allow_development_chain=True,
        )
        assert client.job(job).reason is None, (str(job), client.job(job).reason)
        verdict = verify_certificate(client.certificate(job), options)
        assert verdict.failed is None, (str(job), verdict.failed)
        assert all(step.status == Status.OK for step in verdict.steps), (str(job), verdict.steps)
        certificate = verdict.certificate
        assert certificate is not None
        _check_outputs(work, certificate, client.outputs(job))
        for task in certificate.tasks:
            statement = certificate.domain.digest(task.evidence.statement)
            assert statement not in anchored, f"statement {statement} stands in two certificates"
            assert (task.commitment is not None) == (work.srs is not None)
            anchored[statement] = task.anchor.anchor_id, task.anchor.leaf_index
    return anchored


def _check_outputs(work: Work, certificate: Certificate, blob: bytes) -> None:
    outputs = read_outputs(certificate, blob)
    require_certified(certificate, work.dataset, work.dataset.digest, outputs)
    assert len(outputs) == work.records
    plain = decrypt_outputs(work.encrypted.key, as_floats(certificate, outputs))
    worst = float(np.abs(plain - work.plain).max())
    assert worst < work.tolerance, f"decrypted outputs are {worst} from the plain model's"


def _check_database(site: Site, jobs: Collection[Digest]) -> dict[str, int]:
    """Each task was done once, stands in one tree, and its history is one that the states allow."""
    engine = create_engine(site.database)
    with Session(engine) as session:
        wanted = {str(job) for job in jobs}
        rows = {row.job_id: row for row in session.exec(select(JobRow))}
        tasks = session.exec(select(TaskRow)).all()
        leases = session.exec(select(LeaseRow)).all()
        leaves = Counter(row.task_id for row in session.exec(select(LeafRow)))
        check_histories(session)
    engine.dispose()
    assert set(rows) == wanted
    assert {row.state for row in rows.values()} == {JobState.CERTIFIED}
    accepted = Counter(lease.task_id for lease in leases if lease.outcome == Outcome.ACCEPTED)
    by_id = {lease.lease_id: lease for lease in leases}
    for task in tasks:
        name = f"records {task.start} … of job {task.job_id}"
        assert task.state == TaskState.ANCHORED, f"{name}: {task.state}"
        assert accepted[task.task_id] == 1, f"{name}: {accepted[task.task_id]} accepted leases"
        assert task.lease_id is not None
        assert by_id[task.lease_id].outcome == Outcome.ACCEPTED, name
        assert leaves[task.task_id] == 1, f"{name}: {leaves[task.task_id]} leaves"
    assert not [lease for lease in leases if lease.outcome == Outcome.OPEN]
    ends = Counter(str(lease.outcome) for lease in leases)
    return {"tasks": len(tasks), "leases": len(leases), **{f"leases {end}": count for end, count in ends.items()}}


def _check_chain(site: Site, anchored: dict[Digest, tuple[int, int]]) -> dict[str, int]:
    """Each root and each commitment is on chain once, and each statement is a leaf of exactly one root."""
    engine = create_engine(site.database)
    with Session(engine) as session:
        rows = {row.id: row for row in session.exec(select(AnchorRow))}
        leaves = session.exec(select(LeafRow)).all()
        trees = {anchor: MerkleTree(leaf_digests(session, anchor)) for anchor in rows if anchor is not None}
    engine.dispose()
    chain = Chain.connect(site.chain.url)
    chain.attach(site.deployment)
    events, ours = chain._contracts["EvidenceLog"].events, {"submitter": site.address}
    found = events["Anchored"]().get_logs(argument_filters=ours, from_block=0)
    roots = Counter("0x" + bytes(event["args"]["root"]).hex() for event in found)
    made = events["Committed"]().get_logs(argument_filters=ours, from_block=0)
    twice = [
        one for one, count in Counter(bytes(event["args"]["statementDigest"]) for event in made).items() if count > 1
    ]
    assert not twice, f"committed more than once: {twice}"
    assert max(roots.values()) == 1, f"anchored more than once: {[root for root, count in roots.items() if count > 1]}"
    assert set(roots) == {row.root for row in rows.values()}
    assert len(rows) == len(roots)
    for number, tree in trees.items():
        assert (str(tree.root), len(tree)) == (rows[number].root, rows[number].size)
    assert Counter(leaf.statement_digest for leaf in leaves).keys() == {str(statement) for statement in anchored}
    for leaf in leaves:
        assert anchored[Digest.parse(leaf.statement_digest)] == (rows[leaf.anchor].anchor_id, leaf.leaf_index)
    return {"anchors": len(roots), "commitments": len(made)}


def _check_answers(site: Site) -> dict[str, int]:
    """Coordinators may say that they cannot answer now; never that they failed."""
    said = Counter(
        status
        for one in site.coordinators
        for status in re.findall(r"coordinator\.access .* status=(5\d\d) ", one.log.read_text(errors="replace"))
    )
    assert set(said) <= {"503"}, f"server errors: {said}"
    return {"answers 503": said["503"]}
