"""A worker answers challenges of its own statements: as a running process, after a restart, and by hand."""

from __future__ import annotations

import shutil

import pytest

from contracts.accountable import DisputeState
from provers.kept import Kept
from rexis.protocol.anchored import read_statements
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of
from tests.integration.accountability.town import BOND, STAKE, WINDOW, CommandLine, Town, until


def test_an_honest_worker_answers_from_what_it_keeps(town: Town, cli: CommandLine) -> None:
    worker, challenger, chain = town.funded(), town.funded(), town.chain()
    options = ("--rpc", town.dev.url, "--disputes", str(town.file))
    cli.done(worker, "stake", "deposit", "0.3")
    job = town.proved.submit(Tier.SAMPLED, shard_size=5, sample_size=1)
    with town.worker(worker, *options):
        town.rig.finished(job.job_id, 120)
        certificate = town.certificate(job)
        ((found, openings),) = read_statements(certificate.read_bytes())
        digest, cache = found.digest, town.folder / f"cache-{worker.address}"
        assert found.statement.worker == address_of(worker)
        kept = Kept(cache, address_of(worker), max_bytes=1 << 30)
        until(lambda: kept.anchored(digest) == found, 60, lambda: town.log_of(worker))

    # What is left of the worker is what it keeps: no coordinator gives these blobs to anybody without a lease.
    shutil.rmtree(cache / "blobs")
    shutil.rmtree(cache / "proofs")
    cli.done(challenger, "disputes", "admit", certificate)
    first, second = [index for index in range(5) if index not in [one.index for one in openings]][:2]
    for record in (first, second):
        cli.done(
            challenger, "disputes", "challenge", certificate, "--record", record, "--dataset", town.dataset, "--yes"
        )
    assert "no open dispute about record" in cli.refused(
        worker, "disputes", "answer", digest, "--record", openings[0].index, "--cache", cache
    )
    assert "no kept statement" in cli.refused(
        challenger, "disputes", "answer", digest, "--record", first, "--cache", cache
    )
    cli.done(worker, "disputes", "answer", digest, "--record", first, "--cache", cache)
    assert chain.dispute_of(digest, first).state == DisputeState.PROVED

    with town.worker(worker, *options):
        until(
            lambda: (
                chain.dispute_of(digest, second).state == DisputeState.PROVED
                and not list((cache / "letters").rglob("*.json"))
            ),
            WINDOW * 0.3,
            lambda: town.log_of(worker),
        )
    assert chain.owed("Disputes", ZERO_ADDRESS, address_of(worker)) == 2 * BOND
    assert cli.done(worker, "disputes", "withdraw")["amount"] == 2 * BOND
    status = cli.done(None, "stake", "status", worker.address)
    assert (status["stake"]["amount"], status["stake"]["locked"]) == (STAKE, 0)
    assert status["reputation"]["vindicated"] == 2


@pytest.mark.parametrize("option", ["--unchecked-chain", "--trust-coordinator-rpc"])
def test_answering_takes_a_node_of_ones_own(
    town: Town, cli: CommandLine, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr(town, "environment", lambda account=None: {"REXIS_PASSPHRASE": "for tests only"})
    worker = town.funded()
    line = cli.refused(
        None, "worker", "run", option, "--coordinator", town.rig.url, "--wallet", town.wallet(worker),
        "--cache", town.folder / "elsewhere", "--disputes", town.file,
    )  # fmt: skip
    assert "over a chain node of your own" in line
