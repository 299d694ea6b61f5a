"""The bindings against real contracts on a real node."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from eth_account.signers.local import LocalAccount
from web3 import Web3

from contracts.addresses import DEPLOYER, in_order
from contracts.chain import AnchorProof, Chain, Deployment, RevertError
from contracts.devchain import DevChain, devchain
from contracts.node import checksummed
from rexis.protocol.circuit import NO_CIRCUIT, Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import ChainError, MerkleError, NotFoundError, UnavailableError
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.signing import address_of, new_account


def _fresh() -> Digest:
    return Digest(secrets.token_bytes(32))


def _circuit() -> Circuit:
    return Circuit(
        vk_digest=_fresh(),
        vka_digest=_fresh(),
        srs_digest=_fresh(),
        settings_digest=_fresh(),
        visibility=Visibility.PUBLIC,
        input_scale=7,
        output_scale=14,
        input_length=30,
        output_length=2,
    )


# --- deployments


def test_discover_finds_the_whole_deployment(dev: DevChain, deployment: Deployment) -> None:
    chain = Chain.connect(dev.url)
    assert chain.missing() == []
    assert chain.discover() == deployment == Deployment.on(31337)
    at = chain._contracts
    assert at["EvidenceLog"].functions.registry().call() == deployment.model_registry
    certifier = at["Certifier"].functions
    assert certifier.registry().call() == deployment.model_registry
    assert certifier.log().call() == deployment.evidence_log
    assert certifier.halo2().call() == deployment.halo2_verifier


def test_deploying_again_finds_what_is_there(
    dev: DevChain, deployment: Deployment, funded: Callable[[], LocalAccount]
) -> None:
    account = funded()
    chain = Chain.connect(dev.url, account=account)
    node = Web3(Web3.HTTPProvider(dev.url))
    assert chain.deploy_all() == deployment
    assert node.eth.get_transaction_count(checksummed(chain.address)) == 0  # nothing was sent


def test_a_chain_without_contracts() -> None:
    with devchain(block_time_s=0.2) as bare:
        account = new_account()
        bare.fund(address_of(account))
        chain = Chain.connect(bare.url, account=account)
        assert chain.missing() == in_order()
        with pytest.raises(ChainError, match="no ModelRegistry at"):
            chain.discover()
        bare._request("anvil_setCode", [DEPLOYER, "0x"])
        with pytest.raises(UnavailableError, match="no deployer"):
            chain.deploy_all()


def test_two_deploy_at_once() -> None:
    with devchain(block_time_s=0.2) as bare, ThreadPoolExecutor(2) as pool:
        accounts = [new_account() for _ in range(2)]
        for account in accounts:
            bare.fund(address_of(account))
        found = list(pool.map(lambda account: Chain.connect(bare.url, account=account).deploy_all(), accounts))
    assert found == [Deployment.on(31337)] * 2


def test_attach_refuses_another_chain_id(dev: DevChain, deployment: Deployment) -> None:
    with pytest.raises(ChainError, match="chain 1"):
        Chain.connect(dev.url).attach(deployment.model_copy(update={"chain_id": 1}))


def test_attach_refuses_other_contracts(dev: DevChain, deployment: Deployment) -> None:
    swapped = deployment.model_copy(update={"evidence_log": deployment.model_registry})
    with pytest.raises(ChainError, match="not this version's"):
        Chain.connect(dev.url).attach(swapped)


def test_reads_need_a_deployment(dev: DevChain) -> None:
    with pytest.raises(ChainError, match="no contracts"):
        Chain.connect(dev.url).anchor_of(0)


def test_writes_need_an_account(dev: DevChain, deployment: Deployment) -> None:
    reader = Chain.connect(dev.url)
    reader.attach(deployment)
    with pytest.raises(ChainError, match="read-only"):
        reader.anchor(_fresh(), 1)


def test_writes_need_ether(dev: DevChain, deployment: Deployment) -> None:
    poor = Chain.connect(dev.url, account=new_account())
    poor.attach(deployment)
    with pytest.raises(ChainError, match=r"(?i)funds") as caught:
        poor.anchor(_fresh(), 1)
    assert caught.value.hint is not None
    assert poor.address in caught.value.hint


# --- ModelRegistry


def test_register_revoke_and_read_back(chain: Chain) -> None:
    model, circuit = _fresh(), _circuit()
    sent = chain.register(model, 3, circuit)
    entry = chain.registration(model, 3)
    assert entry.registrant == chain.address
    assert entry.has_circuit(circuit)
    assert not entry.has_circuit(NO_CIRCUIT)
    assert (entry.vka_digest, entry.srs_digest) == (circuit.vka_digest, circuit.srs_digest)
    assert (entry.registered_at, entry.active) == (sent.block, True)
    assert chain.transaction(sent.hash) == sent

    gone = chain.revoke(model, 3)
    entry = chain.registration(model, 3)
    assert (entry.revoked_at, entry.active) == (gone.block, False)


def test_a_model_changes_hands_when_its_next_owner_accepts(
    chain: Chain, dev: DevChain, deployment: Deployment, funded: Callable[[], LocalAccount]
) -> None:
    model, heir = _fresh(), Chain.connect(dev.url, account=funded())
    heir.attach(deployment)
    with pytest.raises(NotFoundError, match="nobody owns"):
        chain.owner_of(model)
    made = chain.register(model, 1, NO_CIRCUIT)
    chain.propose_owner(model, heir.address)
    assert (chain.owner_of(model), chain.proposed_owner_of(model)) == (chain.address, heir.address)
    with pytest.raises(RevertError, match="NotModelOwner"):
        heir.revoke(model, 1)
    chain.withdraw_proposal(model)
    assert chain.proposed_owner_of(model) is None
    with pytest.raises(RevertError, match="NotProposed"):
        heir.accept_ownership(model)

    chain.propose_owner(model, heir.address)
    taken = heir.accept_ownership(model)
    assert (chain.owner_of(model), chain.proposed_owner_of(model)) == (heir.address, None)
    assert chain.owner_at(model, taken.block) == heir.address
    for block in (made.block, taken.block - 1):
        assert chain.owner_at(model, block) == chain.address
    with pytest.raises(NotFoundError, match=f"in block {made.block - 1}"):
        chain.owner_at(model, made.block - 1)
    with pytest.raises(NotFoundError, match="FutureBlock"):
        chain.owner_at(model, taken.block + 10**6)
    with pytest.raises(RevertError, match="NotModelOwner"):
        chain.revoke(model, 1)
    heir.revoke(model, 1)
    assert chain.registration(model, 1).registrant == chain.address


def test_register_a_model_without_circuit(chain: Chain) -> None:
    model = _fresh()
    chain.register(model, 1, NO_CIRCUIT)
    assert chain.registration(model, 1).has_circuit(NO_CIRCUIT)


def test_registration_not_found(chain: Chain) -> None:
    with pytest.raises(NotFoundError):
        chain.registration(_fresh(), 1)


def test_register_decodes_the_custom_error(
    chain: Chain, dev: DevChain, deployment: Deployment, funded: Callable[[], LocalAccount]
) -> None:
    model = _fresh()
    chain.register(model, 1, NO_CIRCUIT)
    with pytest.raises(RevertError) as caught:
        chain.register(model, 1, NO_CIRCUIT)
    assert caught.value.name == "AlreadyRegistered"

    squatter = Chain.connect(dev.url, account=funded())
    squatter.attach(deployment)
    with pytest.raises(RevertError, match=chain.address.lower()) as caught:
        squatter.register(model, 2, NO_CIRCUIT)
    assert caught.value.name == "NotModelOwner"


# --- EvidenceLog


def test_commit_counts_and_draws_a_challenge(chain: Chain) -> None:
    task, first, second = _fresh(), _fresh(), _fresh()
    assert chain.attempts(chain.address, task) == 0
    made, sent = chain.commit(task, first)
    assert (made.attempt, made.statement_digest, made.block) == (1, first, sent.block)
    assert chain.commit(task, second)[0].attempt == 2
    assert chain.attempts(chain.address, task) == 2
    assert chain.commitment(chain.address, task, 1) == made
    with pytest.raises(NotFoundError):
        chain.commitment(chain.address, task, 3)

    challenge = chain.block_hash(made.block + 1, wait_s=5)
    assert challenge == chain.block_hash(made.block + 1)
    assert challenge != chain.block_hash(made.block)


def test_block_hash_of_a_block_to_come(chain: Chain) -> None:
    with pytest.raises(UnavailableError, match="has not come"):
        chain.block_hash(chain.block_number() + 1000)
    ahead = chain.block_number() + 2
    assert chain.block_hash(ahead, wait_s=5, confirmations=1)
    assert chain.block_number() >= ahead + 1


def test_anchor_and_inclusion(chain: Chain) -> None:
    digests = [_fresh() for _ in range(5)]
    tree = MerkleTree(digests)
    made, sent = chain.anchor(tree.root, 5)
    assert (made.root, made.size, made.block, made.submitter) == (tree.root, 5, sent.block, chain.address)
    assert chain.anchor_of(made.anchor_id) == made
    for i, digest in enumerate(digests):
        proof = AnchorProof(made.anchor_id, i, tree.path(i))
        assert chain.check_inclusion(digest, proof) == made
    with pytest.raises(MerkleError):
        chain.check_inclusion(digests[0], AnchorProof(made.anchor_id, 1, tree.path(1)))
    with pytest.raises(NotFoundError):
        chain.check_inclusion(digests[0], AnchorProof(10**6, 0, tree.path(0)))
    with pytest.raises(NotFoundError):
        chain.anchor_of(10**6)


def test_transactions_of_many_threads_keep_their_nonces(chain: Chain) -> None:
    task = _fresh()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: chain.commit(task, sha256(bytes([i])))[0], range(12)))
    assert sorted(item.attempt for item in made) == list(range(1, 13))
    for item in made:
        assert chain.commitment(chain.address, task, item.attempt) == item


def test_nonces_recover_after_a_restart(
    dev: DevChain, deployment: Deployment, funded: Callable[[], LocalAccount]
) -> None:
    account, task = funded(), _fresh()
    for attempt in (1, 2):
        again = Chain.connect(dev.url, account=account)
        again.attach(deployment)
        assert again.commit(task, _fresh())[0].attempt == attempt


def test_fee_above_the_limit_is_refused(
    dev: DevChain, deployment: Deployment, funded: Callable[[], LocalAccount]
) -> None:
    thrifty = Chain.connect(dev.url, account=funded(), max_fee_per_gas=1)
    thrifty.attach(deployment)
    with pytest.raises(UnavailableError, match="base fee"):
        thrifty.anchor(_fresh(), 1)


def test_transaction_not_found(chain: Chain) -> None:
    with pytest.raises(NotFoundError):
        chain.transaction(_fresh())


# --- the development chain itself


def test_devchain_stops() -> None:
    chain = DevChain.start(block_time_s=0.5)
    assert chain.is_up()
    chain.stop()
    assert _closes(chain.url)
    chain.stop()  # harmless


def test_devchain_refuses_a_taken_port(dev: DevChain) -> None:
    with pytest.raises(UnavailableError, match="is taken"):
        DevChain.start(port=urlsplit(dev.url).port)


def test_devchain_ends_when_its_owner_is_killed() -> None:
    program = (
        "import time\nfrom contracts.devchain import DevChain\n"
        "print(DevChain.start().url, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        owner.kill()
        assert _closes(url)


def _closes(url: str, within_s: float = 5.0) -> bool:
    port = urlsplit(url).port
    assert port is not None
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return True
        time.sleep(0.05)
    return False
