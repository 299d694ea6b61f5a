// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

/// @title Workers' word that what they compute in float32 is near what a circuit proves.
/// @notice A statement of tier `commit` names no circuit, so that nothing could settle a dispute about it. A worker may say,
/// for one model and one circuit: the outputs that I commit to are within `tolerance` of those that this circuit gives.
/// @dev Given once and ended once, for good. Could one be given again, a statement that was anchored under the first could
/// be anchored again under the second, challenged there by its own worker and dismissed: nobody could challenge it any more.
abstract contract Warranties is Pausable {
    /// @param from First block whose anchors it covers; zero: it was never given.
    /// @param until Last such block; zero: it has not been ended.
    /// @param tolerance In units of 2^−outputScale of the circuit.
    struct Warranty {
        uint64 from;
        uint64 until;
        uint64 tolerance;
    }

    event Warranted(
        address indexed worker, bytes32 indexed modelDigest, bytes32 indexed circuitHash, uint64 tolerance, uint64 from
    );
    event WarrantyEnded(address indexed worker, bytes32 indexed modelDigest, bytes32 indexed circuitHash, uint64 until);

    error AlreadyWarranted(address worker, bytes32 modelDigest, bytes32 circuitHash);
    error NotWarranted(address worker, bytes32 modelDigest, bytes32 circuitHash);
    error NotWarrantedThen(address worker, uint256 anchoredAt, uint64 from, uint64 until);

    mapping(address worker => mapping(bytes32 modelDigest => mapping(bytes32 circuitHash => Warranty))) private
        _warranties;

    /// @notice Answer for statements of tier `commit` about a model that are anchored in later blocks.
    function warrant(bytes32 modelDigest, bytes32 circuitHash, uint64 tolerance) external whenNotPaused {
        Warranty storage warranty = _warranties[msg.sender][modelDigest][circuitHash];
        if (warranty.from != 0) revert AlreadyWarranted(msg.sender, modelDigest, circuitHash);
        warranty.from = uint64(block.number) + 1;
        warranty.tolerance = tolerance;
        emit Warranted(msg.sender, modelDigest, circuitHash, tolerance, warranty.from);
    }

    /// @notice Do not answer for what is anchored in later blocks. What is anchored already stays as it is.
    function endWarranty(bytes32 modelDigest, bytes32 circuitHash) external {
        Warranty storage warranty = _warranties[msg.sender][modelDigest][circuitHash];
        if (warranty.from == 0 || warranty.until != 0) revert NotWarranted(msg.sender, modelDigest, circuitHash);
        warranty.until = uint64(block.number);
        emit WarrantyEnded(msg.sender, modelDigest, circuitHash, warranty.until);
    }

    /// @notice A worker's warranty; all zero if it gave none.
    function warrantyOf(address worker, bytes32 modelDigest, bytes32 circuitHash)
        external
        view
        returns (Warranty memory)
    {
        return _warranties[worker][modelDigest][circuitHash];
    }

    /// @dev The warranty that covers what was anchored in block `anchoredAt`.
    function _requireWarranted(address worker, bytes32 modelDigest, bytes32 circuitHash, uint256 anchoredAt)
        internal
        view
        returns (Warranty memory warranty)
    {
        warranty = _warranties[worker][modelDigest][circuitHash];
        if (warranty.from == 0) revert NotWarranted(worker, modelDigest, circuitHash);
        if (anchoredAt < warranty.from || (warranty.until != 0 && anchoredAt > warranty.until)) {
            revert NotWarrantedThen(worker, anchoredAt, warranty.from, warranty.until);
        }
    }
}
