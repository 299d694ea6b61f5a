// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {JobEscrow} from "../src/accountability/JobEscrow.sol";
import {AnchorProof} from "../src/Evidence.sol";
import {JobRequest} from "../src/accountability/Requests.sol";
import {Statements} from "../src/Statements.sol";
import {CommitBase} from "./support/CommitBase.sol";

/// @title What the transactions about money cost, kept in contracts/snapshots/accountability.json.
/// @dev Isolated: every call is a transaction of its own, with its intrinsic and calldata cost.
/// forge-config: default.isolate = true
contract AccountabilityGasTest is CommitBase {
    function test_gas_ofEveryTransaction() public {
        JobRequest memory r = request(Statements.TIER_SAMPLED);
        vm.prank(PAYER);
        escrow.fund(r, JobEscrow.Offer(token, PRICE, 0, 2000));
        _snapshot("JobEscrow.fund");
        Call memory c = anchored(1);
        escrow.claim(PAYER, c.statement, c.signature, c.anchor);
        _snapshot("JobEscrow.claim");
        challenge(c);
        _snapshot("Disputes.challenge (tiny)");
        answer(c);
        _snapshot("Disputes.answer (tiny)");
        Call memory third = prepared(3);
        (third.statement, third.signature, third.anchor) = (c.statement, c.signature, c.anchor);
        challenge(third);
        vm.roll(block.number + WINDOW + 1);
        disputes.close(log.digestOf(c.statement), 3);
        _snapshot("Disputes.close");
        vm.prank(CHALLENGER);
        disputes.collect(token);
        _snapshot("Disputes.collect");
        vm.prank(worker);
        workers.requestWithdrawal(1);
        _snapshot("WorkerRegistry.requestWithdrawal");
        escrow.settle(c.statement.jobId, PAYER, 0);
        _snapshot("JobEscrow.settle");
        Call memory second = prepared(2);
        second.statement = c.statement;
        second.statement.nonce = keccak256("another lease");
        submit(second);
        AnchorProof memory first = AnchorProof(second.anchor.anchorId, 1, second.anchor.path);
        vm.roll(block.number + PERIOD + 1);
        submit(second);
        challenge(second);
        disputes.dismiss(log.digestOf(second.statement), 2, first);
        _snapshot("Disputes.dismiss");
    }

    function test_gas_ofTierCommit() public {
        warrant();
        _snapshot("Disputes.warrant");
        CommitCall memory c = committed(1);
        challenge(c);
        _snapshot("Disputes.challengeCommit (tiny)");
        answer(c);
        _snapshot("Disputes.answerCommit (tiny)");
        about(c, 2);
        challenge(c);
        vm.roll(block.number + WINDOW + 1);
        disputes.close(log.digestOf(c.statement), 2);
        vm.prank(worker);
        disputes.endWarranty(MODEL, Statements.hash(circuit));
        _snapshot("Disputes.endWarranty");
    }

    function _snapshot(string memory name) private {
        vm.snapshotGasLastCall("accountability", name);
    }
}
