"""Disputes, escrow and validators' verdicts on a real node: the bindings, the manifest, and who ends up with what."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from eth_account.signers.local import LocalAccount

from contracts.accountability import Accountability, Terms
from contracts.accountable import AccountableChain, DisputeState, RecordedVerdict, Validator
from contracts.chain import Deployment, RevertError
from contracts.devchain import DevChain
from rexis.protocol.bls import BlsKey, aggregate_signatures, new_bls_key
from rexis.protocol.digests import sha256
from rexis.protocol.errors import ChainError, ConflictError, MalformedError, NotFoundError
from rexis.protocol.parsing import ZERO_ADDRESS, Address
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.statement import JobRequest, Kind
from rexis.protocol.validation import Finding, ValidatorVerdict
from tests.integration.contracts.tasks import CIRCUIT, PROOF, SIZE, START, VKA, Task, make_task
from verifier.validator.seat import Seat, give_seat_up, require_seat, seat_of, take_seat

COIN = ZERO_ADDRESS
BOND, PENALTY, STAKE = 10**15, 10**17, 3 * 10**17
TREASURY = address_of(new_account())
Connect = Callable[[], AccountableChain]


@pytest.fixture(scope="module")
def manifest(dev: DevChain, deployment: Deployment, funded: Callable[[], LocalAccount]) -> Accountability:
    """The contracts, with windows long enough for what the tests do and short enough to mine through."""
    governance = funded()
    chain = AccountableChain.connect(dev.url, account=governance)
    chain.attach(deployment)
    made = chain.deploy_accountability(
        Terms(
            governance=address_of(governance),
            token=COIN,
            bond=BOND,
            penalty=PENALTY,
            reward_bps=4000,
            treasury=TREASURY,
            challenge_period=500,
            response_window=500,
            validator_delay=500,
            validator_min_stake=10**16,
            threshold_bps=6666,
        )
    )
    chain.register_vka(VKA)
    chain.admit_circuit(make_task(chain, Tier.SAMPLED).openings[0], PROOF, VKA)
    return made


@pytest.fixture
def connect(
    dev: DevChain, deployment: Deployment, manifest: Accountability, funded: Callable[[], LocalAccount]
) -> Connect:
    """Makes connections as accounts of their own."""

    def make() -> AccountableChain:
        chain = AccountableChain.connect(dev.url, account=funded())
        chain.attach(deployment)
        chain.attach_accountability(manifest)
        return chain

    return make


def _staked(connect: Connect, altered: int = 0) -> tuple[AccountableChain, Task]:
    worker = connect()
    worker.stake(STAKE)
    task = make_task(worker, Tier.SAMPLED, worker=worker._signer(), altered=altered)
    return worker, task


def test_a_manifest_finds_the_deployment_again(dev: DevChain, manifest: Accountability) -> None:
    read = Accountability.from_json(manifest.to_json())
    assert read == manifest == Accountability.on(manifest.chain_id, manifest.terms)
    chain = AccountableChain.connect(dev.url)
    chain.discover()
    chain.attach_accountability(read)
    functions = chain._functions
    assert functions("Disputes").workers().call() == manifest.worker_registry
    assert functions("Disputes").log().call() == chain.deployment.evidence_log
    assert functions("WorkerRegistry").disputes().call() == manifest.disputes
    assert functions("JobEscrow").disputes().call() == manifest.disputes
    assert functions("ValidatorQuorum").log().call() == chain.deployment.evidence_log
    assert functions("JobEscrow").owner().call() == manifest.terms.governance
    assert chain.is_admitted(CIRCUIT.vka_digest)


def test_a_manifest_whose_addresses_do_not_follow_from_its_terms_is_refused(manifest: Accountability) -> None:
    document = manifest.to_object()
    with pytest.raises(MalformedError, match="does not follow from the terms"):
        Accountability.from_object({**document, "jobEscrow": manifest.disputes})
    with pytest.raises(MalformedError, match="does not follow from the terms"):
        Accountability.from_object({**document, "terms": {**document["terms"], "penalty": "1"}})
    with pytest.raises(MalformedError, match="decimal digits"):
        Accountability.from_object({**document, "terms": {**document["terms"], "penalty": "01"}})


def test_terms_that_nobody_deployed_are_not_attached_to(connect: Connect, manifest: Accountability) -> None:
    chain = connect()
    other = manifest.terms.model_copy(update={"bond": BOND + 1})
    with pytest.raises(ChainError, match="no Disputes at"):
        chain.attach_accountability(Accountability.on(chain.chain_id, other))
    with pytest.raises(ChainError, match="is on chain 1"):
        chain.attach_accountability(Accountability.on(1, manifest.terms))


def test_an_honest_worker_is_vindicated(connect: Connect) -> None:
    worker, task = _staked(connect)
    challenger = connect()
    challenger.challenge(task.statement, task.signature, task.anchor, task.openings[0])
    dispute = worker.dispute_of(task.digest, START)
    assert (dispute.state, dispute.worker, dispute.locked) == (DisputeState.OPEN, worker.address, PENALTY)
    worker.answer(task.statement, task.openings[0], PROOF, VKA)
    assert worker.dispute_of(task.digest, START).state == DisputeState.PROVED
    assert worker.owed("Disputes", COIN, worker.address) == BOND
    worker.collect("Disputes", COIN)
    assert worker.owed("Disputes", COIN, worker.address) == 0
    stake = worker.stake_of(worker.address)
    assert (stake.amount, stake.locked) == (STAKE, 0)
    assert worker.reputation_of(worker.address).vindicated == 1


def test_a_dishonest_worker_loses_its_stake(dev: DevChain, connect: Connect) -> None:
    worker, task = _staked(connect, altered=1)
    challenger = connect()
    challenger.challenge(task.statement, task.signature, task.anchor, task.openings[1])
    with pytest.raises(RevertError) as caught:
        worker.answer(task.statement, task.openings[1], PROOF, VKA)
    assert caught.value.name == "ProofRejected"
    with pytest.raises(RevertError) as caught:
        challenger.close(task.digest, START + 1)
    assert caught.value.name == "TooEarly"
    dev.mine(501)
    challenger.close(task.digest, START + 1)
    assert challenger.dispute_of(task.digest, START + 1).state == DisputeState.FAULTED
    assert challenger.stake_of(worker.address).amount == STAKE - PENALTY
    assert challenger.owed("Disputes", COIN, challenger.address) == BOND + PENALTY * 4 // 10
    assert challenger.owed("Disputes", COIN, TREASURY) >= PENALTY * 6 // 10
    assert challenger.reputation_of(worker.address).faulted == 1


def test_an_escrow_keeps_a_job_by_the_id_that_its_requester_signs(connect: Connect) -> None:
    payer = connect()
    request = _request(payer.address)
    deadline = payer.block_number() + 5000
    sent = payer.fund(request, COIN, 10**12, 0, deadline)
    job = request.job_id(payer.deployment.domain)
    assert payer.transaction_with(sent.hash, "JobEscrow", "Funded", jobId=bytes(job), amount=10**12 * SIZE)
    with pytest.raises(RevertError) as caught:
        payer.refund(job, payer.address)
    assert caught.value.name == "TooEarly"


def test_validators_write_a_verdict_as_one_signature(connect: Connect) -> None:
    digest = sha256(b"a statement")
    keys: list[BlsKey] = []
    for slot in range(2):
        validator = connect()
        key = new_bls_key()
        possession = key.prove_possession(validator.address, validator.deployment.domain)
        validator.join(10**16, slot, key.public_key, possession)
        keys.append(key)
    chain = connect()
    assert chain.verdict_on(digest) is None
    message = chain.deployment.domain.digest(ValidatorVerdict(statement_digest=digest, verdict=Finding.INVALID))
    signatures = [key.sign(message) for key in keys]
    with pytest.raises(RevertError) as caught:
        chain.record_verdict(digest, Finding.INVALID, [0], signatures[0])
    assert caught.value.name == "NoQuorum"
    began = chain.block_number()
    assert chain.find_verdict(digest, 0) is None
    sent = chain.record_verdict(digest, Finding.INVALID, [0, 1], aggregate_signatures(signatures))
    assert chain.verdict_on(digest) == Finding.INVALID
    stake = 2 * 10**16
    expected = RecordedVerdict(Finding.INVALID, (0, 1), stake, stake, sent.block, sent.hash)
    assert chain.find_verdict(digest, began) == expected
    assert chain.find_verdict(digest, sent.block + 1) is None
    assert chain.find_verdict(digest, 0, confirmations=10**6) is None


def test_a_validator_joins_leaves_and_fetches_its_stake_when_its_delay_is_over(
    dev: DevChain, connect: Connect, manifest: Accountability
) -> None:
    chain, key, least = connect(), new_bls_key(), manifest.terms.validator_min_stake
    chain.deploy_accountability(manifest.terms.model_copy(update={"validator_delay": 20}))
    with pytest.raises(NotFoundError, match="is no validator of quorum"):
        require_seat(chain, chain.address, key)
    seat = take_seat(chain, key, 2 * least, slot=7)
    assert take_seat(chain, key, 5 * least) == seat == Seat(7, key.public_key, 2 * least)  # again: nothing
    assert chain.validator_in(7) == Validator(chain.address, key.public_key, 2 * least)
    assert chain.active_validator_stake() == 2 * least
    with pytest.raises(ConflictError, match="joined with another key"):
        take_seat(chain, new_bls_key(), least)
    other = connect()
    other.attach_accountability(chain.accountability)
    assert take_seat(other, new_bls_key(), least).slot == 0

    left = give_seat_up(chain)
    assert (left.amount, left.leaving) == (2 * least, 2 * least)
    with pytest.raises(ConflictError, match="asked its whole stake back"):
        require_seat(chain, chain.address, key)
    with pytest.raises(RevertError) as caught:
        give_seat_up(chain)
    assert caught.value.name == "NotYet"
    dev.mine(21)
    assert give_seat_up(chain).amount == 0
    assert (chain.validator_in(7), seat_of(chain, chain.address)) == (None, None)
    with pytest.raises(NotFoundError, match="nothing at stake"):
        give_seat_up(chain)


def _request(requester: Address) -> JobRequest:
    return JobRequest(
        kind=Kind.EVALUATION,
        model_digest=sha256(b"model"),
        key_epoch=1,
        circuit=CIRCUIT,
        dataset_digest=sha256(b"dataset"),
        input_root=sha256(b"root"),
        input_size=SIZE,
        record_start=0,
        record_count=SIZE,
        policy=Policy(
            tier=Tier.SAMPLED,
            sample_size=1,
            shard_size=1,
            max_attempts=3,
            abs_tolerance_e9=0,
            rel_tolerance_e9=0,
            rung=Rung.EE_OUTSOURCED,
            validators=0,
            certify_on_chain=False,
        ),
        requester=requester,
        coordinator=requester,
        nonce=sha256(b"nonce"),
    )
