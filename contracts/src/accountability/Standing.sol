// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {AnchorProof} from "../Evidence.sol";
import {EvidenceLog} from "../EvidenceLog.sol";
import {ModelRegistry} from "../ModelRegistry.sol";
import {Statement} from "../Statements.sol";

/// @title When a statement was anchored, and what the registry says of its model then.
library Standing {
    error NotAnchored(uint256 anchorId, bytes32 statementDigest);
    error ModelNotActiveThen(bytes32 modelDigest, uint64 keyEpoch, uint256 blockNumber);

    /// @notice The anchor whose tree has this statement digest where the proof says.
    function requireAnchored(EvidenceLog log, AnchorProof calldata proof, bytes32 digest)
        internal
        view
        returns (EvidenceLog.Anchor memory)
    {
        if (!log.verifyInclusion(proof.anchorId, digest, proof.leafIndex, proof.path)) {
            revert NotAnchored(proof.anchorId, digest);
        }
        return log.anchorOf(proof.anchorId);
    }

    /// @notice The registration of a statement's model, which counted in block `anchoredAt`.
    /// @dev A revocation has effect on later statements only: those anchored in its block or after it.
    function requireActive(ModelRegistry registry, Statement calldata s, uint256 anchoredAt)
        internal
        view
        returns (ModelRegistry.Registration memory entry)
    {
        entry = registry.get(s.modelDigest, s.keyEpoch);
        if (entry.registrant == address(0) || (entry.revokedAt != 0 && entry.revokedAt <= anchoredAt)) {
            revert ModelNotActiveThen(s.modelDigest, s.keyEpoch, anchoredAt);
        }
    }
}
