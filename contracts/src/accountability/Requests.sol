// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Circuit, Statements} from "../Statements.sol";

/// @notice What evidence a job wants.
struct Policy {
    uint8 tier;
    uint32 sampleSize;
    uint32 shardSize;
    uint32 maxAttempts;
    uint64 absToleranceE9;
    uint64 relToleranceE9;
    uint8 rung;
    uint32 validators;
    bool certifyOnChain;
}

/// @notice What a requester signs.
struct JobRequest {
    uint8 kind;
    bytes32 modelDigest;
    uint64 keyEpoch;
    Circuit circuit;
    bytes32 datasetDigest;
    bytes32 inputRoot;
    uint64 inputSize;
    uint64 recordStart;
    uint64 recordCount;
    Policy policy;
    address requester;
    address coordinator;
    bytes32 nonce;
}

/// @title EIP-712 hashing of job requests: their digest is the job's id.
library Requests {
    string internal constant POLICY_TYPE = "Policy(uint8 tier,uint32 sampleSize,uint32 shardSize,uint32 maxAttempts,uint64 absToleranceE9,uint64 relToleranceE9,"
        "uint8 rung,uint32 validators,bool certifyOnChain)";
    string internal constant REQUEST_TYPE = "JobRequest(uint8 kind,bytes32 modelDigest,uint64 keyEpoch,Circuit circuit,bytes32 datasetDigest,bytes32 inputRoot,"
        "uint64 inputSize,uint64 recordStart,uint64 recordCount,Policy policy,address requester,address coordinator,bytes32 nonce)";

    bytes32 internal constant POLICY_TYPEHASH = keccak256(bytes(POLICY_TYPE));
    bytes32 internal constant REQUEST_TYPEHASH =
        keccak256(abi.encodePacked(REQUEST_TYPE, Statements.CIRCUIT_TYPE, POLICY_TYPE));

    /// @notice hashStruct of a policy. Its members are all value types, so `abi.encode` is `encodeData`.
    function hash(Policy memory policy) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(POLICY_TYPEHASH, abi.encode(policy)));
    }

    /// @notice hashStruct of a request.
    function hash(JobRequest memory r) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(REQUEST_TYPEHASH, r.kind, r.modelDigest, r.keyEpoch, Statements.hash(r.circuit)),
                abi.encode(r.datasetDigest, r.inputRoot, r.inputSize, r.recordStart, r.recordCount),
                abi.encode(hash(r.policy), r.requester, r.coordinator, r.nonce)
            )
        );
    }

    /// @notice The job's id.
    function jobId(JobRequest memory request, bytes32 separator) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes2(0x1901), separator, hash(request)));
    }
}
