// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @notice The proof system's artefacts of one encrypted model, by digest. All zero where a tier uses no circuit.
struct Circuit {
    bytes32 vkDigest;
    bytes32 vkaDigest; // Keccak-256, as ezkl's reusable verifier computes it; the others are SHA-256
    bytes32 srsDigest;
    bytes32 settingsDigest;
    uint8 visibility;
    uint8 inputScale;
    uint8 outputScale;
    uint32 inputLength;
    uint32 outputLength;
}

/// @notice What a worker claims about one task: this model on these inputs gave these outputs.
struct Statement {
    uint16 version;
    bytes32 jobId;
    bytes32 taskId;
    uint8 kind;
    bytes32 modelDigest;
    uint64 keyEpoch;
    Circuit circuit;
    bytes32 inputRoot;
    uint64 inputSize;
    bytes32 outputRoot;
    uint64 recordStart;
    uint64 recordCount;
    uint8 tier;
    bytes32 policyDigest;
    address worker;
    bytes32 nonce;
}

/// @title EIP-712 hashing of statements.
library Statements {
    uint16 internal constant VERSION = 1;

    uint8 internal constant KIND_EVALUATION = 1;
    uint8 internal constant TIER_COMMIT = 1;
    uint8 internal constant TIER_SAMPLED = 2;
    uint8 internal constant TIER_ZK = 3;
    uint8 internal constant VISIBILITY_NONE = 0;
    uint8 internal constant VISIBILITY_PUBLIC = 1;
    uint8 internal constant VISIBILITY_HASHED = 2;

    string internal constant CIRCUIT_TYPE = "Circuit(bytes32 vkDigest,bytes32 vkaDigest,bytes32 srsDigest,bytes32 settingsDigest,uint8 visibility,"
        "uint8 inputScale,uint8 outputScale,uint32 inputLength,uint32 outputLength)";
    string internal constant STATEMENT_TYPE = "Statement(uint16 version,bytes32 jobId,bytes32 taskId,uint8 kind,bytes32 modelDigest,uint64 keyEpoch,Circuit circuit,"
        "bytes32 inputRoot,uint64 inputSize,bytes32 outputRoot,uint64 recordStart,uint64 recordCount,uint8 tier,"
        "bytes32 policyDigest,address worker,bytes32 nonce)";

    bytes32 internal constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 internal constant CIRCUIT_TYPEHASH = keccak256(bytes(CIRCUIT_TYPE));
    bytes32 internal constant STATEMENT_TYPEHASH = keccak256(abi.encodePacked(STATEMENT_TYPE, CIRCUIT_TYPE));

    bytes32 private constant _NAME_HASH = keccak256("rexis");
    bytes32 private constant _VERSION_HASH = keccak256("1");
    bytes private constant _TASK_DOMAIN = "rexis.task.v1\x00";

    /// @notice The EIP-712 domain separator of an EvidenceLog on this chain.
    /// @dev Computed, not stored: after a fork, the chain id of the fork counts.
    function domainSeparator(address evidenceLog) internal view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPEHASH, _NAME_HASH, _VERSION_HASH, block.chainid, evidenceLog));
    }

    /// @notice hashStruct of a circuit (EIP-712). Its members are all value types, so `abi.encode` is `encodeData`.
    function hash(Circuit memory circuit) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(CIRCUIT_TYPEHASH, abi.encode(circuit)));
    }

    /// @notice hashStruct of a statement (EIP-712).
    function hash(Statement memory s) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(
                    STATEMENT_TYPEHASH,
                    s.version,
                    s.jobId,
                    s.taskId,
                    s.kind,
                    s.modelDigest,
                    s.keyEpoch,
                    hash(s.circuit),
                    s.inputRoot
                ),
                abi.encode(
                    s.inputSize, s.outputRoot, s.recordStart, s.recordCount, s.tier, s.policyDigest, s.worker, s.nonce
                )
            )
        );
    }

    /// @notice The statement digest: what the worker signs and the anchor tree holds.
    function digest(Statement memory s, bytes32 separator) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes2(0x1901), separator, hash(s)));
    }

    /// @notice Id of the task that covers `count` records from `start` of a job.
    function taskId(bytes32 jobId, uint64 start, uint64 count) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(_TASK_DOMAIN, jobId, start, count));
    }
}
