"""A job is paid from its submission to the worker's withdrawal, with the coordinator killed on the way."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

from contracts.accountable import ClaimState
from rexis.api import JobState, JobView, PaymentOffer
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of
from tests.integration.accountability.town import PERIOD, STAKE, CommandLine, Town, until

PAID = 5 * 10**15


def _submit(town: Town, cli: CommandLine, payer: LocalAccount, *options: object) -> JobView:
    wanted = ("--model", town.rig.model_digest, "--epoch", 1, "--tier", "sampled", "-k", 1, "--shard-size", 5)
    return JobView.from_object(cli.done(payer, "submit", "--dataset", town.dataset, *wanted, *options))


def _work(town: Town) -> LocalAccount:
    """A worker with a stake does the next task."""
    town.proved.new_worker()
    worker = town.proved.account
    town.dev.fund(address_of(worker))
    town.chain(worker).stake(STAKE)
    lease = town.proved.lease()
    outputs, trees, statement = town.proved.compute(lease)
    evidence = town.proved.evidence(lease, outputs, trees, statement, town.proved.challenged(lease, statement))
    assert town.proved.worker.evidence(lease.lease_id, evidence).accepted
    return worker


def _paid(town: Town, job_id: Digest) -> int:
    payment = town.rig.client(town.rig.requester).job(job_id).payment
    assert payment is not None
    return payment.paid


def test_from_the_submission_to_the_withdrawal(town: Town, cli: CommandLine) -> None:
    payer, chain = town.rig.requester, town.chain()
    pay = ("--pay", "0.005", "--escrow", town.file, "--rpc", town.dev.url)
    job = _submit(town, cli, payer, *pay, "--claim-blocks", 5000)
    client = town.rig.client(payer)
    until(lambda: (found := client.job(job.job_id).payment) is not None and found.funded)
    worker = _work(town)
    town.rig.finished(job.job_id, 60)
    until(lambda: chain.claim_of(job.job_id, address_of(payer), 0).state == ClaimState.CLAIMED)
    assert _paid(town, job.job_id) == 0
    until(lambda: "can be challenged until block" in str(client.job(job.job_id).payment))

    town.rig.stop(signal.SIGKILL)
    town.pass_blocks(PERIOD + 1)
    town.rig.start(REXIS_ACCOUNTABILITY=str(town.file))
    until(lambda: _paid(town, job.job_id) == 1, 90, lambda: town.rig.log)
    assert chain.claim_of(job.job_id, address_of(payer), 0).state == ClaimState.PAID
    assert chain.owed("JobEscrow", ZERO_ADDRESS, address_of(worker)) == PAID
    assert cli.done(worker, "escrow", "withdraw")["amount"] == str(PAID)
    code, out, _ = cli.run(None, "escrow", "status", job.job_id, "--payer", payer.address)
    assert (code, f"task 0: paid for {worker.address}, 0.005 coins" in out) == (0, True)


def test_a_job_that_nobody_paid_in_waits_and_says_so(town: Town, cli: CommandLine) -> None:
    payer, chain = town.rig.requester, town.chain()
    offer = PaymentOffer(payer=address_of(payer), escrow=town.manifest.job_escrow)
    job = town.proved.submit(Tier.SAMPLED, shard_size=5, sample_size=1, payment=offer)
    town.proved.new_worker()
    assert town.proved.worker.lease(1) is None
    (waits,) = town.rig.client(payer).waiting(job.job_id).groups
    assert waits.reason.startswith(f"not paid in: {payer.address} has to pay it in at {town.manifest.job_escrow}")

    cli.done(payer, "escrow", "fund", job.job_id, "--pay", "0.005", "--claim-blocks", 600)
    worker = _work(town)
    town.rig.finished(job.job_id, 60)
    certificate = town.certificate(job)
    town.rig.stop(signal.SIGKILL)
    (done,) = cli.done(worker, "escrow", "settle", certificate)
    assert (done["step"], "can be challenged until" in done["reason"]) == ("wait", True)
    assert chain.claim_of(job.job_id, address_of(payer), 0).worker == address_of(worker)
    town.pass_blocks(PERIOD + 1)
    (done,) = cli.done(town.funded(), "escrow", "settle", certificate)
    assert done["step"] == "paid"
    assert chain.owed("JobEscrow", ZERO_ADDRESS, address_of(worker)) == PAID
    town.rig.start(REXIS_ACCOUNTABILITY=str(town.file))
    until(lambda: _paid(town, job.job_id) == 1, 60, lambda: town.rig.log)
    town.pass_blocks(600)
    assert "NothingToRefund" in cli.refused(payer, "escrow", "refund", job.job_id)


def test_what_cannot_be_paid_is_refused_before_anything_is_sent(town: Town, cli: CommandLine, tmp_path: Path) -> None:
    payer = town.rig.requester
    wanted = ("submit", "--dataset", town.dataset, "--model", town.rig.model_digest, "--epoch", 1)
    code, _, said = cli.run(payer, *wanted, "--pay", "0.1", "--escrow", tmp_path / "none.json")
    assert (code, "no manifest" in said) == (1, True)
    assert "is nothing for each of 5 records" in cli.refused(payer, *wanted, "--pay", "4wei")
    assert "the job takes" in cli.refused(payer, *wanted, "--pay", "100000")
    other = json.loads(town.file.read_text())
    other["terms"]["bond"] = "1"
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(other))
    assert "does not follow from the terms" in cli.refused(payer, *wanted, "--pay", "1", "--escrow", forged)
    assert town.rig.client(payer).info().escrow == town.manifest.job_escrow
    jobs = town.rig.client(payer).jobs()
    assert not [job for job in jobs if job.state == JobState.QUEUED]


@pytest.fixture(autouse=True)
def funded_requester(town: Town) -> None:
    town.dev.fund(address_of(town.rig.requester))
