"""Tier `commit` with a warranty: an honest worker is vindicated, one that altered an output loses."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from circuits.proving import Prover
from contracts.accountable import DisputeState
from contracts.chain import AnchorProof, RevertError
from contracts.challenging import place_of
from contracts.warranties import ProvenRecord
from provers.kept import Kept
from rexis.api import JobState
from rexis.protocol.anchored import read_statements
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.errors import ConflictError
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.policy import Tier
from rexis.protocol.records import input_format, open_input, output_format, quantise
from rexis.protocol.signing import address_of
from tests.integration.accountability.town import BOND, PENALTY, STAKE, WINDOW, CommandLine, Town, until

# Of 2^-7, the circuit's output scale. The tiny model's fixed point is off by less; what a liar adds here is 32.
TOLERANCE = 8


def _proven(town: Town, record: int) -> ProvenRecord:
    """The record proved, beside the command line."""
    data, circuit = town.rig.dataset, town.circuit.artefacts.description
    opening = open_input(Tier.COMMIT, NO_CIRCUIT, data.records, data.salts, record)
    given = quantise(data.records[record], circuit.input_scale)
    proof = Prover(town.circuit, town.ezkl).prove(given)
    form = output_format(Tier.SAMPLED, circuit)
    return ProvenRecord(
        opening=opening,
        circuit=circuit,
        inputs=input_format(Tier.SAMPLED, circuit).payload(given),
        outputs=form.payload(np.array(proof.outputs, dtype=np.int64)),
        proof=proof.proofs[0],
        vka=town.circuit.artefacts.vka,
    )


def test_a_running_worker_answers_for_what_it_warranted_and_for_nothing_else(town: Town, cli: CommandLine) -> None:
    worker, challenger, chain = town.funded(), town.funded(), town.chain()
    cache, address = town.folder / f"cache-{worker.address}", address_of(worker)
    options = ("--rpc", town.dev.url, "--disputes", str(town.file), "--tiers", "commit")
    cli.done(worker, "stake", "deposit", "0.3")
    before = town.commit_job()
    with town.worker(worker, *options):
        town.rig.finished(before.job_id, 120)
        ((earlier, _),) = read_statements(town.certificate(before).read_bytes())
        kept = Kept(cache, address, max_bytes=1 << 30)
        until(lambda: kept.anchored(earlier.digest) == earlier, 60, lambda: town.log_of(worker))
    assert list(kept.with_records()) == []  # without a warranty the statement is enough

    model = town.rig.model_digest
    wanted = ("disputes", "warrant", model, *town.referee, "--cache", cache, "--yes", "--dataset", town.dataset)
    assert "could prove anything" in cli.refused(worker, *wanted, "--tolerance", TOLERANCE)
    wanted += ("--allow-development-srs",)
    assert "0 are warranted" in cli.refused(worker, *wanted, "--tolerance", 0)
    given = cli.done(worker, *wanted, "--tolerance", TOLERANCE)
    assert given["tolerance"] == str(TOLERANCE)
    assert 0 < given["measured"] <= TOLERANCE
    assert "gave a warranty for this model before" in cli.refused(worker, *wanted, "--tolerance", TOLERANCE + 1)
    assert cli.done(worker, *wanted, "--tolerance", TOLERANCE)["since"] == given["since"]
    (shown,) = cli.done(None, "disputes", "warranties", model, "--worker", address)
    assert shown == {"worker": address, "tolerance": str(TOLERANCE), "since": given["since"], "until": None}
    assert address in [one["worker"] for one in cli.done(None, "disputes", "warranties", model)]

    job = town.commit_job()
    with town.worker(worker, *options):
        town.rig.finished(job.job_id, 120)
        certificate = town.certificate(job)
        ((found, (opened,)),) = read_statements(certificate.read_bytes())
        assert found.statement.worker == address
        digest, chosen = found.digest, [index for index in range(5) if index != opened.index][:2]
        assert f"{TOLERANCE} are warranted" in town.log_of(worker)
        about = ("disputes", "challenge", certificate, "--dataset", town.dataset, *town.referee, "--yes", "--record")
        assert "it would win" in cli.refused(challenger, *about, opened.index)
        code, out, said = cli.run(challenger, *about, chosen[0])
        assert code == 0, said
        assert f"within {TOLERANCE} units of what is proved" in out
        until(
            lambda: chain.dispute_of(digest, chosen[0]).state == DisputeState.PROVED,
            WINDOW * 0.3,
            lambda: town.log_of(worker),
        )

    # By hand, from what is kept; and a statement of before the warranty, which somebody anchors again, is dismissed.
    cli.done(challenger, *about, chosen[1])
    assert cli.done(worker, "disputes", "answer", digest, "--record", chosen[1], "--cache", cache)["done"].startswith(
        "answered"
    )
    again, _ = town.chain(challenger).anchor(MerkleTree([earlier.digest]).root, 1)
    place = AnchorProof(again.anchor_id, 0, [])
    town.chain(challenger).challenge_commit(earlier.statement, earlier.signature, place, _proven(town, 0))
    done = cli.done(worker, "disputes", "answer", earlier.digest, "--record", 0, "--cache", cache)["done"]
    assert done.startswith("dismissed")
    assert chain.owed("Disputes", ZERO_ADDRESS, address) == 3 * BOND
    status = cli.done(None, "stake", "status", address)
    assert (status["stake"]["amount"], status["stake"]["locked"]) == (STAKE, 0)

    # What lies further off is not signed, whoever made it so.
    false = town.commit_job()
    with town.worker(worker, *options, "--dishonest-for-tests-only", "alter-outputs:1"):
        until(
            lambda: f"from what the circuit gives, and {TOLERANCE} are warranted" in town.log_of(worker),
            60,
            lambda: town.log_of(worker),
        )
    requester = town.rig.client(town.rig.requester)
    assert requester.job(false.job_id).state in (JobState.QUEUED, JobState.RUNNING, JobState.FAILED)
    with suppress(ConflictError):  # it has failed already
        requester.cancel_job(false.job_id)

    assert cli.done(worker, "disputes", "end-warranty", model)["until"] is not None
    later, _ = town.committed(worker)
    late = town.certificate(later)
    assert "warranty is about anchors of blocks" in cli.refused(
        challenger, "disputes", "challenge", late, "--dataset", town.dataset, *town.referee, "--record", 0
    )


def test_a_worker_that_altered_an_output_loses_a_part_of_its_stake(town: Town, cli: CommandLine) -> None:
    liar, challenger, chain = town.funded(), town.funded(), town.chain()
    cli.done(liar, "stake", "deposit", "0.3")
    model = town.rig.model_digest
    cli.done(
        liar, "disputes", "warrant", model, *town.referee, "--yes", "--tolerance", TOLERANCE,
        "--cache", town.folder / "liar", "--allow-development-srs",
    )  # fmt: skip
    job, digest = town.committed(liar, altered=2)
    certificate = town.certificate(job)
    about = (certificate, "--record", 2, "--dataset", town.dataset)
    assert "no settings of the circuit" in cli.refused(challenger, "disputes", "challenge", *about)
    cli.done(challenger, "disputes", "challenge", *about, *town.referee, "--yes")

    # What it committed to is no answer, and what the model gives is not what it committed to.
    ((found, _),) = read_statements(certificate.read_bytes())
    proven, shown = chain.proven_of(digest, 2), town.chain(liar)
    assert proven.tolerance == TOLERANCE
    trees = town.commit_trees(altered=2)
    with pytest.raises(RevertError, match="OutsideTolerance"):
        shown.answer_commit(found.statement, trees.open(2), proven)
    with pytest.raises(RevertError, match="OutputNotInTree"):
        shown.answer_commit(found.statement, town.commit_trees().open(2), proven)
    town.pass_blocks(WINDOW + 1)
    assert cli.done(challenger, "disputes", "close", digest, "--record", 2)["state"] == "faulted"
    status = cli.done(None, "stake", "status", liar.address)
    assert (status["stake"]["amount"], status["reputation"]["faulted"]) == (STAKE - PENALTY, 1)
    assert cli.done(challenger, "disputes", "withdraw")["amount"] == BOND + PENALTY * 4 // 10


def test_without_a_warranty_nobody_is_challenged(town: Town, cli: CommandLine) -> None:
    worker, challenger = town.funded(), town.funded()
    cli.done(worker, "stake", "deposit", "0.3")
    job, _ = town.committed(worker, altered=2)
    certificate = town.certificate(job)
    assert "gives no warranty for this model" in cli.refused(
        challenger, "disputes", "challenge", certificate, "--record", 2, "--dataset", town.dataset, *town.referee
    )
    ((found, _),) = read_statements(certificate.read_bytes())
    chain = town.chain(challenger)
    chain.register_vka(town.circuit.artefacts.vka)
    with pytest.raises(RevertError, match="NotWarranted"):
        chain.challenge_commit(found.statement, found.signature, place_of(found), _proven(town, 2))
