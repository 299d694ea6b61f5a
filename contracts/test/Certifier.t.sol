// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Certifier} from "../src/Certifier.sol";
import {Evidence} from "../src/Evidence.sol";
import {EvidenceLog} from "../src/EvidenceLog.sol";
import {Records} from "../src/Records.sol";
import {Statements} from "../src/Statements.sol";
import {CertifierBase} from "./support/CertifierBase.sol";

contract CertifierTest is CertifierBase {
    /// @dev Where the values of record 3 are the proof's too: an honest task, all of whose records can be certified.
    bool private _allProvable;

    function values(uint64 index) internal view override returns (uint256[] memory found) {
        found = super.values(index);
        if (_allProvable) found = instances;
    }

    // --- the full flow, with ezkl's verifier and a real proof

    function test_certifyRecord_certifiesEachRecordThenTheStatement() public {
        _allProvable = true;
        Call memory c = honest(1);
        bytes32 digest = log.digestOf(c.statement);

        vm.expectEmit();
        emit Certifier.RecordCertified(digest, 1, address(this));
        vm.assertEq(certify(c), 1, "certified");
        vm.assertTrue(certifier.isRecordCertified(digest, 0), "record 1");
        vm.assertFalse(certifier.isRecordCertified(digest, 1), "record 2");
        vm.assertFalse(certifier.isCertified(digest), "complete too early");

        Call memory third = prepared(3);
        (third.signature, third.anchor) = (c.signature, c.anchor);
        vm.assertEq(certify(third), 2, "certified");
        vm.assertEq(certifier.certifiedCount(digest), 2, "count");

        Call memory second = prepared(2);
        (second.signature, second.anchor) = (c.signature, c.anchor);
        vm.expectEmit();
        emit Certifier.StatementCertified(digest, c.statement.jobId, MODEL, COUNT);
        vm.assertEq(certify(second), 3, "certified");
        vm.assertTrue(certifier.isCertified(digest), "not complete");
    }

    function test_contracts_arePinned() public view {
        vm.assertEq(address(certifier.log()), address(log), "log");
        vm.assertEq(address(certifier.registry()), address(registry), "registry");
        vm.assertEq(address(certifier.halo2()), address(halo2), "halo2");
    }

    // --- 1. statements that it cannot certify

    function test_certifyRecord_revertsIfVersionIsUnknown() public {
        Call memory c = honest(1);
        c.statement.version = 2;
        _expect(abi.encodeWithSelector(Certifier.UnsupportedVersion.selector, 2), c);
    }

    function test_certifyRecord_revertsIfKindIsNotEvaluation() public {
        Call memory c = honest(1);
        c.statement.kind = 2;
        _expect(abi.encodeWithSelector(Certifier.UnsupportedKind.selector, 2), c);
    }

    function test_certifyRecord_revertsIfTierIsNotZk() public {
        Call memory c = honest(1);
        uint8[3] memory tiers = [0, Statements.TIER_COMMIT, Statements.TIER_SAMPLED];
        for (uint256 i = 0; i < tiers.length; ++i) {
            c.statement.tier = tiers[i];
            _expect(abi.encodeWithSelector(Certifier.UnsupportedTier.selector, tiers[i]), c);
        }
    }

    function test_certifyRecord_revertsIfInstancesAreNotPublic() public {
        uint8[2] memory others = [Statements.VISIBILITY_NONE, Statements.VISIBILITY_HASHED];
        for (uint256 i = 0; i < others.length; ++i) {
            Call memory c = honest(1);
            c.statement.circuit.visibility = others[i];
            _expect(abi.encodeWithSelector(Certifier.UnsupportedVisibility.selector, others[i]), c);
        }
    }

    function test_certifyRecord_revertsIfRecordRangeIsBad() public {
        Call memory c = honest(1);
        (c.statement.recordStart, c.statement.recordCount) = (0, 0);
        _expect(abi.encodeWithSelector(Certifier.BadRecordRange.selector, 0, 0, SIZE), c);
        (c.statement.recordStart, c.statement.recordCount) = (3, 3);
        _expect(abi.encodeWithSelector(Certifier.BadRecordRange.selector, 3, 3, SIZE), c);
        uint64 max = type(uint64).max; // the sum would overflow
        (c.statement.recordStart, c.statement.recordCount) = (max, 2);
        _expect(abi.encodeWithSelector(Certifier.BadRecordRange.selector, max, 2, SIZE), c);
    }

    function test_certifyRecord_revertsIfTaskIdIsNotTheTasks() public {
        Call memory c = honest(1);
        bytes32 right = c.statement.taskId;
        c.statement.taskId = ~right;
        _expect(abi.encodeWithSelector(Certifier.WrongTaskId.selector, right, ~right), c);
    }

    // --- 2. signatures

    function test_certifyRecord_revertsIfAnotherWorkerSigned() public {
        Call memory c = honest(1);
        c.signature = sign(WORKER_KEY + 1, log.digestOf(c.statement));
        _expectWrongSigner(c);
    }

    function test_certifyRecord_revertsIfWorkerNameIsSwapped() public {
        Call memory c = honest(1);
        c.statement.worker = address(0xBAD);
        _expectWrongSigner(c);
    }

    function test_certifyRecord_revertsIfSignatureHasHighS() public {
        Call memory c = honest(1);
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(WORKER_KEY, log.digestOf(c.statement));
        c.signature = abi.encodePacked(r, bytes32(order - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        _expectWrongSigner(c);
    }

    function test_certifyRecord_revertsIfSignatureHasAnotherForm() public {
        Call memory c = honest(1);
        bytes memory right = c.signature;
        c.signature = bytes.concat(right, hex"00");
        _expectWrongSigner(c);
        c.signature = "";
        _expectWrongSigner(c);
        c.signature = bytes.concat(right);
        c.signature[64] = bytes1(uint8(right[64]) - 27); // v of 0 or 1
        _expectWrongSigner(c);
    }

    function test_certifyRecord_revertsIfZeroAddressIsTheWorker() public {
        // A failed recovery gives address zero: that must not match a statement that names it.
        Call memory c = honest(1);
        c.statement.worker = address(0);
        c.signature = new bytes(65);
        _expectWrongSigner(c);
    }

    function test_certifyRecord_revertsIfChainIsAnother() public {
        Call memory c = honest(1);
        vm.chainId(block.chainid + 1);
        _expectWrongSigner(c);
    }

    function test_certifyRecord_revertsIfLogIsAnother() public {
        Call memory c = honest(1);
        certifier = new Certifier(new EvidenceLog(registry), halo2);
        bytes32 there = certifier.log().digestOf(c.statement);
        _expect(abi.encodeWithSelector(Evidence.WrongSigner.selector, there, c.statement.worker), c);
    }

    // --- 3. anchors

    function test_certifyRecord_revertsIfNotAnchored() public {
        Call memory c = honest(1);
        bytes32 digest = log.digestOf(c.statement);
        c.anchor.leafIndex = 0;
        _expect(abi.encodeWithSelector(Certifier.NotAnchored.selector, 0, digest), c);
        c.anchor.leafIndex = 1;
        c.anchor.anchorId = log.anchor(keccak256("another root"), 3);
        _expect(abi.encodeWithSelector(Certifier.NotAnchored.selector, 1, digest), c);
        c.anchor.anchorId = 0;
        c.anchor.path[0] = ~c.anchor.path[0];
        _expect(abi.encodeWithSelector(Certifier.NotAnchored.selector, 0, digest), c);
    }

    function test_certifyRecord_revertsIfAnchorIsUnknown() public {
        Call memory c = honest(1);
        c.anchor.anchorId = 9;
        _expect(abi.encodeWithSelector(EvidenceLog.UnknownAnchor.selector, 9), c);
    }

    // --- 4. the registry

    function test_certifyRecord_revertsIfModelIsUnknown() public {
        Call memory c = prepared(1);
        seal(c);
        _expect(abi.encodeWithSelector(Certifier.ModelNotActive.selector, MODEL, EPOCH), c);
    }

    function test_certifyRecord_revertsIfModelIsRevoked() public {
        Call memory c = honest(1);
        registry.revoke(MODEL, EPOCH);
        _expect(abi.encodeWithSelector(Certifier.ModelNotActive.selector, MODEL, EPOCH), c);
    }

    function test_certifyRecord_revertsIfKeyEpochIsAnother() public {
        register();
        Call memory c = prepared(1);
        c.statement.keyEpoch = EPOCH + 1;
        seal(c);
        _expect(abi.encodeWithSelector(Certifier.ModelNotActive.selector, MODEL, EPOCH + 1), c);
    }

    /// @dev The SRS digest is in no check but this one: a worker who swaps the SRS swaps the circuit.
    function test_certifyRecord_revertsIfCircuitIsNotTheRegistered() public {
        register();
        Call memory c = prepared(1);
        c.statement.circuit.srsDigest = keccak256("an SRS whose secret the worker knows");
        seal(c);
        bytes32 claimed = Statements.hash(c.statement.circuit);
        _expect(abi.encodeWithSelector(Certifier.CircuitNotRegistered.selector, Statements.hash(circuit), claimed), c);
    }

    // --- 5. records

    function test_certifyRecord_revertsIfAlreadyCertified() public {
        Call memory c = honest(1);
        certify(c);
        _expect(abi.encodeWithSelector(Certifier.AlreadyCertified.selector, log.digestOf(c.statement), 1), c);
    }

    /// A stranger copies the call out of the queue of pending transactions. Whoever was slower finds the record certified,
    /// with the event that names it, and the statement becomes complete all the same.
    function test_certifyRecord_isTheSameWhoeverSentIt() public {
        _allProvable = true;
        Call memory c = honest(1);
        vm.prank(address(0xF207));
        certify(c);
        bytes32 digest = log.digestOf(c.statement);
        _expect(abi.encodeWithSelector(Certifier.AlreadyCertified.selector, digest, 1), c);
        vm.assertTrue(certifier.isRecordCertified(digest, 0), "by the stranger");
        for (uint64 index = 2; index <= 3; ++index) {
            Call memory next = prepared(index);
            (next.signature, next.anchor) = (c.signature, c.anchor);
            certify(next);
        }
        vm.assertTrue(certifier.isCertified(digest), "complete");
    }

    function test_certifyRecord_revertsIfRecordIsOutOfRange() public {
        Call memory c = honest(1);
        uint64[3] memory outside = [START - 1, START + COUNT, type(uint64).max];
        for (uint256 i = 0; i < outside.length; ++i) {
            c.record.recordIndex = outside[i];
            _expect(abi.encodeWithSelector(Certifier.RecordOutOfRange.selector, outside[i]), c);
        }
    }

    // --- 6. what was committed

    function test_certifyRecord_revertsIfInstancesAreAnotherRecords() public {
        Call memory c = honest(3);
        c.record.instances = values(1);
        _expect(abi.encodeWithSelector(Evidence.InputNotInTree.selector, 3), c);
    }

    function test_certifyRecord_revertsIfSaltIsAnother() public {
        Call memory c = honest(1);
        c.record.inputSalt = salt(2);
        _expect(abi.encodeWithSelector(Evidence.InputNotInTree.selector, 1), c);
    }

    function test_certifyRecord_revertsIfOutputIsNotTheCommitted() public {
        Call memory c = honest(1);
        c.record.instances[c.record.instances.length - 1] = 5;
        _expect(abi.encodeWithSelector(Evidence.OutputNotInTree.selector, 1), c);
    }

    function test_certifyRecord_revertsIfOutputPathIsAnotherRecords() public {
        Call memory c = honest(1);
        c.record.outputPath = prepared(2).record.outputPath;
        _expect(abi.encodeWithSelector(Evidence.OutputNotInTree.selector, 1), c);
    }

    function test_certifyRecord_revertsIfInstanceIsNotReduced() public {
        Call memory c = honest(1);
        uint256 shifted = c.record.instances[0] + Records.FIELD;
        c.record.instances[0] = shifted;
        _expect(abi.encodeWithSelector(Records.InstanceOutOfRange.selector, 0, shifted), c);
    }

    function test_certifyRecord_revertsIfInstanceCountIsWrong() public {
        Call memory c = honest(1);
        c.record.instances = new uint256[](7);
        _expect(abi.encodeWithSelector(Evidence.WrongInstanceCount.selector, 6, 7), c);
        c.record.instances = new uint256[](0);
        _expect(abi.encodeWithSelector(Evidence.WrongInstanceCount.selector, 6, 0), c);
    }

    // --- 7. proofs

    function testFuzz_certifyRecord_revertsIfProofIsFlipped(uint256 position, uint8 bit) public {
        Call memory c = honest(1);
        c.record.proof[bound(position, 0, c.record.proof.length - 1)] ^= bytes1(uint8(1 << (bit % 8)));
        _expect(abi.encodeWithSelector(Certifier.ProofRejected.selector, 1), c);
    }

    /// @dev Record 3 is committed, in and out, and the proof is a true one: of record 1.
    function test_certifyRecord_revertsIfProofIsOfAnotherRecord() public {
        _expect(abi.encodeWithSelector(Certifier.ProofRejected.selector, 3), honest(3));
    }

    /// @dev A false output that the worker signed, committed and anchored.
    function test_certifyRecord_revertsIfCommittedOutputIsFalse() public {
        uint256[] memory honestValues = instances;
        instances[instances.length - 1] = 7777;
        Call memory c = honest(1);
        vm.assertTrue(c.record.instances[5] != honestValues[5], "nothing was forged");
        _expect(abi.encodeWithSelector(Certifier.ProofRejected.selector, 1), c);
    }

    function test_certifyRecord_revertsIfProofIsTooShort() public {
        Call memory c = honest(1);
        c.record.proof = "";
        _expect(abi.encodeWithSelector(Certifier.ProofRejected.selector, 1), c);
        c.record.proof = new bytes(proof.length);
        _expect(abi.encodeWithSelector(Certifier.ProofRejected.selector, 1), c);
    }

    /// @dev ezkl's verifier reads as much as it needs: a proof has many forms, so nothing may be keyed by its bytes.
    function test_certifyRecord_takesAProofWithATail() public {
        Call memory c = honest(1);
        c.record.proof = bytes.concat(c.record.proof, bytes32(uint256(7)));
        vm.assertEq(certify(c), 1, "certified");
    }

    function test_certifyRecord_revertsIfVkaIsNotThePinned() public {
        // ezkl's verifier knows both artefacts: anybody may register one, and it checks proofs under either.
        Call memory c = honest(1);
        c.vka[20] = ~c.vka[20];
        bytes32 other = halo2.registerVka(c.vka);
        _expect(abi.encodeWithSelector(Certifier.WrongVka.selector, circuit.vkaDigest, other), c);
    }

    function test_certifyRecord_revertsIfVkaIsNotRegistered() public {
        register();
        Call memory c = prepared(1);
        seal(c);
        _expect(abi.encodeWithSelector(Certifier.VkaNotRegistered.selector, circuit.vkaDigest), c);
    }

    function test_certifyRecord_revertsIfTheVerifierSaysNo() public {
        Call memory c = honest(1);
        answerAlways(false, circuit.vkaDigest);
        _expect(abi.encodeWithSelector(Certifier.ProofRejected.selector, 1), c);
        answerAlways(true, keccak256("another VKA"));
        _expect(abi.encodeWithSelector(Certifier.WrongVka.selector, circuit.vkaDigest, keccak256("another VKA")), c);
        answerAlways(true, circuit.vkaDigest);
        vm.assertEq(certify(c), 1, "certified");
    }

    function test_certifyRecord_keepsNothingOfARefusedRecord() public {
        Call memory c = honest(1);
        c.record.proof[0] ^= 0x01;
        _expect(abi.encodeWithSelector(Certifier.ProofRejected.selector, 1), c);
        vm.assertEq(certifier.certifiedCount(log.digestOf(c.statement)), 0, "counted");
        c.record.proof[0] ^= 0x01;
        vm.assertEq(certify(c), 1, "certified");
    }

    function _expectWrongSigner(Call memory c) private {
        bytes32 digest = log.digestOf(c.statement);
        _expect(abi.encodeWithSelector(Evidence.WrongSigner.selector, digest, c.statement.worker), c);
    }

    function _expect(bytes memory revertData, Call memory c) private {
        vm.expectRevert(revertData);
        certify(c);
    }
}
