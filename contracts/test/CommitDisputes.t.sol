// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {Disputes} from "../src/accountability/Disputes.sol";
import {Floats} from "../src/accountability/Floats.sol";
import {Standing} from "../src/accountability/Standing.sol";
import {Warranties} from "../src/accountability/Warranties.sol";
import {AnchorProof, Evidence, RecordProof} from "../src/Evidence.sol";
import {Records} from "../src/Records.sol";
import {Statements} from "../src/Statements.sol";
import {CommitBase} from "./support/CommitBase.sol";
import {FloatBits} from "./support/FloatBits.sol";

contract CommitDisputesTest is CommitBase {
    // --- the two ends of a dispute

    function test_answerCommit_paysTheBondToTheWorker() public {
        warrant();
        CommitCall memory c = committed(1);
        bytes32 digest = log.digestOf(c.statement);
        vm.expectEmit();
        emit Disputes.Challenged(digest, 1, worker, CHALLENGER, uint64(block.number) + WINDOW, PENALTY);
        vm.expectEmit();
        emit Disputes.ChallengedByProof(digest, 1, c.proven);
        challenge(c);
        Disputes.Dispute memory dispute = disputes.disputeOf(digest, 1);
        vm.assertEq(dispute.proven, keccak256(abi.encode(c.proven)), "proven");
        vm.assertEq(uint256(dispute.warrantedFrom), block.number, "warranted from");
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
        vm.expectRevert(abi.encodeWithSelector(Disputes.NotOpen.selector, digest, 1));
        answer(c);
    }

    function test_close_slashesForAnOutputOutsideTheTolerance() public {
        beside[0] = int64(TOLERANCE) + 1;
        warrant();
        CommitCall memory c = committed(1);
        bytes32 digest = log.digestOf(c.statement);
        challenge(c);
        vm.expectRevert(abi.encodeWithSelector(Disputes.OutsideTolerance.selector, 0));
        answer(c);
        vm.roll(block.number + WINDOW + 1);
        vm.expectRevert(abi.encodeWithSelector(Disputes.TooLate.selector, block.number, block.number - 1));
        answer(c);
        disputes.close(digest, 1);
        uint256 reward = uint256(PENALTY) * REWARD_BPS / 10_000;
        vm.assertEq(owedTo(CHALLENGER), BOND + reward, "challenger");
        vm.assertEq(owedTo(TREASURY), PENALTY - reward, "treasury");
        vm.assertEq(workers.stakeOf(worker).amount, STAKE - PENALTY, "stake");
        vm.assertEq(disputes.tallyOf(digest).faulted, 1, "tally");
    }

    // --- the tolerance's edge

    function test_answerCommit_takesOutputsExactlyAtTheTolerance() public {
        beside = [int256(int64(TOLERANCE)), -int256(int64(TOLERANCE)), 0];
        warrant();
        CommitCall memory c = committed(1);
        challenge(c);
        answer(c);
        about(c, 2);
        challenge(c);
        answer(c);
        vm.assertEq(workers.reputationOf(worker).vindicated, 2, "vindicated");
    }

    function test_answerCommit_revertsOneUnitOutside() public {
        beside = [int256(int64(TOLERANCE)) + 1, -int256(int64(TOLERANCE)) - 1, 0];
        warrant();
        CommitCall memory c = committed(1);
        for (uint64 i = 1; i <= 2; ++i) {
            about(c, i);
            challenge(c);
            vm.expectRevert(abi.encodeWithSelector(Disputes.OutsideTolerance.selector, 0));
            answer(c);
        }
    }

    /// @dev The next float beyond the edge is outside.
    function test_answerCommit_revertsOneUlpOutside() public {
        int256 first = int256(Records.toInt64(values(1)[circuit.inputLength], 0));
        int256 edge = first < 0 ? first - int64(TOLERANCE) : first + int64(TOLERANCE);
        replaced = FloatBits.fromBits(FloatBits.bitsOf(edge, circuit.outputScale) + 1);
        warrant();
        CommitCall memory c = committed(1);
        challenge(c);
        vm.expectRevert(abi.encodeWithSelector(Disputes.OutsideTolerance.selector, 0));
        answer(c);
    }

    function test_answerCommit_revertsForNaNAndInfinity() public {
        uint32[3] memory bits = [uint32(0x7fc00000), 0x7f800000, 0xff800000];
        warrant();
        for (uint256 i = 0; i < bits.length; ++i) {
            replaced = FloatBits.fromBits(bits[i]);
            CommitCall memory c = committed(1);
            challenge(c);
            vm.expectRevert(abi.encodeWithSelector(Floats.NotFinite.selector, 0));
            answer(c);
        }
    }

    /// @dev What fits a block as a challenge has to fit one as an answer, however many outputs there are. The verifier, which
    /// costs more with each of them, is left out here: the challenge is cheaper than it would be.
    function test_answerCommit_costsLessThanItsChallenge() public {
        uint256 many = 200;
        uint256[] memory more = new uint256[](circuit.inputLength + many);
        for (uint256 i = 0; i < more.length; ++i) {
            more[i] = i < circuit.inputLength ? instances[i] : (i % 2 == 0 ? 77 + i : Records.FIELD - i);
        }
        instances = more;
        circuit.outputLength = uint32(many);
        registry.register(MODEL, EPOCH + 1, circuit);
        answerAlways(true, circuit.vkaDigest);
        warrant();
        CommitCall memory c = stated(1);
        c.statement.keyEpoch = EPOCH + 1;
        seal(c);
        uint256 before = gasleft();
        challenge(c);
        uint256 between = gasleft();
        answer(c);
        uint256 byFloats = 16 * c.outputs.length; // calldata: all else that grows is in both
        vm.assertTrue(between - gasleft() + byFloats < before - between, "dearer");
    }

    // --- answers that are not the committed ones

    function test_answerCommit_revertsIfTheOutputIsNotTheCommitted() public {
        beside[0] = 77;
        warrant();
        CommitCall memory c = committed(1);
        challenge(c);
        beside[0] = 0;
        c.outputs = outputsOf(1); // true, and not what was committed
        vm.expectRevert(abi.encodeWithSelector(Evidence.OutputNotInTree.selector, 1));
        answer(c);
        c.outputs = bytes.concat(c.outputs, bytes4(0));
        vm.expectRevert(
            abi.encodeWithSelector(
                Disputes.WrongOutputCount.selector, 4 * circuit.outputLength, 4 * (circuit.outputLength + 1)
            )
        );
        answer(c);
    }

    function test_answerCommit_revertsIfNotWhatWasProven() public {
        beside[0] = 77;
        warrant();
        CommitCall memory c = committed(1);
        challenge(c);
        bytes32 expected = keccak256(abi.encode(c.proven));
        for (uint256 i = 0; i < 4; ++i) {
            Disputes.Proven memory right = abi.decode(abi.encode(c.proven), (Disputes.Proven));
            if (i == 0) c.proven.tolerance = 77;
            if (i == 1) c.proven.outputs[0] += 77;
            if (i == 2) c.proven.outputScale -= 1;
            if (i == 3) c.proven.outputSalt = ~c.proven.outputSalt;
            vm.expectRevert(
                abi.encodeWithSelector(Disputes.NotWhatWasProven.selector, expected, keccak256(abi.encode(c.proven)))
            );
            answer(c);
            c.proven = right;
        }
    }

    function test_answer_revertsForTierCommit() public {
        warrant();
        CommitCall memory c = committed(1);
        challenge(c);
        RecordProof memory other =
            RecordProof(1, c.record.salt, c.record.path, c.outputPath, c.record.instances, c.record.proof);
        vm.expectRevert(abi.encodeWithSelector(Evidence.WrongInstanceCount.selector, 0, other.instances.length));
        disputes.answer(c.statement, other, c.record.vka);
        other.instances = new uint256[](0);
        vm.expectRevert(abi.encodeWithSelector(Evidence.InputNotInTree.selector, 1));
        disputes.answer(c.statement, other, c.record.vka);
    }

    function test_answerCommit_revertsForTierSampled() public {
        Call memory sampled = anchored(1);
        challenge(sampled);
        Disputes.Proven memory proven;
        vm.expectRevert(
            abi.encodeWithSelector(Disputes.NotWhatWasProven.selector, bytes32(0), keccak256(abi.encode(proven)))
        );
        disputes.answerCommit(sampled.statement, 1, proven, "", new bytes32[](0));
    }

    // --- 1 … 4

    function test_challengeCommit_revertsIfTierIsAnother() public {
        warrant();
        CommitCall memory c = stated(1);
        c.statement.tier = Statements.TIER_ZK;
        seal(c);
        _expect(abi.encodeWithSelector(Disputes.TierNotDisputable.selector, Statements.TIER_ZK), c);
    }

    function test_challengeCommit_revertsIfTheStatementNamesACircuit() public {
        warrant();
        CommitCall memory c = stated(1);
        c.statement.circuit.outputLength = 1;
        seal(c);
        _expect(abi.encodeWithSelector(Disputes.NamesACircuit.selector, Statements.hash(c.statement.circuit)), c);
    }

    function test_challengeCommit_revertsIfNotAPublicEvaluation() public {
        warrant();
        CommitCall memory c = committed(1);
        c.record.circuit.visibility = Statements.VISIBILITY_HASHED;
        _expect(abi.encodeWithSelector(Disputes.NotAPublicEvaluation.selector, 1, 1, 2), c);
        c.record.circuit.visibility = Statements.VISIBILITY_PUBLIC;
        c.statement.kind = 2;
        _expect(abi.encodeWithSelector(Disputes.NotAPublicEvaluation.selector, 1, 2, 1), c);
    }

    function test_challengeCommit_revertsIfRangeOrTaskIdIsBad() public {
        warrant();
        CommitCall memory c = committed(1);
        bytes32 right = c.statement.taskId;
        c.statement.taskId = ~right;
        _expect(abi.encodeWithSelector(Disputes.WrongTaskId.selector, right, ~right), c);
        (c.statement.recordStart, c.statement.recordCount) = (3, 3);
        _expect(abi.encodeWithSelector(Disputes.BadRecordRange.selector, 3, 3, SIZE), c);
    }

    function test_challengeCommit_revertsIfNotSignedOrNotAnchored() public {
        warrant();
        CommitCall memory c = committed(1);
        bytes32 digest = log.digestOf(c.statement);
        bytes memory right = c.signature;
        c.signature = sign(WORKER_KEY + 1, digest);
        _expect(abi.encodeWithSelector(Evidence.WrongSigner.selector, digest, worker), c);
        c.signature = right;
        c.anchor.leafIndex = 0;
        _expect(abi.encodeWithSelector(Standing.NotAnchored.selector, c.anchor.anchorId, digest), c);
    }

    function test_challengeCommit_revertsIfTooLate() public {
        warrant();
        CommitCall memory c = committed(1);
        uint256 last = block.number + PERIOD;
        vm.roll(last + 1);
        _expect(abi.encodeWithSelector(Disputes.TooLate.selector, last + 1, last), c);
        vm.roll(last);
        challenge(c);
    }

    function test_challengeCommit_revertsIfAnchoredAfterTheRevocation() public {
        warrant();
        CommitCall memory before = committed(1);
        vm.roll(block.number + 1);
        registry.revoke(MODEL, EPOCH);
        CommitCall memory c = stated(1);
        c.statement.nonce = keccak256("another lease");
        seal(c);
        _expect(abi.encodeWithSelector(Standing.ModelNotActiveThen.selector, MODEL, EPOCH, block.number), c);
        challenge(before);
    }

    /// @dev A circuit that the worker warrants and the model is not registered with is no judge either.
    function test_challengeCommit_revertsIfCircuitIsNotTheRegistered() public {
        CommitCall memory c = stated(1);
        c.record.circuit.srsDigest = keccak256("another");
        bytes32 other = Statements.hash(c.record.circuit);
        vm.prank(worker);
        disputes.warrant(MODEL, other, TOLERANCE);
        vm.roll(block.number + 1);
        seal(c);
        _expect(abi.encodeWithSelector(Disputes.CircuitNotRegistered.selector, Statements.hash(circuit), other), c);
    }

    // --- 5. the warranty

    function test_challengeCommit_revertsWithoutAWarranty() public {
        CommitCall memory c = committed(1);
        bytes memory reason =
            abi.encodeWithSelector(Warranties.NotWarranted.selector, worker, MODEL, Statements.hash(circuit));
        _expect(reason, c);
        vm.prank(CHALLENGER); // another worker's is nobody else's
        disputes.warrant(MODEL, Statements.hash(circuit), TOLERANCE);
        vm.prank(worker);
        disputes.warrant(keccak256("another model"), Statements.hash(circuit), TOLERANCE);
        vm.roll(block.number + 1);
        seal(c);
        _expect(reason, c);
    }

    function test_challengeCommit_revertsIfAnchoredBeforeTheWarranty() public {
        vm.prank(worker);
        disputes.warrant(MODEL, Statements.hash(circuit), TOLERANCE);
        uint64 given = uint64(block.number);
        CommitCall memory c = committed(1); // in the same block
        bytes memory reason = abi.encodeWithSelector(Warranties.NotWarrantedThen.selector, worker, given, given + 1, 0);
        _expect(reason, c);
        vm.roll(given + 5);
        _expect(reason, c);
        seal(c);
        challenge(c);
    }

    function test_challengeCommit_revertsIfAnchoredAfterTheWarrantysEnd() public {
        warrant();
        uint64 from = uint64(block.number);
        vm.roll(from + 3);
        CommitCall memory c = committed(1);
        vm.prank(worker);
        disputes.endWarranty(MODEL, Statements.hash(circuit)); // in the anchor's block: it covers that
        vm.roll(from + 4);
        AnchorProof memory covered = c.anchor;
        seal(c);
        _expect(abi.encodeWithSelector(Warranties.NotWarrantedThen.selector, worker, from + 4, from, from + 3), c);
        c.anchor = covered;
        challenge(c);
        answer(c);
    }

    function test_warrant_onceForGood() public {
        bytes32 circuitHash = Statements.hash(circuit);
        bytes memory none = abi.encodeWithSelector(Warranties.NotWarranted.selector, worker, MODEL, circuitHash);
        bytes memory twice = abi.encodeWithSelector(Warranties.AlreadyWarranted.selector, worker, MODEL, circuitHash);
        vm.startPrank(worker);
        vm.expectRevert(none);
        disputes.endWarranty(MODEL, circuitHash);
        vm.expectEmit();
        emit Warranties.Warranted(worker, MODEL, circuitHash, 5, uint64(block.number) + 1);
        disputes.warrant(MODEL, circuitHash, 5);
        vm.expectRevert(twice);
        disputes.warrant(MODEL, circuitHash, 6);
        vm.roll(block.number + 10);
        vm.expectEmit();
        emit Warranties.WarrantyEnded(worker, MODEL, circuitHash, uint64(block.number));
        disputes.endWarranty(MODEL, circuitHash);
        vm.expectRevert(none);
        disputes.endWarranty(MODEL, circuitHash);
        vm.expectRevert(twice);
        disputes.warrant(MODEL, circuitHash, 5);
        vm.stopPrank();
        Warranties.Warranty memory found = disputes.warrantyOf(worker, MODEL, circuitHash);
        vm.assertEq(found.from, block.number - 9, "from");
        vm.assertEq(found.until, block.number, "until");
        vm.assertEq(found.tolerance, 5, "tolerance");
    }

    // --- 6 … 9

    function test_challengeCommit_revertsIfInputIsNotTheCommitted() public {
        warrant();
        CommitCall memory c = committed(1);
        c.record.salt = ~c.record.salt;
        _expect(abi.encodeWithSelector(Evidence.InputNotInTree.selector, 1), c);
        c.record.salt = ~c.record.salt;
        c.record.values[0] ^= 0x01; // one ulp
        _expect(abi.encodeWithSelector(Evidence.InputNotInTree.selector, 1), c);
    }

    function test_challengeCommit_revertsIfRecordIsOutOfRangeOrOfAnotherLength() public {
        warrant();
        CommitCall memory c = committed(1);
        uint64[3] memory outside = [START - 1, START + COUNT, type(uint64).max];
        for (uint256 i = 0; i < outside.length; ++i) {
            c.record.recordIndex = outside[i];
            _expect(abi.encodeWithSelector(Disputes.RecordOutOfRange.selector, outside[i]), c);
        }
        c.record.recordIndex = 1;
        c.record.values = bytes.concat(c.record.values, hex"00");
        uint256 expected = 4 * circuit.inputLength;
        _expect(abi.encodeWithSelector(Disputes.WrongInputCount.selector, expected, expected + 1), c);
    }

    /// @dev Record 3 was committed with another input than the one that the proof is of.
    function test_challengeCommit_revertsIfTheProofIsOfAnotherInput() public {
        warrant();
        CommitCall memory c = committed(3);
        int64 proved = Records.toInt64(instances[0], 0);
        c.record.instances = instances;
        _expect(abi.encodeWithSelector(Disputes.NotTheInput.selector, 0, int64(1003), proved), c);
        c.record.instances = values(3);
        _expect(abi.encodeWithSelector(Disputes.ProofRejected.selector, circuit.vkaDigest), c);
    }

    /// @dev Inputs that round to the proof's are its inputs; the next float beyond the half is another.
    function test_challengeCommit_revertsIfACommittedInputIsOneUlpBeyondTheHalf() public {
        int256 first = int256(Records.toInt64(instances[0], 0));
        uint32 half = FloatBits.bitsOf(2 * first + (first < 0 ? -1 : int256(1)), circuit.inputScale + 1);
        warrant();
        replacedInput = FloatBits.fromBits(half - 1);
        challenge(committed(1));
        replacedInput = FloatBits.fromBits(half); // rounds away from zero
        int64 away = int64(first < 0 ? first - 1 : first + 1);
        _expect(abi.encodeWithSelector(Disputes.NotTheInput.selector, 0, away, int64(first)), committed(1));
    }

    function test_challengeCommit_revertsIfACommittedInputIsNotFiniteOrTooLarge() public {
        warrant();
        replacedInput = FloatBits.fromBits(0x7fc00000);
        _expect(abi.encodeWithSelector(Floats.NotFinite.selector, 0), committed(1));
        replacedInput = FloatBits.fromBits(0x7f7fffff);
        _expect(abi.encodeWithSelector(Floats.TooLargeForFixedPoint.selector, 0), committed(1));
    }

    function test_challengeCommit_revertsIfInstancesAreTooManyOrNoIntegers() public {
        warrant();
        CommitCall memory c = committed(1);
        uint256 last = instances.length - 1;
        c.record.instances[last] = 1 << 63;
        _expect(abi.encodeWithSelector(Records.InstanceOutOfRange.selector, last, uint256(1 << 63)), c);
        c.record.instances[last] = instances[last] + Records.FIELD; // the same residue, not reduced
        _expect(abi.encodeWithSelector(Records.InstanceOutOfRange.selector, last, instances[last] + Records.FIELD), c);
        c.record.instances = new uint256[](last);
        _expect(abi.encodeWithSelector(Evidence.WrongInstanceCount.selector, last + 1, last), c);
    }

    function test_challengeCommit_revertsIfTheProofDoesNotHold() public {
        warrant();
        CommitCall memory c = committed(1);
        c.record.instances[instances.length - 1] = 7777; // an output of the challenger's choice
        _expect(abi.encodeWithSelector(Disputes.ProofRejected.selector, circuit.vkaDigest), c);
        c.record.instances = instances;
        answerAlways(true, keccak256("another VKA"));
        _expect(abi.encodeWithSelector(Disputes.ProofRejected.selector, circuit.vkaDigest), c);
    }

    function test_challengeCommit_revertsIfScaleIsTooLarge() public {
        circuit.outputScale = 33;
        registry.register(MODEL, EPOCH + 1, circuit);
        warrant();
        CommitCall memory c = stated(1);
        c.statement.keyEpoch = EPOCH + 1;
        seal(c);
        _expect(abi.encodeWithSelector(Floats.ScaleTooLarge.selector, 33), c);
    }

    function test_challengeCommit_revertsIfDisputedBefore() public {
        warrant();
        CommitCall memory c = committed(1);
        bytes memory reason = abi.encodeWithSelector(Disputes.AlreadyDisputed.selector, log.digestOf(c.statement), 1);
        challenge(c);
        _expect(reason, c);
        answer(c);
        _expect(reason, c);
    }

    function test_pause_stopsChallengesAndWarranties() public {
        warrant();
        CommitCall memory c = committed(1);
        challenge(c);
        CommitCall memory second = c;
        vm.prank(GOVERNANCE);
        disputes.pause();
        answer(c);
        about(second, 2);
        _expect(abi.encodeWithSelector(Pausable.EnforcedPause.selector), second);
        vm.expectRevert(abi.encodeWithSelector(Pausable.EnforcedPause.selector));
        disputes.warrant(MODEL, Statements.hash(circuit), 1);
        vm.prank(worker);
        disputes.endWarranty(MODEL, Statements.hash(circuit));
    }

    // --- dismissing

    /// @dev Whoever gives a warranty does not answer for what it signed, and somebody anchored, before.
    function test_dismiss_endsADisputeAboutAStatementOfBeforeTheWarranty() public {
        beside[0] = 99;
        CommitCall memory c = committed(1);
        bytes32 digest = log.digestOf(c.statement);
        AnchorProof memory first = c.anchor;
        warrant();
        c.anchor = anchorAlone(digest);
        challenge(c);
        vm.expectEmit();
        emit Disputes.Dismissed(digest, 1, worker);
        disputes.dismiss(digest, 1, first);
        vm.assertEq(owedTo(worker), BOND, "bond");
        vm.assertEq(workers.stakeOf(worker).locked, 0, "locked");
    }

    function test_dismiss_revertsForAnAnchorThatTheWarrantyCovers() public {
        warrant();
        CommitCall memory c = committed(1);
        bytes32 digest = log.digestOf(c.statement);
        AnchorProof memory first = c.anchor;
        uint256 last = block.number + PERIOD;
        vm.roll(block.number + 1);
        c.anchor = anchorAlone(digest);
        challenge(c);
        vm.expectRevert(abi.encodeWithSelector(Disputes.TooEarly.selector, block.number, last + 1));
        disputes.dismiss(digest, 1, first);
        vm.roll(last + 5);
        about(c, 2);
        c.anchor = anchorAlone(digest);
        challenge(c);
        disputes.dismiss(digest, 2, first); // out of time, as ever
    }

    function _expect(bytes memory reason, CommitCall memory c) private {
        vm.prank(CHALLENGER);
        vm.expectRevert(reason);
        disputes.challengeCommit(c.statement, c.signature, c.anchor, c.record);
    }
}
