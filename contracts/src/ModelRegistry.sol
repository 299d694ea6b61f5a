// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Circuit, Statements} from "./Statements.sol";

/// @title Who registered which encrypted model, with which circuit.
/// @notice Permissionless and first come, first served: the first to register a model digest owns it. That proves no
/// authorship. A squatter gains nothing, because the requester signs the circuit that a job must use, and an owner
/// who was overtaken encrypts again with a fresh key, which gives another digest.
contract ModelRegistry {
    /// @notice One key epoch of a model.
    /// @param owner Who registered it; zero if nobody did.
    /// @param registeredAt Block of the registration.
    /// @param revokedAt Block of the revocation, 0 while active.
    /// @param circuitHash hashStruct of the circuit; that of the all-zero circuit for a model without one.
    struct Registration {
        address owner;
        uint48 registeredAt;
        uint48 revokedAt;
        bytes32 circuitHash;
        bytes32 vkaDigest;
        bytes32 srsDigest;
    }

    event ModelRegistered(
        bytes32 indexed modelDigest,
        uint64 indexed keyEpoch,
        address indexed owner,
        bytes32 circuitHash,
        bytes32 vkaDigest,
        bytes32 srsDigest
    );
    event ModelRevoked(bytes32 indexed modelDigest, uint64 indexed keyEpoch, address indexed owner);

    error ZeroModelDigest();
    error ZeroKeyEpoch();
    error InconsistentCircuit();
    error NotModelOwner(bytes32 modelDigest, address owner);
    error AlreadyRegistered(bytes32 modelDigest, uint64 keyEpoch);
    error NotRegistered(bytes32 modelDigest, uint64 keyEpoch);
    error AlreadyRevoked(bytes32 modelDigest, uint64 keyEpoch);

    /// @notice Owner of a model digest over all its key epochs; zero if it is free.
    mapping(bytes32 modelDigest => address) public ownerOf;
    mapping(bytes32 modelDigest => mapping(uint64 keyEpoch => Registration)) private _registrations;

    /// @notice Register a key epoch of an encrypted model. The first epoch makes the caller the model's owner.
    /// @param circuit All zero for a model that only serves tier `commit`.
    function register(bytes32 modelDigest, uint64 keyEpoch, Circuit calldata circuit) external {
        if (modelDigest == 0) revert ZeroModelDigest();
        if (keyEpoch == 0) revert ZeroKeyEpoch();
        bytes32 circuitHash = Statements.hash(circuit);
        _requireConsistent(circuit, circuitHash);

        address owner = ownerOf[modelDigest];
        if (owner == address(0)) ownerOf[modelDigest] = msg.sender;
        else if (owner != msg.sender) revert NotModelOwner(modelDigest, owner);

        Registration storage entry = _registrations[modelDigest][keyEpoch];
        if (entry.owner != address(0)) revert AlreadyRegistered(modelDigest, keyEpoch);
        entry.owner = msg.sender;
        entry.registeredAt = uint48(block.number);
        entry.circuitHash = circuitHash;
        entry.vkaDigest = circuit.vkaDigest;
        entry.srsDigest = circuit.srsDigest;
        emit ModelRegistered(modelDigest, keyEpoch, msg.sender, circuitHash, circuit.vkaDigest, circuit.srsDigest);
    }

    /// @notice Revoke a key epoch, for good. What was certified before stays so.
    function revoke(bytes32 modelDigest, uint64 keyEpoch) external {
        Registration storage entry = _registrations[modelDigest][keyEpoch];
        if (entry.owner == address(0)) revert NotRegistered(modelDigest, keyEpoch);
        if (entry.owner != msg.sender) revert NotModelOwner(modelDigest, entry.owner);
        if (entry.revokedAt != 0) revert AlreadyRevoked(modelDigest, keyEpoch);
        entry.revokedAt = uint48(block.number);
        emit ModelRevoked(modelDigest, keyEpoch, msg.sender);
    }

    /// @notice The registration of a key epoch; all zero if there is none.
    function get(bytes32 modelDigest, uint64 keyEpoch) external view returns (Registration memory) {
        return _registrations[modelDigest][keyEpoch];
    }

    /// @notice Registered and not revoked.
    function isActive(bytes32 modelDigest, uint64 keyEpoch) external view returns (bool) {
        Registration storage entry = _registrations[modelDigest][keyEpoch];
        return entry.owner != address(0) && entry.revokedAt == 0;
    }

    /// @dev Either no circuit, every field zero, or public or hashed inputs, with at least one input and one output.
    function _requireConsistent(Circuit calldata circuit, bytes32 circuitHash) private pure {
        Circuit memory none;
        bool consistent = circuit.visibility == Statements.VISIBILITY_NONE
            ? circuitHash == Statements.hash(none)
            : circuit.visibility <= Statements.VISIBILITY_HASHED && circuit.inputLength != 0
                && circuit.outputLength != 0;
        if (!consistent) revert InconsistentCircuit();
    }
}
