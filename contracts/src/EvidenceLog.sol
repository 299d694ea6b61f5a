// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Merkle} from "./Merkle.sol";
import {ModelRegistry} from "./ModelRegistry.sol";
import {Statement, Statements} from "./Statements.sol";

/// @title When a claim was made: commitments to statements, and anchors of batches of them.
/// @notice Permissionless: what counts for a job are the transactions of the coordinator that its requester signed.
/// This contract is the `verifyingContract` of every EIP-712 digest of rexis and holds the registry it believes, so
/// a signed digest pins the chain and both contracts.
contract EvidenceLog {
    /// @notice A Merkle root over statement digests.
    struct Anchor {
        bytes32 root;
        uint48 size;
        uint48 blockNumber;
        address submitter;
    }

    /// @notice A statement that was fixed before its challenge was known.
    struct Commitment {
        bytes32 statementDigest;
        uint64 blockNumber;
    }

    event Anchored(uint256 indexed anchorId, bytes32 indexed root, address indexed submitter, uint64 size);
    event Committed(address indexed submitter, bytes32 indexed taskId, bytes32 indexed statementDigest, uint32 attempt);

    error ZeroRoot();
    error ZeroSize();
    error TreeTooLarge(uint64 size);
    error ZeroStatementDigest();
    error UnknownAnchor(uint256 anchorId);
    error UnknownAttempt(address submitter, bytes32 taskId, uint32 attempt);

    /// @notice The registry that statements refer to.
    ModelRegistry public immutable registry;

    Anchor[] private _anchors;
    mapping(address submitter => mapping(bytes32 taskId => Commitment[])) private _commitments;

    constructor(ModelRegistry registry_) {
        registry = registry_;
    }

    /// @notice Write the root of a tree of `size` statement digests. Ids count from 0.
    function anchor(bytes32 root, uint64 size) external returns (uint256 anchorId) {
        if (root == 0) revert ZeroRoot();
        if (size == 0) revert ZeroSize();
        if (size > type(uint48).max) revert TreeTooLarge(size);
        anchorId = _anchors.length;
        _anchors.push(
            Anchor({root: root, size: uint48(size), blockNumber: uint48(block.number), submitter: msg.sender})
        );
        emit Anchored(anchorId, root, msg.sender, size);
    }

    /// @notice Commit to a statement about a task. The hash of a later block then decides which records are opened.
    /// @dev Attempts are never forgotten: whoever commits again to draw another challenge leaves a trace that
    /// a checker counts.
    /// @return attempt 1 for the caller's first commitment to this task.
    function commit(bytes32 taskId, bytes32 statementDigest) external returns (uint32 attempt) {
        if (statementDigest == 0) revert ZeroStatementDigest();
        Commitment[] storage made = _commitments[msg.sender][taskId];
        made.push(Commitment({statementDigest: statementDigest, blockNumber: uint64(block.number)}));
        attempt = uint32(made.length);
        emit Committed(msg.sender, taskId, statementDigest, attempt);
    }

    /// @notice How many anchors there are.
    function anchorCount() external view returns (uint256) {
        return _anchors.length;
    }

    /// @notice An anchor by its id.
    function anchorOf(uint256 anchorId) public view returns (Anchor memory) {
        if (anchorId >= _anchors.length) revert UnknownAnchor(anchorId);
        return _anchors[anchorId];
    }

    /// @notice Whether `statementDigest` is leaf `leafIndex` of an anchored tree.
    function verifyInclusion(uint256 anchorId, bytes32 statementDigest, uint64 leafIndex, bytes32[] calldata path)
        external
        view
        returns (bool)
    {
        Anchor memory found = anchorOf(anchorId);
        return
            Merkle.includes(found.root, found.size, leafIndex, Merkle.leafHash(abi.encodePacked(statementDigest)), path);
    }

    /// @notice How many times `submitter` has committed to a task.
    function attempts(address submitter, bytes32 taskId) external view returns (uint32) {
        return uint32(_commitments[submitter][taskId].length);
    }

    /// @notice A commitment by its attempt, counted from 1.
    function commitmentOf(address submitter, bytes32 taskId, uint32 attempt) external view returns (Commitment memory) {
        Commitment[] storage made = _commitments[submitter][taskId];
        if (attempt == 0 || attempt > made.length) revert UnknownAttempt(submitter, taskId, attempt);
        return made[attempt - 1];
    }

    /// @notice The EIP-712 domain separator of this log on this chain.
    function domainSeparator() public view returns (bytes32) {
        return Statements.domainSeparator(address(this));
    }

    /// @notice The digest of a statement: what its worker signs and what anchors and commitments hold.
    function digestOf(Statement calldata statement) external view returns (bytes32) {
        return Statements.digest(statement, domainSeparator());
    }
}
