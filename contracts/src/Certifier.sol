// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {BitMaps} from "@openzeppelin/contracts/utils/structs/BitMaps.sol";

import {AnchorProof, Evidence, RecordProof} from "./Evidence.sol";
import {EvidenceLog} from "./EvidenceLog.sol";
import {ModelRegistry} from "./ModelRegistry.sol";
import {Statement, Statements} from "./Statements.sol";
import {IHalo2VerifierReusable} from "./vendor/IHalo2VerifierReusable.sol";

/// @title Checks zk evidence on chain, one record at a time.
/// @notice A statement is certified when each of its records is: the registered circuit, on the committed input, gives
/// the committed output. Anybody may submit. What is submitted is public for ever: the record's salt and its values,
/// as they were encrypted.
contract Certifier {
    using BitMaps for BitMaps.BitMap;

    struct Progress {
        uint64 certified;
        bool complete;
    }

    event RecordCertified(bytes32 indexed statementDigest, uint64 indexed recordIndex, address indexed submitter);
    event StatementCertified(
        bytes32 indexed statementDigest, bytes32 indexed jobId, bytes32 indexed modelDigest, uint64 recordCount
    );

    error UnsupportedVersion(uint16 version);
    error UnsupportedKind(uint8 kind);
    error UnsupportedTier(uint8 tier);
    error UnsupportedVisibility(uint8 visibility);
    error BadRecordRange(uint64 recordStart, uint64 recordCount, uint64 inputSize);
    error WrongTaskId(bytes32 expected, bytes32 taskId);
    error NotAnchored(uint256 anchorId, bytes32 statementDigest);
    error ModelNotActive(bytes32 modelDigest, uint64 keyEpoch);
    error CircuitNotRegistered(bytes32 registered, bytes32 circuitHash);
    error RecordOutOfRange(uint64 recordIndex);
    error AlreadyCertified(bytes32 statementDigest, uint64 recordIndex);
    error WrongVka(bytes32 expected, bytes32 found);
    error VkaNotRegistered(bytes32 vkaDigest);
    error ProofRejected(uint64 recordIndex);

    /// @notice The log whose domain, anchors and registry count.
    EvidenceLog public immutable log;
    /// @notice The log's registry.
    ModelRegistry public immutable registry;
    /// @notice ezkl's verifier.
    IHalo2VerifierReusable public immutable halo2;

    mapping(bytes32 statementDigest => Progress) private _progress;
    mapping(bytes32 statementDigest => BitMaps.BitMap) private _records;

    constructor(EvidenceLog log_, IHalo2VerifierReusable halo2_) {
        log = log_;
        registry = log_.registry();
        halo2 = halo2_;
    }

    /// @notice Check the proof of one record of an anchored statement of tier `zk`.
    /// @dev Steps: 1 a statement that this contract can certify; 2 signed by its worker; 3 anchored; 4 its model is active
    /// with this very circuit; 5 a record of it that was not certified before; 6 the proof's instances are the committed
    /// input and output; 7 the proof verifies under the pinned VKA.
    /// @param vka The circuit's verification key artefact, registered with `halo2`.
    /// @return certified How many records of the statement are certified now.
    function certifyRecord(
        Statement calldata statement,
        bytes calldata workerSignature,
        AnchorProof calldata anchorProof,
        RecordProof calldata record,
        bytes32[] calldata vka
    ) external returns (uint64 certified) {
        _requireCertifiable(statement); // 1
        bytes32 digest = Statements.digest(statement, log.domainSeparator());
        Evidence.requireSigned(digest, statement.worker, workerSignature); // 2
        if (!log.verifyInclusion(anchorProof.anchorId, digest, anchorProof.leafIndex, anchorProof.path)) {
            revert NotAnchored(anchorProof.anchorId, digest); // 3
        }
        _requireRegistered(statement); // 4
        certified = _mark(statement, digest, record.recordIndex); // 5
        Evidence.requireCommitted(statement, record); // 6
        _requireProved(statement.circuit.vkaDigest, record, vka); // 7

        emit RecordCertified(digest, record.recordIndex, msg.sender);
        if (certified == statement.recordCount) {
            _progress[digest].complete = true;
            emit StatementCertified(digest, statement.jobId, statement.modelDigest, statement.recordCount);
        }
    }

    /// @notice How many records of a statement are certified.
    function certifiedCount(bytes32 statementDigest) external view returns (uint64) {
        return _progress[statementDigest].certified;
    }

    /// @notice Whether every record of a statement is certified.
    function isCertified(bytes32 statementDigest) external view returns (bool) {
        return _progress[statementDigest].complete;
    }

    /// @notice Whether one record is certified.
    /// @param offset The record's index in the statement: absolute index − recordStart.
    function isRecordCertified(bytes32 statementDigest, uint64 offset) external view returns (bool) {
        return _records[statementDigest].get(offset);
    }

    function _requireCertifiable(Statement calldata s) private pure {
        if (s.version != Statements.VERSION) revert UnsupportedVersion(s.version);
        if (s.kind != Statements.KIND_EVALUATION) revert UnsupportedKind(s.kind);
        if (s.tier != Statements.TIER_ZK) revert UnsupportedTier(s.tier);
        if (s.circuit.visibility != Statements.VISIBILITY_PUBLIC) revert UnsupportedVisibility(s.circuit.visibility);
        if (s.recordCount == 0 || s.recordCount > s.inputSize || s.recordStart > s.inputSize - s.recordCount) {
            revert BadRecordRange(s.recordStart, s.recordCount, s.inputSize);
        }
        bytes32 taskId = Statements.taskId(s.jobId, s.recordStart, s.recordCount);
        if (s.taskId != taskId) revert WrongTaskId(taskId, s.taskId);
    }

    function _requireRegistered(Statement calldata s) private view {
        ModelRegistry.Registration memory entry = registry.get(s.modelDigest, s.keyEpoch);
        if (entry.registrant == address(0) || entry.revokedAt != 0) revert ModelNotActive(s.modelDigest, s.keyEpoch);
        bytes32 circuitHash = Statements.hash(s.circuit);
        if (entry.circuitHash != circuitHash) revert CircuitNotRegistered(entry.circuitHash, circuitHash);
    }

    function _mark(Statement calldata s, bytes32 digest, uint64 recordIndex) private returns (uint64) {
        if (recordIndex < s.recordStart || recordIndex - s.recordStart >= s.recordCount) {
            revert RecordOutOfRange(recordIndex);
        }
        uint64 offset = recordIndex - s.recordStart;
        if (_records[digest].get(offset)) revert AlreadyCertified(digest, recordIndex);
        _records[digest].set(offset);
        return ++_progress[digest].certified;
    }

    function _requireProved(bytes32 vkaDigest, RecordProof calldata record, bytes32[] calldata vka) private {
        bytes32 found = keccak256(abi.encodePacked(vka));
        if (found != vkaDigest) revert WrongVka(vkaDigest, found);
        try halo2.verifyProof(record.proof, record.instances, vka) returns (bool success, bytes32 used) {
            if (used != vkaDigest) revert WrongVka(vkaDigest, used);
            if (!success) revert ProofRejected(record.recordIndex);
        } catch Error(string memory) {
            revert VkaNotRegistered(vkaDigest); // the one reason that the verifier gives
        } catch {
            revert ProofRejected(record.recordIndex);
        }
    }
}
