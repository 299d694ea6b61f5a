// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {EvidenceLog} from "../src/EvidenceLog.sol";
import {Merkle} from "../src/Merkle.sol";
import {ModelRegistry} from "../src/ModelRegistry.sol";
import {Statement, Statements} from "../src/Statements.sol";
import {MerkleTree} from "./support/MerkleTree.sol";
import {Test} from "./support/Test.sol";

contract EvidenceLogTest is Test {
    address private constant _COORDINATOR = address(0xC0);
    address private constant _OTHER = address(0xB0B);
    bytes32 private constant _TASK = keccak256("task");

    ModelRegistry private _registry;
    EvidenceLog private _log;

    function setUp() public {
        _registry = new ModelRegistry();
        _log = new EvidenceLog(_registry);
        vm.roll(100);
    }

    function test_registry_isPinned() public view {
        vm.assertEq(address(_log.registry()), address(_registry), "registry");
    }

    function test_anchor_storesTheRoot() public {
        vm.expectEmit();
        emit EvidenceLog.Anchored(0, keccak256("root"), _COORDINATOR, 5);
        vm.prank(_COORDINATOR);
        vm.assertEq(_log.anchor(keccak256("root"), 5), 0, "first id");
        vm.assertEq(_log.anchor(keccak256("root"), 6), 1, "second id");
        vm.assertEq(_log.anchorCount(), 2, "count");
        EvidenceLog.Anchor memory found = _log.anchorOf(0);
        vm.assertEq(found.root, keccak256("root"), "root");
        vm.assertEq(found.size, 5, "size");
        vm.assertEq(found.blockNumber, 100, "block");
        vm.assertEq(found.submitter, _COORDINATOR, "submitter");
    }

    function test_anchor_revertsIfRootIsZero() public {
        vm.expectRevert(abi.encodeWithSelector(EvidenceLog.ZeroRoot.selector));
        _log.anchor(0, 5);
    }

    function test_anchor_revertsIfSizeIsZero() public {
        vm.expectRevert(abi.encodeWithSelector(EvidenceLog.ZeroSize.selector));
        _log.anchor(keccak256("root"), 0);
    }

    function test_anchor_revertsIfTreeIsTooLarge() public {
        vm.expectRevert(abi.encodeWithSelector(EvidenceLog.TreeTooLarge.selector, 1 << 48));
        _log.anchor(keccak256("root"), 1 << 48);
    }

    function test_anchorOf_revertsIfUnknown() public {
        vm.expectRevert(abi.encodeWithSelector(EvidenceLog.UnknownAnchor.selector, 0));
        _log.anchorOf(0);
    }

    function testFuzz_verifyInclusion_ofAnchoredDigests(uint64 size, uint64 index, bytes32 seed) public {
        size = uint64(bound(size, 1, 40));
        index = uint64(bound(index, 0, size - 1));
        bytes32[] memory leaves = new bytes32[](size);
        for (uint256 i = 0; i < size; ++i) {
            leaves[i] = Merkle.leafHash(abi.encodePacked(keccak256(abi.encode(seed, i))));
        }
        uint256 id = _log.anchor(MerkleTree.root(leaves), size);
        bytes32 digest = keccak256(abi.encode(seed, uint256(index)));
        bytes32[] memory path = MerkleTree.path(leaves, index);
        vm.assertTrue(_log.verifyInclusion(id, digest, index, path), "refused");
        vm.assertFalse(_log.verifyInclusion(id, ~digest, index, path), "another digest");
        vm.assertFalse(_log.verifyInclusion(id, digest, index + 1, path), "another index");
    }

    function test_verifyInclusion_revertsIfAnchorIsUnknown() public {
        vm.expectRevert(abi.encodeWithSelector(EvidenceLog.UnknownAnchor.selector, 7));
        _log.verifyInclusion(7, keccak256("digest"), 0, new bytes32[](0));
    }

    function test_commit_countsAttempts() public {
        for (uint32 attempt = 1; attempt <= 3; ++attempt) {
            vm.roll(200 + attempt);
            bytes32 digest = keccak256(abi.encode(attempt));
            vm.expectEmit();
            emit EvidenceLog.Committed(_COORDINATOR, _TASK, digest, attempt);
            vm.prank(_COORDINATOR);
            vm.assertEq(_log.commit(_TASK, digest), attempt, "attempt");
        }
        vm.assertEq(_log.attempts(_COORDINATOR, _TASK), 3, "attempts");
        EvidenceLog.Commitment memory second = _log.commitmentOf(_COORDINATOR, _TASK, 2);
        vm.assertEq(second.statementDigest, keccak256(abi.encode(uint32(2))), "digest");
        vm.assertEq(second.blockNumber, 202, "block");
    }

    function test_commit_countsTheSameDigestAgain() public {
        // The same statement in a later block draws another challenge: it is another attempt.
        _log.commit(_TASK, keccak256("digest"));
        vm.assertEq(_log.commit(_TASK, keccak256("digest")), 2, "attempt");
    }

    function testFuzz_commit_countsPerSubmitterAndTask(address other, bytes32 task) public {
        vm.assume(other != _COORDINATOR && task != _TASK);
        vm.prank(_COORDINATOR);
        _log.commit(_TASK, keccak256("digest"));
        vm.assertEq(_log.attempts(other, _TASK), 0, "another submitter");
        vm.assertEq(_log.attempts(_COORDINATOR, task), 0, "another task");
    }

    function test_commit_revertsIfDigestIsZero() public {
        vm.expectRevert(abi.encodeWithSelector(EvidenceLog.ZeroStatementDigest.selector));
        _log.commit(_TASK, 0);
    }

    function test_commitmentOf_revertsIfUnknown() public {
        vm.prank(_COORDINATOR);
        _log.commit(_TASK, keccak256("digest"));
        _expectUnknownAttempt(_COORDINATOR, 0);
        _log.commitmentOf(_COORDINATOR, _TASK, 0);
        _expectUnknownAttempt(_COORDINATOR, 2);
        _log.commitmentOf(_COORDINATOR, _TASK, 2);
        _expectUnknownAttempt(_OTHER, 1);
        _log.commitmentOf(_OTHER, _TASK, 1);
    }

    function testFuzz_digestOf_followsTheChainId(Statement memory s, uint64 chain) public {
        vm.assume(chain != 0 && chain != block.chainid);
        bytes32 before = _log.digestOf(s);
        vm.assertEq(before, Statements.digest(s, Statements.domainSeparator(address(_log))), "digest");
        vm.chainId(chain);
        vm.assertTrue(_log.digestOf(s) != before, "a fork's digests are the same");
    }

    function _expectUnknownAttempt(address submitter, uint32 attempt) private {
        vm.expectRevert(abi.encodeWithSelector(EvidenceLog.UnknownAttempt.selector, submitter, _TASK, attempt));
    }
}
