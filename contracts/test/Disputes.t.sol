// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {Disputes} from "../src/accountability/Disputes.sol";
import {Payments} from "../src/accountability/Payments.sol";
import {Standing} from "../src/accountability/Standing.sol";
import {AnchorProof, Evidence} from "../src/Evidence.sol";
import {Merkle} from "../src/Merkle.sol";
import {Statements} from "../src/Statements.sol";
import {AccountabilityBase} from "./support/AccountabilityBase.sol";

contract DisputesTest is AccountabilityBase {
    // --- the two ends of a dispute

    function test_answer_paysTheBondToTheWorker() public {
        Call memory c = anchored(1);
        bytes32 digest = log.digestOf(c.statement);
        vm.expectEmit();
        emit Disputes.Challenged(digest, 1, worker, CHALLENGER, uint64(block.number) + WINDOW, PENALTY);
        challenge(c);
        vm.assertEq(workers.stakeOf(worker).locked, PENALTY, "locked");
        vm.assertEq(disputes.tallyOf(digest).open, 1, "open");

        vm.roll(block.number + WINDOW); // the last block
        vm.expectEmit();
        emit Disputes.Proved(digest, 1, worker);
        answer(c);
        vm.assertEq(owedTo(worker), BOND, "bond");
        vm.assertEq(workers.stakeOf(worker).amount, STAKE, "stake");
        vm.assertEq(workers.stakeOf(worker).locked, 0, "locked");
        vm.assertEq(disputes.tallyOf(digest).open, 0, "open");
        vm.assertEq(workers.reputationOf(worker).vindicated, 1, "vindicated");

        vm.prank(worker);
        disputes.collect(token);
        vm.assertEq(token.balanceOf(worker), BOND, "collected");
        vm.assertEq(token.balanceOf(address(disputes)), 0, "left");
        vm.expectRevert(abi.encodeWithSelector(Payments.NothingOwed.selector, token, worker));
        vm.prank(worker);
        disputes.collect(token);
    }

    function test_close_slashesTheSilent() public {
        Call memory c = anchored(3); // no proof of these values exists
        bytes32 digest = log.digestOf(c.statement);
        challenge(c);
        vm.roll(block.number + WINDOW + 1);
        vm.expectEmit();
        emit Disputes.Faulted(digest, 3, worker, PENALTY);
        disputes.close(digest, 3);
        uint256 reward = uint256(PENALTY) * REWARD_BPS / 10_000;
        vm.assertEq(owedTo(CHALLENGER), BOND + reward, "challenger");
        vm.assertEq(owedTo(TREASURY), PENALTY - reward, "treasury");
        vm.assertEq(workers.stakeOf(worker).amount, STAKE - PENALTY, "stake");
        vm.assertEq(workers.reputationOf(worker).faulted, 1, "faulted");
        vm.assertEq(disputes.tallyOf(digest).faulted, 1, "tally");
        vm.assertEq(token.balanceOf(address(disputes)), BOND + PENALTY, "backed");
    }

    /// @dev A false output, signed and anchored: the honest proof is not of it.
    function test_answer_revertsIfTheCommittedOutputIsFalse() public {
        instances[instances.length - 1] = 7777;
        Call memory c = anchored(1);
        challenge(c);
        vm.expectRevert(abi.encodeWithSelector(Disputes.ProofRejected.selector, circuit.vkaDigest));
        answer(c);
        vm.roll(block.number + WINDOW + 1);
        disputes.close(log.digestOf(c.statement), 1);
        vm.assertEq(workers.reputationOf(worker).faulted, 1, "faulted");
    }

    /// @dev Also by a stranger, with the true values of a false statement.
    function test_answer_revertsIfTheOutputIsNotTheCommitted() public {
        uint256 right = instances[instances.length - 1];
        instances[instances.length - 1] = 7777;
        Call memory c = anchored(1);
        challenge(c);
        c.record.instances[instances.length - 1] = right;
        vm.expectRevert(abi.encodeWithSelector(Evidence.OutputNotInTree.selector, 1));
        answer(c);
    }

    function test_answer_revertsIfTheVerifierSaysNo() public {
        Call memory c = anchored(1);
        challenge(c);
        answerAlways(false, circuit.vkaDigest);
        vm.expectRevert(abi.encodeWithSelector(Disputes.ProofRejected.selector, circuit.vkaDigest));
        answer(c);
        answerAlways(true, keccak256("another VKA"));
        vm.expectRevert(abi.encodeWithSelector(Disputes.ProofRejected.selector, circuit.vkaDigest));
        answer(c);
        vm.assertEq(workers.stakeOf(worker).locked, PENALTY, "locked");
    }

    function test_answer_aWrongOneHarmsNobodyWhoAnswersRightLater() public {
        Call memory c = anchored(1);
        challenge(c);
        bytes memory right = c.record.proof;
        c.record.proof = bytes.concat(right);
        c.record.proof[7] ^= 0x10;
        vm.expectRevert(abi.encodeWithSelector(Disputes.ProofRejected.selector, circuit.vkaDigest));
        answer(c);
        c.record.proof = right;
        answer(c);
        vm.assertEq(owedTo(worker), BOND, "bond");
    }

    /// @dev The owner of a model cannot make a worker lose by revoking it.
    function test_answer_isTakenAfterARevocation() public {
        Call memory c = anchored(1);
        challenge(c);
        vm.roll(block.number + 1);
        registry.revoke(MODEL, EPOCH);
        answer(c);
        vm.assertEq(workers.reputationOf(worker).vindicated, 1, "vindicated");
    }

    function test_answer_revertsIfTooLate() public {
        Call memory c = anchored(1);
        challenge(c);
        vm.roll(block.number + WINDOW + 1);
        vm.expectRevert(abi.encodeWithSelector(Disputes.TooLate.selector, block.number, block.number - 1));
        answer(c);
    }

    function test_answer_revertsIfNothingIsOpen() public {
        Call memory c = anchored(1);
        bytes32 digest = log.digestOf(c.statement);
        vm.expectRevert(abi.encodeWithSelector(Disputes.NotOpen.selector, digest, 1));
        answer(c);
        challenge(c);
        answer(c);
        vm.expectRevert(abi.encodeWithSelector(Disputes.NotOpen.selector, digest, 1));
        answer(c);
        vm.assertEq(owedTo(worker), BOND, "paid twice");
    }

    // --- dismissing

    function test_dismiss_endsADisputeAboutAStatementThatWasAnchoredAgainLater() public {
        Call memory c = anchored(1);
        bytes32 digest = log.digestOf(c.statement);
        AnchorProof memory first = c.anchor;
        vm.roll(block.number + PERIOD + 1);
        c.anchor = _anchorAgain(digest);
        challenge(c);
        vm.expectEmit();
        emit Disputes.Dismissed(digest, 1, worker);
        disputes.dismiss(digest, 1, first);
        vm.assertEq(uint256(disputes.disputeOf(digest, 1).state), uint256(Disputes.State.Dismissed), "state");
        vm.assertEq(disputes.tallyOf(digest).open, 0, "open");
        vm.assertEq(workers.stakeOf(worker).locked, 0, "locked");
        vm.assertEq(owedTo(worker), BOND, "bond");
        _expect(abi.encodeWithSelector(Disputes.AlreadyDisputed.selector, digest, 1), c);
    }

    function test_dismiss_revertsIfTheStatementWasStillInTime() public {
        Call memory c = anchored(1);
        bytes32 digest = log.digestOf(c.statement);
        AnchorProof memory first = c.anchor;
        uint256 last = block.number + PERIOD;
        vm.roll(last);
        c.anchor = _anchorAgain(digest);
        challenge(c);
        vm.expectRevert(abi.encodeWithSelector(Disputes.TooEarly.selector, last, last + 1));
        disputes.dismiss(digest, 1, first);
        vm.roll(last + WINDOW); // time that passes afterwards does not count
        vm.expectRevert(abi.encodeWithSelector(Disputes.TooEarly.selector, last, last + 1));
        disputes.dismiss(digest, 1, first);
    }

    function test_dismiss_revertsIfNotAnchoredNotOpenOrTooLate() public {
        Call memory c = anchored(1);
        bytes32 digest = log.digestOf(c.statement);
        AnchorProof memory first = c.anchor;
        vm.expectRevert(abi.encodeWithSelector(Disputes.NotOpen.selector, digest, 1));
        disputes.dismiss(digest, 1, first);
        vm.roll(block.number + PERIOD + 1);
        c.anchor = _anchorAgain(digest);
        challenge(c);
        uint256 until = block.number + WINDOW;
        first.leafIndex = 0;
        vm.expectRevert(abi.encodeWithSelector(Standing.NotAnchored.selector, first.anchorId, digest));
        disputes.dismiss(digest, 1, first);
        first.leafIndex = 1;
        vm.roll(until + 1);
        vm.expectRevert(abi.encodeWithSelector(Disputes.TooLate.selector, until + 1, until));
        disputes.dismiss(digest, 1, first);
    }

    function test_close_revertsIfTooEarlyOrNotOpen() public {
        Call memory c = anchored(1);
        bytes32 digest = log.digestOf(c.statement);
        vm.expectRevert(abi.encodeWithSelector(Disputes.NotOpen.selector, digest, 1));
        disputes.close(digest, 1);
        challenge(c);
        vm.roll(block.number + WINDOW);
        vm.expectRevert(abi.encodeWithSelector(Disputes.TooEarly.selector, block.number, block.number + 1));
        disputes.close(digest, 1);
        answer(c);
        vm.roll(block.number + 1);
        vm.expectRevert(abi.encodeWithSelector(Disputes.NotOpen.selector, digest, 1));
        disputes.close(digest, 1);
    }

    function test_close_slashesOnce() public {
        Call memory c = anchored(3);
        lose(c);
        bytes32 digest = log.digestOf(c.statement);
        vm.expectRevert(abi.encodeWithSelector(Disputes.NotOpen.selector, digest, 3));
        disputes.close(digest, 3);
        vm.expectRevert(abi.encodeWithSelector(Disputes.AlreadyDisputed.selector, digest, 3));
        challenge(c);
    }

    /// @dev Disputes that run together have collateral of their own, as far as the stake goes.
    function test_close_takesNoMoreThanWasLocked() public {
        Call memory third = anchored(3);
        challenge(third);
        for (uint64 i = 1; i <= 2; ++i) {
            Call memory c = prepared(i);
            (c.statement, c.signature, c.anchor) = (third.statement, third.signature, third.anchor);
            challenge(c);
        }
        bytes32 digest = log.digestOf(third.statement);
        vm.assertEq(disputes.disputeOf(digest, 2).locked, STAKE - 2 * PENALTY, "the last gets the rest");
        vm.roll(block.number + WINDOW + 1);
        for (uint64 i = 1; i <= 3; ++i) {
            disputes.close(digest, i);
        }
        vm.assertEq(workers.stakeOf(worker).amount, 0, "stake");
        vm.assertEq(token.balanceOf(address(disputes)), 3 * BOND + STAKE, "backed");
        vm.assertEq(owedTo(CHALLENGER) + owedTo(TREASURY), 3 * BOND + STAKE, "owed");
    }

    function test_close_recordsTheFaultOfAWorkerWithoutStake() public {
        vm.startPrank(worker);
        workers.requestWithdrawal(STAKE);
        vm.roll(block.number + PERIOD + 1);
        workers.withdraw();
        vm.stopPrank();
        lose(anchored(3));
        vm.assertEq(owedTo(CHALLENGER), BOND, "bond");
        vm.assertEq(workers.reputationOf(worker).faulted, 1, "faulted");
    }

    // --- 1. statements that cannot be disputed

    function test_challenge_revertsIfTierIsCommit() public {
        Call memory c = prepared(1);
        c.statement.tier = Statements.TIER_COMMIT;
        submit(c);
        _expect(abi.encodeWithSelector(Disputes.TierNotDisputable.selector, Statements.TIER_COMMIT), c);
    }

    function test_challenge_takesTierZk() public {
        Call memory c = prepared(1);
        submit(c);
        challenge(c);
        answer(c);
        vm.assertEq(owedTo(worker), BOND, "bond");
    }

    function test_challenge_revertsIfNotAPublicEvaluation() public {
        Call memory c = anchored(1);
        c.statement.kind = 2;
        _expect(abi.encodeWithSelector(Disputes.NotAPublicEvaluation.selector, 1, 2, 1), c);
        c.statement.kind = 1;
        c.statement.circuit.visibility = Statements.VISIBILITY_HASHED;
        _expect(abi.encodeWithSelector(Disputes.NotAPublicEvaluation.selector, 1, 1, 2), c);
        c.statement.circuit.visibility = Statements.VISIBILITY_PUBLIC;
        c.statement.version = 2;
        _expect(abi.encodeWithSelector(Disputes.NotAPublicEvaluation.selector, 2, 1, 1), c);
    }

    function test_challenge_revertsIfRangeOrTaskIdIsBad() public {
        Call memory c = anchored(1);
        bytes32 right = c.statement.taskId;
        c.statement.taskId = ~right;
        _expect(abi.encodeWithSelector(Disputes.WrongTaskId.selector, right, ~right), c);
        (c.statement.recordStart, c.statement.recordCount) = (3, 3);
        _expect(abi.encodeWithSelector(Disputes.BadRecordRange.selector, 3, 3, SIZE), c);
    }

    // --- 2 … 5

    function test_challenge_revertsIfNotSignedByTheWorker() public {
        Call memory c = anchored(1);
        bytes32 digest = log.digestOf(c.statement);
        c.signature = sign(WORKER_KEY + 1, digest);
        _expect(abi.encodeWithSelector(Evidence.WrongSigner.selector, digest, worker), c);
    }

    function test_challenge_revertsIfNotAnchored() public {
        Call memory c = anchored(1);
        c.anchor.leafIndex = 0;
        _expect(abi.encodeWithSelector(Standing.NotAnchored.selector, 0, log.digestOf(c.statement)), c);
    }

    function test_challenge_revertsIfTooLate() public {
        Call memory c = anchored(1);
        uint256 last = block.number + PERIOD;
        vm.roll(last + 1);
        _expect(abi.encodeWithSelector(Disputes.TooLate.selector, last + 1, last), c);
        vm.roll(last);
        challenge(c);
    }

    function test_challenge_isTakenIfRevokedAfterTheAnchor() public {
        Call memory c = anchored(1);
        vm.roll(block.number + 1);
        registry.revoke(MODEL, EPOCH);
        challenge(c);
    }

    function test_challenge_revertsIfAnchoredAfterTheRevocation() public {
        registry.revoke(MODEL, EPOCH);
        Call memory c = anchored(1);
        _expect(abi.encodeWithSelector(Standing.ModelNotActiveThen.selector, MODEL, EPOCH, block.number), c);
    }

    function test_challenge_revertsIfCircuitIsNotTheRegistered() public {
        circuit.srsDigest = keccak256("another");
        Call memory c = anchored(1);
        vm.prank(CHALLENGER);
        vm.expectPartialRevert(Disputes.CircuitNotRegistered.selector);
        disputes.challenge(c.statement, c.signature, c.anchor, inputOf(c));
    }

    /// @dev What no proof was ever shown for could be a circuit of several segments: nobody could answer.
    function test_challenge_revertsIfCircuitWasNotAdmitted() public {
        disputes = new Disputes(GOVERNANCE, token, certifier, _terms());
        Call memory c = anchored(1);
        _expect(abi.encodeWithSelector(Disputes.CircuitNotAdmitted.selector, circuit.vkaDigest), c);
    }

    function test_admitCircuit_revertsIfProofIsWrong() public {
        bytes memory wrong = bytes.concat(proof);
        wrong[3] ^= 0x01;
        vm.expectRevert(abi.encodeWithSelector(Disputes.ProofRejected.selector, circuit.vkaDigest));
        disputes.admitCircuit(instances, wrong, vka);
        bytes32[] memory other = vka;
        other[20] = ~other[20];
        vm.expectPartialRevert(Disputes.VkaNotRegistered.selector);
        disputes.admitCircuit(instances, proof, other);
    }

    // --- 6. who does not hold the record

    function test_challenge_revertsIfInputIsNotTheCommitted() public {
        Call memory c = anchored(1);
        c.record.inputSalt = ~c.record.inputSalt;
        _expect(abi.encodeWithSelector(Evidence.InputNotInTree.selector, 1), c);
    }

    function test_challenge_revertsIfInputHasAnotherLength() public {
        Call memory c = anchored(1);
        Disputes.InputOpening memory input = inputOf(c);
        input.values = new uint256[](circuit.inputLength + 1);
        vm.prank(CHALLENGER);
        vm.expectRevert(
            abi.encodeWithSelector(
                Disputes.WrongInputCount.selector, circuit.inputLength, uint256(circuit.inputLength) + 1
            )
        );
        disputes.challenge(c.statement, c.signature, c.anchor, input);
    }

    function test_challenge_revertsIfRecordIsOutOfRange() public {
        Call memory c = anchored(1);
        uint64[3] memory outside = [START - 1, START + COUNT, type(uint64).max];
        for (uint256 i = 0; i < outside.length; ++i) {
            c.record.recordIndex = outside[i];
            _expect(abi.encodeWithSelector(Disputes.RecordOutOfRange.selector, outside[i]), c);
        }
    }

    // --- 7, and governance

    function test_challenge_revertsIfDisputedBefore() public {
        Call memory c = anchored(1);
        challenge(c);
        bytes memory reason = abi.encodeWithSelector(Disputes.AlreadyDisputed.selector, log.digestOf(c.statement), 1);
        _expect(reason, c);
        answer(c);
        _expect(reason, c);
    }

    /// @dev What is proved on chain already needs nobody who answers.
    function test_challenge_revertsIfCertified() public {
        Call memory c = prepared(1);
        submit(c);
        certify(c);
        _expect(abi.encodeWithSelector(Disputes.AlreadyCertified.selector, log.digestOf(c.statement), 1), c);
        Call memory second = prepared(2);
        (second.statement, second.signature, second.anchor) = (c.statement, c.signature, c.anchor);
        challenge(second);
    }

    function test_pause_stopsChallengesAndNothingElse() public {
        Call memory c = anchored(1);
        Call memory third = prepared(3);
        (third.statement, third.signature, third.anchor) = (c.statement, c.signature, c.anchor);
        challenge(c);
        challenge(third);
        vm.prank(GOVERNANCE);
        disputes.pause();
        Call memory second = prepared(2);
        (second.statement, second.signature, second.anchor) = (c.statement, c.signature, c.anchor);
        _expect(abi.encodeWithSelector(Pausable.EnforcedPause.selector), second);
        answer(c);
        vm.roll(block.number + WINDOW + 1);
        disputes.close(log.digestOf(c.statement), 3);
        vm.prank(worker);
        disputes.collect(token);
        vm.prank(GOVERNANCE);
        disputes.unpause();
        challenge(second);
    }

    function test_governance_changesHandsInTwoSteps() public {
        address next = address(0x4E87);
        vm.prank(GOVERNANCE);
        disputes.transferOwnership(next);
        vm.assertEq(disputes.owner(), GOVERNANCE, "too early");
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, next));
        vm.prank(next);
        disputes.pause();
        vm.prank(next);
        disputes.acceptOwnership();
        vm.assertEq(disputes.owner(), next, "not handed over");
    }

    function test_constructor_revertsIfTermsAreBad() public {
        for (uint256 i = 0; i < 6; ++i) {
            Disputes.Terms memory t = _terms();
            if (i == 0) t.bond = 0;
            if (i == 1) t.penalty = 0;
            if (i == 2) t.rewardBps = 10_000;
            if (i == 3) t.treasury = address(0);
            if (i == 4) t.challengePeriod = 0;
            if (i == 5) t.responseWindow = 0;
            vm.expectRevert(abi.encodeWithSelector(Disputes.BadTerms.selector));
            new Disputes(GOVERNANCE, token, certifier, t);
        }
    }

    function _expect(bytes memory reason, Call memory c) private {
        Disputes.InputOpening memory input = inputOf(c);
        vm.expectRevert(reason);
        vm.prank(CHALLENGER);
        disputes.challenge(c.statement, c.signature, c.anchor, input);
    }

    /// @dev Whoever likes anchors a statement alone in a tree.
    function _anchorAgain(bytes32 digest) private returns (AnchorProof memory) {
        bytes32 root = Merkle.leafHash(abi.encodePacked(digest));
        return AnchorProof(log.anchor(root, 1), 0, new bytes32[](0));
    }
}
