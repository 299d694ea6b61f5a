// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {Currency} from "./Currency.sol";

/// @title Pull payments: what somebody is owed is written down, and fetched by that account alone.
abstract contract Payments is ReentrancyGuard {
    event Credited(IERC20 indexed token, address indexed account, uint256 amount);
    event Paid(IERC20 indexed token, address indexed account, uint256 amount);

    error NothingOwed(IERC20 token, address account);

    /// @notice What an account may fetch.
    mapping(IERC20 token => mapping(address account => uint256)) public owed;

    /// @notice Fetch what the caller is owed in a token (address zero: the chain's coin).
    function collect(IERC20 token) external nonReentrant {
        uint256 amount = owed[token][msg.sender];
        if (amount == 0) revert NothingOwed(token, msg.sender);
        owed[token][msg.sender] = 0;
        emit Paid(token, msg.sender, amount);
        Currency.give(token, msg.sender, amount);
    }

    function _credit(IERC20 token, address account, uint256 amount) internal {
        if (amount == 0) return;
        owed[token][account] += amount;
        emit Credited(token, account, amount);
    }
}
