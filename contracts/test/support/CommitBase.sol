// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Disputes} from "../../src/accountability/Disputes.sol";
import {AnchorProof} from "../../src/Evidence.sol";
import {Merkle} from "../../src/Merkle.sol";
import {Records} from "../../src/Records.sol";
import {Circuit, Statement, Statements} from "../../src/Statements.sol";
import {AccountabilityBase} from "./AccountabilityBase.sol";
import {FloatBits} from "./FloatBits.sol";
import {MerkleTree} from "./MerkleTree.sol";

/// @title A statement of tier `commit` over the records of CertifierBase: the proof's values, as float32.
abstract contract CommitBase is AccountabilityBase {
    uint64 internal constant TOLERANCE = 3;

    /// @dev All that a challenge and its answer take.
    struct CommitCall {
        Statement statement;
        bytes signature;
        AnchorProof anchor;
        Disputes.ProvenRecord record;
        Disputes.Proven proven;
        bytes outputs;
        bytes32[] outputPath;
    }

    /// @dev By how many units of the circuit's scale the committed outputs lie beside the proven ones, from record 1 on.
    int256[3] internal beside;
    /// @dev What replaces the first output of record 1, and its first input, if anything.
    bytes internal replaced;
    bytes internal replacedInput;

    function warrant() internal {
        vm.prank(worker);
        disputes.warrant(MODEL, Statements.hash(circuit), TOLERANCE);
        vm.roll(block.number + 1);
    }

    /// @dev Record `index` of a statement of tier `commit`, signed and anchored by the coordinator.
    function committed(uint64 index) internal returns (CommitCall memory c) {
        c = stated(index);
        seal(c);
    }

    /// @dev As `committed`, neither signed nor anchored.
    function stated(uint64 index) internal view returns (CommitCall memory c) {
        Circuit memory none;
        c.statement = statement();
        c.statement.tier = Statements.TIER_COMMIT;
        c.statement.circuit = none;
        c.statement.inputRoot = MerkleTree.root(floatInputs());
        c.statement.outputRoot = MerkleTree.root(floatOutputs());
        about(c, index);
    }

    /// @dev Another record of the same statement.
    function about(CommitCall memory c, uint64 index) internal view {
        c.record = Disputes.ProvenRecord({
            recordIndex: index,
            salt: salt(index),
            path: MerkleTree.path(floatInputs(), index),
            values: inputsOf(index),
            circuit: circuit,
            instances: values(index),
            proof: proof,
            vka: vka
        });
        c.proven.outputSalt = Records.outputSalt(salt(index));
        c.proven.outputScale = circuit.outputScale;
        c.proven.tolerance = TOLERANCE;
        c.proven.outputs = new int64[](circuit.outputLength);
        for (uint256 i = 0; i < circuit.outputLength; ++i) {
            c.proven.outputs[i] = Records.toInt64(values(index)[circuit.inputLength + i], 0);
        }
        c.outputs = outputsOf(index);
        c.outputPath = MerkleTree.path(floatOutputs(), index - START);
    }

    function seal(CommitCall memory c) internal {
        Call memory plain;
        plain.statement = c.statement;
        vm.startPrank(COORDINATOR);
        seal(plain);
        vm.stopPrank();
        (c.signature, c.anchor) = (plain.signature, plain.anchor);
    }

    function challenge(CommitCall memory c) internal {
        vm.prank(CHALLENGER);
        disputes.challengeCommit(c.statement, c.signature, c.anchor, c.record);
    }

    function answer(CommitCall memory c) internal {
        disputes.answerCommit(c.statement, c.record.recordIndex, c.proven, c.outputs, c.outputPath);
    }

    /// @dev An anchor of a digest that stands alone in its tree.
    function anchorAlone(bytes32 digest) internal returns (AnchorProof memory) {
        return AnchorProof(log.anchor(Merkle.leafHash(abi.encodePacked(digest)), 1), 0, new bytes32[](0));
    }

    function outputsOf(uint64 index) internal view returns (bytes memory found) {
        found = floats(
            values(index), circuit.inputLength, circuit.outputLength, circuit.outputScale, beside[index - START]
        );
        return index == 1 ? _withFirst(found, replaced) : found;
    }

    function inputsOf(uint64 index) internal view returns (bytes memory found) {
        found = floats(values(index), 0, circuit.inputLength, circuit.inputScale, 0);
        return index == 1 ? _withFirst(found, replacedInput) : found;
    }

    function floats(uint256[] memory from, uint256 first, uint256 length, uint8 scale, int256 moved)
        internal
        pure
        returns (bytes memory found)
    {
        for (uint256 i = first; i < first + length; ++i) {
            found = bytes.concat(found, FloatBits.fromFixed(int256(Records.toInt64(from[i], i)) + moved, scale));
        }
    }

    function floatInputs() internal view returns (bytes32[] memory leaves) {
        leaves = new bytes32[](SIZE);
        for (uint64 i = 0; i < SIZE; ++i) {
            leaves[i] = floatLeaf(0, salt(i), inputsOf(i));
        }
    }

    function floatOutputs() internal view returns (bytes32[] memory leaves) {
        leaves = new bytes32[](COUNT);
        for (uint64 i = 0; i < COUNT; ++i) {
            leaves[i] = floatLeaf(1, Records.outputSalt(salt(START + i)), outputsOf(START + i));
        }
    }

    /// @dev A leaf by the text of docs/protocol.md §3.
    function floatLeaf(uint8 side, bytes32 salt_, bytes memory values_) internal pure returns (bytes32) {
        return Merkle.leafHash(
            abi.encodePacked(
                "rexis.record.v1", uint8(0), side, uint8(0), uint8(0), salt_, uint32(values_.length / 4), values_
            )
        );
    }

    function _withFirst(bytes memory found, bytes memory first) private pure returns (bytes memory) {
        for (uint256 i = 0; i < first.length; ++i) {
            found[i] = first[i];
        }
        return found;
    }
}
