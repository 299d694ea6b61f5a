// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Merkle} from "./Merkle.sol";
import {Records} from "./Records.sol";
import {Circuit, Statement} from "./Statements.sol";

/// @notice Where the statement stands in an anchored tree.
struct AnchorProof {
    uint256 anchorId;
    uint64 leafIndex;
    bytes32[] path;
}

/// @notice One record, opened and proved.
/// @param recordIndex Absolute index in the dataset.
/// @param instances The proof's public instances: the circuit's inputs, then its outputs.
struct RecordProof {
    uint64 recordIndex;
    bytes32 inputSalt;
    bytes32[] inputPath;
    bytes32[] outputPath;
    uint256[] instances;
    bytes proof;
}

/// @title What the Certifier and a dispute ask of evidence: who signed, what was committed, what was proved.
library Evidence {
    error WrongSigner(bytes32 statementDigest, address worker);
    error WrongInstanceCount(uint256 expected, uint256 found);
    error InputNotInTree(uint64 recordIndex);
    error OutputNotInTree(uint64 recordIndex);

    function requireSigned(bytes32 digest, address worker, bytes calldata signature) internal pure {
        // Refuses a high s (EIP-2), a v other than 27 and 28, and any length but 65.
        (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (fault != ECDSA.RecoverError.NoError || signer != worker) revert WrongSigner(digest, worker);
    }

    function requireCommitted(Statement calldata s, RecordProof calldata record) internal pure {
        Circuit calldata circuit = s.circuit;
        uint256 expected = uint256(circuit.inputLength) + circuit.outputLength;
        if (record.instances.length != expected) revert WrongInstanceCount(expected, record.instances.length);
        bytes32 leaf = Merkle.leafHash(
            Records.leafData(
                Records.SIDE_INPUT, circuit.inputScale, record.inputSalt, record.instances, 0, circuit.inputLength
            )
        );
        if (!Merkle.includes(s.inputRoot, s.inputSize, record.recordIndex, leaf, record.inputPath)) {
            revert InputNotInTree(record.recordIndex);
        }
        leaf = Merkle.leafHash(
            Records.leafData(
                Records.SIDE_OUTPUT,
                circuit.outputScale,
                Records.outputSalt(record.inputSalt),
                record.instances,
                circuit.inputLength,
                circuit.outputLength
            )
        );
        if (!Merkle.includes(s.outputRoot, s.recordCount, record.recordIndex - s.recordStart, leaf, record.outputPath))
        {
            revert OutputNotInTree(record.recordIndex);
        }
    }
}
