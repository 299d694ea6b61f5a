"""Stakes and payments by command, in the chain's coin and in an ERC-20 token, without a coordinator's help."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from web3 import Web3

from contracts.accountability import Accountability
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of
from tests.integration.accountability.town import PERIOD, ROOT, STAKE, CommandLine, Town, terms

_TOKEN = ROOT / "contracts/out/Tokens.sol/Token.json"


def test_a_stake_comes_back_after_its_delay(town: Town, cli: CommandLine) -> None:
    worker = town.funded()
    assert "is not an amount" in cli.refused(worker, "stake", "deposit", "much")
    assert "more than 18 decimals" in cli.refused(worker, "stake", "deposit", "0.1234567890123456789")
    assert cli.done(worker, "stake", "deposit", "0.3")["stake"]["amount"] == STAKE
    assert "ActiveStakeTooSmall" in cli.refused(worker, "stake", "withdraw", "0.4")
    asked = cli.done(worker, "stake", "withdraw", "100000000000000000wei")["stake"]
    assert (asked["amount"], asked["leaving"]) == (STAKE, STAKE // 3)
    assert "NotYet" in cli.refused(worker, "stake", "withdraw")
    town.pass_blocks(PERIOD + 1)
    assert cli.done(worker, "stake", "withdraw")["stake"]["amount"] == STAKE - STAKE // 3
    code, out, _ = cli.run(worker, "stake", "status", worker.address)
    assert (code, "at stake     0.2 coins" in out) == (0, True)


def test_stakes_and_payments_in_a_token(
    town: Town, cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, payer = town.funded(), town.rig.requester
    town.dev.fund(address_of(payer))
    token = _deploy_token(town, [worker, payer])
    chain = town.chain(town.funded())
    manifest = chain.deploy_accountability(terms(chain.address, chain.address, token))
    monkeypatch.setattr(town, "file", _written(tmp_path, manifest))
    assert "no token at" in cli.refused(payer, "escrow", "withdraw", "--token", address_of(worker))

    assert cli.done(worker, "stake", "deposit", "0.3")["stake"]["amount"] == STAKE
    code, out, _ = cli.run(None, "stake", "status", worker.address)
    assert (code, "0.3 TKN" in out) == (0, True)

    town.proved.new_worker()
    job = town.proved.submit(Tier.SAMPLED, shard_size=5, sample_size=1)
    asked = ("escrow", "fund", job.job_id, "--token", token, "--min-stake", "0.2")
    assert "nothing for each of 5 records" in cli.refused(payer, *asked, "--pay", "4wei")
    assert "the job takes" in cli.refused(payer, *asked, "--pay", "1001")
    paid = cli.done(payer, *asked, "--pay", "1", "--claim-blocks", "300")
    assert paid["amount"] == "1 TKN"
    assert cli.done(payer, *asked, "--pay", "1")["deadline"] == paid["deadline"]  # once
    assert "tasks can be claimed until" in cli.refused(payer, "escrow", "refund", job.job_id)
    code, out, _ = cli.run(None, "escrow", "status", job.job_id, "--payer", payer.address)
    assert (code, "price           0.2 TKN a record, 5 records in 1 tasks" in out) == (0, True)

    town.pass_blocks(301)
    assert cli.done(payer, "escrow", "refund", job.job_id)["amount"] == str(10**18)
    assert "NothingToRefund" in cli.refused(payer, "escrow", "refund", job.job_id)
    assert cli.done(payer, "escrow", "withdraw", "--token", token)["amount"] == str(10**18)
    assert "nothing is owed" in cli.refused(payer, "escrow", "withdraw", "--token", token)
    assert chain.balance_of(token, address_of(payer)) == 1000 * 10**18
    town.rig.client(payer).cancel_job(job.job_id)


def _deploy_token(town: Town, holders: list[LocalAccount]) -> Address:
    """The token of the Solidity tests, with a thousand for each."""
    made = json.loads(_TOKEN.read_text())
    account, web3 = town.funded(), Web3(Web3.HTTPProvider(town.dev.url))
    send = web3.eth.contract(abi=made["abi"], bytecode=made["bytecode"]["object"]).constructor()

    def mined(call) -> dict:  # type: ignore[no-untyped-def, type-arg]
        nonce = web3.eth.get_transaction_count(account.address)
        raw = account.sign_transaction(call.build_transaction({"from": account.address, "nonce": nonce}))
        found = web3.eth.wait_for_transaction_receipt(web3.eth.send_raw_transaction(raw.raw_transaction))
        assert found["status"] == 1
        return dict(found)

    at = mined(send)["contractAddress"]
    token = web3.eth.contract(address=at, abi=made["abi"])
    for holder in holders:
        mined(token.functions.mint(holder.address, 1000 * 10**18))
    return Address.parse(at)


def _written(folder: Path, manifest: Accountability) -> Path:
    path = folder / "accountability.json"
    path.write_bytes(manifest.to_json())
    return path
