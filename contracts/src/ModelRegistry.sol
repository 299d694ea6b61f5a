// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";

import {Circuit, Statements} from "./Statements.sol";

/// @title Who registered which encrypted model, with which circuit, and whose it was when.
/// @notice Permissionless and first come, first served: the first to register a model digest owns it. That proves no
/// authorship. A squatter gains nothing, because the requester signs the circuit that a job must use, and an owner
/// who was overtaken encrypts again with a fresh key, which gives another digest.
/// A model is handed over in two steps: its owner proposes another, who accepts. The owner registers and revokes key
/// epochs; who registered an epoch stays written with it, because what that account claimed of it stays its word.
contract ModelRegistry {
    using Checkpoints for Checkpoints.Trace160;

    /// @notice One key epoch of a model.
    /// @param registrant The owner that registered it, whoever owns the model now; zero if nobody did.
    /// @param registeredAt Block of the registration.
    /// @param revokedAt Block of the revocation, 0 while active.
    /// @param circuitHash hashStruct of the circuit; that of the all-zero circuit for a model without one.
    struct Registration {
        address registrant;
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
    event OwnerProposed(bytes32 indexed modelDigest, address indexed owner, address indexed proposed);
    event ProposalWithdrawn(bytes32 indexed modelDigest, address indexed owner, address indexed proposed);
    event OwnershipTransferred(bytes32 indexed modelDigest, address indexed previousOwner, address indexed newOwner);

    error ZeroModelDigest();
    error ZeroKeyEpoch();
    error InconsistentCircuit();
    error NotModelOwner(bytes32 modelDigest, address owner);
    error AlreadyRegistered(bytes32 modelDigest, uint64 keyEpoch);
    error NotRegistered(bytes32 modelDigest, uint64 keyEpoch);
    error AlreadyRevoked(bytes32 modelDigest, uint64 keyEpoch);
    error BadProposal(bytes32 modelDigest, address proposed);
    error NothingProposed(bytes32 modelDigest);
    error NotProposed(bytes32 modelDigest, address proposed);
    error FutureBlock(uint256 blockNumber);

    /// @notice Who may accept a model digest; zero if nobody.
    mapping(bytes32 modelDigest => address) public proposedOwnerOf;
    mapping(bytes32 modelDigest => Checkpoints.Trace160) private _owners;
    mapping(bytes32 modelDigest => mapping(uint64 keyEpoch => Registration)) private _registrations;

    /// @notice Register a key epoch of an encrypted model. The first epoch makes the caller the model's owner.
    /// @param circuit All zero for a model that only serves tier `commit`.
    function register(bytes32 modelDigest, uint64 keyEpoch, Circuit calldata circuit) external {
        if (modelDigest == 0) revert ZeroModelDigest();
        if (keyEpoch == 0) revert ZeroKeyEpoch();
        bytes32 circuitHash = Statements.hash(circuit);
        _requireConsistent(circuit, circuitHash);

        address owner = ownerOf(modelDigest);
        if (owner == address(0)) _setOwner(modelDigest, msg.sender);
        else if (owner != msg.sender) revert NotModelOwner(modelDigest, owner);

        Registration storage entry = _registrations[modelDigest][keyEpoch];
        if (entry.registrant != address(0)) revert AlreadyRegistered(modelDigest, keyEpoch);
        entry.registrant = msg.sender;
        entry.registeredAt = uint48(block.number);
        entry.circuitHash = circuitHash;
        entry.vkaDigest = circuit.vkaDigest;
        entry.srsDigest = circuit.srsDigest;
        emit ModelRegistered(modelDigest, keyEpoch, msg.sender, circuitHash, circuit.vkaDigest, circuit.srsDigest);
    }

    /// @notice Revoke a key epoch, whoever registered it, for good. What was certified before stays so.
    function revoke(bytes32 modelDigest, uint64 keyEpoch) external {
        Registration storage entry = _registrations[modelDigest][keyEpoch];
        if (entry.registrant == address(0)) revert NotRegistered(modelDigest, keyEpoch);
        _requireOwner(modelDigest);
        if (entry.revokedAt != 0) revert AlreadyRevoked(modelDigest, keyEpoch);
        entry.revokedAt = uint48(block.number);
        emit ModelRevoked(modelDigest, keyEpoch, msg.sender);
    }

    /// @notice Propose the model's next owner, in the place of whom was proposed before. Nothing changes until it accepts.
    function proposeOwner(bytes32 modelDigest, address proposed) external {
        _requireOwner(modelDigest);
        if (proposed == address(0) || proposed == msg.sender) revert BadProposal(modelDigest, proposed);
        proposedOwnerOf[modelDigest] = proposed;
        emit OwnerProposed(modelDigest, msg.sender, proposed);
    }

    /// @notice Withdraw the proposal that nobody has accepted yet.
    function withdrawProposal(bytes32 modelDigest) external {
        _requireOwner(modelDigest);
        address proposed = proposedOwnerOf[modelDigest];
        if (proposed == address(0)) revert NothingProposed(modelDigest);
        delete proposedOwnerOf[modelDigest];
        emit ProposalWithdrawn(modelDigest, msg.sender, proposed);
    }

    /// @notice Become the owner of a model, with all its key epochs, as its owner proposed.
    function acceptOwnership(bytes32 modelDigest) external {
        address proposed = proposedOwnerOf[modelDigest];
        if (proposed != msg.sender) revert NotProposed(modelDigest, proposed);
        delete proposedOwnerOf[modelDigest];
        emit OwnershipTransferred(modelDigest, ownerOf(modelDigest), msg.sender);
        _setOwner(modelDigest, msg.sender);
    }

    /// @notice Owner of a model digest over all its key epochs; zero if it is free.
    function ownerOf(bytes32 modelDigest) public view returns (address) {
        return address(_owners[modelDigest].latest());
    }

    /// @notice Owner of a model digest when block `blockNumber` ended (of the current block: so far); zero if it was free.
    function ownerAt(bytes32 modelDigest, uint256 blockNumber) external view returns (address) {
        if (blockNumber > block.number) revert FutureBlock(blockNumber);
        return address(_owners[modelDigest].upperLookup(uint96(blockNumber)));
    }

    /// @notice The registration of a key epoch; all zero if there is none.
    function get(bytes32 modelDigest, uint64 keyEpoch) external view returns (Registration memory) {
        return _registrations[modelDigest][keyEpoch];
    }

    /// @notice Registered and not revoked.
    function isActive(bytes32 modelDigest, uint64 keyEpoch) external view returns (bool) {
        Registration storage entry = _registrations[modelDigest][keyEpoch];
        return entry.registrant != address(0) && entry.revokedAt == 0;
    }

    function _setOwner(bytes32 modelDigest, address owner) private {
        _owners[modelDigest].push(uint96(block.number), uint160(owner));
    }

    function _requireOwner(bytes32 modelDigest) private view {
        address owner = ownerOf(modelDigest);
        if (owner != msg.sender) revert NotModelOwner(modelDigest, owner);
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
