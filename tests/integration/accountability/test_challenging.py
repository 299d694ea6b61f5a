"""A record is challenged from the command line: by whoever holds it, against a worker that lied about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.accountable import DisputeState
from contracts.chain import AnchorProof, RevertError
from contracts.challenging import place_of
from rexis.protocol.anchored import read_statements
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.parsing import ZERO_ADDRESS
from tests.integration.accountability.town import BOND, PENALTY, PERIOD, STAKE, WINDOW, CommandLine, Town, terms


def test_a_worker_that_lied_about_a_record_loses_a_part_of_its_stake(
    town: Town, cli: CommandLine, tmp_path: Path
) -> None:
    lie, challenger, chain = town.false_statement(), town.funded(), town.chain()
    certificate = town.certificate(lie.job)
    about = (certificate, "--record", lie.altered)

    owner = town.chain(town.funded())
    elsewhere = owner.deploy_accountability(terms(owner.address, owner.address))
    (tmp_path / "elsewhere.json").write_bytes(elsewhere.to_json())
    assert "nobody has shown this chain a proof" in cli.refused(
        challenger, "disputes", "challenge", *about, "--dataset", town.dataset, "--yes",
        "--manifest", tmp_path / "elsewhere.json",
    )  # fmt: skip
    cli.done(challenger, "disputes", "admit", certificate)
    assert f"does not open record {lie.altered}" in cli.refused(challenger, "disputes", "challenge", *about, "--yes")
    assert "Nobody is here to ask" in cli.refused(
        challenger, "disputes", "challenge", *about, "--dataset", town.dataset
    )
    assert chain.dispute_of(lie.digest, lie.altered).state == DisputeState.NONE

    code, out, said = cli.run(challenger, "disputes", "challenge", *about, "--dataset", town.dataset, "--yes")
    assert code == 0, said
    assert "bond         0.001 coins" in out
    assert f"worker       {lie.worker.address}, who can lose 0.1 coins" in out
    assert "was challenged before: open" in cli.refused(
        challenger, "disputes", "challenge", *about, "--dataset", town.dataset, "--yes"
    )

    # The worker's own proof of what the circuit gives is no answer to what it committed to.
    proof = town.proved.prover.prove(town.proved.inputs[lie.altered]).proofs[0]
    opening = lie.trees.open(lie.altered)
    with pytest.raises(RevertError, match="ProofRejected"):
        town.chain(lie.worker).answer(lie.statement, opening, proof, list(town.circuit.artefacts.vka))

    (listed,) = [one for one in cli.done(None, "disputes", "list") if one["statementDigest"] == str(lie.digest)]
    assert (listed["state"], listed["record"], listed["locked"]) == ("open", lie.altered, str(PENALTY))
    assert "can answer until block" in cli.refused(challenger, "disputes", "close", lie.digest, "--record", lie.altered)
    town.pass_blocks(WINDOW + 1)
    assert cli.done(challenger, "disputes", "close", lie.digest, "--record", lie.altered)["state"] == "faulted"
    assert "faulted" in cli.refused(challenger, "disputes", "close", lie.digest, "--record", lie.altered)
    status = cli.done(None, "stake", "status", lie.worker.address)
    assert (status["stake"]["amount"], status["reputation"]["faulted"]) == (STAKE - PENALTY, 1)
    assert cli.done(challenger, "disputes", "withdraw")["amount"] == BOND + PENALTY * 4 // 10
    assert "nothing is owed" in cli.refused(challenger, "disputes", "withdraw")


def test_a_statement_that_is_anchored_again_is_dismissed(town: Town, cli: CommandLine) -> None:
    lie, challenger = town.false_statement(), town.funded()
    certificate = town.certificate(lie.job)
    cli.done(challenger, "disputes", "admit", certificate)
    town.pass_blocks(PERIOD + 1)
    wanted = ("disputes", "challenge", certificate, "--record", lie.altered, "--dataset", town.dataset, "--yes")
    assert "that has passed" in cli.refused(challenger, *wanted)

    ((found, _),) = read_statements(certificate.read_bytes())
    chain = town.chain(challenger)
    tree = MerkleTree([lie.digest])
    again, _ = chain.anchor(tree.root, 1)
    opening = lie.trees.open(lie.altered)
    chain.challenge(found.statement, found.signature, AnchorProof(again.anchor_id, 0, []), opening)
    dismissed = cli.done(town.funded(), "disputes", "dismiss", certificate, "--record", lie.altered)
    assert dismissed["state"] == "dismissed"
    assert chain.owed("Disputes", ZERO_ADDRESS, found.statement.worker) == BOND
    assert place_of(found).anchor_id != again.anchor_id
