// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

/// @title What governance may do to a contract that holds money: stop it from taking on new obligations.
/// @notice No function that ends an obligation (an answer, a refund, a withdrawal) asks whether the contract is paused, and
/// nothing else asks who governs. Governance is handed over in two steps: the successor has to accept.
abstract contract Governed is Ownable2Step, Pausable {
    constructor(address governance) Ownable(governance) {}

    /// @notice Take on nothing new.
    function pause() external onlyOwner {
        _pause();
    }

    /// @notice Go on.
    function unpause() external onlyOwner {
        _unpause();
    }
}
